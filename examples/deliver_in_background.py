"""BackgroundObserver and BatchingObserver: sinks that no call waits for, and a ledger of what became of everything."""

import threading
from collections.abc import Sequence

from callpyback import (
    BackgroundObserver,
    BaseObserver,
    BatchingObserver,
    CallPyBack,
    ExecutionContext,
    ExecutionState,
)


class Store(BaseObserver):
    """Hangs as long as its disk does."""

    states = frozenset({ExecutionState.COMPLETED})

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []
        self.disk_is_back = threading.Event()

    def update(self, context: ExecutionContext) -> None:
        """Write a row."""
        self.disk_is_back.wait()
        self.rows.append(context.arguments["n"])


batches: list[list[int]] = []


def insert(contexts: Sequence[ExecutionContext]) -> None:
    """Write many rows at once."""
    batches.append([context.result.value for context in contexts])


store = Store()
one_by_one = BackgroundObserver(store)
in_batches = BatchingObserver(insert, batch_size=4, states=ExecutionState.POST_SUCCESS)


@CallPyBack(observers=[one_by_one, in_batches])
def double(n: int) -> int:
    """Double a number."""
    return 2 * n


print("ten calls:", [double(number) for number in range(10)])
print("stored while the disk hangs:", store.rows)
store.disk_is_back.set()
print("all delivered:", one_by_one.flush(timeout=10) and in_batches.flush(timeout=10))
print("stored now:", store.rows)
print("batches:", batches)

print(one_by_one.ledger)

one_by_one.shutdown()
double(10)
print("dropped after the shutdown:", one_by_one.ledger.dropped["shutdown"])
in_batches.shutdown()
