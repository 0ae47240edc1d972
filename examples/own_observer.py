"""An observer of your own: a class with `update`. It says which states it wants, and is not called in the others."""

from collections import Counter

from callpyback import BaseObserver, CallPyBack, ExecutionContext, ExecutionState


class Budget(BaseObserver):
    """Adds up what the calls of each customer cost."""

    states = frozenset({ExecutionState.POST_SUCCESS})

    def __init__(self, prices: dict[str, int]) -> None:
        super().__init__()
        self.prices = prices
        self.spent: Counter[str] = Counter()

    def update(self, context: ExecutionContext) -> None:
        """Receive one successful call."""
        self.spent[context.arguments["customer"]] += self.prices[context.function_signature.name]


class Broken(BaseObserver):
    """An observer that fails: it is logged and counted, and the program goes on."""

    states = frozenset({ExecutionState.COMPLETED})

    def update(self, context: ExecutionContext) -> None:  # noqa: ARG002
        """Fail."""
        raise RuntimeError("the observer's own problem")


budget = Budget({"search": 1, "translate": 20})
watch = CallPyBack(observers=[budget, Broken()])


@watch
def search(customer: str, words: str) -> str:
    """Find something."""
    return f"results for {words!r}, {customer}"


@watch
def translate(customer: str, text: str) -> str:
    """Translate, after a fashion."""
    return f"{text.upper()}, {customer}"


print(search("ann", "observers"))
print(translate("ann", "beobachter"))
print(search("bob", "pattern"))
print("spent:", dict(budget.spent))
print("times the broken observer failed:", search.callpyback.health["Broken"].failures)
