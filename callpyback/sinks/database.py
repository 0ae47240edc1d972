"""`DatabaseObserver`: a row in an SQLite table for every call."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, get_args

from callpyback.core.configuration import checked_clocks, checked_count, checked_switch, looking_at, refuse
from callpyback.core.masking import Masking
from callpyback.core.state_machine import TERMINAL_STATES
from callpyback.delivery.batching import BatchingObserver
from callpyback.errors import nearest
from callpyback.sinks.database_errors import is_passing
from callpyback.sinks.database_file import DatabaseFile, Synchronous
from callpyback.sinks.database_rows import row_of
from callpyback.sinks.database_writer import Writer
from callpyback.sinks.pauses import Pause

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext
    from callpyback.delivery.queue import Overflow
    from callpyback.observers.base import States
    from callpyback.protocols import TimeSource

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}", re.ASCII)


class DatabaseObserver(BatchingObserver):
    """Stores each call as a row of an SQLite table, in batches, from a thread of its own.

    A call makes the row, of plain values that hold nothing of the call, and puts it into a queue: some microseconds,
    whatever the disk is doing. Arguments become bounded JSON at that moment, so that what the program changes later
    does not show; those whose names mean a secret are masked, at any depth. `function_name`, `success`,
    `execution_time`, `arguments` and `timestamp` (seconds since the epoch) are as in the table everybody starts with,
    which may exist and gets the further columns: `outcome`, `error`, `call_id` and `qualified_name`.

    Many threads, observers and processes may write to one file. While it is locked, the disk is full, or the file is
    out of reach, the worker keeps its batch and tries again, for ever, and says so at most once a minute; the queue
    fills meanwhile, and when it is full, `overflow` decides, and the ledger counts. A row that the table itself refuses
    is dropped alone. A file that is moved away or deleted is made anew.

    What is committed survives the end of the process, `kill -9` included; after a loss of power, `synchronous="normal"`
    may miss the newest rows (the file stays whole), `"full"` misses none and waits for the disk at every batch. The
    file uses SQLite's write-ahead log, and is made readable for its owner alone; symbolic links are refused. A forked
    child begins with an empty queue and opens the file for itself: the connection is closed before every fork, because
    SQLite can't be carried across one.

    In the worst case `max_queue` rows are held, of at most about 25 KB each, and usually 1 KB.

    Args:
        path: The file, made if it does not exist, in a directory that does.
        table: The name of the table, made if it does not exist.
        arguments: Whether to store the arguments. Without them a call costs less, and no `__repr__` runs.
        masked_keys: Names of further secrets, beside those of `Masking`.
        max_rows: The most rows the table keeps: older ones are deleted as new ones come. None keeps all.
        synchronous: "normal" or "full"; see above.
        batch_size: The most rows in a transaction.
        flush_interval: Seconds until a batch that is not full is written.
        states: Which states make a row; by default the two terminal ones, so that each call has exactly one.
        max_queue: The greatest number of rows in the queue; at least `batch_size`.
        overflow: What happens at a full queue, as for `BackgroundObserver`.
        block_timeout: Seconds a call waits at most, if it waits.
        exit_timeout: Seconds that the end of the program, and `close()`, wait for the rest to be written.
        time_source: Whose `sleep`, if it has one, passes the time between two attempts to write.
        priority: Higher is told earlier.
        name: How it is shown.

    Raises:
        ConfigurationError: A parameter is none of these, or the file can't be written; the message says why.

    Example:
        >>> import tempfile
        >>> from callpyback import CallPyBack
        >>> folder = tempfile.TemporaryDirectory()
        >>> calls = DatabaseObserver(f"{folder.name}/calls.db")
        >>> @CallPyBack(observers=[calls], default_return=None)
        ... def log_in(user, password):
        ...     return user[0].upper()
        >>> log_in("ann", password="tulip"), log_in("", password="rose")
        ('A', None)
        >>> calls.flush()
        True
        >>> for row in calls.recent():
        ...     print(row["function_name"], row["success"], row["arguments"], row["error"])
        log_in False {'user': '', 'password': '***REDACTED***'} IndexError: string index out of range
        log_in True {'user': 'ann', 'password': '***REDACTED***'} None
        >>> calls.close()
        >>> folder.cleanup()
    """

    hears_calls_alone = True

    observer: Writer

    def __init__(
        self,
        path: str | os.PathLike[str] = "function_audit.db",
        *,
        table: str = "function_calls",
        arguments: bool = True,
        masked_keys: Iterable[str] = (),
        max_rows: int | None = None,
        synchronous: Synchronous = "normal",
        batch_size: int = 500,
        flush_interval: float = 1.0,
        states: States | None = None,
        max_queue: int = 10_000,
        overflow: Overflow = "drop_oldest",
        block_timeout: float = 1.0,
        exit_timeout: float = 5.0,
        time_source: TimeSource | None = None,
        priority: float = 0,
        name: str | None = None,
    ) -> None:
        self.path = _checked_path(path)
        self.table = _checked_table(table)
        self.synchronous = _checked_synchronous(synchronous)
        self.max_rows = None if max_rows is None else checked_count("max_rows", max_rows)
        self._with_arguments = checked_switch("arguments", arguments)
        self._masking = Masking(masked_keys)
        _, clock = checked_clocks(time_source)
        file = DatabaseFile(self.path, self.table, self.synchronous)
        writer = Writer(file, Pause(time_source), clock, self.max_rows, type(self).__name__)
        super().__init__(
            writer,
            batch_size,
            flush_interval,
            states=TERMINAL_STATES if states is None else states,
            max_queue=max_queue,
            overflow=overflow,
            block_timeout=block_timeout,
            exit_timeout=exit_timeout,
            priority=priority,
            name=type(self).__name__ if name is None else name,
        )
        writer.name = self.name
        self._lost = 0
        try:
            file.check()
        except sqlite3.OperationalError as error:
            if not is_passing(error):
                raise
            # Locked or full at this moment: that is the worker's to wait for.

    def update(self, context: ExecutionContext) -> None:
        """Put the row of a call into the queue."""
        self._offer(row_of(context, with_arguments=self._with_arguments, masking=self._masking))

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything that was offered before is committed, or lost.

        Args:
            timeout: Seconds to wait at most; None for no limit: a disk that stays full is waited for.

        Returns:
            Whether all of it is committed: False if time is over, and if since the last `flush()` a row was dropped
            or refused, which `ledger` shows.
        """
        is_done = super().flush(timeout)
        ledger = self.ledger
        lost = ledger.failed + sum(ledger.dropped.values())
        lost, self._lost = lost - self._lost, lost
        return is_done and lost <= 0

    def shutdown(self, timeout: float | None = None) -> bool:
        """Write what was offered, close the file, and end the thread; as for `BackgroundObserver`.

        If the file is still locked when the time is over, the batch in hand is given up and counts as failed.
        """
        is_done = super().shutdown(timeout)
        if not is_done:
            self.observer.stop()
        return is_done

    def count(self) -> int:
        """Return how many rows the table has; those still in the queue are not among them.

        Raises:
            sqlite3.Error: The file can't be read at the moment.
        """
        [row] = self.observer.file.select(f'count(*) FROM "{self.table}"')
        number: int = row[0]
        return number

    def recent(self, limit: int = 20) -> list[dict[str, Any]]:
        """Return the newest rows as dictionaries by column, the newest first; the arguments are read from their JSON.

        Args:
            limit: The most rows to return.

        Raises:
            ConfigurationError: `limit` is no whole number of at least 1.
            sqlite3.Error: The file can't be read at the moment.
        """
        checked = min(checked_count("limit", limit), 2**31)
        found = self.observer.file.select(f'* FROM "{self.table}" ORDER BY id DESC LIMIT ?', (checked,))
        return [_shown(dict(row)) for row in found]


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    arguments = row["arguments"]
    try:
        row["arguments"] = None if arguments is None else json.loads(arguments)
    except ValueError:
        pass  # written by somebody else, who writes it in another way
    row["success"] = bool(row["success"])
    return row


def _checked_path(path: Any) -> str:
    with looking_at("path", path):
        text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
        if not isinstance(text, str) or not text or text.startswith(":") or "\0" in text:
            refuse("path", path, "the path of a file, such as 'calls.db'; the table outlives the process")
        text.encode("utf-8")
        # Absolute: where the program goes later changes nothing, and SQLite takes it for no URI.
        return os.path.abspath(text)  # noqa: PTH100 - resolve() would follow the links that are refused


def _checked_table(table: Any) -> str:
    with looking_at("table", table):
        is_name = isinstance(table, str) and _IDENTIFIER.fullmatch(table) is not None
        if not is_name or table.lower().startswith("sqlite_"):
            refuse("table", table, "a name of letters, digits and _, not beginning with a digit or sqlite_")
        return str(table)


def _checked_synchronous(synchronous: Any) -> Synchronous:
    with looking_at("synchronous", synchronous):
        known = get_args(Synchronous)
        if not isinstance(synchronous, str) or synchronous not in known:
            hint = nearest(synchronous, known) if isinstance(synchronous, str) else ""
            refuse("synchronous", synchronous, f"{' or '.join(known)}{hint}")
        return synchronous  # type: ignore[return-value]
