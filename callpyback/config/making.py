"""Observers made of entries that were checked."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from callpyback.config.entries import Entry
from callpyback.config.withholding import WITHHELD, withheld
from callpyback.core.safe_repr import safe_repr, safe_text, type_name
from callpyback.core.subscription import Subscription
from callpyback.errors import NO_VALUE, ConfigurationError

if TYPE_CHECKING:
    from callpyback.config.problems import Problems

_TOLD_BY: Final = ("update", "bind", "bind_guard", "on_event")
_logger: Final = logging.getLogger("callpyback")


class Making:
    """Makes observers, and closes them again if they are not wanted after all.

    Args:
        problems: Where errors are noted.
    """

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._made: list[Any] = []

    def make(self, entry: Entry) -> Any:
        """Return the observer, in a `Subscription` if its entry asks for one; `NO_VALUE` if it can't be made."""
        observer = self.observer(entry) if entry.is_sound else NO_VALUE
        if observer is NO_VALUE or not entry.registration:
            return observer
        try:
            return Subscription(observer, **entry.registration)
        except ConfigurationError as error:
            self._add(entry, error)
            return NO_VALUE

    def observer(self, entry: Entry) -> Any:
        """Return the observer itself; `NO_VALUE` if it can't be made."""
        values = {name: self._inner(value) for name, value in entry.values.items()}
        if entry.kind is None or any(value is NO_VALUE for value in values.values()):
            return NO_VALUE
        try:
            observer = entry.kind.cls(**entry.kind.schema.arguments(values))
            self._made.append(observer)
            if isinstance(observer, type) or not any(callable(getattr(observer, name, None)) for name in _TOLD_BY):
                message = f"it made {safe_repr(observer)} ({type_name(observer)}), which has no update(context)"
                raise ConfigurationError(message)  # noqa: TRY301 - told as what a constructor raises
        except Exception as error:  # noqa: BLE001 - the constructor may be anybody's
            self._add(entry, error)
            return NO_VALUE
        return observer

    def close(self) -> None:
        """Close what was made, the last first; what that raises is logged, because another error is being told."""
        for observer in reversed(self._made):
            try:
                close = getattr(observer, "close", None)
                if callable(close) and not isinstance(observer, type):
                    close()
            except Exception as error:  # noqa: BLE001 - see above
                _logger.warning("closing %s, which is not wanted, raised %s", type_name(observer), safe_text(error))

    def _inner(self, value: Any) -> Any:
        if isinstance(value, Entry):
            return self.observer(value)
        if type(value) is list and any(isinstance(inner, Entry) for inner in value):
            made = [self._inner(inner) for inner in value]
            return NO_VALUE if any(inner is NO_VALUE for inner in made) else made
        return value

    def _add(self, entry: Entry, error: Exception) -> None:
        """Note what a constructor raised, without any value that is hidden."""
        secrets = list(entry.secrets())
        message = str(error) if isinstance(error, ConfigurationError) else f"making it raised {safe_text(error)}"
        parameter = message.partition("=")[0]  # as the library's own constructors begin
        option = entry.options.get(parameter)
        told = withheld(message, secrets)
        if told is WITHHELD:
            told = (
                f"it raised {type_name(error)} {WITHHELD}" if option is None else f"{parameter} is refused {WITHHELD}"
            )
        place = entry.place if option is None else option.place
        self._problems.add(place, f"{entry.shown_type}: {told}", None if secrets else error)
