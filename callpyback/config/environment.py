"""`${NAME}` and `${NAME:-default}` in texts, and what of a configuration is hidden when it is shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.masking import MASKING
from callpyback.errors import NO_VALUE, nearest

if TYPE_CHECKING:
    from callpyback.config.located import Located
    from callpyback.config.problems import Problems

_REFERENCE: Final = re.compile(
    r"(?P<escaped>\$\$\{)|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^{}]*))?\}|\$\{"
)
_MAX_EXPANDED: Final = 1_000_000
_MAX_SHOWN: Final = 10_000


class Environment:
    """Puts the values of environment variables where a configuration refers to them.

    What an environment variable holds is not looked at again: a `${` in it stands for itself.

    Args:
        variables: The variables; None to leave every text as it is.
        problems: Where errors are noted.
    """

    def __init__(self, variables: Mapping[str, str] | None, problems: Problems) -> None:
        self._variables = variables
        self._problems = problems
        self._room = _MAX_EXPANDED

    def prepared(self, located: Located, name: str = "", *, secret: bool = False) -> Located:
        """Return the value with its references resolved, and with all that must not be shown marked as hidden.

        Args:
            located: The value; it stays as it was.
            name: Its key.
            secret: Whether it lies under a secret name.
        """
        secret = secret or MASKING.is_secret(name)
        value = located.value
        if isinstance(value, dict):
            return _of_children(
                located, {key: self.prepared(child, key, secret=secret) for key, child in value.items()}
            )
        if isinstance(value, list | tuple):
            return _of_children(located, type(value)(self.prepared(child, secret=secret) for child in value))
        if isinstance(value, str):
            located = self._resolved(located, value)
            secret = secret or (isinstance(located.value, str) and _carries_secret(located.value))
        return replace(located, hidden=True) if secret else located

    def _resolved(self, located: Located, text: str) -> Located:
        if self._variables is None or "${" not in text:
            return located
        parts: list[str] = []
        at, hidden = 0, False
        for found in _REFERENCE.finditer(text):
            parts.append(text[at : found.start()])
            at = found.end()
            if found["escaped"]:
                parts.append("${")
                continue
            value, is_default = self._value_of(found)
            if value is None:
                return self._problems.refuse(located.place, self._complaint(found["name"]))
            parts.append(value)
            hidden = hidden or not is_default
        parts.append(text[at:])
        resolved = "".join(parts)
        self._room -= len(resolved)
        if self._room < 0:
            return self._problems.refuse(
                located.place, f"environment variables make up more than {_MAX_EXPANDED} characters"
            )
        return replace(located, value=resolved, hidden=hidden, substituted=True, original=NO_VALUE)

    def _value_of(self, found: re.Match[str]) -> tuple[str | None, bool]:
        """Return what a reference stands for, and whether that is its default."""
        if found["name"] is None or self._variables is None:
            return None, False
        value = self._variables.get(found["name"])
        if found["default"] is not None and not value:  # as in a shell: set to nothing counts as not set
            return found["default"], True
        return value, False

    def _complaint(self, name: str | None) -> str:
        if name is None:
            return "${ without a name and a }: write ${NAME} or ${NAME:-default}, and $${ for the two characters"
        hint = nearest(name, self._variables or ())
        return f"the environment variable {name} is not set{hint}; set it, or write ${{{name}:-default}}"


def _of_children(located: Located, children: Any) -> Located:
    """Return a container with new children; the caller's own object stays if nothing in it was replaced."""
    pairs = zip(_listed(located.value), _listed(children), strict=True)
    is_same = all(new.original is old.original for old, new in pairs)
    return replace(located, value=children, original=located.original if is_same else NO_VALUE)


def _carries_secret(text: str) -> bool:
    """Return whether a text holds something like the user of a URL, or is too long to be sure."""
    return len(text) > _MAX_SHOWN or MASKING.text(text) != text


def _listed(children: Any) -> list[Located]:
    return list(children.values()) if isinstance(children, dict) else list(children)
