"""DatabaseObserver: a row in an SQLite table for every call, written off the caller's thread; asked with plain SQL."""

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from callpyback import CallPyBack
from callpyback.sinks import DatabaseObserver

folder = tempfile.TemporaryDirectory()
path = Path(folder.name) / "calls.db"
calls = DatabaseObserver(path, max_rows=1_000_000)


@CallPyBack(observers=[calls], default_return=None)
def transfer(owner: str, amount: float, pin: str) -> float:
    """Transfer money, unless it is too much."""
    if amount > 1000 or not pin:
        message = f"{amount} is over the limit of {owner}"
        raise PermissionError(message)
    return amount


transfer("ann", 20.0, pin="1234")
transfer("bob", 5000.0, pin="4321")
transfer("ann", 7.5, pin="1234")
print("all committed:", calls.flush(timeout=10))

for row in calls.recent(2):
    print(row["function_name"], row["outcome"], row["arguments"])

by_owner = """
    SELECT json_extract(arguments, '$.owner'), count(*), sum(success) FROM function_calls GROUP BY 1 ORDER BY 1
"""
with closing(sqlite3.connect(path)) as connection:
    for owner, number, successes in connection.execute(by_owner):
        print(f"{owner}: {number} calls, {successes} successes")
    [(error,)] = connection.execute("SELECT error FROM function_calls WHERE NOT success")
    print("failed:", error)

calls.close()
folder.cleanup()
