"""What the observers that deliver elsewhere cost: rows of `ready_made.py`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from benchmarks.controls import KINDS, failing, timer
from benchmarks.measuring import Budget, Subject, called, caught, seconds_per_call
from benchmarks.table import Row, skipped
from callpyback import BaseObserver, CallPyBack, DatabaseObserver, ExecutionContext, ExecutionState, WebhookObserver

ROWS = 50_000
"""Rows written, to see how many a second there are."""

_OFFERED = 50
"""Calls in a turn, after which what they offered is delivered."""

_PATIENCE = 60.0


class Quiet(BaseObserver):
    states = ExecutionState.POST_FAILURE

    def update(self, context: ExecutionContext) -> None:
        """Do nothing."""


class Receiver(BaseHTTPRequestHandler):
    """Takes everything."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Read the event and answer that it was taken."""
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def rows(budget: Budget) -> list[Row]:
    """Return the rows of the webhook and of the database; delivery has its turn between those of the caller."""
    if find_spec("httpx") is None:
        return [skipped("WebhookObserver", "httpx is not installed"), *_database_rows(budget)]
    return [*_webhook_rows(budget), *_database_rows(budget)]


def _webhook_rows(budget: Budget) -> list[Row]:
    with receiving() as port:
        url = f"http://127.0.0.1:{port}/"
        alerts = WebhookObserver(url, allow_http=True, allow_private=True, max_queue=100_000)
        body = KINDS["function"].body
        subjects = {
            "timer": called(timer(body)),
            "succeeds": called(CallPyBack([alerts])(body)),
            "failing: timer": caught(timer(failing)),
            "failing: quiet": caught(CallPyBack([Quiet()])(failing)),
            "failing": _with_delivery(caught(CallPyBack([alerts])(failing)), alerts.flush),
        }
        seconds = seconds_per_call(subjects, budget)
        ledger = alerts.ledger
        alerts.close()
    cost, timed = seconds["failing"], seconds["failing: timer"]
    alone = f"an observer there that does nothing: {seconds['failing: quiet'] / timed:.2f} x"
    delivered = f"{alone}; {ledger.delivered:,} of {ledger.offered:,} events delivered, untimed"
    return [
        Row(
            "WebhookObserver, no failure / timer",
            seconds["succeeds"] / seconds["timer"],
            seconds=seconds["succeeds"],
            note="hears POST_FAILURE",
        ),
        Row(
            "WebhookObserver, a failure, for its caller / timer of a failing call",
            cost / timed,
            seconds=cost,
            note=delivered,
        ),
    ]


def _database_rows(budget: Budget) -> list[Row]:
    body = KINDS["function"].body
    with TemporaryDirectory() as folder:
        database = DatabaseObserver(Path(folder, "caller.db"))
        written = _with_delivery(called(CallPyBack([database])(body)), database.flush)
        seconds = seconds_per_call({"timer": called(timer(body)), "written": written}, budget)
        database.close()
        number = budget.part(ROWS)
        per_second, lost = _rows_per_second(Path(folder, "many.db"), number)
    cost = seconds["written"]
    return [
        Row(
            "DatabaseObserver, for its caller / timer",
            cost / seconds["timer"],
            seconds=cost,
            note="hears COMPLETED, ERROR; writing is untimed",
        ),
        Row(
            "DatabaseObserver, rows committed a second",
            per_second,
            unit="/s",
            seconds=1 / per_second,
            note=f"{number:,} calls as fast as one thread makes them, and the wait for the last row; {lost} lost",
        ),
    ]


def _rows_per_second(path: Path, number: int) -> tuple[float, int]:
    database = DatabaseObserver(path, max_queue=max(number, 500))
    function = CallPyBack([database])(KINDS["function"].body)
    started = perf_counter()
    for argument in range(number):
        function(argument)
    database.flush(_PATIENCE)
    elapsed = perf_counter() - started
    found = database.count()
    database.close()
    return found / elapsed, number - found


def _with_delivery(subject: Subject, flush: Callable[[float], object]) -> Subject:
    """Have what was offered in a turn be delivered after it, untimed."""

    @contextmanager
    def around() -> Iterator[None]:
        yield
        flush(_PATIENCE)

    delivering: Callable[[], AbstractContextManager[Any]] = around
    return replace(subject, calls=_OFFERED, around=delivering)


@contextmanager
def receiving() -> Iterator[int]:
    """Run a web server that takes everything, and give its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
