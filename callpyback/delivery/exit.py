"""The end of the program: what is still in the queues is delivered, within a limit, and nothing is printed.

Registered when this module is imported, which the first `BackgroundObserver` does: handlers registered later run
before, and what they call is delivered too. Importing starts no thread.
"""

from __future__ import annotations

import atexit
import itertools
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from callpyback.delivery.pipeline import Pipeline

_started: Final[dict[int, weakref.ref[Pipeline]]] = {}
"""The pipelines that have, or had, a thread, by `id`; an entry goes with its object."""


_finalizers: Final[list[Any]] = []
"""The one finalizer of this process that multiprocessing knows, if any."""


def remember(pipeline: Pipeline) -> None:
    """Flush a pipeline when the program ends. Called when it first starts a thread in this process."""
    key = id(pipeline)
    if key not in _started:
        _started[key] = weakref.ref(pipeline, lambda _: _started.pop(key, None))
    _flush_with_multiprocessing()


class _Countdown:
    """Notified so many times, it lets one waiting thread go on."""

    def __init__(self, number: int) -> None:
        self._last = number - 1
        self._numbers = itertools.count()
        self._done = threading.Lock()
        self._done.acquire()

    def notify(self) -> None:
        if next(self._numbers) == self._last:
            self._done.release()

    def wait(self, timeout: float) -> None:
        """Wait once, by a wait of C code: no clock has to be read."""
        self._done.acquire(timeout=timeout)


def _pipelines() -> list[Pipeline]:
    alive = (reference() for reference in tuple(_started.values()))
    return [pipeline for pipeline in alive if pipeline is not None]


def _wait_for(pipelines: Sequence[Pipeline], begin: Callable[[Pipeline, Callable[[], object]], object]) -> None:
    """Begin something with all, then wait for all together: as long as the most patient of them."""
    if pipelines:
        countdown = _Countdown(len(pipelines))
        for pipeline in pipelines:
            begin(pipeline, countdown.notify)
        countdown.wait(max(pipeline.exit_timeout for pipeline in pipelines))


@atexit.register
def _finish_all() -> None:
    try:
        pipelines = _pipelines()
        _wait_for(pipelines, lambda pipeline, notify: pipeline.finish(notify))
        for pipeline in pipelines:
            pipeline.finished()
    except BaseException:  # noqa: BLE001, S110 - a second Ctrl-C ends the waiting; the program has its own exit code
        pass


def _flush_with_multiprocessing() -> None:
    """Have a forked child of multiprocessing flush at its end: it leaves without running atexit handlers."""
    process: Any = sys.modules.get("multiprocessing.process")
    util: Any = sys.modules.get("multiprocessing.util")
    if util is None or process is None or process.parent_process() is None:
        return
    if not any(known.still_active() for known in _finalizers):  # a child has forgotten those of its parent
        _finalizers[:] = [util.Finalize(None, _flush_all, exitpriority=0)]


def _flush_all() -> None:
    try:
        _wait_for(_pipelines(), lambda pipeline, notify: pipeline.when_flushed(notify))
    except BaseException:  # noqa: BLE001, S110 - as above
        pass
