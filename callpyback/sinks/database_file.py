"""One SQLite file: made with care, opened late, closed before forks, never held open by two threads at once."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal

from callpyback.core.forks import before_fork, reset_after_fork
from callpyback.core.safe_repr import safe_repr
from callpyback.errors import ConfigurationError
from callpyback.sinks.database_errors import ForkedMeanwhileError, is_harmless, is_passing, way_out
from callpyback.sinks.database_rows import COLUMNS, REQUIRED

Synchronous = Literal["normal", "full"]

BUSY_SECONDS: Final = 0.1
"""How long SQLite itself waits for a lock. Short, because a fork waits for what is under way."""

_STATEMENTS: Final = 8  # kept prepared; one for a batch of 500 rows takes some 100 KB

_FORK_PATIENCE: Final = 1.0
"""Seconds a fork waits at most for what is being written."""


class _Making:
    """The lock under which this process makes files."""

    def __init__(self) -> None:
        self.reset_after_fork()
        reset_after_fork(self)

    def reset_after_fork(self) -> None:
        self.lock = threading.Lock()


_making: Final = _Making()


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - once a batch, so the shortest way
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def _committed(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


class DatabaseFile:
    """A table in an SQLite file.

    One thread at a time uses the one connection. It is opened when it is needed, and closed before every fork and by
    `close()`; after that it is opened anew.

    Args:
        path: The file; it need not exist, its folder must.
        table: The name of the table, a valid identifier.
        synchronous: SQLite's `synchronous` setting.
    """

    def __init__(self, path: str, table: str, synchronous: Synchronous) -> None:
        self.path = path
        self.table = table
        self.synchronous = synchronous
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._is_closed_for_fork = False
        self._is_lost = False
        before_fork(self)
        reset_after_fork(self)

    def check(self) -> None:
        """Open the file, make what is missing, and see whether it can be written.

        Raises:
            ConfigurationError: It can't; the message says why and what to do.
            sqlite3.OperationalError: It is locked or the disk is full at this moment.
        """
        try:
            with self.connection() as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
        except (OSError, sqlite3.Error) as error:
            if is_passing(error):
                raise
            raise self._refused(way_out(error)) from error
        finally:
            self.close()

    def insert(self, rows: Sequence[Sequence[Any]], keep: int | None) -> None:
        """Write all rows and commit, or none; then keep only the newest `keep` rows, if that is a number."""
        with self.connection() as connection:
            most = connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // len(COLUMNS)
            with _committed(connection):
                for begin in range(0, len(rows), most):
                    self._insert(connection, rows[begin : begin + most])
                if keep is not None:
                    newest = f'SELECT max(id) FROM "{self.table}"'  # noqa: S608 - a checked identifier
                    connection.execute(f'DELETE FROM "{self.table}" WHERE id <= ({newest}) - ?', (keep,))  # noqa: S608

    def _insert(self, connection: sqlite3.Connection, rows: Sequence[Sequence[Any]]) -> None:
        # One statement for all of them: each step of a statement gives up the interpreter, and beside a busy thread
        # waits milliseconds to have it back, so that `executemany` takes hundreds of times as long.
        places = f"({', '.join('?' * len(COLUMNS))})"
        values = ", ".join([places] * len(rows))
        insertion = f'INSERT INTO "{self.table}" ({", ".join(COLUMNS)}) VALUES {values}'  # noqa: S608
        connection.execute(insertion, tuple(chain.from_iterable(rows)))

    def select(self, what: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """Return what `SELECT` gives."""
        with self.connection() as connection:
            cursor = connection.execute(f"SELECT {what}", parameters)
            cursor.row_factory = sqlite3.Row
            return cursor.fetchall()

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """Give the connection to one thread. After an error it is closed: the next one looks at the file anew."""
        with self._lock:
            if self._is_lost:
                raise ForkedMeanwhileError("the process was forked while the database was being written")
            try:
                if self._connection is not None and _identity(self.path) != self._identity:
                    self._close()  # moved away or deleted: what is written to it would be lost
                if self._connection is None:
                    self._connection = self._opened()
                    self._identity = _identity(self.path)
                yield self._connection
            except BaseException as error:
                if not is_harmless(error):
                    self._close()
                raise

    def close(self) -> None:
        """Close the connection, if it is open. May be called more than once."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and not self._is_lost:
            connection.close()

    def _opened(self) -> sqlite3.Connection:
        self._look_at_the_path()
        connection = sqlite3.connect(
            self.path,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=_STATEMENTS,
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {self.synchronous.upper()}")
            self._make_table(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _look_at_the_path(self) -> None:
        """Make the file, readable by its owner alone, or see that it is a file; SQLite gives its other files its mode.

        A file that exists must not be opened here, nor one that is being made be opened by SQLite in this process:
        closing it ends all locks that the process has on it.
        """
        for path in (self.path, *(f"{self.path}{ending}" for ending in ("-wal", "-shm", "-journal"))):
            if Path(path).is_symlink():
                raise self._refused(f"{path} is a symbolic link, which may lead anywhere; give the path of the file")
        try:
            with _making.lock:
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            mode = Path(self.path).stat().st_mode
            if stat.S_ISDIR(mode):
                example = str(Path(self.path) / "calls.db")
                raise self._refused(f"it is a directory; name a file in it, such as {example!r}") from None
            if not stat.S_ISREG(mode):
                raise self._refused("it is no regular file; name one, or a new one") from None
        except FileNotFoundError:
            folder = str(Path(self.path).parent)
            raise self._refused(f"its directory {folder!r} does not exist; create it first") from None

    def _make_table(self, connection: sqlite3.Connection) -> None:
        if not self._missing(connection):
            return
        with _committed(connection):  # others may be making it at this moment
            columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
            connection.execute(
                f'CREATE TABLE IF NOT EXISTS "{self.table}" (id INTEGER PRIMARY KEY AUTOINCREMENT, {columns})'
            )
            missing = self._missing(connection)
            self._refuse_another_table(missing & REQUIRED)
            for name in [name for name in COLUMNS if name in missing]:
                connection.execute(f'ALTER TABLE "{self.table}" ADD COLUMN {name} {COLUMNS[name]}')

    def _refuse_another_table(self, missing: AbstractSet[str]) -> None:
        if missing:
            shown = ", ".join(sorted(missing))
            raise self._refused(f"its table {self.table!r} is another one, without {shown}; give another table=")

    def _missing(self, connection: sqlite3.Connection) -> set[str]:
        known = connection.execute("SELECT name FROM pragma_table_info(?)", (self.table,))
        return {"id", *COLUMNS} - {name for (name,) in known}

    def _refused(self, why: str) -> ConfigurationError:
        return ConfigurationError(f"path={safe_repr(self.path, 1000)}: {why}")

    def before_fork(self) -> Callable[[], object] | None:
        """Close the connection, and let nobody open one until the fork is over.

        SQLite keeps one record of a file's locks in each process. A child inherits the record without the locks, so
        even a connection that it opens anew writes unprotected, and loses what it wrote
        (https://sqlite.org/howtocorrupt.html, "Carrying an open database connection across a fork()").
        """
        self._is_closed_for_fork = self._lock.acquire(timeout=_FORK_PATIENCE)
        if not self._is_closed_for_fork:
            return None
        self._close()
        return self._lock.release

    def reset_after_fork(self) -> None:
        """In a child: make the lock anew; if the parent was writing for too long, leave the file alone."""
        self._lock = threading.Lock()
        self._is_lost = self._is_lost or not self._is_closed_for_fork

    def __del__(self) -> None:
        connection = self.__dict__.get("_connection")
        if connection is not None and not self._is_lost:
            connection.close()  # dropped without a shutdown: nobody else can use it any more

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "table": self.table, "synchronous": self.synchronous}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()
