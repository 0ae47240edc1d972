"""Who would hear an event, and why the others would not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from callpyback.core.safe_repr import safe_repr, safe_text

if TYPE_CHECKING:
    from callpyback.events.channel import Channel
    from callpyback.events.event import Event
    from callpyback.events.listener import EventListener


class Hearer(msgspec.Struct, frozen=True):
    """What one handler has to do with an event.

    Args:
        name: What it is called on its bus.
        bus: Its bus.
        hears: Whether it is told of the event, unless somebody stops the processing before; None if that depends on
            what the event is like, and only its name was given.
        reason: Why, or why not.
    """

    name: str
    bus: str
    hears: bool | None
    reason: str


class Explanation(msgspec.Struct, frozen=True):
    """Who would hear an event.

    Args:
        event: Its name.
        bus: Where it would be emitted.
        hearers: Those who would, or may, in the order they are told.
        others: Those who would not.
    """

    event: str
    bus: str
    hearers: tuple[Hearer, ...]
    others: tuple[Hearer, ...]

    def __iter__(self) -> Iterator[Hearer]:
        """Go through the hearers, and then the others."""
        return iter((*self.hearers, *self.others))

    def __str__(self) -> str:
        lines = [f"{safe_repr(self.event)} on {self.bus} is heard by{'' if self.hearers else ' nobody'}"]
        for number, known in enumerate(self.hearers, start=1):
            lines.append(f"{number}. {self._shown(known)}")
        lines += [f"not by {self._shown(known)}" for known in self.others]
        return "\n".join(lines)

    def _shown(self, known: Hearer) -> str:
        place = "" if known.bus == self.bus else f" on {known.bus}"
        return f"{known.name}{place}: {known.reason}"


def explained(lineage: Sequence[Channel], event: Event, *, by_name: bool) -> Explanation:
    """Return who would hear an event on the first of these, and on those above it.

    Args:
        lineage: The bus and those above it.
        event: The event.
        by_name: Whether nothing but its name counts.

    Raises:
        ConfigurationError: What handlers require of each other can't be met.
    """
    told = []
    for channel in lineage:
        repeated = not by_name and channel.has_seen(event)
        for known in channel.lineup().listeners:
            hears, reason = (False, "the event was processed already") if repeated else _why(known, event, by_name)
            told.append(Hearer(known.registration.name, channel.where, hears, reason))
    hearers = tuple(known for known in told if known.hears is not False)
    others = tuple(known for known in told if known.hears is False)
    return Explanation(event.name, lineage[0].where, hearers, others)


def _why(known: EventListener, event: Event, by_name: bool) -> tuple[bool | None, str]:  # noqa: FBT001 - one of two
    hears, reason = _interest(known, event, by_name)
    condition = known.registration.condition
    if known.registration.retired:
        return False, "it was held weakly, and is gone"
    if hears is not False and condition.paused:
        return False, f"it is paused after {condition.in_a_row} failures in a row, the last: {condition.last_error}"
    if hears is not False and known.is_async:
        reason += "; it is async, so only aemit() and aprocess() tell it"
    return hears, reason


def _interest(known: EventListener, event: Event, by_name: bool) -> tuple[bool | None, str]:  # noqa: FBT001 - see above
    wants = known.wants(event.name, type(event))
    if wants is False:
        return False, _refusal(known, event)
    about = f"it hears of {_subject(known) or 'every event'}"
    if wants is True:
        return True, about
    if by_name:
        return None, f"{about}, if its predicate says so"
    try:
        says = bool(wants(event))
    except Exception as error:  # noqa: BLE001 - that it fails is the explanation
        return False, f"its predicate fails: {safe_text(error)}"
    return says, f"{about}, and its predicate says yes" if says else "its predicate says no"


def _refusal(known: EventListener, event: Event) -> str:
    subject = _subject(known)
    return f"it hears only of {subject}" if subject else f"it is not interested in {safe_repr(event.name)}"


def _subject(known: EventListener) -> str:
    return ", ".join((*known.names, *(kind.__name__ for kind in known.kinds)))
