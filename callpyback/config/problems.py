"""All that is wrong with a configuration, told at once."""

from __future__ import annotations

from typing import Final

from callpyback.config.located import REFUSED, Located
from callpyback.core.safe_repr import one_line
from callpyback.errors import ConfigurationError

_MAX_PROBLEMS: Final = 100
_MAX_LENGTH: Final = 1000


class Problems:
    """What was found so far."""

    def __init__(self) -> None:
        self._found: list[tuple[str, str]] = []
        self._cause: BaseException | None = None

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._found)

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self._found)

    def add(self, place: str, what: str, cause: BaseException | None = None) -> None:
        """Note one problem; the first cause becomes that of the error.

        Raises:
            Enough: There are so many that nobody needs more.
        """
        if len(self._found) >= _MAX_PROBLEMS:
            raise Enough
        self._found.append((place, one_line(f"{place}: {what}" if place else what, _MAX_LENGTH)))
        self._cause = self._cause or cause

    def refuse(self, place: str, what: str) -> Located:
        """Note one problem, and return a value that needs no further complaint."""
        self.add(place, what)
        return Located(REFUSED, place)

    def raise_any(self) -> None:
        """Raise them all as one error, if there are any.

        Raises:
            ConfigurationError: A line for each, in the order of the lines of a file.
        """
        if not self._found:
            return
        lines = [text for _, text in sorted(self._found, key=lambda found: _line_in(found[0]))]
        more = ["... and more"] if len(self._found) >= _MAX_PROBLEMS else []
        raise ConfigurationError("\n".join([*lines, *more])) from self._cause


def _line_in(place: str) -> int:
    line = place.rpartition(":")[2]
    return int(line) if line.isdecimal() else 0


class Reading:
    """One source being read: how much it may hold, and what is wrong with it.

    Args:
        problems: Where errors are noted.
        max_values: The greatest number of values, an alias counting for all it stands for.
        max_text: The greatest number of characters, counted likewise.
    """

    def __init__(self, problems: Problems, max_values: int, max_text: int) -> None:
        self.problems = problems
        self.values = 0
        self.text = 0
        self._max_values = max_values
        self._max_text = max_text

    def count(self, place: str, values: int, text: int) -> None:
        """Count values and characters.

        Raises:
            Unreadable: There are too many.
        """
        self.values += values
        self.text += text
        if self.values > self._max_values:
            raise Unreadable(place, f"more than {self._max_values} values; aliases count for all they stand for")
        if self.text > self._max_text:
            raise Unreadable(place, f"more than {self._max_text} characters, aliases counted for all they stand for")


class Enough(Exception):  # noqa: N818 - it ends the search
    """As many problems were found as are told."""


class Unreadable(Exception):  # noqa: N818 - says what the source is
    """A source of which the rest can't be read either.

    Args:
        place: Where that was found.
        what: What is wrong.
    """

    def __init__(self, place: str, what: str) -> None:
        super().__init__(place, what)
        self.place = place
        self.what = what
