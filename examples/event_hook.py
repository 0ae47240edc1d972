"""EventHook: a typed hook on a class, one an instance; a callback that fails stops nobody."""

import logging

from callpyback import EventHook, observes

logging.getLogger("callpyback").addHandler(logging.NullHandler())


class Telescope:
    """Tells where it is pointed, and what it sees."""

    moved: EventHook[float, float] = EventHook()
    seen: EventHook[str] = EventHook()

    def __init__(self, name: str) -> None:
        self.name = name

    def point(self, ascension: float, declination: float) -> None:
        """Move there, and look."""
        self.moved.emit(ascension, declination)
        if declination < 0:
            self.seen.emit("southern sky")


class Dome:
    """Follows its telescope, as long as there is a dome."""

    def turn(self, ascension: float, _: float) -> None:
        """Turn to where the telescope is pointed."""
        print(f"  the dome turns to {ascension}")


hubble, webb = Telescope("Hubble"), Telescope("Webb")
dome = Dome()
hubble.moved.connect(dome.turn, weak=True)


@observes(hubble.moved, priority=10)
def announce(ascension: float, declination: float) -> None:
    """Come first."""
    print(f"  pointed at {ascension}, {declination}")


@observes(hubble.moved, name="broken")
def broken(*_: float) -> None:
    """Fail."""
    raise RuntimeError("no film")


@observes(Telescope.seen)
def note(what: str) -> None:
    """Hear of every telescope."""
    print(f"  {what}")


print("Hubble:")
hubble.point(5.5, -5.4)
print("Webb:")
webb.point(1.0, -1.0)
del dome
print("Hubble, without its dome:")
hubble.point(2.5, 3.0)
print("failures of the broken one:", hubble.moved.health["broken"].failures)
