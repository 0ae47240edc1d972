"""Writing to a file that makes trouble: locked, full, gone, replaced, refusing a row."""

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from callpyback import CallPyBack, MockTimeSource
from callpyback.sinks import DatabaseObserver
from delivering import counted, lines
from storing import LIMIT, asked, call, database, path, stored

__all__ = ["database", "lines", "path"]  # fixtures


@contextmanager
def locked(path):
    """Hold the lock for writing, as another process would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def until(condition):
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < LIMIT
        time.sleep(0.005)


class Clock(MockTimeSource):
    """A clock that waits move, by which they take next to no time."""

    def sleep(self, seconds):
        time.sleep(0.001)
        super().sleep(20 * seconds)


def test_no_call_waits_for_a_locked_file_and_no_row_is_lost(database, path):
    observer = database(batch_size=10)

    @CallPyBack([observer])
    def function(number): ...

    with locked(path):
        took = []
        for number in range(200):
            began = time.perf_counter()
            function(number)
            took.append(time.perf_counter() - began)
        until(lambda: observer.observer.retries > 0)
        assert observer.ledger.failed == 0
    assert sorted(took)[len(took) // 2] < 0.001
    assert observer.flush(LIMIT)
    numbers = asked(path, "SELECT json_extract(arguments, '$.number') FROM function_calls ORDER BY id")
    assert numbers == [(number,) for number in range(200)]


def test_a_file_that_is_locked_when_the_observer_is_made_is_waited_for(path):
    DatabaseObserver(path).close()
    with locked(path):
        observer = DatabaseObserver(path)
        call(observer)
    assert observer.flush(LIMIT)
    assert observer.count() == 1
    assert observer.shutdown(LIMIT)


def test_a_long_trouble_is_logged_once_a_minute_and_its_end_once(database, path, lines):
    clock = Clock()
    observer = database(time_source=clock)
    logging.getLogger("callpyback").setLevel(logging.INFO)
    try:
        with locked(path):
            call(observer)
            until(lambda: clock.now() > 200)
        assert observer.flush(LIMIT)
    finally:
        logging.getLogger("callpyback").setLevel(logging.NOTSET)
    first, *more, last = [lines.next() for _ in range(lines.lines.qsize())]
    assert "can't write to" in first
    assert "database is locked" in first
    assert more
    assert all("more since the last report" in line for line in more)
    assert len(more) <= clock.now() / 60
    assert last.endswith("again")


def test_a_short_trouble_is_not_worth_a_line(database, path, lines):
    observer = database()
    with locked(path):
        call(observer)
        until(lambda: observer.observer.retries == 2)
    assert observer.flush(LIMIT)
    assert lines.lines.empty()


def test_a_full_disk_hurts_no_call_is_counted_and_writing_goes_on_when_there_is_room(database, path, lines):
    observer = database(batch_size=10, max_queue=100, time_source=Clock())
    call(observer, "x" * 150)
    assert observer.flush(LIMIT)
    with observer.observer.file.connection() as connection:
        [(pages,)] = connection.execute("PRAGMA page_count").fetchall()
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    call(observer, "x" * 150, times=1000)
    until(lambda: observer.observer.retries > 5)
    ledger = observer.ledger
    assert ledger.failed == 0
    assert ledger.dropped["overflow"] >= 800
    with observer.observer.file.connection() as connection:
        connection.execute("PRAGMA max_page_count = 1000000")
    call(observer, "there is room")
    assert observer.flush(LIMIT) is False  # for some were lost
    ledger = observer.ledger
    assert observer.count() == ledger.delivered == 1002 - ledger.dropped["overflow"]
    assert observer.recent(1)[0]["arguments"] == {"arguments": ["there is room"]}
    assert lines.lines.qsize() <= 3  # the beginning of the loss, of the trouble; no storm


def test_a_row_that_the_table_refuses_is_dropped_alone(database, path):
    database().shutdown()
    asked(
        path,
        "CREATE TRIGGER odd BEFORE INSERT ON function_calls WHEN new.arguments LIKE '%[13]%' "
        "BEGIN SELECT RAISE(ABORT, 'unlucky'); END",
    )
    observer = database()
    for number in range(20):
        call(observer, number)
    assert observer.flush(LIMIT) is False
    assert observer.ledger == counted(offered=20, delivered=19, failed=1)
    assert observer.count() == 19
    assert observer.observer.rejected == 1
    assert "1 of 20 rows can't be stored" in observer.get_metrics()["last_error"]
    call(observer)
    assert observer.flush(LIMIT) is True


@pytest.mark.parametrize("how", ["ROLLBACK", "FAIL", "ABORT"])
def test_however_a_trigger_refuses_rows_the_others_are_stored(database, path, how):
    database().shutdown()
    asked(
        path,
        "CREATE TRIGGER odd BEFORE INSERT ON function_calls WHEN new.arguments LIKE '%odd%' "
        f"BEGIN SELECT RAISE({how}, 'odd'); END",
    )
    observer = database()
    for number in range(10):
        call(observer, "odd" if number % 2 else "even")
    observer.flush(LIMIT)
    assert stored(path, "arguments") == ['{"arguments":["even"]}'] * 5
    assert observer.ledger == counted(offered=10, delivered=5, failed=5)


def test_a_table_that_was_dropped_is_made_anew(database, path):
    observer = database()
    call(observer)
    assert observer.flush(LIMIT)
    asked(path, "DROP TABLE function_calls")
    call(observer)
    assert observer.flush(LIMIT)
    assert observer.count() == 1


@pytest.mark.parametrize("how", ["deleted", "moved away", "replaced"])
def test_a_file_that_is_gone_is_made_anew(database, path, tmp_path, how):
    observer = database()
    call(observer, "before")
    assert observer.flush(LIMIT)
    if how == "deleted":
        for ending in ("", "-wal", "-shm"):
            Path(path + ending).unlink()
    else:
        for ending in ("", "-wal", "-shm"):
            Path(path + ending).rename(f"{path}.1{ending}")
        if how == "replaced":
            sqlite3.connect(path).close()
            Path(path).touch()
    call(observer, "after")
    assert observer.flush(LIMIT)
    assert stored(path, "arguments") == ['{"arguments":["after"]}']
    if how != "deleted":
        assert stored(path + ".1", "arguments") == ['{"arguments":["before"]}']


def test_a_directory_that_is_gone_is_waited_for(path, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    observer = DatabaseObserver(folder / "calls.db", time_source=Clock())
    for name in folder.iterdir():
        name.unlink()
    folder.rmdir()
    call(observer)
    until(lambda: observer.observer.retries > 3)
    folder.mkdir()
    assert observer.flush(LIMIT)
    assert observer.count() == 1
    assert observer.shutdown(LIMIT)


def test_a_damaged_file_fails_the_batch_and_is_counted(path):
    observer = DatabaseObserver(path)
    Path(path).write_bytes(b"no database at all " * 1000)
    call(observer, times=3)
    assert observer.flush(LIMIT) is False
    assert observer.ledger == counted(offered=3, failed=3)
    assert "not a database" in observer.get_metrics()["last_error"]
    assert observer.shutdown(LIMIT)


def test_a_shutdown_while_the_file_is_locked_is_in_time_and_counts(path):
    observer = DatabaseObserver(path, batch_size=5)
    with locked(path):
        call(observer, times=12)
        until(lambda: observer.observer.retries > 0)
        began = time.monotonic()
        assert observer.shutdown(0.2) is False
        assert time.monotonic() - began < 0.4
        until(lambda: observer.ledger.pending == 0)
    ledger = observer.ledger
    assert ledger.failed + ledger.dropped["shutdown"] == 12
    assert observer.shutdown(LIMIT)
    assert stored(path) == []


def test_a_shutdown_closes_the_file_and_may_be_repeated(database, path):
    observer = database()
    call(observer)
    assert observer.shutdown(LIMIT)
    assert not Path(path + "-wal").exists()  # SQLite removes it with the last connection
    assert observer.shutdown(LIMIT)
    call(observer)
    assert observer.flush(LIMIT) is False
    assert observer.ledger == counted(offered=2, delivered=1, shutdown=1)
    assert observer.count() == 1  # reading goes on
    observer.close()


def test_after_an_error_while_reading_writing_goes_on(database):
    observer = database()
    with pytest.raises(sqlite3.OperationalError):
        observer.observer.file.select("* FROM nowhere")
    call(observer)
    assert observer.flush(LIMIT)
