"""Messages of constructors, which show the values they refuse, unless a value must not be shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from callpyback.core.safe_repr import one_line

WITHHELD: Final = "(the message is not shown, because it may hold a hidden value)"

_MAX_MESSAGE: Final = 600
_PIECE: Final = 4


def withheld(message: str, secrets: Iterable[str]) -> str:
    """Return a message in one line; `WITHHELD` if it holds a secret, or four characters of one in a row.

    A message shows a value cut and escaped as it pleases, so that a secret can't be found and replaced as a whole.

    Example:
        >>> withheld("period=-1 (int): expected a number above 0", ["tulip-42"])
        'period=-1 (int): expected a number above 0'
        >>> withheld("token='tulip-4...' (str): expected more", ["tulip-42"])
        '(the message is not shown, because it may hold a hidden value)'
    """
    message = one_line(message, _MAX_MESSAGE)
    folded = message.casefold()
    pieces = set(_pieces_of(folded))
    for secret in secrets:
        for form in {secret.casefold(), repr(secret)[1:-1].casefold()}:
            if _is_told(form, folded, pieces):
                return WITHHELD
    return message


def _is_told(secret: str, message: str, pieces: set[str]) -> bool:
    if len(secret) <= _PIECE:
        return bool(secret.strip()) and secret in message
    return any(piece in pieces for piece in _pieces_of(secret) if piece.strip())


def _pieces_of(text: str) -> Iterator[str]:
    """Yield all runs of so many characters."""
    return (text[at : at + _PIECE] for at in range(len(text) - _PIECE + 1))
