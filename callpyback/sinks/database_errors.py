"""What the errors of SQLite mean for those who write: wait, look at the file anew, or give up."""

from __future__ import annotations

import sqlite3
from typing import Final

from callpyback.errors import ConfigurationError

_PASSING: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
    }
)
_OF_THE_PLACE: Final = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM})
_HARMLESS: Final = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CONSTRAINT}
)

_WRITABLE: Final = "give a file in a directory where this user may write, such as its own home"
_WAYS_OUT: Final = {
    sqlite3.SQLITE_READONLY: f"it can't be written; {_WRITABLE}, or change its permissions",
    sqlite3.SQLITE_CANTOPEN: f"SQLite can't open it; {_WRITABLE}",
    sqlite3.SQLITE_PERM: f"it may not be opened; {_WRITABLE}",
    sqlite3.SQLITE_NOTADB: "it is no SQLite database; give another file, or move this one away",
    sqlite3.SQLITE_CORRUPT: "it is damaged; move it away, and a new one will be made",
}


class ForkedMeanwhileError(Exception):
    """This process was forked while its parent was writing: here, the file can't be used safely any more."""


def is_passing(error: BaseException) -> bool:
    """Return whether an error may pass by itself: the file is locked, or the disk is full."""
    return _code(error) in _PASSING


def is_about_the_place(error: BaseException) -> bool:
    """Return whether an error is about the file or its directory, and not about what is written."""
    return isinstance(error, OSError | ConfigurationError) or is_passing(error) or _code(error) in _OF_THE_PLACE


def is_harmless(error: BaseException) -> bool:
    """Return whether a connection is as good as before after this error."""
    return _code(error) in _HARMLESS


def way_out(error: OSError | sqlite3.Error) -> str:
    """Return what is wrong with a file, and what to do."""
    if isinstance(error, OSError):
        return f"{error.strerror or 'it could not be made'}; {_WRITABLE}"
    return _WAYS_OUT.get(_code(error) or 0, f"give a file that SQLite can open; it said: {error}")


def _code(error: BaseException) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None  # the low byte; the rest says which lock, which write
