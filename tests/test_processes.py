"""Forks, spawned workers, other interpreters, import and exit; each in a process of its own, with a time limit."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import pickle
import subprocess
import sys

import cloudpickle
import pytest

from callpyback import CallPyBack, ExecutionState, MetricsObserver, handle
from kinds import Witness

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")


def run_script(text: str, *arguments: str, limit: float = 60) -> subprocess.CompletedProcess:
    """Run a script in a fresh interpreter, with warnings as errors."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-X", "faulthandler", "-c", text, *arguments],
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )


def assert_printed(done: subprocess.CompletedProcess, text: str) -> None:
    assert (done.stdout.strip(), done.stderr, done.returncode) == (text, "", 0)


FORKS = """
import os, signal, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is what is tested
from callpyback import CallPyBack, LoggingObserver, MetricsObserver, TimingObserver, handle
import logging

logging.disable(logging.CRITICAL)
metrics = MetricsObserver(in_progress=True)

class Observer:
    priority = 0
    def update(self, context):
        context.slot["id"] = context.call_id

class Failing:
    priority = 1
    def update(self, context):
        raise LookupError

observers = [metrics, Observer(), Failing(), LoggingObserver(logging.getLogger("off")), TimingObserver(threshold=0.0)]
decorator = CallPyBack(observers, variable_names=["mine"], max_observer_failures=10**9)

@decorator
def function(number):
    mine = number
    return mine

@decorator
def changing(number):
    return number

stop = threading.Event()

def hammer():
    while not stop.is_set():
        function(1)

def churn():
    while not stop.is_set():
        observer = Observer()
        decorator.add_observer(observer)
        metrics.get_metrics()
        changing(1)
        decorator.remove_observer(observer)

threads = [threading.Thread(target=work, daemon=True) for work in (hammer, hammer, churn)]
for thread in threads:
    thread.start()
bad = []
for _ in range(100):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(10)  # a child that hangs dies
            before = handle(function).unobserved
            assert function(5) == 5 and changing(6) == 6
            decorator.add_observer(Observer())
            assert function(7) == 7
            assert handle(function).unobserved == before
            assert metrics.get_metrics()["total_calls"] >= 3
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if status:
        bad.append(status)
stop.set()
for thread in threads:
    thread.join()
print(bad, metrics.get_metrics()["in_progress"])
"""


@needs_fork
def test_a_hundred_forks_under_load_hang_and_hurt_no_child():
    assert_printed(run_script(FORKS, limit=150), "[] 0")


@needs_fork
def test_call_ids_of_a_child_are_not_those_of_its_parent():
    script = """
import os
from callpyback import CallPyBack
ids = []
class Observer:
    priority = 0
    def update(self, context):
        ids.append(context.call_id)
function = CallPyBack([Observer()])(lambda: None)
function()
read, write = os.pipe()
if os.fork() == 0:
    ids.clear()
    function()
    os.write(write, ids[0].encode())
    os._exit(0)
os.wait()
function()
child = os.read(read, 100).decode()
print(child not in ids, len(set(ids)))
"""
    assert_printed(run_script(script), "True 2")


@needs_fork
def test_a_fork_inside_an_observer_leaves_the_child_observed():
    script = """
import os
from callpyback import CallPyBack, handle
told = []
class Forking:
    priority = 0
    def update(self, context):
        told.append(context.state.name)
        if context.state.name == "PRE_EXECUTION" and len(told) == 1:
            pid = os.fork()
            if pid:
                status.append(os.waitpid(pid, 0)[1])
status = []
function = CallPyBack([Forking()])(lambda: None)
function()
function()
assert told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"] * 2, told
assert handle(function).unobserved == 0
print("done")
"""
    done = run_script(script)
    assert (done.stdout.split(), done.stderr, done.returncode) == (["done", "done"], "", 0)


METRICS = MetricsObserver()


@CallPyBack([METRICS], variable_names=["square"])
def squared(number):
    square = number * number
    return abs(square)


class Shop:
    def __init__(self, name) -> None:
        self.name = name

    @CallPyBack([METRICS])
    def greet(self, guest):
        return f"{self.name} greets {guest}"


def test_a_decorated_function_is_pickled_by_name():
    assert pickle.loads(pickle.dumps(squared)) is squared
    bound = pickle.loads(pickle.dumps(Shop("ours").greet))
    assert bound("ann") == "ours greets ann"


POOL = """
import multiprocessing, sys
from callpyback import CallPyBack, MetricsObserver

metrics = MetricsObserver()

@CallPyBack([metrics], variable_names=["square"])
def squared(number):
    square = number * number
    return square

class Shop:
    @CallPyBack([metrics])
    def greet(self, guest):
        return f"hello {guest}"

def counted(number):
    squared(number)
    return metrics.get_metrics()["total_calls"] > 0

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        print(pool.map(squared, range(5)), pool.map(Shop().greet, ["ann"]), all(pool.map(counted, range(4))))
"""


def test_a_spawned_pool_calls_decorated_functions_and_methods(tmp_path):
    script = tmp_path / "pool.py"
    script.write_text(POOL)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert_printed(done, "[0, 1, 4, 9, 16] ['hello ann'] True")


def test_a_forked_pool_calls_decorated_functions():
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this platform cannot fork")
    script = POOL.replace('"spawn"', '"fork"')
    assert_printed(run_script(script), "[0, 1, 4, 9, 16] ['hello ann'] True")


ELSEWHERE = """
import pickle, sys
function = pickle.loads(bytes.fromhex(sys.argv[1]))
from callpyback import handle
print(function(4), [known.name for known in handle(function).observers], handle(function).observers[0].values)
"""


class Values:
    """Keeps values; picklable, as an observer that travels must be."""

    priority = 0
    name = "values"
    states = frozenset({ExecutionState.POST_SUCCESS})

    def __init__(self) -> None:
        self.values = []

    def update(self, context) -> None:
        self.values.append(context.result.value)


def test_a_decorated_closure_travels_by_cloudpickle_with_its_observers():
    factor, values = 3, Values()
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:

        @CallPyBack([values], variable_names=["product"])
        def multiplied(number):
            product = factor * number
            return abs(product)

        multiplied(2)
        data = cloudpickle.dumps(multiplied)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert_printed(run_script(ELSEWHERE, data.hex()), "12 ['values'] [6, 12]")
    assert values.values == [6]


def test_a_decorated_closure_travels_whatever_its_kind(kind):
    function = kind.make(lambda value: value, CallPyBack([MetricsObserver(), Witness()]), parameters="value")
    kind.call(function, 1)
    copied = cloudpickle.loads(cloudpickle.dumps(function))
    assert kind.call(copied, 2) == 2
    [metrics, witness] = sorted(handle(copied).observers, key=lambda observer: type(observer).__name__)
    assert metrics.get_metrics()["total_calls"] == 2
    assert len(witness.contexts) == 6


def test_a_kept_context_travels_to_another_process():
    witness = Witness()
    function = CallPyBack([witness], metadata={"team": "shop"})(squared.__wrapped__)
    function(3)
    for context in witness.contexts:
        copied = pickle.loads(pickle.dumps(context))
        assert copied == context
        assert (copied.call_id, copied.outcome) == (context.call_id, context.outcome)


def test_a_process_pool_of_the_standard_library_works():
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        assert list(pool.map(squared_by_hand, range(3))) == [0, 1, 4]


def squared_by_hand(number):
    """In the worker, where this module is imported anew."""
    return squared(number)


IMPORT = """
import os, sys, threading
sys.dont_write_bytecode = True
before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
opened = []
sys.addaudithook(lambda event, arguments: opened.append(arguments) if event == "open" else None)
import callpyback
for name in callpyback.__all__:
    getattr(callpyback, name)
after = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
writing = [a for a in opened if isinstance(a[1], str) and set(a[1]) & set("wax+")]
modules = (".py", ".pyc", ".so", ".pyd", "METADATA")
other = [a[0] for a in opened if "/" in str(a[0]) and not str(a[0]).endswith(modules)]
print(threading.active_count(), sorted(after - before), writing, other)
"""


def test_importing_starts_no_thread_and_opens_no_file():
    assert_printed(run_script(IMPORT), "1 [] [] []")


EXIT = """
import sys, threading, time
from callpyback import CallPyBack, LoggingObserver, MetricsObserver, TimingObserver
import logging
logging.disable(logging.CRITICAL)

class Observer:
    priority = 0
    def update(self, context):
        context.slot["id"] = context.call_id

observers = [Observer(), MetricsObserver(), TimingObserver(), LoggingObserver(logging.getLogger("off"))]

@CallPyBack(observers, variable_names=["mine"])
def function(number):
    mine = number
    return mine

@CallPyBack([Observer()])
def items():
    yield 1

begun = threading.Barrier(4)

def hammer():
    function(0)
    begun.wait()
    while True:
        function(1)
        list(items())

for _ in range(3):
    threading.Thread(target=hammer, daemon=True).start()
begun.wait()
left_open = items()
next(left_open)
"""


def test_a_program_that_ends_under_load_ends_quietly():
    for _ in range(12):
        assert_printed(run_script(EXIT), "")


MORE_THAN_ONCE = """
import atexit
from callpyback import CallPyBack, MetricsObserver
metrics = MetricsObserver()

@CallPyBack([metrics])
def function(): ...

class Last:
    def __del__(self):
        function()

atexit.register(function)
kept = Last()
function()
atexit.register(lambda: print(metrics.get_metrics()["total_calls"]))
"""


def test_calls_during_shutdown_of_the_interpreter_work():
    assert_printed(run_script(MORE_THAN_ONCE), "1")


def test_an_interrupted_program_ends_as_it_would_have():
    script = """
import signal, os
from callpyback import CallPyBack
told = []
class Observer:
    priority = 0
    def update(self, context):
        told.append(context.state.name)
@CallPyBack([Observer()])
def function():
    os.kill(os.getpid(), signal.SIGINT)
    while True: pass
try:
    function()
except KeyboardInterrupt:
    print(told)
"""
    assert_printed(run_script(script), "['PRE_EXECUTION', 'ERROR']")


INTERRUPTED = """
import dis, sys
from callpyback import CallPyBack, handle

told, deaf, wrong = [], [], []

class Observer:
    priority = 0
    def update(self, context):
        told.append(context.state.name)

@CallPyBack([Observer()])
def function():
    return "value"

def interrupted_at(step):
    left, after_check = step, False
    def trace(frame, event, argument):
        nonlocal left, after_check
        if not frame.f_code.co_filename.startswith("<callpyback"):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= after_check
            if left == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
            name = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            after_check = name.startswith(("CALL", "RESUME", "JUMP_BACKWARD"))
        return trace
    sys._getframe().f_trace_opcodes = True  # 3.12 looks for one such frame when tracing starts
    sys.settrace(trace)
    try:
        function()
    except KeyboardInterrupt:
        pass
    except BaseException as error:
        wrong.append((step, type(error).__name__))
    finally:
        sys.settrace(None)
    return left <= 0

function()
step = 1
while interrupted_at(step):
    told.clear()
    function()
    if told != ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]:
        deaf.append(step)
        from callpyback.core.telling import TELLING
        TELLING.clear()
    step += 1
print(step > 5, deaf, wrong)
"""


def test_after_an_interrupt_anywhere_in_the_shell_the_next_call_is_observed():
    """The interpreter looks for signals after calls, at backward jumps and at the start of a function only."""
    assert_printed(run_script(INTERRUPTED), "True [] []")
