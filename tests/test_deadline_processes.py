"""Deadlines where the process itself is the subject: exit, fork, Ctrl-C, imports; each in one of its own, with a limit.

C29; the fork and finalisation cases of C20 and C28 as far as threads of deadlines are concerned.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time

import pytest

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")

PROLOGUE = """
import asyncio, atexit, os, signal, sys, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is what is tested
from callpyback import CallPyBack, ExecutionTimeout, MetricsObserver, late_jobs
"""


def run_script(text: str, limit: float = 30) -> subprocess.CompletedProcess:
    """Run a script in a fresh interpreter, with warnings as errors."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-X", "faulthandler", "-c", PROLOGUE + textwrap.dedent(text)],
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )


def assert_printed(done: subprocess.CompletedProcess, text: str, code: int = 0) -> None:
    assert (done.stdout.strip(), done.stderr, done.returncode) == (text, "", code)


class TestExit:
    @pytest.mark.parametrize(
        "body",
        [
            "time.sleep(8)",
            "exec('while True: sum(range(1000))')",
            "threading.Event().wait()",
            "os.read(os.pipe()[0], 1)",
        ],
    )
    def test_a_late_body_does_not_hold_up_the_exit(self, body):  # C29
        script = f"""
            @CallPyBack(max_execution_time=0.1)
            def function():
                {body}
            try:
                function()
            except ExecutionTimeout as error:
                print(error, late_jobs(), flush=True)
            began = time.time()
            atexit.register(lambda: print(time.time() - began < 1, flush=True))
        """
        began = time.perf_counter()
        assert_printed(run_script(script), "function took longer than its limit of 0.1 s 1\nTrue")
        assert time.perf_counter() - began < 8

    def test_late_bodies_at_work_break_no_exit(self):  # C28
        script = """
            import subprocess
            code = '''
            from callpyback import CallPyBack, ExecutionTimeout
            @CallPyBack(max_execution_time=0.01)
            def function():
                made = []
                while True:
                    made = [[made] for _ in range(10)][:1]
                    made[0].clear()
            for _ in range(3):
                try:
                    function()
                except ExecutionTimeout:
                    pass
            '''
            runs = [
                subprocess.Popen([sys.executable, "-W", "error", "-c", __import__("textwrap").dedent(code)],
                                 stderr=subprocess.PIPE)
                for _ in range(4)
            ]
            for run in runs:
                with run:
                    print(run.communicate(timeout=20)[1].decode(), run.wait())
        """
        assert_printed(run_script(script), "\n".join([" 0"] * 4).strip())

    def test_an_exit_of_the_body_is_the_programs(self):
        script = """
            @CallPyBack(max_execution_time=60)
            def function():
                sys.exit(3)
            function()
        """
        assert_printed(run_script(script), "", 3)

    def test_functions_work_in_exit_handlers(self):
        script = """
            @CallPyBack(max_execution_time=60)
            def function():
                return "at exit"
            atexit.register(lambda: print(function()))
        """
        assert_printed(run_script(script), "at exit")

    @pytest.mark.parametrize("before", ["", "function('warm')"], ids=["no thread yet", "an idle thread"])
    @pytest.mark.parametrize("end", ["return text", "raise LookupError(text)"], ids=["returns", "raises"])
    def test_functions_work_while_the_interpreter_goes_down(self, before, end):
        script = f"""
            @CallPyBack(max_execution_time=20)
            def function(text):
                {end if not before else "return text"}

            class Last:
                def __del__(self, function=function, write=os.write):
                    try:
                        value = function("last")
                    except BaseException as error:
                        value = repr(error)
                    write(1, value.encode())

            {before}
            kept = Last()
        """
        raised = end.startswith("raise") and not before
        assert_printed(run_script(script, limit=15), "LookupError('last')" if raised else "last")

    def test_functions_work_in_a_thread_that_outlives_the_main_one(self):  # where 3.12 starts no thread any more
        script = """
            @CallPyBack(max_execution_time=20)
            def function(text):
                return text

            def later():
                threading.main_thread().join()
                print(function("after"), function("all"))

            threading.Thread(target=later).start()
        """
        assert_printed(run_script(script), "after all")


class TestInterrupt:
    def test_ctrl_c_ends_the_waiting(self):
        script = """
            metrics = MetricsObserver()

            @CallPyBack([metrics], max_execution_time=60)
            def function():
                begun.wait()
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                threading.Event().wait()

            class Begun:
                def wait(self):
                    time.sleep(0.05)  # until the main thread waits for the body

            begun = Begun()
            try:
                function()
            except KeyboardInterrupt as error:
                print(error.__context__, late_jobs(), metrics.get_metrics()["counters"]["aborted"])
        """
        assert_printed(run_script(script), "None 1 1")

    def test_a_signal_handler_runs_while_the_caller_waits(self):
        script = """
            heard = threading.Event()
            signal.signal(signal.SIGUSR1, lambda *_: heard.set())

            @CallPyBack(max_execution_time=60)
            def function():
                os.kill(os.getpid(), signal.SIGUSR1)
                return heard.wait(20)

            print(function())
        """
        assert_printed(run_script(script), "True")

    def test_a_handler_that_raises_ends_the_waiting(self):
        script = """
            class Stop(Exception):
                pass

            def stop(*_):
                raise Stop("by signal")

            signal.signal(signal.SIGALRM, stop)

            @CallPyBack(max_execution_time=60)
            def function():
                threading.Event().wait()

            signal.setitimer(signal.ITIMER_REAL, 0.05)
            try:
                function()
            except Stop as error:
                print(error, late_jobs())
        """
        assert_printed(run_script(script), "by signal 1")


class TestThreads:
    def test_without_a_deadline_there_is_no_thread(self):
        script = """
            decorator = CallPyBack([MetricsObserver()])
            limited = CallPyBack([MetricsObserver()], max_execution_time=60)
            count = threading.active_count

            @decorator
            def plain():
                return count()

            @limited
            async def coroutine():
                await asyncio.sleep(0)
                return count()

            @limited
            def items():
                yield count()

            @limited
            async def async_items():
                yield count()

            async def main():
                return [await coroutine(), *[item async for item in async_items()]]

            print(plain(), *asyncio.run(main()), *items())
            limited(plain)
            print(count())
        """
        assert_printed(run_script(script), "1 1 1 1\n1")

    def test_a_coroutine_needs_no_asyncio(self):
        script = """
            del sys.modules["asyncio"]

            @CallPyBack(max_execution_time=60)
            async def function():
                return "value"

            try:
                function().send(None)
            except StopIteration as stop:
                print(stop.value, "asyncio" in sys.modules)
        """
        assert_printed(run_script(script), "value False")

    def test_endless_recursion_ends_as_ever(self):
        script = """
            @CallPyBack(max_execution_time=60)
            def function(n):
                return function(n + 1)

            sys.setrecursionlimit(150)
            try:
                function(0)
            except RecursionError as error:
                print(type(error).__name__, threading.active_count() < 160, late_jobs())
        """
        assert_printed(run_script(script), "RecursionError True 0")

    def test_endless_recursion_ends_also_when_its_callers_are_late(self):
        script = """
            @CallPyBack(max_execution_time=0.01)
            def function(n):
                return function(n + 1)

            sys.setrecursionlimit(300)
            try:
                function(0)
            except (RecursionError, ExecutionTimeout) as error:
                print("ended")
            began = time.monotonic()
            while late_jobs() and time.monotonic() < began + 20:
                time.sleep(0.01)
            print(late_jobs())
        """
        assert_printed(run_script(script), "ended\n0")

    def test_where_no_thread_can_be_had_the_body_runs_all_the_same(self):
        script = """
            import contextvars, _thread
            variable = contextvars.ContextVar("variable")

            @CallPyBack(max_execution_time=60)
            def function(fails):
                variable.set("by the body")
                if fails:
                    raise LookupError("of the body")
                return threading.get_ident() == own

            def start(*args, **kwargs):
                raise RuntimeError("can't start new thread")

            own = threading.get_ident()
            for name in ("_start_new_thread", "_start_joinable_thread"):
                if hasattr(threading, name):
                    setattr(threading, name, start)
            print(function(False), variable.get())
            try:
                function(True)
            except LookupError as error:
                print(error, error.__context__)
        """
        assert_printed(run_script(script), "True by the body\nof the body None")


@needs_fork
class TestForks:
    def test_a_child_has_no_late_bodies_and_threads_of_its_own(self):
        script = """
            release = threading.Event()

            @CallPyBack(max_execution_time=0.05)
            def late():
                release.wait(20)

            @CallPyBack(max_execution_time=20)
            def function(number):
                return number

            try:
                late()
            except ExecutionTimeout:
                pass
            function(0)
            bad = 0
            for number in range(30):
                child = os.fork()
                if child == 0:
                    signal.alarm(10)  # a child that hangs dies
                    right = late_jobs() == 0 and [function(n) for n in range(3)] == [0, 1, 2]
                    try:
                        late()
                    except ExecutionTimeout:
                        right = right and late_jobs() == 1
                    os._exit(0 if right else 1)
                bad += os.waitpid(child, 0)[1] != 0
            print(bad, function("parent"), late_jobs())
        """
        assert_printed(run_script(script, 60), "0 parent 1")

    def test_forks_beside_running_calls_hang_no_child(self):
        script = """
            @CallPyBack(max_execution_time=20)
            def function(number):
                return number

            stop = threading.Event()

            def hammer():
                while not stop.is_set():
                    assert function(7) == 7

            threads = [threading.Thread(target=hammer) for _ in range(3)]
            for thread in threads:
                thread.start()
            bad = 0
            for number in range(100):
                child = os.fork()
                if child == 0:
                    signal.alarm(10)
                    os._exit(0 if function(number) == number else 1)
                bad += os.waitpid(child, 0)[1] != 0
            stop.set()
            for thread in threads:
                thread.join()
            print(bad)
        """
        assert_printed(run_script(script, 90), "0")

    def test_a_child_forked_in_the_body_may_call_and_leave(self):
        script = """
            @CallPyBack(max_execution_time=20)
            def inner(number):
                return number

            @CallPyBack(max_execution_time=20)
            def function():
                child = os.fork()
                if child == 0:
                    signal.alarm(10)
                    os._exit(0 if inner(5) == 5 else 1)
                return os.waitpid(child, 0)[1]

            print(inner(1), function(), inner(2))
        """
        assert_printed(run_script(script), "1 0 2")

    @pytest.mark.parametrize(
        ("end", "code"),
        [("sys.exit(3)", 3), ("sys.exit()", 0), ("sys.exit('why')", 1), ("raise LookupError('why')", 1)],
    )
    def test_a_child_that_leaves_the_body_ends_at_once_with_its_code(self, end, code):
        script = f"""
            import logging
            logging.getLogger("callpyback").addHandler(logging.NullHandler())

            @CallPyBack(max_execution_time=20)
            def function():
                child = os.fork()
                if child == 0:
                    signal.alarm(10)
                    print("said", flush=False)
                    {end}
                status = os.waitpid(child, 0)[1]
                return os.waitstatus_to_exitcode(status)

            print(function())
        """
        done = run_script(script)
        assert (done.stdout.split(), done.returncode) == (["said", str(code)], 0)
        assert ("why" in done.stderr) == ("why" in end)

    def test_a_child_that_returns_from_the_body_ends_and_says_so(self):
        script = """
            @CallPyBack(max_execution_time=20)
            def function():
                child = os.fork()
                if child == 0:
                    signal.alarm(10)
                    return "child"
                os.waitpid(child, 0)
                return "parent"

            print(function())
        """
        done = run_script(script)
        assert (done.stdout.strip(), done.returncode) == ("parent", 0)
        assert "forked inside a function with max_execution_time" in done.stderr

    def test_multiprocessing_may_fork_in_the_body(self):
        script = """
            import multiprocessing

            def work(queue):
                queue.put("from the child")

            @CallPyBack(max_execution_time=20)
            def function():
                context = multiprocessing.get_context("fork")
                queue = context.SimpleQueue()
                child = context.Process(target=work, args=(queue,))
                child.start()
                value = queue.get()
                child.join()
                return value, child.exitcode

            print(*function())
        """
        assert_printed(run_script(script), "from the child 0")
