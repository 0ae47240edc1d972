"""The database and the life of processes: many writers, kills, forks, locks, users. Each in a process of its own."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
import time

import pytest

from storing import LIMIT, asked, path

__all__ = ["path"]  # a fixture

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
posix = pytest.mark.skipif(sys.platform == "win32", reason="users and limits are another matter there")

BEGINNING = """
import os, signal, sys, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is what is tested
from callpyback import CallPyBack, ConfigurationError
from callpyback.sinks import DatabaseObserver

path = sys.argv[1]

def observed(observer):
    @CallPyBack([observer])
    def function(number, process=0): ...
    return function
"""


def command(script, *arguments):
    text = BEGINNING + textwrap.dedent(script)
    return [sys.executable, "-W", "error", "-X", "faulthandler", "-c", text, *map(str, arguments)]


def run(script, *arguments):
    """Run a script that says nothing on stderr; return the lines it printed."""
    done = subprocess.run(command(script, *arguments), capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def numbers(path):
    return [number for (number,) in asked(path, "SELECT json_extract(arguments, '$.number') FROM function_calls")]


def test_importing_opens_no_file_and_making_an_observer_starts_no_thread(path):
    script = """
    print("sqlite3" in sys.modules, os.path.exists(path), threading.active_count())
    observer = DatabaseObserver(path)
    print(os.path.exists(path), os.path.exists(path + "-wal"), threading.active_count())
    """
    assert run(script, path) == ["True False 1", "True False 1"]


def test_the_end_of_the_program_writes_what_is_pending(path):
    script = """
    function = observed(DatabaseObserver(path, flush_interval=3600))
    for number in range(100):
        function(number)
    """
    assert run(script, path) == []
    assert numbers(path) == list(range(100))


def test_eight_processes_make_and_write_one_file_at_once(path):
    script = """
    sys.stdin.read()  # until all are there
    observer = DatabaseObserver(path, batch_size=7, exit_timeout=30)
    function = observed(observer)
    for number in range(100):
        function(number, process=int(sys.argv[2]))
    print(observer.flush(30), observer.ledger.delivered, observer.ledger.failed)
    """
    writers = [
        subprocess.Popen(
            command(script, path, process),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(8)
    ]
    for writer in writers:
        writer.stdin.close()
        writer.stdin = None  # communicate() would flush it
    said = [writer.communicate(timeout=60) for writer in writers]
    assert said == [("True 100 0\n", "")] * 8
    rows = asked(path, "SELECT json_extract(arguments, '$.process'), count(*) FROM function_calls GROUP BY 1")
    assert rows == [(process, 100) for process in range(8)]
    assert asked(path, "PRAGMA integrity_check") == [("ok",)]


ENDLESS = """
observer = DatabaseObserver(path, batch_size=20, flush_interval=0.01)
function = observed(observer)
number = 0
while True:
    for _ in range(50):
        function(number)
        number += 1
    assert observer.flush(30)
    os.write(1, f"{number}\\n".encode())
"""


def test_what_flush_has_promised_survives_a_kill(path):
    rounds = int(os.environ.get("CALLPYBACK_KILLS", "6"))
    promised = 0
    for _ in range(rounds):
        writer = subprocess.Popen(command(ENDLESS, path), stdout=subprocess.PIPE, text=True)
        last = int(writer.stdout.readline())
        time.sleep(random.uniform(0, 0.1))
        writer.kill()
        rest = writer.communicate(timeout=LIMIT)[0].split()
        promised += int(rest[-1]) if rest else last
        assert asked(path, "PRAGMA integrity_check") == [("ok",)]
        found = numbers(path)
        assert len(found) >= promised
        promised = len(found)  # those after the promise may be there too
        asked(path, "PRAGMA wal_checkpoint")


def test_a_lock_of_another_process_is_waited_for_while_calls_go_on(path):
    script = """
    import sqlite3
    observer = DatabaseObserver(path, batch_size=50)
    print("ready", flush=True)
    sys.stdin.readline()
    function = observed(observer)
    began = time.perf_counter()
    for number in range(1000):
        function(number)
    took = time.perf_counter() - began
    assert observer.flush(0.3) is False
    print(took / 1000 < 0.001, flush=True)
    sys.stdin.readline()
    print(observer.flush(30), observer.ledger.delivered)
    """
    writer = subprocess.Popen(command(script, path), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "ready\n"
    locking = """
    import sqlite3
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    print("locked", flush=True)
    sys.stdin.readline()
    """
    locker = subprocess.Popen(command(locking, path), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert locker.stdout.readline() == "locked\n"
    print(file=writer.stdin, flush=True)
    assert writer.stdout.readline() == "True\n"
    locker.communicate("\n", timeout=LIMIT)
    assert writer.communicate("\n", timeout=LIMIT)[0] == "True 1000\n"
    assert numbers(path) == list(range(1000))


@posix
def test_a_limit_of_the_size_of_files_hurts_no_call_and_writing_goes_on_when_it_is_gone(path):
    script = """
    import logging, resource
    logging.disable(logging.CRITICAL)
    observer = DatabaseObserver(path, batch_size=10, max_queue=50)
    function = observed(observer)
    function("first")
    assert observer.flush(30)
    size = sum(os.path.getsize(path + ending) for ending in ("", "-wal"))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20_000, hard))
    for number in range(500):
        function("x" * 200)
        time.sleep(0.0002)
    assert observer.flush(0.2) is False
    print(observer.observer.retries > 0, observer.ledger.failed)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    function("last")
    observer.flush(30)
    print(observer.count() == observer.ledger.delivered, observer.recent(1)[0]["arguments"]["number"])
    """
    assert run(script, path) == ["True 0", "True last"]
    assert asked(path, "PRAGMA integrity_check") == [("ok",)]


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user")
def test_what_the_user_may_not_write_is_refused_with_the_way_out(tmp_path):
    """Root may write everywhere, so the script becomes nobody first."""
    tmp_path.chmod(0o755)
    path = tmp_path / "calls.db"
    script = """
    DatabaseObserver(path).close()
    os.chmod(path, 0o444)
    folder = os.path.dirname(path)
    while folder != "/":  # where nobody may look into
        os.chmod(folder, os.stat(folder).st_mode | 0o5)
        folder = os.path.dirname(folder)
    os.setgid(65534)
    os.setuid(65534)
    for name in (path, path + "2"):
        try:
            DatabaseObserver(name)
        except ConfigurationError as error:
            print(error)
    """
    first, second = run(script, path)
    assert first.startswith(f"path={str(path)!r}: it can't be written; give a file in a directory where this user may")
    assert second.startswith(f"path={str(path) + '2'!r}: Permission denied; give a file in a directory where this user")


@needs_fork
def test_a_child_writes_its_own_rows_once_and_none_is_lost_when_the_parent_closes(path):
    """SQLite forgets the locks of a forked child that inherited an open file: then the last row would be lost."""
    script = """
    observer = DatabaseObserver(path)
    function = observed(observer)
    function("before")
    assert observer.flush(20)
    function("pending")
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write)
        function("child 1")
        assert observer.flush(20)
        os.read(read, 1)  # until the parent has closed
        function("child 2")
        assert observer.flush(20) and observer.shutdown(20)
        assert observer.ledger.delivered == 2
        os._exit(0)
    function("parent")
    assert observer.flush(20) and observer.shutdown(20)
    os.write(write, b"x")
    print(os.waitpid(pid, 0)[1])
    """
    assert run(script, path) == ["0"]
    assert sorted(numbers(path)) == ["before", "child 1", "child 2", "parent", "pending"]
    assert asked(path, "PRAGMA integrity_check") == [("ok",)]


@needs_fork
def test_no_connection_is_open_in_any_child_however_busy_the_writer_is(path):
    script = """
    import sqlite3
    closed_by = []

    class Connection(sqlite3.Connection):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.process = os.getpid()
        def execute(self, *arguments):
            assert self.process == os.getpid()
            return super().execute(*arguments)
        def close(self):
            assert self.process == os.getpid()
            super().close()

    connect = sqlite3.connect
    sqlite3.connect = lambda *arguments, **options: connect(*arguments, factory=Connection, **options)
    observer = DatabaseObserver(path, batch_size=5, flush_interval=0.001, max_queue=100_000)
    function = observed(observer)
    over = threading.Event()

    def work():
        number = 0
        while not over.is_set():
            function(number)
            number += 1
            time.sleep(0.0001)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    codes = set()
    for child in range(40):
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)
            assert observer.observer.file._connection is None
            function("child")
            os._exit(0 if observer.flush(20) and observer.shutdown(20) else 1)
        codes.add(os.waitpid(pid, 0)[1])
    over.set()
    for thread in threads:
        thread.join()
    print(codes, observer.flush(30), observer.ledger.failed, observer.count() == observer.ledger.delivered + 40)
    """
    assert run(script, path) == ["{0} True 0 True"]
    assert asked(path, "PRAGMA integrity_check") == [("ok",)]


@needs_fork
def test_a_child_forked_from_an_endless_write_leaves_the_file_alone_and_says_so(path):
    script = """
    import logging
    logging.disable(logging.CRITICAL)
    from callpyback.sinks import database_file
    database_file._FORK_PATIENCE = 0.05
    observer = DatabaseObserver(path)
    function = observed(observer)
    with observer.observer.file.connection():  # as if it were being written
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            function("child")
            assert observer.flush(20) is False
            assert observer.ledger.failed == 1
            assert "forked while" in observer.get_metrics()["last_error"]
            os._exit(0)
        print(time.monotonic() - began < 5)
    function("parent")
    print(os.waitpid(pid, 0)[1], observer.flush(20))
    """
    assert run(script, path) == ["True", "0 True"]
    assert numbers(path) == ["parent"]


@needs_fork
def test_a_pool_of_forked_workers_writes_all_its_rows(path):
    script = """
    import multiprocessing
    observer = DatabaseObserver(path, exit_timeout=30)
    function = observed(observer)

    def work(number):
        function(number)
        return os.getpid()

    function("parent")
    assert observer.flush(20)
    context = multiprocessing.get_context("fork")
    with context.Pool(4) as pool:
        pool.map(work, range(200))
        pool.close()
        pool.join()
    print(observer.count())
    """
    assert run(script, path) == ["201"]


@posix
def test_sigterm_turned_into_an_exit_writes_what_is_pending(path):
    script = """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    function = observed(DatabaseObserver(path, flush_interval=3600))
    for number in range(10):
        function(number)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(20)
    """
    assert run(script, path) == []
    assert numbers(path) == list(range(10))
