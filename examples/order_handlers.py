"""Handlers that need each other: they say whom they require, and share data, in whichever order they are registered."""

from callpyback import ConfigurationError, Event, EventBus, required_by, requires, want

bus = EventBus("tests")


@bus.register
@requires("prepare")
@want("test.*")
def run(event: Event) -> None:
    """Use what the others have left in the event's shared namespaces."""
    tests = event.shared.tests
    print("run with", tests.arguments, "and", getattr(tests, "extras", "nothing else"))


@bus.register
@required_by("run")
@requires("prepare")
@want("test.*", lambda event: event.data["level"] > 1)
def assist(event: Event) -> None:
    """Come between the two, where it is wanted."""
    event.shared.tests.extras = ["more"]
    print("assist")


@bus.register
@want("test.*")
def prepare(event: Event) -> None:
    """Come first, although it was registered last."""
    event.shared.tests.arguments = (event.data["level"], "x")
    print("prepare")


for level in (1, 2):
    print(f"level {level}:")
    bus.emit("test.wanted", level=level)

print(bus.explain(Event("test.wanted", level=1)))

bus.register(print, "report", requires="audit")
try:
    bus.check()
except ConfigurationError as error:
    print(error)
