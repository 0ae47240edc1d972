"""Hiding secrets in what is shown of a call: by the names they go by, and by how they look inside a text."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

from callpyback.core.configuration import looking_at, refuse
from callpyback.core.safe_repr import MAX_LENGTH, one_line, safe_repr, safe_text, type_name
from callpyback.core.secret_names import is_secret_name, words_of
from callpyback.core.secret_texts import MASK, masked_text
from callpyback.core.time_sources import SYSTEM

__all__ = ["MASK", "MASKING", "Masking"]

_MAX_TEXT: Final = 10_000  # what is longer is cut first: nothing of it would be shown
_MAX_ARGUMENTS: Final = 50
_DEPTH: Final = 5
_BREADTH: Final = 50
_PARTS: Final = 500
_ROOM: Final = 20_000  # characters of one value, give or take one text
_SLOW_SECONDS: Final = 0.1  # together for the reprs of one value; then the user's code is asked no more
_MAX_INT: Final = 2**63
_KNOWN_NAMES: Final = 1000
_LEAST_SECRET: Final = 4  # a shorter one would be found in every other word


class Masking:
    """Hides what goes by a secret name, and what looks like a secret inside a text.

    Secret are the usual names: `password`, `passwd`, `secret`, `token`, `api_key`, `authorization`, `cookie`,
    `signature`, `pin` and so on, alone or as words of a longer name (`dbPassword`, `x-api-key`, `refresh_token`), also
    in letters that only look Latin. `monkey`, `author`, `tokenizer`, `session_count` and `max_tokens` are not.

    In a text these are hidden: the value after a secret name (`password=x`, `"token": "x"`, `Cookie: x`), the user and
    password of a URL, what follows `Bearer`, JSON Web Tokens, private keys, and a few usual forms of API keys.
    Whatever goes wrong on the way, a value is hidden rather than shown. What is returned is bounded, and no object of
    the caller's.

    Args:
        keys: Further secret names. A name is secret if it has the words of one of them in a row.

    Raises:
        ConfigurationError: These are no names.

    Example:
        >>> masking = Masking(keys=["iban"])
        >>> masking.arguments({"user": "ann", "customer_iban": "DE02", "options": {"apiKey": "s3", "page": 2}})
        {'user': 'ann', 'customer_iban': '***REDACTED***', 'options': "{'apiKey': '***REDACTED***', 'page': 2}"}
        >>> masking.text("cannot open postgres://ann:tulip@db/shop?password=tulip")
        'cannot open postgres://***REDACTED***@db/shop?password=***REDACTED***'
    """

    __slots__ = ("_known", "_more", "keys")

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self.keys = _checked_keys(keys)
        self._more = tuple(filter(None, map(words_of, self.keys)))
        self._known: dict[str, tuple[str, bool]] = {}

    def is_secret(self, name: object) -> bool:
        """Return whether a name is that of a secret; what is no text is none."""
        if not isinstance(name, str):
            return False
        return self.known(name)[1]

    def known(self, name: str) -> tuple[str, bool]:
        """Return how a name is shown, and whether it is that of a secret; of the first 1,000 names, from memory."""
        found = self._known.get(name)
        if found is None:
            found = one_line(name), is_secret_name(name, self._more) or name in self.keys
            if len(self._known) < _KNOWN_NAMES and len(name) <= MAX_LENGTH:
                self._known[name] = found
        return found

    def arguments(self, arguments: Mapping[str, Any]) -> dict[str, str]:
        """Return the arguments of a call as bounded text by name, the first 50 of them, secrets hidden."""
        return {
            one_line(str(name)): self.shown(name, value) for name, value in islice(arguments.items(), _MAX_ARGUMENTS)
        }

    def shown(self, name: object, value: Any) -> str:
        """Return one value as a line of text, hidden if its name is secret. A text is shown without quotes."""
        if self.is_secret(name):
            return MASK
        plain = self.plain(value)
        return plain if isinstance(plain, str) else safe_repr(plain)

    def plain(self, value: Any) -> Any:
        """Return a bounded copy that `json.dumps` takes, secrets hidden at any depth.

        At most 5 levels deep, 50 items wide, 500 parts and about 20,000 characters in all; what is left out is marked
        by `"..."`. Numbers, None, True and False stay what they are, except integers beyond 64 bits and floats that are
        not finite; these and all objects become text.
        """
        return _Copy(self).of(value, _DEPTH)

    def text(self, text: str, secrets: Iterable[str] = ()) -> str:
        """Return a text, its first 10,000 characters, with what looks like a secret hidden.

        Args:
            text: Any text.
            secrets: Secrets that are known, to be hidden wherever they stand.
        """
        text = text[:_MAX_TEXT]
        for secret in secrets:
            text = text.replace(secret, MASK)
        return masked_text(text, self.is_secret)

    def exception(self, error: BaseException, arguments: Mapping[str, Any] | None = None) -> str:
        """Return `TypeName: message` in one line, secrets hidden.

        Args:
            error: The exception; it is left as it was.
            arguments: Of the call: those of secret names are hidden in the message, whatever stands around them.
        """
        copy = _Copy(self)
        if arguments:
            copy.of(dict(islice(arguments.items(), _MAX_ARGUMENTS)), _DEPTH)
        try:
            return one_line(self.text(safe_text(error, 2 * MAX_LENGTH), copy.secrets), 2 * MAX_LENGTH)
        except Exception:  # noqa: BLE001 - rather nothing than a secret
            return MASK

    def __reduce__(self) -> tuple[Any, ...]:
        return Masking, (self.keys,)

    def __repr__(self) -> str:
        return f"Masking(keys={self.keys!r})"


class _Copy:
    """One bounded copy of a value, and the secrets that were hidden in it."""

    __slots__ = ("_masking", "_parts", "_patience", "_room", "secrets")

    def __init__(self, masking: Masking) -> None:
        self._masking = masking
        self._parts = _PARTS
        self._room = _ROOM
        self._patience = _SLOW_SECONDS
        self.secrets: list[str] = []

    def of(self, value: Any, depth: int) -> Any:
        if type(value) is str:
            return self._text(value)
        if _is_plain(value):
            return value
        try:
            if type(value) is dict and depth > 0 and not self._is_full():
                return self._named(value, depth)
            return self._copied(value, depth)
        except Exception:  # noqa: BLE001 - rather nothing than a secret
            return MASK

    def _copied(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return self._text(str.__getitem__(value, slice(_MAX_TEXT)))
        is_known = isinstance(value, dict | list | tuple | set | frozenset | deque) and not hasattr(value, "_fields")
        if not is_known:
            return self._text(self._asked(value))
        if depth <= 0 or self._is_full():
            return "..."
        return self._named(value, depth) if isinstance(value, dict) else self._listed(value, depth)

    def _is_full(self) -> bool:
        return self._parts <= 0 or self._room <= 0

    def _text(self, text: str) -> str:
        if self._room <= 0:
            return "..."
        text = self._masking.text(text)
        if len(text) > MAX_LENGTH or not text.isprintable():
            text = one_line(text)
        self._room -= len(text)
        return text

    def _asked(self, value: Any) -> str:
        """Return what an object says of itself, unless those before it took too long."""
        if self._patience <= 0:
            return f"<{type_name(value)}>"
        started = SYSTEM.monotonic()
        shown = safe_repr(value, 5 * MAX_LENGTH)
        self._patience -= SYSTEM.monotonic() - started
        return shown

    def _named(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        named: dict[str, Any] = {}
        known = self._masking.known
        for key, item in list(islice(dict.items(value), _BREADTH)):
            if self._is_full():
                break
            shown, secret = known(key) if type(key) is str else (self._asked(key), self._masking.is_secret(key))
            self._parts -= 1
            self._room -= len(shown)
            if secret:
                self._note(item)
                named[shown] = MASK
            else:
                named[shown] = item if _is_plain(item) else self.of(item, depth - 1)
        if len(named) < dict.__len__(value):
            named["..."] = f"{dict.__len__(value) - len(named)} more"
        return named

    def _listed(self, value: Any, depth: int) -> list[Any]:
        items = list(islice(iter(value), _BREADTH + 1))
        if len(items) == 2 and self._masking.is_secret(items[0]):  # noqa: PLR2004 - a pair of name and value
            self._note(items[1])
            return [self.of(items[0], depth - 1), MASK]
        listed: list[Any] = []
        for item in items[:_BREADTH]:
            if self._is_full():
                break
            self._parts -= 1
            listed.append(item if _is_plain(item) else self.of(item, depth - 1))
        return [*listed, "..."] if len(listed) < len(items) else listed

    def _note(self, value: Any) -> None:
        """Remember a secret, to find it in a text."""
        known = str(value) if type(value) is int and abs(value) < _MAX_INT else value
        if isinstance(known, bytes):
            known = known[:MAX_LENGTH].decode("latin-1")
        if isinstance(known, str) and len(known) >= _LEAST_SECRET:
            self.secrets.append(str.__getitem__(known, slice(MAX_LENGTH)))


def _is_plain(value: Any) -> bool:
    """Return whether JSON has a form for the value itself, and it is no text."""
    if type(value) is int:
        return -_MAX_INT < value < _MAX_INT
    return value is None or type(value) is bool or (type(value) is float and math.isfinite(value))


def _checked_keys(keys: Any, parameter: str = "keys") -> tuple[str, ...]:
    expected = f'names of secrets, such as {parameter}=["iban"]'
    with looking_at(parameter, keys):
        if isinstance(keys, str | bytes | Mapping) or not isinstance(keys, Iterable):
            refuse(parameter, keys, expected)
        listed = tuple(islice(keys, _KNOWN_NAMES + 1))
        if len(listed) > _KNOWN_NAMES:
            refuse(parameter, keys, f"at most {_KNOWN_NAMES} names")
        for key in listed:
            if not isinstance(key, str) or not key.strip():
                refuse(parameter, keys, f"{expected}; {safe_repr(key)} is no name")
        return tuple(str(key) for key in listed)


MASKING: Final = Masking()
"""Hides by the usual names alone."""
