"""Webhooks and the life of processes: imports, forks, the end of the program. Each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from receiving import receiver

__all__ = ["receiver"]  # a fixture

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")

BEGINNING = """
import os, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is what is tested
from callpyback import CallPyBack
from callpyback.sinks import WebhookObserver

def failing_with(observer):
    @CallPyBack([observer], default_return=None)
    def failing(n):
        raise ValueError(n)
    return failing
"""


def run(script, *arguments, before=""):
    """Run a script that says nothing on stderr; return the lines it printed."""
    text = before + BEGINNING + textwrap.dedent(script)
    command = [sys.executable, "-W", "error", "-X", "faulthandler", "-c", text, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_httpx_is_brought_by_the_first_webhook_alone():
    script = """
    print([name in sys.modules for name in ("httpx", "httpcore", "ssl", "asyncio")], threading.active_count())
    WebhookObserver("https://example.com/")
    print("httpx" in sys.modules, threading.active_count())
    """
    assert run(script) == ["[False, False, False, False] 1", "True 1"]


def test_without_httpx_the_error_says_what_to_install():
    script = """
    sys.modules["httpx"] = None
    from callpyback import ConfigurationError
    try:
        WebhookObserver("https://example.com/")
    except ConfigurationError as error:
        print(error)
    """
    [line] = run(script)
    assert "pip install 'callpyback[webhook]'" in line


def test_the_failure_that_ends_a_program_is_sent_before_it_ends(receiver):
    server = receiver(503)
    script = """
    observer = WebhookObserver(sys.argv[1], allow_http=True, allow_private=True)
    failing_with(observer)(1)
    """
    assert run(script, server.url) == []
    assert [request.payload["attempt"] for request in server.requests] == [1, 2]


def test_the_end_of_a_program_waits_no_longer_than_it_is_told(receiver):
    server = receiver((503, {"retry-after": "60"}))
    script = """
    import logging, time
    logging.disable(logging.CRITICAL)
    began = time.monotonic()
    observer = WebhookObserver(sys.argv[1], allow_http=True, allow_private=True, timeout=300, exit_timeout=0.3)
    failing_with(observer)(1)
    import atexit
    print(time.monotonic() - began < 5)
    """
    assert run(script, server.url) == ["True"]
    assert len(server.requests) == 1


@needs_fork
def test_parent_and_forked_child_send_each_their_own_once_over_connections_of_their_own(receiver):
    server = receiver()
    script = """
    observer = WebhookObserver(sys.argv[1], allow_http=True, allow_private=True)
    failing = failing_with(observer)
    failing("before")
    assert observer.flush(20)
    for n in range(5):
        failing(f"pending {n}")
    pid = os.fork()
    failing("child" if pid == 0 else "parent")
    assert observer.flush(20)
    assert observer.shutdown(20)
    if pid == 0:
        assert observer.ledger.delivered == 1, observer.ledger
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    print(observer.ledger.delivered)
    """
    assert run(script, server.url) == ["7"]
    sent = sorted(request.payload["error_message"].removeprefix("ValueError: ") for request in server.requests)
    assert sent == ["before", "child", "parent", *[f"pending {n}" for n in range(5)]]


@needs_fork
def test_a_fork_while_an_event_waits_for_its_next_attempt_leaves_the_child_free(receiver):
    server = receiver(*[(503, {"retry-after": "1"})])
    script = """
    import time
    observer = WebhookObserver(sys.argv[1], allow_http=True, allow_private=True)
    failing = failing_with(observer)
    failing("waits")
    while observer.observer.requests == 0:
        time.sleep(0.01)
    pid = os.fork()
    if pid == 0:
        failing("child")
        os._exit(0 if observer.flush(20) and observer.shutdown(20) else 1)
    print(os.waitpid(pid, 0)[1], observer.flush(20), observer.ledger.delivered)
    """
    assert run(script, server.url) == ["0 True 1"]
    sent = [request.payload["error_message"] for request in server.requests]
    assert sorted(sent) == ["ValueError: child", "ValueError: waits", "ValueError: waits"]
