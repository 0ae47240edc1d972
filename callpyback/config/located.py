"""Values with the place where they were written: every source is read into these."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from callpyback.core.masking import MASK
from callpyback.core.safe_repr import safe_repr, type_name
from callpyback.errors import NO_VALUE

MAX_DEPTH: Final = 32
MAX_VALUES: Final = 10_000


class _Refused:
    """The type of `REFUSED`: a value in which an error was found already."""

    def __repr__(self) -> str:
        return "<refused>"


REFUSED: Final = _Refused()


class _Opaque:
    """The type of `OPAQUE`: an object of the caller's that can't be gone through, and so is never shown."""


OPAQUE: Final = _Opaque()


@dataclass(frozen=True, slots=True, repr=False)
class Located:
    """A value and its place.

    Args:
        value: A dictionary or a list (or tuple) of such values, or any other value as it is.
        place: `file:line`, or the path inside a mapping that was given as such.
        hidden: Whether it is never shown.
        substituted: Whether parts of it came from environment variables or their defaults.
        original: The caller's own object, where there is one.
    """

    value: Any
    place: str
    hidden: bool = False
    substituted: bool = False
    original: Any = NO_VALUE

    @property
    def is_refused(self) -> bool:
        """Whether an error was found in it, or in what it holds."""
        return self.value is REFUSED or any(child.is_refused for child in self.children())

    def children(self) -> Iterator[Located]:
        """Yield what it holds."""
        if isinstance(self.value, dict):
            yield from self.value.values()
        elif isinstance(self.value, list | tuple):
            yield from self.value

    def plain(self) -> Any:
        """Return the value itself, made anew unless it is the caller's own object."""
        if self.original is not NO_VALUE:
            return self.original
        return self._with(Located.plain, self.value)

    def given(self) -> dict[str, Located]:
        """Return what a mapping holds; nothing if it is none."""
        return self.value if isinstance(self.value, dict) else {}

    def masked(self) -> Any:
        """Return the value with the mask in place of all that is hidden, and with any other object as text."""
        if isinstance(self.value, dict | list | tuple):
            return self._with(Located.masked, None)
        if self.value is None or self.value is REFUSED:
            return None
        if self.hidden:
            return MASK
        return self.value if isinstance(self.value, str | int | float) else safe_repr(self.value)

    def shown(self) -> str:
        """Return the value as text for a message, with its type."""
        if self.hidden and not isinstance(self.value, dict | list | tuple):
            return f"a hidden value ({type_name(self.plain())})"
        return f"{safe_repr(self.masked())} ({type_name(self.value)})"

    def secrets(self) -> Iterator[str]:
        """Yield the text of each hidden value in it."""
        if self.hidden and not isinstance(self.value, dict | list | tuple):
            yield self.value if isinstance(self.value, str) else safe_repr(self.value)
        for child in self.children():
            yield from child.secrets()

    def __repr__(self) -> str:
        return f"<{self.shown()} at {self.place}>"

    def _with(self, form: Any, otherwise: Any) -> Any:
        if isinstance(self.value, dict):
            return {key: form(child) for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [form(child) for child in self.value]
        if isinstance(self.value, tuple):
            return tuple(form(child) for child in self.value)
        return otherwise
