"""Capturing changes nothing else: not the function, not other tools, not what stays in memory."""
# ruff: noqa: RET504 - local variables are the subject

from __future__ import annotations

import contextlib
import contextvars
import copy
import gc
import inspect
import sys
import textwrap
import weakref

import pytest

from callpyback.core.variable_extraction import (
    NoOpVariableExtractor,
    NullVariable,
    TracingVariableExtractor,
    bind_extractor,
    installation,
)
from watching import (
    HAS_MONITORING,
    KINDS,
    Thing,
    passing_async,
    run,
    run_python,
    watch,
    watching,
)


@pytest.fixture
def no_gc():
    """What is not freed by reference counts alone stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class TestTransparency:
    def test_the_function_looks_the_same(self):
        def function(x: int = 1, *, y: str = "") -> int:
            """A docstring."""
            z = x
            return z

        facts = [
            inspect.getsource,
            inspect.signature,
            inspect.getdoc,
            inspect.getclosurevars,
            lambda f: f.__code__.co_varnames,
            lambda f: f.__code__.co_firstlineno,
            lambda f: f.__code__.co_flags,
            lambda f: [line for _, _, line in f.__code__.co_lines() if line],
        ]
        before = [fact(function) for fact in facts]
        watched = watch(function, "z")
        watched()
        assert [fact(function) for fact in facts] == before

    @pytest.mark.parametrize("setter", ["settrace", "setprofile"])
    def test_tracers_and_profilers_stay_and_see_the_same(self, setter):
        def helper():
            return 1

        def function(x):
            y = x
            for _ in range(2):
                y += helper()
            return y

        def events_of(call):
            events = []

            def hook(frame, event, argument):
                if frame.f_code.co_filename == __file__ and frame.f_code.co_name in {"function", "helper"}:
                    if event not in {"c_call", "c_return"}:
                        events.append((event, frame.f_code.co_name, frame.f_lineno, dict(frame.f_locals)))
                    return hook
                return None

            previous = getattr(sys, setter.replace("set", "get"))()
            getattr(sys, setter)(hook)
            try:
                call(1)
                assert getattr(sys, setter.replace("set", "get"))() is hook
            finally:
                getattr(sys, setter)(previous)
            return events

        before = events_of(function)
        watched = watch(function, "y")
        assert events_of(watched) == before
        assert len(before) > 4
        assert watched.seen == [{"y": 3}]

    def test_no_hook_of_ours_is_there_during_a_call(self):
        @watching("x")
        def function():
            x = sys.gettrace(), sys.getprofile()
            return x

        expected = sys.gettrace(), sys.getprofile()
        assert function() == expected
        assert function.seen == [{"x": expected}]

    @pytest.mark.skipif(not HAS_MONITORING, reason="sys.monitoring is new in 3.12")
    def test_other_monitoring_tools_are_left_alone(self):
        def function(x):
            y = x
            return y

        watched = watch(function, "y")
        monitoring, tool = sys.monitoring, sys.monitoring.PROFILER_ID
        returned, disabled = [], []

        def on_line(code, line):
            disabled.append(line)
            return monitoring.DISABLE

        monitoring.use_tool_id(tool, "other")
        try:
            events = monitoring.events
            monitoring.register_callback(tool, events.PY_RETURN, lambda code, offset, value: returned.append(value))
            monitoring.register_callback(tool, events.LINE, on_line)
            monitoring.set_local_events(tool, function.__code__, events.PY_RETURN | events.LINE)
            watched(1)
            watched(2)
            del watched
            gc.collect()
            function(3)
            assert monitoring.get_local_events(tool, function.__code__) == events.PY_RETURN | events.LINE
            monitoring.set_local_events(tool, function.__code__, 0)
        finally:
            monitoring.free_tool_id(tool)
        assert returned == [1, 2, 3]
        assert len(disabled) == 2

    @pytest.mark.parametrize("core", ["ctrace", "pytrace", "sysmon"])
    def test_coverage_measures_the_same_lines(self, core, tmp_path):
        pytest.importorskip("coverage")
        if core == "sysmon" and not HAS_MONITORING:
            pytest.skip("sys.monitoring is new in 3.12")
        program = tmp_path / "program.py"
        program.write_text(
            textwrap.dedent(
                """
                import sys
                from watching import passing, watch

                def function(x):
                    total = 0
                    for number in range(x):
                        if number > 100:
                            total = None
                        total += number
                    return total

                function = watch(function, "total") if sys.argv[1] == "watched" else passing(function)
                function(5)
                print(getattr(function, "seen", None))
                """
            )
        )
        measured = [
            run_python(
                f"""
                import os, sys
                os.environ["COVERAGE_CORE"] = {core!r}
                import coverage
                sys.argv = ["program", {how!r}]
                measuring = coverage.Coverage(data_file=None, include=[{str(program)!r}], config_file=False)
                measuring.start()
                exec(compile(open({str(program)!r}).read(), {str(program)!r}, "exec"), {{"__name__": "program"}})
                measuring.stop()
                print(sorted(measuring.get_data().lines({str(program)!r})))
                """
            )
            for how in ("plain", "watched")
        ]
        (plain, lines), (watched, lines_watched) = (output.splitlines() for output in measured)
        assert (plain, watched) == ("None", "[{'total': 10}]")
        assert lines == lines_watched == "[2, 3, 5, 6, 7, 8, 10, 11, 13, 14, 15]"

    def test_debuggers_stop_at_the_same_lines(self, tmp_path):
        program = tmp_path / "program.py"
        program.write_text(
            textwrap.dedent(
                """
                import sys
                from watching import passing, watch

                def function(x):
                    y = x + 1
                    z = y + 1
                    return z

                function = watch(function, "z") if sys.argv[1:] else passing(function)
                function(1)
                """
            )
        )
        shown = []
        for arguments in ([], ["watched"]):
            output = run("-m", "pdb", program, *arguments, stdin="b 6\nc\np x\nn\np y\nn\nn\nq\n")
            lines = [line for line in output.splitlines() if "program.py(" in line or line.startswith("(Pdb) ")]
            shown.append([line for line in lines if "watching" not in line])
        assert shown[0] == shown[1]
        assert any("program.py(6)function()" in line for line in shown[0])
        assert "(Pdb) 2" in shown[0]

    def test_each_function_is_restored_when_its_last_binding_is_gone(self):
        def function(x):
            return x

        def is_changed():
            if HAS_MONITORING:
                tools = [tool for tool in (4, 3) if sys.monitoring.get_tool(tool) == "callpyback"]
                return any(sys.monitoring.get_local_events(tool, function.__code__) for tool in tools)
            return function.__code__ is not original

        original = function.__code__
        one, two = watch(function, "x"), watch(function, "x")
        assert is_changed()
        del one
        gc.collect()
        two(1)
        assert two.seen == [{"x": 1}]
        assert is_changed()
        del two
        gc.collect()
        assert not is_changed()
        again = watch(function, "x")
        again(2)
        assert again.seen == [{"x": 2}]

    def test_a_late_removal_leaves_a_newer_installation_alone(self):
        removed = []
        place = Thing()
        first = installation.hold(place, lambda: lambda: removed.append("first"))
        assert installation.hold(place, None) is first
        installation._register._release(id(place), lambda: removed.append("late"))
        assert removed == []
        del first
        assert removed == ["first"]

    @pytest.mark.skipif(not HAS_MONITORING, reason="tool ids are new in 3.12")
    def test_with_all_tool_ids_taken_failures_are_still_captured(self):
        printed = run_python(
            """
            import sys, warnings
            for tool in range(6):
                sys.monitoring.use_tool_id(tool, f"tool {tool}")
            from callpyback.core.variable_extraction import TracingVariableExtractor
            def function(x):
                return 1 // x
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                binding = TracingVariableExtractor().bind(function, ("x",), "function")
            state = binding.begin(); function(1); print(binding.returned(state))
            try:
                state = binding.begin(); function(0)
            except ZeroDivisionError as error:
                print(binding.raised(state, error))
            print(len(caught), "no way to see its return" in str(caught[0].message))
            """
        )
        assert printed.splitlines() == ["{'x': NullVariable}", "{'x': 0}", "1 True"]

    def test_forks_capture_too(self):
        printed = run_python(
            """
            import os
            from callpyback.core.variable_extraction import TracingVariableExtractor
            def function(x):
                return x
            def call(binding, function):
                state = binding.begin(); function(5); return binding.returned(state)
            binding = TracingVariableExtractor().bind(function, ("x",), "function")
            call(binding, function)
            child = os.fork()
            if not child:
                def later(x):
                    return x
                new = TracingVariableExtractor().bind(later, ("x",), "function")
                os._exit(0 if call(binding, function) == call(new, later) == {"x": 5} else 1)
            print(os.waitpid(child, 0)[1], call(binding, function))
            """
        )
        assert printed == "0 {'x': 5}"

    def test_bindings_travel_by_cloudpickle(self):
        cloudpickle = pytest.importorskip("cloudpickle")

        def make(step):
            def function(x):
                y = x + step
                return y

            return watch(function, "y")

        decorated = make(3)
        decorated(1)
        code = "from callpyback.core import variable_extraction"
        twin = cloudpickle.loads(cloudpickle.dumps(decorated))
        assert (twin(2), twin.seen) == (5, [{"y": 4}, {"y": 5}])
        assert decorated.seen == [{"y": 4}]
        data = cloudpickle.dumps(decorated)
        printed = run_python(f"{code}\nimport pickle\nf = pickle.loads({data!r})\nprint(f(4), f.seen[-1])")
        assert printed == "7 {'y': 7}"

    def test_bindings_of_every_sort_copy(self):
        def function(x):
            return x

        class Own:
            setup_extraction = contextlib.nullcontext

            def extract_variables(self, names):
                return dict.fromkeys(names, 0)

        for extractor, expected in [
            (TracingVariableExtractor(), 7),
            (NoOpVariableExtractor(), NullVariable),
            (Own(), 0),
        ]:
            binding = copy.copy(bind_extractor(extractor, function, ("x",), "function"))
            state = binding.begin()
            function(7)
            assert binding.returned(state) == {"x": expected}


@pytest.mark.usefixtures("no_gc")
class TestMemory:
    def test_nothing_is_kept_after_a_return(self):
        def function(fails):
            thing, other = Thing(), [fails]
            alive.append(weakref.ref(thing))
            if fails:
                raise ValueError
            return len(other)

        alive = []
        decorated = watch(function, "thing", "other")
        decorated(fails=False)
        decorated.seen.clear()
        assert alive.pop()() is None

    def test_nothing_is_kept_after_a_raise(self):
        def function():
            thing = Thing()
            alive.append(weakref.ref(thing))
            raise ValueError

        alive = []
        decorated = watch(function, "thing")
        with contextlib.suppress(ValueError):
            decorated()
        decorated.seen.clear()
        assert alive.pop()() is None

    @pytest.mark.parametrize("fails", [False, True])
    @pytest.mark.parametrize("asks", [False, True])
    def test_a_user_s_extractor_keeps_nothing(self, asks, fails):
        class Own:
            def __init__(self):
                self.setup_extraction = built_in.setup_extraction

            def extract_variables(self, names):
                return built_in.extract_variables(names) if asks else {}

        def function():
            thing = Thing()
            alive.append(weakref.ref(thing))
            if fails:
                raise ValueError

        alive, built_in = [], TracingVariableExtractor()
        decorated = watch(function, "thing", extractor=Own())
        with contextlib.suppress(ValueError):
            decorated()
        assert isinstance(decorated.seen.pop()["thing"], Thing if asks else type(NullVariable))
        assert alive.pop()() is None

    def test_an_undecorated_call_after_a_decorated_one_leaves_nothing(self):
        def function():
            thing = Thing()
            alive.append(weakref.ref(thing))

        alive, context = [], contextvars.Context()
        decorated = watch(function, "thing")
        context.run(decorated)
        decorated.seen.clear()
        context.run(function)
        assert [reference() for reference in alive] == [None, None]

    def test_a_variable_not_asked_for_is_not_in_the_answer_s_keeping(self):
        def function():
            thing, x = Thing(), 1
            alive.append(weakref.ref(thing))
            return x

        alive = []
        decorated = watch(function, "x")
        decorated()
        assert decorated.seen == [{"x": 1}]
        assert alive.pop()() is None

    def test_a_context_copied_during_the_call_keeps_nothing(self):
        def function(nested):
            thing = Thing()
            alive.append(weakref.ref(thing))
            contexts.append(contextvars.copy_context())
            if nested:
                decorated(nested=False)
            return contexts

        alive, contexts = [], []
        decorated = watch(watch(function, "thing"), "thing")
        decorated(nested=True)
        contexts[-1].run(function, nested=False)
        decorated.seen.clear()
        decorated.__wrapped__.seen.clear()
        assert [reference() for reference in alive] == [None] * 3

    def test_recursion_keeps_nothing_of_a_call_that_has_ended(self):
        def function(n):
            thing = Thing()
            alive.append(weakref.ref(thing))
            if n:
                decorated(n - 1)
                decorated.seen.clear()
                counts.append(sum(reference() is not None for reference in alive))
            return thing

        alive, counts = [], []
        decorated = watch(function, "thing")
        decorated(3)
        assert counts == [3, 2, 1]

    @pytest.mark.parametrize("end", ["return", "raise", "close", "drop"])
    def test_generators_keep_nothing(self, end):
        def function():
            thing = Thing()
            alive.append(weakref.ref(thing))
            yield thing
            if end == "raise":
                raise ValueError

        alive = []
        decorated = watch(function, "thing", kind=KINDS["generator"])
        running = decorated()
        next(running)
        if end == "close":
            running.close()
        elif end != "drop":
            with contextlib.suppress(ValueError, StopIteration):
                next(running)
        del running
        assert len(decorated.seen) == 1
        decorated.seen.clear()
        assert alive.pop()() is None

    @pytest.mark.parametrize("foreign", [False, True])
    @pytest.mark.parametrize("fails", [False, True])
    def test_coroutines_keep_nothing(self, fails, foreign):
        async def function(argument):
            thing = Thing()
            alive.extend([weakref.ref(argument), weakref.ref(thing)])
            contexts.append(contextvars.copy_context())
            if fails:
                raise ValueError

        alive, contexts = [], []
        decorated = watch(passing_async(function) if foreign else function, "thing", kind=KINDS["coroutine"])
        with contextlib.suppress(StopIteration, ValueError):
            decorated(Thing()).send(None)
        assert len(decorated.seen) == 1
        decorated.seen.clear()
        assert [reference() for reference in alive] == [None, None]

    def test_recursive_coroutines_keep_nothing_of_one_that_has_ended(self):
        async def function(n):
            thing = Thing()
            alive.append(weakref.ref(thing))
            if n:
                await decorated(n - 1)
                decorated.seen.clear()
                counts.append(sum(reference() is not None for reference in alive))
            return thing

        alive, counts = [], []
        decorated = watch(passing_async(function), "thing", kind=KINDS["coroutine"])
        with contextlib.suppress(StopIteration):
            decorated(3).send(None)
        assert counts == [3, 2, 1]

    def test_a_decorated_function_is_freed_with_its_wrapper(self):
        def function(x):
            return x

        decorated = watch(function, "x")
        decorated(1)
        reference = weakref.ref(function)
        del function, decorated
        assert reference() is None

    def test_a_function_that_refers_to_its_own_wrapper_is_collected(self):
        def make():
            @watching("n")
            def function(n):
                return function(n - 1) if n else 0

            function(2)
            return weakref.ref(function.__wrapped__)

        reference = make()
        gc.collect()
        assert reference() is None
