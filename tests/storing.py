"""Fixtures and small tools of the tests of the database."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from callpyback import CallPyBack
from callpyback.sinks import DatabaseObserver

LIMIT = 20
"""Seconds after which something that waits has failed."""


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "calls.db")


@pytest.fixture
def database(path):
    """Makes observers that write to one file, and shuts them down in the end."""
    made = []

    def make(**options):
        made.append(DatabaseObserver(**{"path": path, **options}))
        return made[-1]

    yield make
    for observer in made:
        observer.shutdown(LIMIT)


def asked(path, sql, *parameters):
    """Return what an SQL statement gives, asked by a connection that has nothing to do with the library."""
    with closing(sqlite3.connect(path, timeout=LIMIT)) as connection, connection:
        return connection.execute(sql, parameters).fetchall()


def stored(path, columns="function_name", table="function_calls"):
    rows = asked(path, f"SELECT {columns} FROM {table} ORDER BY id")
    return [row[0] for row in rows] if "," not in columns else rows


def call(observer, *arguments, times=1, **keywords):
    """Have a function that the observer observes return."""

    @CallPyBack([observer])
    def function(*arguments, **keywords):
        return None

    for _ in range(times):
        function(*arguments, **keywords)
