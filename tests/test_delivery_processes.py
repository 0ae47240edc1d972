"""Background delivery and the life of processes: forks, the end of the program, signals, kills.

Each in a process of its own, with a time limit.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="signals are another matter there")

BEGINNING = """
import os, signal, sys, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is what is tested
from callpyback import BackgroundObserver, BaseObserver, BatchingObserver, CallPyBack, ExecutionState, on_success
from callpyback.core import forks

class Writing(BaseObserver):
    '''Writes what it is told in one piece, with the number of its process.'''
    def update(self, item):
        os.write(1, f"{os.getpid() == parent}:{item}\\n".encode())

class Gate(BaseObserver):
    def __init__(self):
        super().__init__()
        self.reached, self.opened = threading.Event(), threading.Event()
    def update(self, item):
        self.reached.set()
        self.opened.wait()

parent = os.getpid()

def in_child(work):
    '''Fork; the child ends by the number that `work` returns, or by an alarm. Return what the child ended by.'''
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            signal.alarm(20)
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def command(script: str, before: str = "") -> list[str]:
    text = before + BEGINNING + textwrap.dedent(script)
    return [sys.executable, "-W", "error", "-X", "faulthandler", "-c", text]


def run(script: str, *, before: str = "", code: int = 0) -> list[str]:
    """Run a script that ends by this code and says nothing on stderr; return the lines it printed."""
    done = subprocess.run(command(script, before), capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (code, "")
    return done.stdout.splitlines()


def test_importing_and_making_observers_starts_no_thread():
    script = """
    background = BackgroundObserver(Writing())
    batching = BatchingObserver(print)
    CallPyBack([background, batching])(lambda: None)
    print(threading.active_count(), "asyncio" in sys.modules, "multiprocessing" in sys.modules)
    """
    assert run(script) == ["1 False False"]


@pytest.mark.parametrize(
    ("end", "code"), [("", 0), ("sys.exit(3)", 3), ("sys.exit()", 0), ("raise SystemExit(7)", 7), ("exit(0)", 0)]
)
def test_the_end_of_the_program_delivers_what_is_pending_and_keeps_the_exit_code(end, code):
    script = """
    background = BackgroundObserver(Writing())
    for number in range(500):
        background.update(number)
    """
    assert run(textwrap.dedent(script) + end, code=code) == [f"True:{number}" for number in range(500)]


def test_an_uncaught_exception_keeps_its_exit_code_and_what_is_pending_is_delivered():
    script = """
    background = BackgroundObserver(Writing())
    background.update(1)
    raise LookupError("of the program")
    """
    done = subprocess.run(command(script), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stdout == "True:1\n"
    assert done.stderr.strip().endswith("LookupError: of the program")


def test_the_end_of_the_program_hands_over_a_batch_that_is_not_full():
    script = """
    batching = BatchingObserver(lambda batch: Writing().update(batch), flush_interval=3600)
    batching.update(1)
    batching.update(2)
    """
    assert run(script) == ["True:[1, 2]"]


def test_the_end_of_the_program_delivers_to_async_observers_too():
    script = """
    import asyncio

    class Async(Writing):
        async def update(self, item):
            await asyncio.sleep(0.001)
            super().update(item)

    background = BackgroundObserver(Async())
    for number in range(10):
        background.update(number)
    """
    assert run(script) == [f"True:{number}" for number in range(10)]


def test_the_end_of_the_program_closes_the_observer_after_the_last_delivery():
    script = """
    class Committing(BaseObserver):
        states = ExecutionState.COMPLETED
        def __init__(self):
            super().__init__()
            self.rows = []
        def update(self, context):
            self.rows.append(context.arguments["number"])
        def close(self):
            os.write(1, f"committed {self.rows}\\n".encode())

    @CallPyBack([Committing()], enable_async_observers=True)
    def function(number): ...

    for number in range(3):
        function(number)
    """
    assert run(script) == ["committed [0, 1, 2]"]


def test_what_is_offered_while_the_program_ends_is_delivered():
    script = """
    import atexit
    from concurrent.futures import ThreadPoolExecutor

    background = BackgroundObserver(Writing())
    atexit.register(background.update, "by atexit")
    background.update("before")
    pool = ThreadPoolExecutor(2)
    pool.submit(background.update, "by a pool").result()
    last = threading.Thread(target=lambda: (time.sleep(0.05), background.update("by a thread that is waited for")))
    last.start()
    """
    assert run(script) == [
        "True:before",
        "True:by a pool",
        "True:by a thread that is waited for",
        "True:by atexit",
    ]


def test_hanging_observers_hold_up_the_end_of_the_program_for_their_time_at_most():
    script = """
    gates = [BackgroundObserver(Gate(), exit_timeout=0.5) for _ in range(20)]
    for observer in [*gates, BackgroundObserver(Writing())]:
        observer.update(1)
    sys.exit(4)
    """
    started = time.monotonic()
    assert run(script, code=4) == ["True:1"]
    assert time.monotonic() - started < 20 * 0.5 / 2  # all together, not one after the other


@needs_signals
def test_what_the_end_of_the_program_drops_is_said_in_the_log():
    script = """
    class Hanging(BaseObserver):
        def update(self, item):
            time.sleep(3600)

    background = BackgroundObserver(Hanging(), exit_timeout=0.2)
    for number in range(5):
        background.update(number)
    """
    done = subprocess.run(command(script), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert done.stderr == "observer Hanging did not finish in time: 4 contexts in its queue are dropped\n"


def test_an_interrupt_ends_the_waiting_at_the_end_of_the_program():
    script = """
    import atexit

    class Interrupting(BaseObserver):
        def update(self, item):
            ending.wait()
            while True:  # one that comes between two bytecodes of the main thread and its wait does not end the wait
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(1)

    ending = threading.Event()
    atexit.register(ending.set)
    background = BackgroundObserver(Interrupting(), exit_timeout=3600)
    background.update(1)
    """
    assert run(script) == []


UNDER_LOAD = """
class Printing(BaseObserver):
    def update(self, context):
        print(end="")  # takes the lock of the buffer, which nobody may have when the interpreter flushes it

background = BackgroundObserver(Printing(), max_queue=500)
batching = BatchingObserver(lambda batch: print(end=""), 50, 0.001)

@CallPyBack([background, batching])
def function(number):
    return number

begun = threading.Barrier(4)

def hammer():
    function(0)
    begun.wait()
    while True:
        function(1)

import logging
logging.disable(logging.CRITICAL)
for _ in range(3):
    threading.Thread(target=hammer, daemon=True).start()
begun.wait()
"""


def test_a_program_that_ends_under_load_ends_quietly():
    for _ in range(5):
        assert run(UNDER_LOAD) == []


def test_what_is_offered_after_the_last_delivery_is_counted_as_dropped():
    script = """
    def last():
        background.update("too late")
        print(background.ledger.dropped["shutdown"])

    background = BackgroundObserver(Writing())
    background.update("in time")
    """
    before = "import atexit\natexit.register(lambda: last())\n"  # registered first, so called last
    assert run(script, before=before) == ["True:in time", "1"]


@needs_signals
def test_sigterm_without_a_handler_loses_what_is_pending():
    script = """
    background = BackgroundObserver(Gate())
    background.update(1)
    background.observer.reached.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    """
    assert run(script, code=-signal.SIGTERM) == []


@needs_signals
def test_sigterm_turned_into_an_exit_delivers_what_is_pending():
    script = """
    def ended(number, frame):
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, ended)
    background = BackgroundObserver(Writing())
    for number in range(100):
        background.update(number)
    os.kill(os.getpid(), signal.SIGTERM)
    """
    assert run(script, code=143) == [f"True:{number}" for number in range(100)]


@needs_signals
def test_what_was_flushed_is_there_after_a_kill_in_the_middle(tmp_path):
    script = f"""
    class Storing(BaseObserver):
        def update(self, item):
            os.write(file, b"%d\\n" % item)

    file = os.open({str(tmp_path / "stored")!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    background = BackgroundObserver(Storing(), max_queue=100_000)
    for number in range(10**9):
        background.update(number)
        if number % 50 == 0:
            background.flush()
            os.write(1, b"%d\\n" % number)
    """
    for kill_after in (1, 20, 100):
        (tmp_path / "stored").unlink(missing_ok=True)
        with subprocess.Popen(command(script), stdout=subprocess.PIPE) as process:
            acknowledged = [int(process.stdout.readline()) for _ in range(kill_after)]
            process.kill()
            acknowledged += [int(line) for line in process.stdout.read().split()]
        stored = [int(line) for line in Path(tmp_path / "stored").read_text().splitlines()]
        assert stored[: acknowledged[-1] + 1] == list(range(acknowledged[-1] + 1))


@needs_fork
def test_what_was_pending_at_a_fork_is_delivered_once_by_the_parent():
    script = """
    class Held(Writing):
        def update(self, item):
            opened.wait()
            super().update(item)

    opened = threading.Event()
    background = BackgroundObserver(Held())
    for number in range(6):
        background.update(number)

    def child():
        ledger = background.ledger
        assert (ledger.offered, ledger.pending, background.get_metrics()["queue_length"]) == (0, 0, 0), ledger
        assert background.flush(0)
        opened.set()
        background.update("of the child")
        assert background.flush(10)
        assert background.ledger.delivered == 1
        return 0 if background.shutdown(10) else 1

    print(in_child(child), flush=True)
    opened.set()
    print(background.flush(10), background.ledger.delivered, forks.failed_resets, flush=True)
    """
    lines = run(script)
    assert lines == ["False:of the child", "0", *(f"True:{number}" for number in range(6)), "True 6 0"]


@needs_fork
@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest", "block"])
def test_a_child_has_a_whole_queue_and_a_worker_of_its_own(overflow):
    script = f"""
    import logging
    logging.disable(logging.CRITICAL)
    gate = Gate()
    background = BackgroundObserver(gate, max_queue=3, overflow={overflow!r}, block_timeout=0)
    background.update("in hand")
    gate.reached.wait()
    for number in range(10):
        background.update(number)

    def child():
        gate.reached.clear()
        background.update("in hand")
        gate.reached.wait()
        for number in range(5):
            background.update(number)
        ledger = background.ledger
        assert (ledger.offered, ledger.pending, ledger.dropped["overflow"]) == (6, 4, 2), ledger
        gate.opened.set()
        return 0 if background.flush(10) and background.ledger.delivered == 4 else 1

    print(in_child(child), in_child(child))
    gate.opened.set()
    print(background.flush(10), background.ledger.delivered, background.ledger.offered)
    """
    assert run(script) == ["0 0", "True 4 11"]


@needs_fork
def test_an_async_observer_gets_a_new_loop_in_a_child():
    script = """
    import asyncio

    class Async(Writing):
        async def update(self, item):
            await asyncio.sleep(0.001)
            super().update(item)

    background = BackgroundObserver(Async())
    background.update(1)
    background.flush(10)

    def child():
        background.update(2)
        return 0 if background.shutdown(10) else 1

    print(in_child(child), flush=True)
    background.update(3)
    print(background.flush(10), background.ledger.delivered)
    """
    assert run(script) == ["True:1", "False:2", "0", "True:3", "True 2"]


@needs_fork
def test_what_a_child_inherits_in_the_queue_is_freed_by_its_worker():
    script = """
    import weakref

    class Thing:
        pass

    gate = Gate()
    background = BackgroundObserver(gate)
    background.update("in hand")
    gate.reached.wait()
    thing = Thing()
    background.update(thing)
    reference = weakref.ref(thing)
    del thing

    def child():
        gate.opened.set()
        assert reference() is not None
        background.update("of the child")
        return 0 if background.flush(10) and reference() is None else 1

    print(in_child(child), reference() is not None)
    gate.opened.set()
    """
    assert run(script) == ["0 True"]


@needs_fork
def test_a_fork_by_the_observer_itself_delivers_nothing_twice():
    script = """
    class Forking(Writing):
        def update(self, item):
            super().update(item)
            if item == 2:
                pid = os.fork()
                if pid:
                    children.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                else:
                    threading.Thread(target=ask, args=(threading.current_thread(),)).start()

    def ask(worker):
        # In the child the thread that forked goes on as the only one, and has nothing more to do.
        worker.join(10)
        other = BackgroundObserver(Writing())
        ledger = background.ledger
        other.update((worker.is_alive(), ledger.offered, ledger.delivered, ledger.pending))
        other.flush(10)
        os._exit(5)

    children = []
    background = BackgroundObserver(Forking())
    for number in range(5):
        background.update(number)
    print(background.flush(20), background.ledger.delivered, children)
    """
    lines = run(script)
    assert lines[3] == "False:(False, 0, 0, 0)"
    assert [*lines[:3], *lines[4:]] == [*(f"True:{number}" for number in range(5)), "True 5 [5]"]


@needs_fork
def test_a_child_that_ends_as_a_program_does_delivers_what_it_offered():
    script = """
    background = BackgroundObserver(Writing())
    background.update("of the parent")
    background.flush(10)
    if os.fork() == 0:
        background.update("of the child")
        sys.exit()
    os.wait()
    """
    assert run(script) == ["True:of the parent", "False:of the child"]


@needs_fork
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_process_of_multiprocessing_delivers_what_it_offered(method, tmp_path):
    script = f"""
    import multiprocessing, os, sys, warnings
    warnings.simplefilter("ignore", DeprecationWarning)
    from callpyback import BackgroundObserver, BaseObserver, CallPyBack

    class Slow(BaseObserver):
        def update(self, context):
            if context.state.is_terminal:
                os.write(1, f"{{context.arguments['number']}}\\n".encode())

    background = BackgroundObserver(Slow())

    @CallPyBack([background])
    def function(number):
        return number

    if __name__ == "__main__":
        function(0)
        background.flush(10)
        context = multiprocessing.get_context({method!r})
        process = context.Process(target=function, args=(1,))
        process.start()
        process.join()
        with context.Pool(2) as pool:
            pool.map(function, range(2, 10))
            pool.close()
            pool.join()
    """
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(script))
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    assert sorted(done.stdout.split()) == [str(number) for number in range(10)]


FORKS = """
import logging
logging.disable(logging.CRITICAL)
read, write = os.pipe()

class Counting(BaseObserver):
    states = ExecutionState.COMPLETED
    def update(self, context):
        if os.getpid() != parent:
            os.write(write, b"%d\\n" % context.arguments["number"])

background = BackgroundObserver(Counting(), max_queue=100)
batching = BatchingObserver(lambda batch: None, 10, 0.001, max_queue=50, overflow="block", block_timeout=0.0001)

@CallPyBack([background, batching])
def function(number):
    return number

sys.setswitchinterval(1e-4)  # the forking thread gets its turn sooner
stop = threading.Event()

def hammer():
    while not stop.is_set():
        function(-1)

def flush():
    while not stop.is_set():
        background.flush(0.01)
        background.ledger

threads = [threading.Thread(target=work) for work in (hammer, hammer, flush)]
for thread in threads:
    thread.start()

def child():
    function(number)
    flushed = background.flush(15) and batching.flush(15)
    return 0 if flushed and background.ledger.delivered == 1 and not forks.failed_resets else 1

codes = []
for number in range(int(sys.argv[1])):
    codes.append(in_child(child))
stop.set()
for thread in threads:
    thread.join()
whole = [ledger.offered == ledger.delivered + ledger.failed + ledger.pending + sum(ledger.dropped.values())
         for ledger in (background.ledger, batching.ledger)]
print(set(codes), whole, background.shutdown(10), batching.shutdown(10))
os.close(write)
with os.fdopen(read) as pipe:
    print(sorted(map(int, pipe)) == list(range(len(codes))))
"""


@needs_fork
def test_a_thousand_forks_under_load_hang_nobody_and_deliver_nothing_twice():
    done = subprocess.run([*command(FORKS), "1000"], capture_output=True, text=True, timeout=110, check=False)
    assert (done.stdout.splitlines(), done.stderr) == (["{0} [True, True] True True", "True"], "")


@needs_signals
def test_a_signal_handler_may_offer_and_ask_in_the_middle_of_anything():
    script = """
    import logging
    logging.disable(logging.CRITICAL)
    background = BackgroundObserver(on_success(str), max_queue=50)
    blocking = BackgroundObserver(on_success(str), max_queue=5, overflow="block", block_timeout=0.0001)
    handled = 0

    def handle(number, frame):
        global handled
        handled += 1
        for observer in (background, blocking):
            observer.update(handled)
            observer.ledger
            observer.flush(0)
            observer.get_metrics()
        if handled < 1500:
            signal.setitimer(signal.ITIMER_REAL, 0.0002)

    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0002)
    offered = 0
    while handled < 1500:
        background.update(offered)
        blocking.update(offered)
        background.flush(0.001)
        offered += 1
    for observer in (background, blocking):
        assert observer.flush(10)
        assert observer.ledger.offered == offered + handled, (observer.ledger, offered, handled)
        assert observer.shutdown(10)
    print("done")
    """
    assert run(script) == ["done"]
