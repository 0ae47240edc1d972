"""Laws of the database: any call is a row, its arguments are JSON to SQLite too, rows come in the order of calls."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from callpyback import CallPyBack
from callpyback.core.masking import MASKING
from callpyback.sinks import DatabaseObserver
from callpyback.sinks.database_rows import as_json

LIMIT = 20


class Odd:
    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return self.text


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.builds(Odd, st.text(st.characters())),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(st.characters()) | st.integers() | st.none(), inner)
    ),
    max_leaves=30,
)


@given(st.dictionaries(st.text(st.characters()), ANYTHING))
def test_any_arguments_are_json_that_sqlite_reads(arguments):
    text = as_json(MASKING.plain(arguments))
    assert isinstance(json.loads(text), dict)
    with closing(sqlite3.connect(":memory:")) as connection:
        assert connection.execute("SELECT json_valid(?)", (text,)).fetchone() == (1,)


@settings(max_examples=30, deadline=None)
@given(st.lists(ANYTHING, max_size=30), st.integers(1, 10))
def test_every_call_is_one_row_in_the_order_of_the_calls(values, batch_size):
    with tempfile.TemporaryDirectory() as folder:
        observer = DatabaseObserver(Path(folder) / "calls.db", batch_size=batch_size, flush_interval=0.001)

        @CallPyBack([observer])
        def function(number, value): ...

        for number, value in enumerate(values):
            function(number, value)
        assert observer.flush(LIMIT) is True
        rows = observer.recent(1000)[::-1]
        assert [row["arguments"]["number"] for row in rows] == list(range(len(values)))
        assert observer.ledger.delivered == observer.count() == len(values)
        assert observer.shutdown(LIMIT)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 10))
def test_whatever_rows_the_table_refuses_the_others_are_stored_and_the_ledger_is_exact(refused, batch_size):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calls.db"
        DatabaseObserver(path).close()
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(
                "CREATE TRIGGER odd BEFORE INSERT ON function_calls WHEN new.arguments LIKE '%odd%' "
                "BEGIN SELECT RAISE(ABORT, 'odd'); END"
            )
        observer = DatabaseObserver(path, batch_size=batch_size, flush_interval=0.001)
        function = CallPyBack([observer])(lambda value: None)
        for is_refused in refused:
            function("odd" if is_refused else "even")
        assert observer.flush(LIMIT) is not any(refused)
        ledger = observer.ledger
        assert (ledger.delivered, ledger.failed) == (refused.count(False), refused.count(True))
        assert observer.count() == ledger.delivered
        assert observer.shutdown(LIMIT)
