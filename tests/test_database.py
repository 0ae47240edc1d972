"""`DatabaseObserver`: what it stores, what it refuses, what `flush` promises.

Trouble with the file is in test_database_writer.py, other processes in test_database_processes.py.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import math
import os
import pickle
import sqlite3
import sys
import threading
from contextlib import closing
from pathlib import Path

import cloudpickle
import pytest

from callpyback import CallPyBack, CallVetoed, ConfigurationError, ExecutionState, MockTimeSource, handle, on_call
from callpyback.sinks import DatabaseObserver
from delivering import counted
from storing import LIMIT, asked, call, database, path, stored

__all__ = ["database", "path"]  # fixtures

COLUMNS = [
    "id",
    "timestamp",
    "function_name",
    "success",
    "execution_time",
    "arguments",
    "outcome",
    "error",
    "call_id",
    "qualified_name",
]


def test_a_call_is_a_row_of_the_usual_table(database, path):
    clock = MockTimeSource(1000.0)
    observer = database()

    @CallPyBack([observer], time_source=clock)
    def order(item, *, amount=1):
        clock.advance(2.0)
        return item * amount

    order("tea", amount=2)
    assert observer.flush(LIMIT)
    assert [name for _, name, *_ in asked(path, "PRAGMA table_info(function_calls)")] == COLUMNS
    [row] = asked(path, "SELECT * FROM function_calls")
    assert row[:8] == (1, 1000.0, "order", 1, 2.0, '{"item":"tea","amount":2}', "success", None)
    assert row[8]
    assert row[9] == f"{__name__}.{order.__qualname__}"


def test_every_kind_of_function_has_one_row_a_call(kind, database, path):
    observer = database()

    def body(*, fail=False):
        if fail:
            raise ValueError("no")
        return "value"

    function = kind.make(body, CallPyBack([observer]))
    kind.call(function)
    kind.ended(function, fail=True)
    assert observer.flush(LIMIT)
    assert stored(path, "success, outcome, error") == [(1, "success", None), (0, "failure", "ValueError: no")]


def test_however_a_call_ends_there_is_a_row(database, path):
    observer = database()

    def end(how):
        if how is not None:
            raise how

    plain = CallPyBack([observer])(end)
    narrow = CallPyBack([observer], exception_classes=KeyError)(end)
    handled = CallPyBack([observer], default_return=0)(end)

    def veto():
        raise CallVetoed("not today")

    vetoed = CallPyBack([observer, on_call(veto)])(end)
    plain(None)
    for function, error in [(plain, KeyError), (narrow, ValueError), (plain, KeyboardInterrupt), (plain, SystemExit)]:
        with pytest.raises(error):
            function(error())
    handled(ValueError())
    with pytest.raises(CallVetoed):
        vetoed(None)

    @CallPyBack([observer])
    def numbers():
        yield 1
        yield 2

    begun = numbers()
    next(begun)
    begun.close()
    assert observer.flush(LIMIT)
    outcomes = ["success", "failure", "failure", "aborted", "aborted", "handled", "vetoed", "abandoned"]
    assert stored(path, "outcome") == outcomes
    assert stored(path, "success") == [1, 0, 0, 0, 0, 0, 0, 0]


def test_cancelled_calls_are_stored_as_such(database, path):
    observer = database()

    @CallPyBack([observer])
    async def wait():
        await asyncio.sleep(LIMIT)

    async def main():
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert observer.flush(LIMIT)
    assert stored(path, "outcome") == ["cancelled"]


class Unrepresentable:
    def __repr__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "value",
    [
        Unrepresentable(),
        float("nan"),
        math.inf,
        10**400,
        2**63,
        -(2**63) - 1,
        b"\xff\x00",
        "\ud800 half of a pair",
        "\0",
        "x" * 1_000_000,
        list(range(100_000)),
        {1: {2: {3: {4: {5: {6: "deep"}}}}}},
        {(1, 2): {3}, None: frozenset()},
        object,
        lambda: None,
        "x'); DROP TABLE function_calls;--",
    ],
    ids=range(16),
)
def test_any_argument_can_be_stored(database, path, value):
    observer = database()
    call(observer, value)
    assert observer.flush(LIMIT)
    [text] = stored(path, "arguments")
    assert len(text) < 100_000
    assert "arguments" in json.loads(text)
    [(kind,)] = asked(path, "SELECT json_type(arguments) FROM function_calls")
    assert kind == "object"


def test_numbers_texts_and_containers_stay_what_they_are(database):
    observer = database()
    call(observer, 1, "two", [3.5, None, True, {"four": 5}])
    observer.flush(LIMIT)
    assert observer.recent()[0]["arguments"] == {"arguments": [1, "two", [3.5, None, True, {"four": 5}]]}


def test_a_reference_to_itself_ends(database):
    observer, endless = database(), []
    endless.append(endless)
    call(observer, endless)
    assert observer.flush(LIMIT)


def test_secrets_are_masked_at_any_depth(database, path):
    observer = database()

    @CallPyBack([observer], default_return=None)
    def connect(password, options):
        raise ConnectionError(f"password={password} was refused")

    connect("tulip", {"apiKey": "tulip", "hosts": [{"x-api-key": "tulip"}, ("token", "tulip")]})
    assert observer.flush(LIMIT)
    assert observer.shutdown(LIMIT)
    assert b"tulip" not in Path(path).read_bytes()


def test_further_names_can_be_secret(database, path):
    observer = database(masked_keys=["iban"])

    @CallPyBack([observer], default_return=None)
    def transfer(customer_iban):
        raise ConnectionError(f"no answer for iban={customer_iban}")

    transfer("DE02tulip")
    assert observer.flush(LIMIT)
    assert observer.shutdown(LIMIT)
    assert b"tulip" not in Path(path).read_bytes()


def test_without_arguments_no_repr_runs(database, path):
    class Loud:
        def __repr__(self):
            raise pytest.fail("asked")

    observer = database(arguments=False)
    call(observer, Loud())
    assert observer.flush(LIMIT)
    assert stored(path, "arguments") == [None]
    assert observer.recent()[0]["arguments"] is None


def test_what_changes_after_the_call_does_not_show(database, path):
    observer, changing = database(), ["before"]
    call(observer, changing)
    changing[0] = "after"
    assert observer.flush(LIMIT)
    assert stored(path, "arguments") == ['{"arguments":[["before"]]}']


def test_a_function_with_a_hostile_name_is_a_row_like_any_other(database, path):
    observer = database()

    def function(): ...

    function.__name__ = function.__qualname__ = "x'); DROP TABLE function_calls;--\n\ud800"
    CallPyBack([observer])(function)()
    assert observer.flush(LIMIT)
    assert stored(path) == [r"x'); DROP TABLE function_calls;--\n\ud800"]


def test_recent_rows_come_newest_first(database):
    observer = database()
    for number in range(5):
        call(observer, number)
    observer.flush(LIMIT)
    rows = observer.recent(3)
    assert [row["arguments"]["arguments"] for row in rows] == [[4], [3], [2]]
    assert list(rows[0]) == COLUMNS
    assert rows[0]["success"] is True
    assert json.dumps(rows)
    assert observer.count() == 5
    assert len(observer.recent(10**30)) == 5


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "5", None])
def test_a_senseless_limit_is_refused(database, limit):
    with pytest.raises(ConfigurationError, match="limit"):
        database().recent(limit)


def test_a_row_that_somebody_else_wrote_in_another_way_can_be_read(database, path):
    observer = database()
    asked(path, "INSERT INTO function_calls (function_name, arguments) VALUES ('other', 'no json')")
    [row] = observer.recent()
    assert (row["function_name"], row["arguments"], row["success"]) == ("other", "no json", False)


def test_the_table_of_a_hand_written_observer_goes_on(database, path):
    asked(
        path,
        """CREATE TABLE function_calls (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp REAL, function_name TEXT,
        success BOOLEAN, execution_time REAL, arguments TEXT)""",
    )
    asked(path, "INSERT INTO function_calls (function_name, arguments) VALUES ('before', '{}')")
    observer = database()
    call(observer)
    assert observer.flush(LIMIT)
    assert stored(path, "function_name, outcome") == [("before", None), ("function", "success")]


def test_a_table_with_columns_of_its_own_keeps_them(database, path):
    database().shutdown()
    asked(path, "ALTER TABLE function_calls ADD COLUMN reviewed_by TEXT DEFAULT 'nobody'")
    observer = database()
    call(observer)
    assert observer.flush(LIMIT)
    assert observer.recent()[0]["reviewed_by"] == "nobody"


def test_a_restart_appends(database, path):
    for number in range(3):
        observer = database()
        call(observer, number)
        assert observer.shutdown(LIMIT)
    assert stored(path, "id") == [1, 2, 3]


def test_another_table_may_be_named(database, path):
    observer = database(table="Order")  # a keyword, which has to be quoted
    call(observer)
    assert observer.flush(LIMIT)
    assert asked(path, 'SELECT count(*) FROM "Order"') == [(1,)]
    assert observer.count() == 1


def test_only_the_newest_rows_are_kept_if_asked_for(database, path):
    observer = database(max_rows=10, batch_size=4)
    for number in range(50):
        call(observer, number)
    assert observer.flush(LIMIT)
    assert stored(path, "id") == list(range(41, 51))


def test_more_rows_than_a_statement_takes_are_written_in_one_batch(database, path, monkeypatch):
    observer = database(batch_size=1000)
    with observer.observer.file.connection() as connection:
        connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 100)
    call(observer, times=1000)
    assert observer.flush(LIMIT)
    assert observer.count() == 1000


def test_flush_says_yes_only_if_everything_is_committed(database, path):
    observer = database()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        call(observer)
        assert observer.flush(0.2) is False
        other.execute("ROLLBACK")
    assert observer.flush(LIMIT) is True
    assert observer.count() == 1


def test_flush_says_no_once_after_a_loss(database, path):
    observer = database(max_queue=5, batch_size=1)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        call(observer, times=50)
    assert observer.flush(LIMIT) is False
    assert observer.flush(LIMIT) is True
    ledger = observer.ledger
    assert ledger.delivered == observer.count() == 50 - ledger.dropped["overflow"]


def test_metrics_are_plain_data(database):
    observer = database()
    call(observer, times=3)
    observer.flush(LIMIT)
    metrics = json.loads(json.dumps(observer.get_metrics()))
    assert metrics["observer"] == {"written": 3, "rejected": 0, "retries": 0}
    assert metrics["ledger"]["delivered"] == 3


def test_threads_may_call_and_read_at_once(database):
    observer = database(batch_size=10)

    def work():
        for _ in range(100):
            call(observer)
        observer.recent(5)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert observer.flush(LIMIT)
    assert observer.count() == 800
    assert observer.ledger == counted(offered=800, delivered=800)


def test_two_observers_may_write_to_one_file(database):
    first, second = database(), database()
    for _ in range(50):
        call(first)
        call(second)
    assert first.flush(LIMIT)
    assert second.flush(LIMIT)
    assert first.count() == second.count() == 100


def test_other_states_make_rows_if_asked_for(database, path):
    observer = database(states=[ExecutionState.PRE_EXECUTION, ExecutionState.POST_SUCCESS])
    call(observer)
    assert observer.flush(LIMIT)
    assert stored(path, "success, outcome, execution_time IS NULL") == [(0, None, 1), (1, None, 0)]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_has_a_queue_of_its_own_and_writes_too(database, copied):
    observer = database()
    call(observer)
    observer.flush(LIMIT)
    other = copied(observer)
    assert other.ledger == counted()
    call(other)
    assert other.flush(LIMIT)
    assert observer.count() == other.count() == 2
    assert other.shutdown(LIMIT)


def test_a_decorated_closure_travels_with_its_database(database):
    function = CallPyBack([database()])(lambda: "value")
    arrived = cloudpickle.loads(cloudpickle.dumps(function))
    assert arrived() == "value"
    [observer] = handle(arrived).observers
    assert observer.flush(LIMIT)
    assert observer.count() == 1
    assert observer.shutdown(LIMIT)


def test_an_observer_that_is_dropped_writes_the_rest_and_closes_the_file(path):
    observer = DatabaseObserver(path)
    call(observer, times=10)
    worker = observer._pipeline.worker
    del observer
    gc.collect()
    while worker.is_alive:
        threading.Event().wait(0.01)
    assert len(stored(path)) == 10


def test_a_relative_path_stays_where_it_was(database, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    observer = database(path=Path("relative.db"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    call(observer)
    assert observer.flush(LIMIT)
    assert observer.path == str(tmp_path / "relative.db")
    assert observer.count() == 1


def test_a_path_that_looks_like_a_uri_is_the_name_of_a_file(database, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call(observer := database(path="file:x?mode=memory"))
    assert observer.flush(LIMIT)
    assert (tmp_path / "file:x?mode=memory").exists()


posix = pytest.mark.skipif(sys.platform == "win32", reason="file modes and links are another matter there")


@posix
def test_the_files_are_readable_for_their_owner_alone(database, path):
    before = os.umask(0o022)
    try:
        observer = database()
        call(observer)
        assert observer.flush(LIMIT)
        modes = {name: Path(path + name).stat().st_mode & 0o777 for name in ("", "-wal", "-shm")}
    finally:
        os.umask(before)
    assert modes == {"": 0o600, "-wal": 0o600, "-shm": 0o600}


@posix
def test_the_mode_of_a_file_that_exists_stays(database, path):
    sqlite3.connect(path).close()
    Path(path).touch()
    Path(path).chmod(0o640)
    observer = database()
    call(observer)
    assert observer.flush(LIMIT)
    assert [Path(path + name).stat().st_mode & 0o777 for name in ("", "-wal")] == [0o640, 0o640]


@posix
@pytest.mark.parametrize("ending", ["", "-wal", "-shm", "-journal"])
@pytest.mark.parametrize("exists", [True, False])
def test_symbolic_links_are_refused(path, tmp_path, ending, exists):
    target = tmp_path / "target"
    if exists:
        target.touch()
    Path(path + ending).symlink_to(target)
    with pytest.raises(ConfigurationError, match="symbolic link"):
        DatabaseObserver(path)
    assert target.exists() == exists
    assert not exists or target.stat().st_size == 0


def refused(path):
    with pytest.raises(ConfigurationError) as refusal:
        DatabaseObserver(path)
    message = str(refusal.value)
    assert message.startswith(f"path={str(path)!r}: ")
    return message


def test_a_path_that_cannot_be_written_is_refused_with_the_reason_and_the_way_out(tmp_path):
    assert "is a directory; name a file in it, such as" in refused(tmp_path)
    message = refused(tmp_path / "missing" / "calls.db")
    assert f"its directory {str(tmp_path / 'missing')!r} does not exist; create it first" in message
    (tmp_path / "file").touch()
    assert "Not a directory" in refused(tmp_path / "file" / "calls.db")
    (tmp_path / "text").write_text("no database, but a long text. " * 100)
    assert "no SQLite database" in refused(tmp_path / "text")
    assert (tmp_path / "text").read_text().startswith("no database")


@posix
def test_what_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "no regular file" in refused(tmp_path / "pipe")


def test_a_table_of_the_same_name_that_is_another_is_refused_and_left_alone(path):
    asked(path, "CREATE TABLE function_calls (id INTEGER PRIMARY KEY, timestamp REAL, text TEXT)")
    message = refused(path)
    assert "is another one, without arguments, execution_time, function_name, success; give another table=" in message
    assert [name for _, name, *_ in asked(path, "PRAGMA table_info(function_calls)")] == ["id", "timestamp", "text"]


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *(("path", value) for value in ["", ":memory:", "a\0b", None, 3, b"calls.db", "\ud800"]),
        *(("table", value) for value in ["", "x; DROP", "a b", '"', "1st", "sqlite_x", "é", "x" * 64, None, 3]),
        *(("max_rows", value) for value in [0, -1, 1.5, True, "5"]),
        *(("synchronous", value) for value in ["FULL", "off", "", None, True, []]),
        *(("arguments", value) for value in [1, None, "no"]),
        *(("batch_size", value) for value in [0, 1.5, None, 20_000]),
        *(("flush_interval", value) for value in [0, -1, float("nan"), None]),
        *(("exit_timeout", value) for value in [-1, float("inf"), "1"]),
        ("overflow", "drop"),
        ("time_source", object()),
        ("states", "COMPLETED"),
        ("priority", "high"),
        ("name", 3),
    ],
    ids=lambda value: ascii(value)[:20] if not hasattr(value, "__dict__") and type(value) is not object else "object",
)
def test_a_parameter_that_makes_no_sense_is_refused_by_name(tmp_path, monkeypatch, parameter, value):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=parameter):
        DatabaseObserver(**{"path": "calls.db", parameter: value})


def test_a_misspelled_choice_is_met_with_the_nearest(path):
    with pytest.raises(ConfigurationError, match="did you mean 'normal'"):
        DatabaseObserver(path, synchronous="norml")


@pytest.mark.parametrize(("synchronous", "level"), [("normal", 1), ("full", 2)])
def test_the_choice_of_durability_is_sqlites(database, synchronous, level):
    file = database(synchronous=synchronous).observer.file
    with file.connection() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (level,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
