"""Writes batches of rows: waits while the file is locked or the disk is full, and drops a row that can't be stored."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.reporting import Interval, log
from callpyback.core.safe_repr import safe_repr, safe_text
from callpyback.delivery.partial import PartlyFailed
from callpyback.sinks.database_errors import ForkedMeanwhileError, is_about_the_place
from callpyback.sinks.database_rows import Row, parameters_of

if TYPE_CHECKING:
    from callpyback.sinks.database_file import DatabaseFile
    from callpyback.sinks.pauses import Pause

_FIRST_WAIT: Final = 0.05
_LONGEST_WAIT: Final = 2.0
_UNREPORTED: Final = 4
"""So many attempts in a row may fail before it is worth a line in the log: the wait so far is about a second."""


class Writer:
    """What the worker hands batches of rows to. Used by one thread.

    Args:
        file: Where to write.
        pause: How to wait between attempts.
        clock: Monotonic seconds, for the interval of the log.
        max_rows: The most rows the table keeps; None for no limit.
        name: The observer's name, for the log.
    """

    priority = 0

    def __init__(
        self, file: DatabaseFile, pause: Pause, clock: Callable[[], float], max_rows: int | None, name: str
    ) -> None:
        self.file = file
        self.name = name
        self.written = self.rejected = self.retries = 0
        self._pause = pause
        self._clock = clock
        self._max_rows = max_rows
        self._reports = Interval()

    def update_batch(self, rows: Sequence[Row]) -> None:
        """Commit a batch.

        Raises:
            PartlyFailed: Some rows can't be stored; the others are.
            Exception: No row is stored, and there is no use in waiting.
        """
        batch = [parameters_of(row) for row in rows]
        try:
            self._insert(batch)
        except Exception as error:
            if is_about_the_place(error) or isinstance(error, ForkedMeanwhileError):
                raise
            self._insert_each(batch)

    def _insert_each(self, batch: Sequence[Sequence[Any]]) -> None:
        failed, last = 0, ""
        for number, values in enumerate(batch):
            try:
                self._insert([values])
            except Exception as error:
                last = safe_text(error)
                if is_about_the_place(error):
                    raise PartlyFailed(failed + len(batch) - number, last) from error
                failed += 1
                self.rejected += 1
        if failed:
            raise PartlyFailed(failed, f"{failed} of {len(batch)} rows can't be stored, the last because of {last}")

    def _insert(self, batch: Sequence[Sequence[Any]]) -> None:
        attempts = 0
        while True:
            try:
                self.file.insert(batch, self._max_rows)
                break
            except Exception as error:
                if not is_about_the_place(error):
                    raise
                attempts += 1
                self.retries += 1
                self._report(attempts, error)
                ceiling = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(attempts, 10))
                if not self._pause.wait(random.uniform(ceiling / 2, ceiling)):  # noqa: S311 - to keep processes apart
                    raise
        self.written += len(batch)
        if attempts > _UNREPORTED:
            log(logging.INFO, "observer %s writes to %s again", self.name, safe_repr(self.file.path))

    def _report(self, attempts: int, error: Exception) -> None:
        if attempts > _UNREPORTED and self._reports.begins(self._clock()):
            log(
                logging.WARNING,
                "observer %s can't write to %s at the moment, and keeps trying: %s%s",
                self.name,
                safe_repr(self.file.path),
                safe_text(error),
                self._reports.held_back(),
            )

    def stop(self) -> None:
        """Give up a wait under way, and wait no more."""
        self._pause.end()

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def get_metrics(self) -> dict[str, Any]:
        """Return how many rows were written and rejected, and how often writing was tried again."""
        return {"written": self.written, "rejected": self.rejected, "retries": self.retries}
