"""`BatchingObserver`: hands contexts over in batches, from a thread of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from callpyback.core.configuration import checked_count, checked_seconds, refuse
from callpyback.delivery.background import BackgroundObserver
from callpyback.delivery.sink import Sink
from callpyback.delivery.worker import Pace

if TYPE_CHECKING:
    from callpyback.delivery.queue import Overflow
    from callpyback.observers.base import States


class BatchingObserver(BackgroundObserver):
    """Gathers contexts, and hands them over in batches from a worker thread.

    A batch is a list of at most `batch_size` contexts, in the order of the calls. It goes to `update_batch(contexts)`
    of an observer that has one, or to a function called with the list; either may be async. An observer without
    `update_batch` is told each context of the batch by its `update`. A batch whose receiver raises counts as failed,
    all of it, unless it says by `callpyback.delivery.partial.PartlyFailed` for how many it failed; with `update`, only
    the context at which it raised.

    A batch is handed over when it is full, when `flush_interval` has passed since its first context came (later only if
    the receiver is still at work), and by `flush()`, `shutdown()` and the end of the program. The interval is kept by
    the wait of the thread itself, so it follows no time source; tests call `flush()`.

    Everything else is as for `BackgroundObserver`. In the worst case `max_queue` contexts are held, and one batch in
    the receiver's hands.

    Args:
        observer: An observer, or a function of a list of contexts.
        batch_size: The most contexts in a batch.
        flush_interval: Seconds until a batch that is not full is handed over.
        states: What it is told; by default the `states` of the observer, for a function the two terminal states.
        max_queue: The greatest number of contexts in the queue; at least `batch_size`.
        overflow: What happens at a full queue, as for `BackgroundObserver`.
        block_timeout: Seconds a call waits at most, if it waits.
        exit_timeout: Seconds that the end of the program, and `close()`, wait for the delivery.
        priority: Higher is told earlier; by default that of the observer, 0 for a function.
        name: How it is shown; by default as the observer or function.

    Raises:
        ConfigurationError: A parameter is none of these.

    Example:
        >>> from callpyback import BatchingObserver, CallPyBack, ExecutionState
        >>> stored = []
        >>> def store(contexts):
        ...     stored.append([context.result.value for context in contexts])
        >>> batches = BatchingObserver(store, batch_size=2, states=ExecutionState.POST_SUCCESS)
        >>> @CallPyBack(observers=[batches])
        ... def double(n):
        ...     return 2 * n
        >>> [double(n) for n in range(3)]
        [0, 2, 4]
        >>> batches.shutdown(), stored
        (True, [[0, 2], [4]])
    """

    def __init__(
        self,
        observer: Any,
        batch_size: int = 100,
        flush_interval: float = 5.0,
        *,
        states: States | None = None,
        max_queue: int = 10_000,
        overflow: Overflow = "drop_oldest",
        block_timeout: float = 1.0,
        exit_timeout: float = 2.0,
        priority: float | None = None,
        name: str | None = None,
    ) -> None:
        self.batch_size = checked_count("batch_size", batch_size)
        self.flush_interval = checked_seconds("flush_interval", flush_interval)
        if checked_count("max_queue", max_queue) < batch_size:
            refuse("batch_size", batch_size, f"at most max_queue, which is {max_queue}: no batch could get full")
        super().__init__(
            observer,
            max_queue=max_queue,
            overflow=overflow,
            block_timeout=block_timeout,
            exit_timeout=exit_timeout,
            states=states,
            priority=priority,
            name=name,
        )

    def _sink_of(self, observer: Any) -> Sink:
        return Sink.in_batches(observer)

    def _pace_of(self, sink: Sink) -> Pace:
        size = self.batch_size
        return Pace(portion=size if sink.takes_batches else 1, least=size, enough=size, seconds=self.flush_interval)
