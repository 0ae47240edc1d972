"""Which errors are a matter of security: by their classes, and by phrases in their text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final

from callpyback.core.configuration import checked_exception_classes, looking_at, refuse
from callpyback.core.safe_repr import safe_repr, safe_text, type_name

PATTERNS: Final = (
    "permission denied",
    "access denied",
    "unauthorized",
    "authentication failed",
    "sql injection",
    "xss",
)
"""What makes the text of an error suspicious unless other patterns are given."""

Pattern = str | re.Pattern[str]

_MAX_TEXT: Final = 1000  # so much of an error's text is looked at
_MAX_PATTERNS: Final = 1000
_MAX_LEAVES: Final = 100
_leaves_of: Callable[[BaseException], tuple[BaseException, ...]] = BaseExceptionGroup.__dict__["exceptions"].__get__


class Suspicion:
    """Judges errors.

    A pattern that is a text is a phrase: its words must stand in the error's type or message as whole words, in upper
    or lower case, so that "xss" does not find `xsserver`, nor "unauthorized" an `AuthorError`. Looking for phrases
    takes time linear in the text, and only the first 1,000 characters are looked at.

    Args:
        alert_on: Exception classes; of a group every leaf counts.
        patterns: Phrases, or compiled regular expressions. With an expression that backtracks without end, 1,000
            characters are enough to stop the call: prefer phrases.

    Example:
        >>> suspicion = Suspicion((PermissionError,), PATTERNS)
        >>> suspicion.reason(RuntimeError("HTTP 401: Unauthorized")), suspicion.reason(ValueError("no such author"))
        ('unauthorized', None)
    """

    __slots__ = ("_classes", "_expressions", "_phrases")

    def __init__(self, alert_on: Any, patterns: Any) -> None:
        self._classes = checked_exception_classes(alert_on, "alert_on")
        known = _checked_patterns(patterns)
        self._phrases = _compiled([pattern for pattern in known if isinstance(pattern, str)])
        self._expressions = tuple(pattern for pattern in known if isinstance(pattern, re.Pattern))

    def reason(self, error: BaseException) -> str | None:
        """Return why an error is suspicious, the name of its class or what was found in its text; None if it is not."""
        for leaf in islice(_leaves(error), _MAX_LEAVES):
            if isinstance(leaf, self._classes):
                return type_name(leaf)
            text = safe_text(leaf, _MAX_TEXT)
            if self._phrases is not None and (found := self._phrases.search(text)) is not None:
                return found[0].lower()
            for expression in self._expressions:
                if expression.search(text) is not None:
                    return safe_repr(expression.pattern)
        return None


def _leaves(error: BaseException) -> Iterator[BaseException]:
    pending = [error]
    while pending:
        leaf = pending.pop()
        if isinstance(leaf, BaseExceptionGroup):
            pending.extend(_leaves_of(leaf))
        else:
            yield leaf


def _compiled(phrases: list[str]) -> re.Pattern[str] | None:
    if not phrases:
        return None
    listed = "|".join(r"\s{1,9}".join(map(re.escape, phrase.split())) for phrase in phrases)
    return re.compile(rf"(?<!\w)(?:{listed})(?!\w)", re.IGNORECASE)


def _checked_patterns(patterns: Any) -> list[Pattern]:
    expected = 'phrases such as patterns=["access denied"], or compiled regular expressions'
    with looking_at("patterns", patterns):
        if isinstance(patterns, str | bytes | re.Pattern) or not isinstance(patterns, Iterable):
            refuse("patterns", patterns, f"a list of {expected}")
        known = list(islice(patterns, _MAX_PATTERNS + 1))
        if len(known) > _MAX_PATTERNS:
            refuse("patterns", patterns, f"at most {_MAX_PATTERNS} of them")
        for pattern in known:
            is_phrase = isinstance(pattern, str) and pattern.split()
            if not is_phrase and not (isinstance(pattern, re.Pattern) and isinstance(pattern.pattern, str)):
                refuse("patterns", patterns, f"{expected}; {safe_repr(pattern)} is neither")
        return known
