"""Observers by name, as observers.toml asks for them: options, filters, environment variables, errors by line."""

from pathlib import Path

from callpyback import BaseObserver, CallPyBack, ConfigurationError, ExecutionContext, RateLimitExceeded
from callpyback.config import create_observer, describe_observers, load_observers, register_observer_type

FILE = Path(__file__).with_name("observers.toml")


class Bell(BaseObserver):
    """An observer of the program's own; its options are those of its constructor."""

    def __init__(self, times: int = 1, token: str | None = None) -> None:
        super().__init__()
        self.sound = "ding " * times
        self.token = token

    def update(self, context: ExecutionContext) -> None:
        """Ring."""
        print(f"  {self.sound}{context.function_signature.name}: {context.outcome.name}")


register_observer_type("bell", Bell)

watch = CallPyBack(observers=load_observers(FILE))


@watch
def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


@watch
def look() -> str:
    """Look."""
    return "seen"


for amount in (5, 7, 9):
    try:
        print(pay(amount))
    except RateLimitExceeded:
        print(f"refused {amount}")
print(look())
print("calls:", watch.get_metrics()["counts_metrics"]["total_calls"])

print("what the file asks for, fit to be shown:")
for entry in describe_observers(FILE, environ={"BELL_TOKEN": "tulip-42"}):
    print(" ", entry["type"], entry["config"])

print("what is wrong, all at once:")
try:
    load_observers({"observers": ["metrcs", {"type": "bell", "config": {"times": "twice", "tokn": "x"}}]})
except ConfigurationError as error:
    print(error)

print(create_observer("timing", threshold=0.5))
