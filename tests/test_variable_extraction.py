"""Captured locals of plain functions: the right call's, at its end."""
# ruff: noqa: RET504 - local variables are the subject

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import functools
import pickle
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest

from callpyback.core.variable_extraction import (
    NullVariable,
    TracingVariableExtractor,
    bind_extractor,
)
from callpyback.core.variable_extraction.target import find_target
from watching import (
    Thing,
    passing,
    watch,
    watching,
)


class TestNullVariable:
    def test_is_falsy_and_shows_its_name(self):
        assert not NullVariable
        assert repr(NullVariable) == "NullVariable"

    def test_is_its_own_only_instance(self):
        assert isinstance(NullVariable, NullVariable)
        assert not isinstance(None, NullVariable)

    def test_cannot_be_instantiated_or_subclassed(self):
        with pytest.raises(TypeError, match="without the parentheses"):
            NullVariable()
        with pytest.raises(TypeError, match="cannot be subclassed"):
            type("Other", (NullVariable,), {})

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_pickles_to_itself(self, protocol):
        assert pickle.loads(pickle.dumps({"x": NullVariable}, protocol)) == {"x": NullVariable}

    def test_copies_to_itself(self):
        assert copy.copy(NullVariable) is copy.deepcopy([NullVariable])[0] is NullVariable


class TestTarget:
    """The innermost Python function of any callable."""

    def test_partials_methods_and_instances_lead_to_their_function(self):
        class Callable:
            def __call__(self): ...
            def method(self): ...

            static = staticmethod(lambda: 0)

        for found, expected in [
            (functools.partial(functools.partial(watch), 1), watch),
            (Callable(), Callable.__call__),
            (Callable().method, Callable.method),
            (Callable.__dict__["static"], Callable.static),
        ]:
            target = find_target(found)
            assert (target.function, target.is_direct) == (expected, True)

    def test_wrapped_chains_are_followed_to_the_end(self):
        def inner(): ...

        target = find_target(functools.lru_cache(passing(passing(inner))))
        assert (target.function, target.is_direct) == (inner, False)

    def test_a_python_wrapper_of_a_c_function_is_the_innermost_python_function(self):
        wrapper = functools.wraps(len)(lambda value: value)
        assert find_target(wrapper).function is wrapper

    @pytest.mark.parametrize("nothing", [len, int, "".join, functools.partial(print), Thing, 3])
    def test_without_python_code_there_is_none(self, nothing):
        assert find_target(nothing) is None

    def test_hostile_objects_end_the_search(self):
        class Endless:
            def __getattr__(self, name):
                return self

        class Raising:
            def __getattr__(self, name):
                raise RuntimeError(name)

        def own(): ...

        own.__wrapped__ = own
        assert find_target(Endless()) is None
        assert find_target(Raising()) is None
        assert find_target(own).function is own

    def test_names_of_a_c_function_are_warned_about_once_at_the_decorating_line(self):
        with pytest.warns(RuntimeWarning, match=r"\['n', 'x'\].*'len'") as caught:
            binding = bind_extractor(TracingVariableExtractor(), len, ("n", "x"), "function")
        assert [warning.filename for warning in caught] == [__file__]
        assert binding.returned(binding.begin()) == {"n": NullVariable, "x": NullVariable}

    def test_without_names_nothing_is_bound_nor_warned_about(self):
        def function():
            return 1

        code = function.__code__
        assert watch(len)("four") == 4
        assert watch(function)() == 1
        assert function.__code__ is code


class TestPlainFunctions:
    def test_arguments_locals_and_unknown_names(self):
        @watching("first", "rest", "options", "total", "nobody", "len")
        def add(first, *rest, **options):
            total = first + sum(rest) + len(options)
            return total

        assert add(1, 2, 3, four=4) == 7
        assert add.seen == [
            {
                "first": 1,
                "rest": (2, 3),
                "options": {"four": 4},
                "total": 7,
                "nobody": NullVariable,
                "len": NullVariable,
            }
        ]

    def test_values_are_those_at_the_return(self):
        @watching("x", "y")
        def function(leave):
            x = 1
            try:
                x = 2
                if leave:
                    return x
            finally:
                x, y = 3, [0]
            y.append(x)
            return y

        function(True)
        function(False)
        assert function.seen == [{"x": 3, "y": [0]}, {"x": 3, "y": [0, 3]}]

    def test_deleted_and_unassigned_variables_have_no_value(self):
        @watching("deleted", "never", "error", "kept")
        def function():
            deleted = kept = 1
            del deleted
            try:
                raise ValueError
            except ValueError:
                pass
            if not kept:
                never = 1  # noqa: F841 - the name is what matters

        function()
        assert function.seen == [{"deleted": NullVariable, "never": NullVariable, "error": NullVariable, "kept": 1}]

    def test_cells_free_variables_and_the_class_cell(self):
        class Base:
            def method(self):
                return 1

        class Child(Base):
            @watching("cell", "base", "__class__")
            def method(self, offset=None):
                cell = super().method()

                def rebind():
                    nonlocal cell
                    cell += 10

                rebind()
                return offset or base or rebind

        base = 5
        again = Child().method()
        assert again == 5
        assert Child.method.seen == [{"cell": 11, "base": 5, "__class__": Child}]

    def test_comprehensions_and_generator_expressions_don_t_mix_in(self):
        @watching("i", "squares", "total")
        def function():
            i = "mine"
            squares = [i * i for i in range(4)]
            total = sum(i for i in squares)
            return i, total

        assert function() == ("mine", 14)
        assert function.seen == [{"i": "mine", "squares": [0, 1, 4, 9], "total": 14}]

    def test_a_helper_s_locals_don_t_mix_in(self):
        def helper():
            x = "helper's"
            return x

        @watching("x")
        def function():
            x = "mine"
            helper()
            return x

        function()
        assert function.seen == [{"x": "mine"}]

    def test_nested_decorated_functions_with_the_same_names(self):
        @watching("x")
        def inner(x):
            if x < 0:
                raise ValueError(x)
            return x

        @watching("x")
        def outer(x):
            inner(x + 1)
            with contextlib.suppress(ValueError):
                inner(-x)
            return inner(x + 2)

        assert outer(10) == 12
        assert inner.seen == [{"x": 11}, {"x": -10}, {"x": 12}]
        assert outer.seen == [{"x": 10}]

    def test_recursion_through_the_decorated_name(self):
        @watching("n", "below")
        def count(n):
            below = count(n - 1) if n else 0
            return below + 1

        assert count(3) == 4
        assert count.seen == [{"n": n, "below": n} for n in range(4)]

    def test_recursion_beneath_the_decorator(self):
        def count(n):
            below = count(n - 1) if n else 0
            if below == 2 and fails:
                raise ValueError
            return below + 1

        decorated = watch(count, "n", "below")
        fails = False
        decorated(3)
        fails = True
        with pytest.raises(ValueError):
            decorated(5)
        assert decorated.seen == [{"n": 3, "below": 3}, {"n": 5, "below": NullVariable}]

    def test_closures_share_code_but_not_values(self):
        def make(step, inner=None):
            def function(x):
                y = x + step
                if inner:
                    inner(100)
                return y

            return function

        plain = make(1)
        one = watch(make(10), "x", "y")
        two = watch(make(20, one), "x", "y")
        three = watch(make(30, plain), "x", "y")
        assert (two(1), three(2), one(3)) == (21, 32, 13)
        assert two.seen == [{"x": 1, "y": 21}]
        assert three.seen == [{"x": 2, "y": 32}]
        assert one.seen == [{"x": 100, "y": 110}, {"x": 3, "y": 13}]

    def test_threads_see_their_own(self):
        @watching("mine", "also")
        def function(mine):
            barrier.wait()
            also = mine
            barrier.wait()
            return also

        barrier = threading.Barrier(8)
        with ThreadPoolExecutor(8) as pool:
            assert sorted(pool.map(function, range(8))) == list(range(8))
        assert sorted(seen["mine"] for seen in function.seen) == list(range(8))
        assert all(seen["mine"] == seen["also"] for seen in function.seen)

    def test_a_call_handed_to_a_thread_with_its_context(self):
        def function(x):
            y = x + 1
            if x < 0:
                raise ValueError
            return y

        binding = TracingVariableExtractor().bind(function, ("y",), "function")
        with ThreadPoolExecutor(1) as pool:
            state = binding.begin()
            pool.submit(contextvars.copy_context().run, function, 1).result()
            assert binding.returned(state) == {"y": 2}
            state = binding.begin()
            with pytest.raises(ValueError) as caught:
                pool.submit(function, -1).result()
            assert binding.raised(state, caught.value) == {"y": 0}

    def test_greenlets_see_their_own(self):
        greenlet = pytest.importorskip("greenlet")

        @watching("mine", "also")
        def function(mine):
            also = [mine]
            main.switch()
            also.append(mine)
            return also

        main = greenlet.getcurrent()
        running = [greenlet.greenlet(function) for _ in range(4)]
        for number, one in enumerate(running):
            one.gr_context = contextvars.copy_context()
            one.switch(number)
        for one in (running[2], running[0], running[3], running[1]):
            one.switch()
        assert function.seen == [{"mine": n, "also": [n, n]} for n in (2, 0, 3, 1)]

    def test_each_answer_is_a_dict_of_its_own(self):
        function = watch(lambda x: x, "x")
        function(1)
        function.seen[0]["x"] = "changed"
        function(1)
        assert function.seen == [{"x": "changed"}, {"x": 1}]

    def test_functions_beginning_with_a_loop_and_lambdas(self):
        @watching("n")
        def function(n):
            while True:
                n -= 1
                if n < 0:
                    return n

        function(3)
        walrus = watch(lambda x: (y := x + 1) * y, "x", "y")
        walrus(2)
        assert (function.seen, walrus.seen) == ([{"n": -1}], [{"x": 2, "y": 3}])

    def test_large_functions(self):
        lines = [f"    v{n} = {n + 1000}.5 if v{n - 1} else {{}}" for n in range(1, 400)]
        namespace = {}
        exec("\n".join(["def function(v0):", *lines, "    return v399"]), namespace)
        function = watch(namespace["function"], "v0", "v300", "v399")
        assert function(1) == 1399.5
        assert function.seen == [{"v0": 1, "v300": 1300.5, "v399": 1399.5}]

    def test_defaults_changed_after_decoration_apply(self):
        def function(x=1):
            return x

        decorated = watch(function, "x")
        function.__defaults__ = (2,)
        assert decorated() == 2
        assert decorated.seen == [{"x": 2}]

    def test_a_finaliser_that_calls_the_function_again_changes_nothing(self):
        class Calls:
            def __del__(self):
                function("finaliser's")

        @watching("x")
        def function(x):
            dies_with_the_frame = Calls() if x == "mine" else None
            return x if dies_with_the_frame else None

        stacked = watch(function, "x")
        stacked("mine")
        assert function.seen == [{"x": "finaliser's"}, {"x": "mine"}]
        assert stacked.seen == [{"x": "mine"}]

    def test_deep_recursion_is_as_deep_as_ever(self):
        @watching("n")
        def down(n):
            return down(n - 1) if n else 0

        assert down(sys.getrecursionlimit() // 4) == 0
        assert [seen["n"] for seen in down.seen] == list(range(sys.getrecursionlimit() // 4 + 1))

    def test_a_loop_run_inside_a_plain_function(self):
        @watching("x")
        def function(x):
            async def main():
                x = "inner"
                return x

            asyncio.run(main())
            return x

        function(1)
        assert function.seen == [{"x": 1}]


class TestFailures:
    def test_variables_of_the_raising_frame(self):
        def helper(x):
            raise KeyError(x)

        @watching("x", "y", "later")
        def function(x):
            y = x + 1
            helper("helper's")
            later = 1
            return y, later

        with pytest.raises(KeyError):
            function(1)
        assert function.seen == [{"x": 1, "y": 2, "later": NullVariable}]

    @pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
    def test_any_exception(self, kind):
        @watching("x")
        def function():
            x = 1
            raise kind(x)

        with pytest.raises(kind):
            function()
        assert function.seen == [{"x": 1}]

    def test_in_recursion_each_call_has_its_own(self):
        @watching("n")
        def function(n):
            if not n:
                raise ValueError
            function(n - 1)

        with pytest.raises(ValueError):
            function(3)
        assert function.seen == [{"n": 0}, {"n": 1}, {"n": 2}, {"n": 3}]

    def test_called_inside_an_except_block(self):
        @watching("x")
        def function(x, fails=False):
            if fails:
                raise KeyError
            return x

        try:
            function("outside", fails=True)
        except KeyError:
            function("inside")
            with contextlib.suppress(KeyError):
                function("fails inside", fails=True)
        assert function.seen == [{"x": "outside"}, {"x": "inside"}, {"x": "fails inside"}]

    def test_an_exception_handled_inside_is_a_return(self):
        @watching("x")
        def function():
            try:
                raise ValueError
            except ValueError:
                x = "handled"
                return x

        function()
        assert function.seen == [{"x": "handled"}]

    def test_arguments_that_don_t_fit(self):
        @watching("x")
        def function(x):
            return x

        with pytest.raises(TypeError, match="missing 1 required"):
            function()
        assert function.seen == [{"x": NullVariable}]
        assert function(2) == 2
        assert function.seen[1:] == [{"x": 2}]

    def test_traceback_and_exception_are_as_without(self):
        def function():
            x = 1
            try:
                x / 0
            finally:
                x = 2

        def report(call):
            try:
                call()
            except ZeroDivisionError as error:
                frames = traceback.extract_tb(error.__traceback__)
                return [(f.name, f.lineno, f.colno, f.end_colno, f.line) for f in frames if f.name == "function"], (
                    error.__context__,
                    error.__cause__,
                )

        before = report(function)
        assert report(watch(function, "x")) == before
