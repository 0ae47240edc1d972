"""Sinks, fixtures and small tools of the tests of background delivery."""

from __future__ import annotations

import contextlib
import logging
import queue
import sys
import threading

import pytest

from callpyback import BackgroundObserver, BaseObserver
from callpyback.delivery import Ledger

LIMIT = 20
"""Seconds after which something that waits has failed."""

OVERFLOWS = ["drop_oldest", "drop_newest", "block"]


class Kept(BaseObserver):
    """Keeps what it is told."""

    def __init__(self, **options):
        super().__init__(**options)
        self.seen = []

    def update(self, context):
        self.seen.append(context)


class Gate(Kept):
    """Hangs at everything it is told, or at what it is to hang at, until it is opened."""

    def __init__(self, *shut_for):
        super().__init__()
        self.shut_for = shut_for
        self.reached = threading.Event()
        self.opened = threading.Event()

    def update(self, context):
        if not self.shut_for or context in self.shut_for:
            self.reached.set()
            assert self.opened.wait(LIMIT)
        super().update(context)


class Closable(Kept):
    def close(self):
        self.seen.append(("closed", threading.current_thread().name))


class Lines(logging.Handler):
    """Hands on the lines of a logger."""

    def __init__(self):
        super().__init__()
        self.lines = queue.SimpleQueue()

    def emit(self, record):
        self.lines.put(record.getMessage())

    def next(self):
        return self.lines.get(timeout=LIMIT)


@pytest.fixture
def lines():
    handler = Lines()
    logger = logging.getLogger("callpyback")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.fixture
def hurried():
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture
def background():
    """Makes background observers, and shuts them down in the end."""
    made = []

    def make(observer, **options):
        made.append(BackgroundObserver(observer, **options))
        return made[-1]

    yield make
    for observer in made:
        with contextlib.suppress(AttributeError):
            observer.observer.opened.set()
        observer.shutdown(LIMIT)
    for thread in threading.enumerate():
        if thread.name.startswith("callpyback loss"):
            thread.join(LIMIT)  # its line is not for the next test


def offered(observer, *items):
    for item in items:
        observer.update(item)


def held(background, **options):
    """Return an observer whose sink hangs at the first thing it was told, and that sink."""
    gate = Gate()
    observer = background(gate, **options)
    observer.update("in hand")
    assert gate.reached.wait(LIMIT)
    return observer, gate


def in_threads(work, number):
    """Run `work(k)` in threads that begin together; whatever they raise comes out."""
    start, raised = threading.Barrier(number), []

    def begin(k):
        start.wait()
        try:
            work(k)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=begin, args=(k,)) for k in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()
    assert raised == []


def worker_of(observer):
    ident = observer._pipeline.worker.ident
    [thread] = [thread for thread in threading.enumerate() if thread.ident == ident]
    return thread


def counted(**numbers):
    dropped = {"overflow": numbers.pop("overflow", 0), "shutdown": numbers.pop("shutdown", 0)}
    return Ledger(**{"offered": 0, "delivered": 0, "failed": 0, "pending": 0, **numbers}, dropped=dropped)


def no_more_threads(_):
    """Stand for `threading.Thread.start` where the system has no more of them."""
    raise RuntimeError("can't start new thread")
