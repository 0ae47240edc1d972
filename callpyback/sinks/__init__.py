"""Observers that bring calls elsewhere: to a web server, into a database.

Each makes a bounded, masked record of plain values while the call ends, and puts it into the queue of `delivery/`; a
worker thread sends or writes it. Read `webhook.py` and `database.py` first; the rest are their parts.
"""

from callpyback.sinks.database import DatabaseObserver
from callpyback.sinks.webhook import WebhookObserver

__all__ = ["DatabaseObserver", "WebhookObserver"]
