"""`BackgroundObserver`: tells an observer from a thread of its own, so that no call waits for it."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final, get_args

import msgspec

from callpyback.core.configuration import checked_count, checked_seconds, looking_at, refuse
from callpyback.core.observer_checks import run_lifecycle
from callpyback.delivery.pipeline import Pipeline
from callpyback.delivery.queue import OfferQueue, Overflow
from callpyback.delivery.sink import Sink
from callpyback.delivery.worker import Pace
from callpyback.errors import nearest
from callpyback.observers.base import BaseObserver
from callpyback.observers.parts.relay import what_it_says

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext
    from callpyback.delivery.ledger import Ledger
    from callpyback.observers.base import States

_GATHERING: Final = 0.01
"""Seconds the worker lets contexts gather after it was woken."""


class BackgroundObserver(BaseObserver):
    """Tells another observer about calls from a worker thread: a call only puts its context into a queue.

    The observer may take its time, block, or be async (`async def update`, around functions of every kind: it gets an
    event loop of its own). It is told everything in the order of the offers, by one thread, which is started by the
    first offer. What it raises is counted, and logged at most once a minute. Nothing that it calls is observed.

    A thread at rest waits about 10 ms for more contexts before it tells the first: being woken for each would cost the
    calls more than all the rest.

    A call never waits, neither for the observer nor for a lock, unless `overflow="block"` says so. The queue is
    bounded: when it is full, something is lost, which is counted in `ledger` and logged once when it begins
    and once when it has ended. In the worst case `max_queue` contexts are held, and one in the observer's hands: about
    1 KB each, and what the arguments, results and exceptions of their calls hold.

    A forked child begins with an empty queue and a ledger at zero: what was pending is its parent's to deliver. The end
    of the program waits up to `exit_timeout` for the delivery; SIGTERM ends a program without that, unless a handler
    turns it into `SystemExit`. If this observer is dropped without `shutdown()`, its thread delivers the rest and ends.

    Args:
        observer: Who is told. Guards and critical observers are refused, because they work only while the call runs.
        max_queue: The greatest number of contexts in the queue.
        overflow: What happens at a full queue: "drop_oldest" drops the oldest context in it, "drop_newest" the one
            offered, "block" has the call wait for room, up to `block_timeout`, and then drops the one offered.
        block_timeout: Seconds a call waits at most, if it waits.
        exit_timeout: Seconds that the end of the program, and `close()`, wait for the delivery.
        states: What it is told; by default the `states` of the observer.
        priority: Higher is told earlier; by default that of the observer.
        name: How it is shown; by default as the observer.

    Raises:
        ConfigurationError: A parameter is none of these.

    Example:
        >>> from callpyback import BackgroundObserver, CallPyBack, on_success
        >>> sent = []
        >>> mail = BackgroundObserver(on_success(lambda value: sent.append(value)))
        >>> @CallPyBack(observers=[mail])
        ... def order(item):
        ...     return f"one {item}"
        >>> order("book")
        'one book'
        >>> mail.flush(), sent
        (True, ['one book'])
        >>> mail.ledger.delivered, mail.ledger.pending
        (1, 0)
    """

    delivers_later = True

    def __init__(
        self,
        observer: Any,
        *,
        max_queue: int = 10_000,
        overflow: Overflow = "drop_oldest",
        block_timeout: float = 1.0,
        exit_timeout: float = 2.0,
        states: States | None = None,
        priority: float | None = None,
        name: str | None = None,
    ) -> None:
        sink = self._sink_of(observer)
        super().__init__(
            sink.priority if priority is None else priority, sink.name if name is None else name, states=states
        )
        if states is None:
            self.states = sink.states
        self.notices = sink.notices
        self.__dict__.update({**what_it_says(observer), "delivers_later": True})
        sink.name = self.name
        self.observer = observer
        self.max_queue = checked_count("max_queue", max_queue)
        self.overflow: Overflow = _checked_overflow(overflow)
        self.block_timeout = checked_seconds("block_timeout", block_timeout, zero=True)
        self.exit_timeout = checked_seconds("exit_timeout", exit_timeout, zero=True)
        self._connect(sink)

    def _sink_of(self, observer: Any) -> Sink:
        return Sink.one_by_one(observer)

    def _pace_of(self, sink: Sink) -> Pace:  # noqa: ARG002 - that of batches depends on it
        return Pace(portion=1, least=1, enough=max(1, self.max_queue // 2), seconds=_GATHERING)

    def _connect(self, sink: Sink) -> None:
        queue = OfferQueue(self.max_queue, self.overflow, self.block_timeout)
        self._pipeline = Pipeline(queue, sink, self._pace_of(sink), self.exit_timeout)
        self._offer = queue.offer
        finalizer = weakref.finalize(self, self._pipeline.abandon)
        finalizer.atexit = False

    def update(self, context: ExecutionContext) -> None:
        """Put a context into the queue."""
        self._offer(context)

    @property
    def ledger(self) -> Ledger:
        """What became of everything that was offered, at this moment; in a forked child, since the fork."""
        return self._pipeline.queue.ledger

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything that was offered before is done: told, failed or dropped.

        Called by the observer itself, from its worker thread, it does not wait.

        Args:
            timeout: Seconds to wait at most; None for no limit.

        Returns:
            Whether it is done.
        """
        return self._pipeline.flush(None if timeout is None else checked_seconds("timeout", timeout, zero=True))

    def shutdown(self, timeout: float | None = None) -> bool:
        """Deliver what was offered, close the observer if it has `close()`, and end the thread.

        What is offered from now on is counted as dropped. So is what is still in the queue when the time is over;
        what the observer has in its hands then is cancelled if it is async, and stays pending until it returns if not.
        `close()` of the observer is called in the worker thread, like everything else of it. May be called again.

        Args:
            timeout: Seconds to wait at most; None for `exit_timeout`.

        Returns:
            Whether everything was done in time.
        """
        seconds = self.exit_timeout if timeout is None else checked_seconds("timeout", timeout, zero=True)
        return self._pipeline.shutdown(seconds)

    def close(self) -> None:
        """Do what `shutdown()` does."""
        self.shutdown()

    def validate(self) -> None:
        """Ask the observer whether it is ready, if it inherits from `BaseObserver`."""
        run_lifecycle(self.observer, None)

    def configure(self, **options: Any) -> None:
        """Hand options on to the observer, if it inherits from `BaseObserver`; this one's own are fixed."""
        if options:
            run_lifecycle(self.observer, options)

    def get_metrics(self) -> dict[str, Any]:
        """Return the `ledger` as a dictionary, `queue_length`, `max_queue` and `last_error`, one line of text or None.

        If the observer has `get_metrics`, what that returns is under `observer`.
        """
        metrics = {
            "ledger": msgspec.to_builtins(self.ledger),
            "queue_length": len(self._pipeline.queue),
            "max_queue": self.max_queue,
            "last_error": self._pipeline.last_error,
        }
        own = getattr(self.observer, "get_metrics", None)
        return {**metrics, "observer": own()} if callable(own) else metrics

    def __getstate__(self) -> dict[str, Any]:
        # Queue, thread and locks stay behind: a copy has its own, and nothing pending.
        return {name: value for name, value in self.__dict__.items() if name not in ("_pipeline", "_offer")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        sink = self._sink_of(self.observer)
        sink.name = self.name
        self._connect(sink)


def _checked_overflow(overflow: Any) -> Overflow:
    with looking_at("overflow", overflow):
        known = get_args(Overflow)
        if overflow not in known:
            hint = nearest(overflow, known) if isinstance(overflow, str) else ""
            refuse("overflow", overflow, f"{', '.join(known[:-1])} or {known[-1]}{hint}")
        return overflow  # type: ignore[no-any-return]
