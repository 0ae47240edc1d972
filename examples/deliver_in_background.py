"""BackgroundObserver and BatchingObserver: slow sinks that no call waits for, and a ledger of what became of everything."""

import time
from collections.abc import Sequence

from callpyback import (
    BackgroundObserver,
    BaseObserver,
    BatchingObserver,
    CallPyBack,
    ExecutionContext,
    ExecutionState,
)


class SlowStore(BaseObserver):
    """Takes a hundredth of a second for each call."""

    states = frozenset({ExecutionState.COMPLETED})

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def update(self, context: ExecutionContext) -> None:
        """Write a row."""
        time.sleep(0.01)
        self.rows.append(context.arguments["n"])


batches: list[list[int]] = []


def insert(contexts: Sequence[ExecutionContext]) -> None:
    """Write many rows at once."""
    batches.append([context.result.value for context in contexts])


store = SlowStore()
one_by_one = BackgroundObserver(store)
in_batches = BatchingObserver(insert, batch_size=4, states=ExecutionState.POST_SUCCESS)


@CallPyBack(observers=[one_by_one, in_batches])
def double(n: int) -> int:
    """Double a number."""
    return 2 * n


started = time.perf_counter()
for number in range(10):
    double(number)
print("the caller waited for a hundredth of a second ten times:", time.perf_counter() - started > 0.1)
print("all delivered:", one_by_one.flush(timeout=10) and in_batches.flush(timeout=10))
print("rows:", store.rows)
print("batches:", batches)
print(one_by_one.ledger)

one_by_one.shutdown()
double(10)
print("after the shutdown:", one_by_one.ledger.dropped)
in_batches.shutdown()
