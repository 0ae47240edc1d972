"""StateObserver: a method for each thing there is to hear. The methods that are overridden are all that is told.

The same with other templates: ProcessingObserver runs extract, process and store for each call that has ended.
"""

import json
from typing import Any

from callpyback import CallPyBack, ExecutionContext, MockTimeSource, ProcessingObserver, StateObserver

clock = MockTimeSource()


class Till(StateObserver):
    """Adds up what was paid, and notes what went wrong."""

    total = 0

    def on_success(self, context: ExecutionContext) -> None:
        """Receive a payment."""
        self.total += context.arguments["amount"]

    def on_failure(self, context: ExecutionContext) -> None:
        """Receive a payment that failed."""
        assert context.result is not None
        print(f"  {context.arguments['customer']} did not pay: {context.result.exception}")


class Journal(ProcessingObserver):
    """Keeps a line for each call."""

    def __init__(self) -> None:
        super().__init__(processor=json.dumps)
        self.lines: list[str] = []

    def extract(self, context: ExecutionContext) -> dict[str, Any]:
        """Return what matters of a call."""
        return {"customer": context.arguments["customer"], "success": context.is_successful}

    def store(self, data: str) -> None:
        """Keep it."""
        self.lines.append(data)


till, journal = Till(), Journal()


@CallPyBack(observers=[till, journal], time_source=clock, default_return=0)
def pay(customer: str, amount: int) -> int:  # noqa: ARG001
    """Take the money."""
    if amount > 100:
        raise ValueError("card declined")
    return amount


print("asked for:", *sorted(state.name for state in Till.states or ()))
pay("ann", 30)
pay("bob", 500)
pay("cid", 12)
print("in the till:", till.total)
print(*journal.lines, sep="\n")
