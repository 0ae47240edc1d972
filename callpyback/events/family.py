"""The place of a bus among those above and below it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from callpyback.core.configuration import looking_at, refuse
from callpyback.core.forks import reset_after_fork

if TYPE_CHECKING:
    from callpyback.events.bus import EventBus

Make = Callable[["Family", Mapping[str, Any]], "EventBus"]


class Family:
    """What a bus knows of those above and below it. Any number of threads may ask for those below.

    Args:
        name: Of the bus, among those beside it.
        above: The bus above.
        bubbles: Whether events come up to the bus above.
        find: What finds the bus by its full name anywhere in the process, so that a pickle need hold no more than that.
    """

    def __init__(
        self,
        name: str | None = None,
        above: EventBus | None = None,
        *,
        bubbles: bool = True,
        find: Callable[[str], EventBus] | None = None,
    ) -> None:
        self.name = name
        self.above = above
        self.bubbles = bubbles
        self.find = find
        self._children: dict[str, EventBus] = {}
        self.reset_after_fork()
        reset_after_fork(self)

    def reset_after_fork(self) -> None:
        """Make the lock anew: another thread may have held it."""
        self._lock = threading.RLock()

    @property
    def full_name(self) -> str | None:
        """The names of those above that have one and its own, with dots between them."""
        above = None if self.above is None else self.above._family.full_name  # noqa: SLF001 - its place is ours too
        return ".".join(name for name in (above, self.name) if name) or None

    def children(self) -> tuple[EventBus, ...]:
        """Return the buses below."""
        with self._lock:
            return tuple(self._children.values())

    def below(
        self, bus: EventBus | None, name: Any, make: Make, *, bubbles: bool, options: Mapping[str, Any]
    ) -> EventBus:
        """Return the bus of this name below this one, made if it is not there yet.

        Args:
            bus: The bus whose place this is; None for that of all buses at the top.
            name: With dots, one further down.
            make: Makes a bus for a place, with these options.
            bubbles: Whether its events come up.
            options: For the bus itself, if there are buses between the two.

        Raises:
            ConfigurationError: The name is none; or there is such a bus, and it was made otherwise.
        """
        with looking_at("name", name):
            if not (isinstance(name, str) and all(name.split("."))):
                refuse("name", name, 'a name, such as "orders", or several with dots between them')
        first, _, rest = name.partition(".")
        with self._lock:
            known = self._children.get(first)
            if known is None:
                place = Family(first, bus, bubbles=bubbles or bool(rest), find=self.find)
                known = self._children[first] = make(place, {} if rest else options)
            elif not rest and (options or known._family.bubbles > bubbles):  # noqa: SLF001 - its place is ours too
                expected = f"no options: there is a bus {known.name!r} already; give them where it is first asked for"
                refuse("options", options or {"bubble": bubbles}, expected)
        return known.child(rest, bubble=bubbles, **options) if rest else known
