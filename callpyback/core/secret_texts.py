"""Secrets inside a text: told by the name before them, or by their form."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from callpyback.core.secret_names import words_of

MASK: Final = "***REDACTED***"
"""Stands for a secret, whatever its length."""

_LEAST_CREDENTIAL: Final = 8  # a shorter word after "Basic" is one of a sentence

# Each starts at the beginning of a run of its own characters alone, so that none takes more than linear time.
_USERINFO: Final = re.compile(r"://[^\s/?#'\"<>]{1,500}@")
_SCHEME: Final = re.compile(r"(?<![\w-])(bearer|basic|digest|negotiate)(\s{1,5})([\w.~+/=-]++)", re.IGNORECASE)
_CREDENTIAL: Final = re.compile(
    r"(?<![\w-])(?:eyJ[\w-]{8,}+\.[\w-]++(?:\.[\w-]*+)?"  # a JSON Web Token
    r"|AKIA[0-9A-Z]{16}(?!\w)|(?:sk|pk|rk|gh[opsu]|xox[abps])[-_][\w-]{16,}+)"
)
_PRIVATE_KEY: Final = re.compile(r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]*+(?:-----END [A-Z ]{0,30}-----)?")
_NAME: Final = re.compile(r"(?<![\w-])([\w-]++)(?:\\?[\"'])?\s{0,3}+([=:])\s{0,3}+")
_HINT: Final = re.compile(
    r"[=:]|eyJ|AKIA|[srp]k[-_]|gh[opsu][-_]|xox|PRIVATE|(?:bearer|basic|digest|negotiate)\s", re.IGNORECASE
)
"""In a text that has none of these there is nothing to hide."""

_QUOTED: Final = re.compile(r"\\?([\"'])(?:(?!\1|\\).|\\.)*+\1?", re.DOTALL)
_RUN: Final = re.compile(r"[^\s,;&()\[\]{}\"'<>\\]*+")
_REST: Final = re.compile(r"[^\r\n\"']*+")
_BRACKET: Final = re.compile(r"[\[({]|[\])}]|[\"']|[^\[\](){}\"']++")
_REST_OF_LINE: Final = frozenset({"authorization", "cookie"})
_NO_CREDENTIALS: Final = frozenset(
    {"auth", "authentication", "authorization", "error", "header", "is", "realm", "scheme", "token", "tokens", "was"}
)


def masked_text(text: str, is_secret: Callable[[str], bool]) -> str:
    """Return a text with what looks like a secret hidden; takes time linear in its length.

    Args:
        text: Any text.
        is_secret: Whether a name is that of a secret.

    Example:
        >>> masked_text("GET https://ann:tulip@db/?page=2&token=x", lambda name: name == "token")
        'GET https://***REDACTED***@db/?page=2&token=***REDACTED***'
    """
    if text.isalpha() or _HINT.search(text) is None:
        return text
    text = _PRIVATE_KEY.sub(MASK, _USERINFO.sub(f"://{MASK}@", text))
    text = _CREDENTIAL.sub(MASK, _SCHEME.sub(_without_credentials, text))
    return "".join(_pieces(text, is_secret))


def _pieces(text: str, is_secret: Callable[[str], bool]) -> Iterator[str]:
    """Go through a text from one secret name to the next."""
    shown = 0
    at = 0
    while (named := _NAME.search(text, at)) is not None:
        at = named.end()
        name = named[1]
        if not is_secret(name) or (named[2] == ":" and name.lower() in ("key", "keys")):
            continue
        yield text[shown:at]
        at = shown = _end_of_value(text, at, words_of(name))
        yield MASK
    yield text[shown:]


def _without_credentials(match: re.Match[str]) -> str:
    scheme, space, given = match.groups()
    is_bearer = scheme.lower() == "bearer"
    has_form = given != given.lower() or any(character in "0123456789=+/" for character in given)
    if given.lower() in _NO_CREDENTIALS or not (is_bearer or (has_form and len(given) >= _LEAST_CREDENTIAL)):
        return match[0]
    return f"{scheme}{space}{MASK}"


def _end_of_value(text: str, at: int, name: tuple[str, ...]) -> int:
    """Return where the value ends that begins here: a quoted text, what stands in brackets, or a run of characters."""
    start = at
    if not _REST_OF_LINE.isdisjoint(name) and text[at : at + 1] not in ("'", '"', "\\", "[", "{", "("):
        rest: Any = _REST.match(text, at)
        return rest.end()  # type: ignore[no-any-return]
    while True:
        before = at
        run: Any = _RUN.match(text, at)
        at = run.end()
        if (quoted := _QUOTED.match(text, at)) is not None:
            at = quoted.end()
        elif text[at : at + 1] in ("(", "[", "{"):
            at = _end_of_bracket(text, at)
        elif at == before or text[at : at + 1] != "\\":
            return max(at, start)
        else:
            at += 1


def _end_of_bracket(text: str, at: int) -> int:
    depth = 0
    while at < len(text):
        quoted = _QUOTED.match(text, at) if text[at] in "\"'" else None
        part: Any = quoted or _BRACKET.match(text, at)
        depth += (part[0] in "[({") - (part[0] in "])}")
        at = part.end()
        if depth <= 0:
            break
    return at
