"""A bar for each call that tells how far it is: it begins, moves and ends with its call, on terminals and elsewhere."""

from __future__ import annotations

import asyncio
import copy
import gc
import io
import os
import pickle
import subprocess
import sys
import textwrap
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from rich.console import Console
from rich.live import Live

from callpyback import CallPyBack, ConfigurationError, MockTimeSource, Notice, ProgressNotice, handle
from callpyback.core.state_machine import ExecutionState
from callpyback.observers.progress import ProgressObserver
from callpyback.testing import assert_healthy, build_context
from kinds import ended
from retrying import Flaky, repeating
from tracking import current_call, tracked

__all__ = ["tracked"]

pytestmark = pytest.mark.usefixtures("tracked")

S = ExecutionState


class Screen:
    """What a console wrote."""

    def __init__(self, *, is_terminal=False, **options) -> None:
        self.file = io.StringIO()
        self.console = Console(file=self.file, force_terminal=is_terminal, width=80, color_system=None, **options)

    @property
    def lines(self) -> list[str]:
        return [" ".join(line.replace("━", " ").split()) for line in self.file.getvalue().splitlines()]


@pytest.fixture
def screen():
    """A console that is no terminal: lines are printed, nothing moves."""
    return Screen()


@pytest.fixture
def terminal():
    return Screen(is_terminal=True)


def observed(screen, **options):
    return CallPyBack([ProgressObserver(screen.console, time_source=MockTimeSource(), **options)])


def bars_of(observer):
    return {key: (bar.done, bar.total) for key, bar in observer._bars.items()}


class TestLines:
    def test_a_call_that_has_ended_leaves_a_line(self, kind, screen):
        function = kind.make(lambda: list(current_call().track("abc")), observed(screen))
        kind.call(function)
        assert screen.lines == [f"{function.__qualname__.rpartition('<locals>.')[2]} 3/3 0:00:00"]
        assert_healthy(function)

    def test_a_call_that_tells_of_nothing_leaves_none(self, kind, screen):
        kind.call(kind.make(lambda: None, observed(screen)))
        assert screen.lines == []

    def test_without_a_total_it_ends_with_what_is_done(self, screen):
        @observed(screen)
        def work():
            list(current_call().track(item for item in "abcd"))

        work()
        assert screen.lines == ["work 4/4 0:00:00"]

    @pytest.mark.parametrize(
        ("error", "shown"),
        [
            (LookupError("secret"), "failed: LookupError"),
            (KeyboardInterrupt(), "aborted"),
            (asyncio.CancelledError(), "cancelled"),
        ],
        ids=["failed", "aborted", "cancelled"],
    )
    def test_a_failure_is_shown_by_what_became_of_the_call(self, kind, screen, error, shown):
        def body():
            for item in current_call().track("abcd"):
                if item == "c":
                    raise error

        function = kind.make(body, observed(screen, description="work"))
        assert kind.ended(function).exception is error
        assert screen.lines == [f"work 2/4 0:00:00 {shown}"]

    def test_a_generator_that_is_closed_half_way_is_abandoned(self, screen):
        @observed(screen, description="count")
        def count():
            yield from current_call().track("abc")

        steps = count()
        next(steps)
        steps.close()
        assert screen.lines == ["count 0/3 0:00:00 abandoned"]

    def test_attempts_have_one_bar(self, screen):
        flaky = Flaky(ValueError())

        def body():
            list(current_call().track("ab"))
            flaky()

        observer = ProgressObserver(screen.console, description="work", time_source=MockTimeSource())
        CallPyBack([observer], retry=repeating(on=ValueError))(body)()
        assert screen.lines == ["work 2/2 0:00:00"]

    def test_calls_inside_a_call_are_indented(self, screen):
        watch = observed(screen)

        @watch
        def inner(n):
            list(current_call().track(range(n)))

        @watch
        def outer():
            for n in current_call().track([1, 2]):
                inner(n)

        outer()
        raw = screen.file.getvalue().splitlines()
        assert [line.split(" ━")[0] for line in raw] == ["  inner", "  inner", "outer"]
        assert [line.split()[2] for line in raw] == ["1/1", "2/2", "2/2"]

    def test_the_elapsed_time_is_the_time_sources(self, screen):
        clock = MockTimeSource()
        observer = ProgressObserver(screen.console, time_source=clock, description="work")

        @CallPyBack([observer])
        def work():
            for _ in current_call().track("ab"):
                clock.advance(60)

        work()
        assert screen.lines == ["work 2/2 0:02:00"]

    def test_a_transient_bar_leaves_nothing(self, screen):
        observed(screen, transient=True)(lambda: list(current_call().track("ab")))()
        assert screen.lines == []

    def test_the_description_may_be_made_of_the_context(self, screen):
        made = observed(screen, description=lambda context: f"load {context.arguments['name']}\n[red]")
        made(lambda name: current_call().progress(1, 2))("rock")
        assert screen.lines == ["load rock\\n[red] 1/2 0:00:00"]

    def test_what_the_console_cannot_encode_is_replaced(self):
        class Old(io.StringIO):
            encoding = "ascii"

            def write(self, text):
                text.encode("ascii")
                return super().write(text)

        screen = Screen()
        screen.console.file = Old()
        function = observed(screen, description="größe")(lambda: current_call().progress(1, 1))
        function()
        assert "gr??e" in screen.console.file.getvalue()
        assert_healthy(function)

    @pytest.mark.parametrize("value", [None, "half", float("nan"), float("inf"), -1, object(), 10**400])
    def test_whatever_a_body_tells_can_be_drawn(self, screen, value):
        function = observed(screen, description="work")(lambda: current_call().progress(value, value))
        function()
        assert screen.lines == ["work 0/0 0:00:00"]
        assert_healthy(function)


class TestDisplay:
    def test_it_is_there_while_there_are_bars(self, terminal):
        observer = ProgressObserver(terminal.console, time_source=MockTimeSource(), description="work")
        live = []

        @CallPyBack([observer])
        def work():
            call = current_call()
            live.append(observer._display)
            call.progress(1, 2)
            live.append(observer._display.live.is_started)
            print("in between")  # noqa: T201

        before = sys.stdout
        work()
        assert live == [None, True]
        assert observer._display is None
        assert sys.stdout is before
        written = terminal.file.getvalue()
        assert written.startswith("\x1b[?25l")  # the cursor is hidden, and given back
        assert "\x1b[?25h" in written
        assert "in between" in written

    def test_a_bar_moves_at_most_so_often_but_knows_the_last_of_it(self, screen):
        clock = MockTimeSource()
        observer = ProgressObserver(screen.console, time_source=clock, refresh_per_second=10)
        drawn = []

        @CallPyBack([observer])
        def work():
            call = current_call()
            for done in range(100):
                call.progress(done, 100)
                drawn.append(observer._display.tasks[0].completed)
                clock.advance(0.01)

        work()
        assert len(set(drawn)) in (10, 11)
        assert drawn[0] == 0
        assert screen.lines[0].split()[-2] == "99/100"

    def test_bars_of_calls_inside_stand_below_the_call_around(self, screen):
        observer = ProgressObserver(screen.console, time_source=MockTimeSource())
        watch, shown = CallPyBack([observer]), []

        @watch
        def inner():
            current_call().progress(0, 1)
            [table] = observer._display.get_renderables()
            shown.extend(str(cell) for cell in table.columns[0].cells)

        @watch
        def stepping(name):
            current_call().progress(0, 1)
            yield
            inner()

        first, second = stepping("first"), stepping("second")
        next(first)
        next(second)
        list(first)
        second.close()
        assert shown == ["stepping", "  inner", "stepping"]

    def test_there_are_only_so_many(self, screen):
        observer = ProgressObserver(screen.console, time_source=MockTimeSource(), max_bars=2)
        watch, seen = CallPyBack([observer]), []

        @watch
        def down(n):
            current_call().progress(0, 1)
            seen.append(len(bars_of(observer)))
            if n:
                down(n - 1)

        down(4)
        assert seen == [1, 2, 2, 2, 2]
        assert len(screen.lines) == 2

    def test_threads_and_tasks_have_a_bar_each(self, terminal):
        observer = ProgressObserver(terminal.console)
        watch = CallPyBack([observer])

        @watch
        def work(name):
            for _ in current_call().track(range(20)):
                pass

        @watch
        async def work_async(name):
            for _ in current_call().track(range(5)):
                await asyncio.sleep(0)

        async def main():
            await asyncio.gather(*(work_async(n) for n in range(5)))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(12)))
        asyncio.run(main())
        written = terminal.file.getvalue()
        assert written.count("20/20") >= 12
        assert written.count("5/5") >= 5
        assert bars_of(observer) == {}
        assert observer._display is None
        assert_healthy(work, work_async)

    def test_where_another_display_has_the_console_lines_are_printed(self, terminal):
        function = CallPyBack([ProgressObserver(terminal.console, description="work")])(
            lambda: list(current_call().track("ab"))
        )
        with Live("another", console=terminal.console, auto_refresh=False):
            function()
        assert "work" in terminal.file.getvalue()
        assert "2/2" in terminal.file.getvalue()
        assert_healthy(function)

    def test_a_stream_that_is_closed_is_the_observers_failure(self, screen):
        function = observed(screen)(lambda: list(current_call().track("ab")))
        screen.file.close()
        assert function() == ["a", "b"]
        assert next(iter(handle(function).health.values())).failures >= 1

    def test_what_is_told_after_the_end_begins_no_bar(self, screen):
        observer = ProgressObserver(screen.console, time_source=MockTimeSource())
        ids = {"call_id": "c-1"}
        for _ in range(2):
            observer.update(build_context(state=S.EXECUTING, notice=ProgressNotice(1, 2), **ids))
            observer.update(build_context(**ids))
        observer.update(build_context(state=S.EXECUTING, notice=ProgressNotice(2, 2), **ids))
        assert bars_of(observer) == {}
        assert len(screen.lines) == 1

    def test_other_notices_and_calls_leave_it_alone(self, screen):
        observer = ProgressObserver(screen.console)
        observer.update(build_context())
        observer.update(build_context(state=S.PRE_EXECUTION))
        assert screen.lines == []
        assert observer.notices == {Notice.PROGRESS}

    def test_closing_takes_the_bars_away(self, terminal):
        observer = ProgressObserver(terminal.console)
        watch = CallPyBack([observer])

        @watch
        def stepping():
            yield from current_call().track("ab")

        steps = stepping()
        next(steps)
        assert len(bars_of(observer)) == 1
        watch.shutdown()
        assert bars_of(observer) == {}
        assert observer._display is None
        steps.close()
        observer.close()

    def test_an_observer_that_is_dropped_half_way_gives_the_terminal_back(self, terminal):
        before = sys.stdout
        observer = ProgressObserver(terminal.console)
        observer.update(build_context(state=S.EXECUTING, notice=ProgressNotice(1, 2)))
        gone = weakref.ref(observer)
        del observer
        gc.collect()
        assert gone() is None
        assert sys.stdout is before
        assert "\x1b[?25h" in terminal.file.getvalue()


class TestConfiguration:
    @pytest.mark.parametrize(
        "options",
        [
            {"console": "stdout"},
            {"description": 5},
            {"transient": "yes"},
            {"max_bars": 0},
            {"refresh_per_second": 0},
            {"time_source": 5},
            {"priority": "high"},
        ],
        ids=lambda options: next(iter(options)),
    )
    def test_a_parameter_that_is_none_is_refused_by_name(self, options):
        with pytest.raises(ConfigurationError, match=next(iter(options))):
            ProgressObserver(**options)

    def test_without_rich_the_extra_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "rich.console", None)
        with pytest.raises(ConfigurationError, match=r"pip install callpyback\[progress\]"):
            ProgressObserver()

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda kept: pickle.loads(pickle.dumps(kept))])
    def test_a_copy_begins_anew_without_the_console(self, terminal, copied):
        observer = ProgressObserver(terminal.console, description="work", max_bars=3, priority=4)
        observer.update(build_context(state=S.EXECUTING, notice=ProgressNotice(1, 2)))
        again = copied(observer)
        observer.close()
        assert (again.priority, again._max_bars, again._description) == (4, 3, "work")
        assert bars_of(again) == {}
        assert again._lock is not observer._lock
        assert again._console is None

    def test_importing_it_imports_no_rich(self):
        source = "import sys, callpyback.observers.progress; print('rich' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout.strip() == "False"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="cannot fork")
def test_a_forked_child_draws_nothing_and_does_not_hang():
    source = """
        import io, os, sys
        from rich.console import Console
        from callpyback import CallPyBack, current_call
        from callpyback.observers.progress import ProgressObserver
        out = io.StringIO()
        observer = ProgressObserver(Console(file=out, force_terminal=True), refresh_per_second=1000)
        @CallPyBack([observer])
        def work(depth):
            for item in current_call().track(range(3)):
                if depth and item == 1:
                    child = os.fork()
                    if child == 0:
                        before = len(out.getvalue())
                        print("child prints", flush=True)
                        work(0)
                        current_call().progress(3, 3)
                        os._exit(0 if len(out.getvalue()) == before and observer._display is None else 1)
                    _, status = os.waitpid(child, 0)
                    assert status == 0, status
        for _ in range(10):
            work(1)
        assert "3/3" in out.getvalue()
        assert sys.stdout is sys.__stdout__
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(source)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("child prints") == 10


def test_a_program_that_ends_half_way_gives_the_cursor_back():
    source = """
        from rich.console import Console
        from callpyback import CallPyBack, current_call
        from callpyback.observers.progress import ProgressObserver
        @CallPyBack([ProgressObserver(Console(force_terminal=True))])
        def stepping():
            yield from current_call().track("ab")
        steps = stepping()
        next(steps)
        import __main__
        __main__.kept = steps
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.rindex("\x1b[?25h") > done.stdout.rindex("\x1b[?25l")
    assert done.stderr == ""


def test_a_body_that_fails_is_not_touched(terminal):
    error = LookupError()

    def body():
        list(current_call().track("ab"))
        raise error

    came = ended(CallPyBack([ProgressObserver(terminal.console)])(body))
    assert came.exception is error
    assert error.__context__ is None
