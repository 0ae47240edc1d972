"""Delivery off the caller's thread: a bounded queue, an exact ledger, and a worker that hands the contexts over.

Read in this order: `ledger.py` counts, `queue.py` holds, `worker.py` delivers, `pipeline.py` joins them, and
`background.py` and `batching.py` are what users put among their observers.
"""

from callpyback.delivery.background import BackgroundObserver
from callpyback.delivery.batching import BatchingObserver
from callpyback.delivery.ledger import Ledger

__all__ = ["BackgroundObserver", "BatchingObserver", "Ledger"]
