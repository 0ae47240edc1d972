"""Deciding: before the body runs, an observer may refuse the call, or answer it itself."""

from callpyback import (
    BaseObserver,
    CallPyBack,
    CallVetoed,
    ExecutionContext,
    ExecutionState,
    StopProcessing,
    on_completion,
)


class AtMost(BaseObserver):
    """Refuses every call after the first few. A guard: not asked when the call is already decided."""

    guard = True
    states = frozenset({ExecutionState.PRE_EXECUTION})

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.left = calls

    def update(self, context: ExecutionContext) -> None:  # noqa: ARG002
        """Count down, then veto: the caller gets the exception."""
        if self.left == 0:
            raise CallVetoed("no calls left")
        self.left -= 1


class Memory(BaseObserver):
    """Answers what it has seen before. Its priority has it asked first, so an answer costs no call of `AtMost`."""

    guard = True
    states = frozenset({ExecutionState.PRE_EXECUTION, ExecutionState.POST_SUCCESS})

    def __init__(self) -> None:
        super().__init__(priority=10)
        self.known: dict[str, str] = {}

    def update(self, context: ExecutionContext) -> None:
        """Remember values; answer with them."""
        city = context.arguments["city"]
        if context.state is ExecutionState.POST_SUCCESS:
            self.known[city] = context.result.value
        elif city in self.known:
            raise StopProcessing(self.known[city])


@CallPyBack(observers=[AtMost(2), Memory(), on_completion(lambda outcome: print(f"{outcome.name:<9}", end=""))])
def weather(city: str) -> str:
    """Ask somebody who charges for it."""
    return f"sunny in {city}"


for city in ("Rome", "Rome", "Oslo", "Oslo", "Lima"):
    try:
        print(weather(city))
    except CallVetoed as veto:
        print(f"{city}: {veto}")
