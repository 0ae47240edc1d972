"""Captured locals behind other decorators, and behind several of our own."""
# ruff: noqa: RET504 - local variables are the subject

from __future__ import annotations

import asyncio
import contextlib
import functools

import pytest

from callpyback.core.variable_extraction import (
    NullVariable,
)
from watching import (
    passing,
    watch,
    watching,
)


class TestOtherDecorators:
    def test_values_reach_through_a_chain(self):
        @watching("x", "y")
        @passing
        @passing
        def function(x):
            y = -x
            if x > 1:
                raise ValueError
            return y

        function(1)
        with pytest.raises(ValueError):
            function(2)
        assert function.seen == [{"x": 1, "y": -1}, {"x": 2, "y": -2}]

    def test_an_answer_from_a_cache_has_none(self):
        @watching("x")
        @functools.lru_cache
        def function(x):
            return x

        function(1)
        function(1)
        assert function.seen == [{"x": 1}, {"x": NullVariable}]

    def test_each_of_two_stacked_captures_its_own_names(self):
        @watching("a")
        @watching("a", "b")
        @passing
        @watching("c")
        def function(a):
            b = a + 1
            c = b + 1
            if a < 0:
                raise ValueError
            return c

        layers = [function, function.__wrapped__, function.__wrapped__.__wrapped__.__wrapped__]
        function(1)
        with pytest.raises(ValueError):
            function(-1)
        assert [layer.seen for layer in layers] == [
            [{"a": 1}, {"a": -1}],
            [{"a": 1, "b": 2}, {"a": -1, "b": 0}],
            [{"c": 3}, {"c": 1}],
        ]

    def test_a_changed_answer_of_an_inner_layer_changes_no_other(self):
        def spoiling(function):
            @functools.wraps(function)
            def wrapper(*args):
                function(*args)
                function.seen[-1]["a"] = "changed"

            return wrapper

        @watching("a")
        @spoiling
        @watching("a")
        def function(a):
            return a

        function(1)
        assert function.seen == [{"a": 1}]

    def test_recursion_through_stacked_decorators(self):
        @watching("n", "below")
        @watching("below")
        def count(n):
            below = count(n - 1) if n else 0
            return below + 1

        count(2)
        assert count.seen == [{"n": n, "below": n} for n in range(3)]
        assert count.__wrapped__.seen == [{"below": n} for n in range(3)]

    def test_recursion_through_another_s_decorator(self):
        @watching("n", "below")
        @passing
        def count(n):
            below = count(n - 1) if n else 0
            return below + 1

        count(2)
        assert count.seen == [{"n": n, "below": n} for n in range(3)]

    def test_a_retry_shows_the_last_attempt(self):
        def retry(function):
            @functools.wraps(function)
            def wrapper(*args):
                with contextlib.suppress(ValueError):
                    return function(*args)
                return function(*args)

            return wrapper

        def function(attempts):
            attempt = attempts.pop()
            if attempt == "fails":
                raise ValueError
            return function(attempts) if attempt == "recurses" else attempt

        decorated = watch(retry(function), "attempt")
        decorated(["good", "fails"])
        decorated(["good", "recurses", "fails", "recurses"])
        decorated(["good", "recurses", "recurses"])
        assert decorated.seen == [{"attempt": "good"}, {"attempt": "recurses"}, {"attempt": "recurses"}]

    def test_a_swallowed_failure_has_none(self):
        def swallow(function):
            @functools.wraps(function)
            def wrapper(*args):
                with contextlib.suppress(ValueError):
                    function(*args)

            return wrapper

        @swallow
        def function(x):
            if x:
                raise ValueError
            return x

        decorated = watch(function, "x")
        decorated(0)
        decorated(1)
        assert decorated.seen == [{"x": 0}, {"x": NullVariable}]

    def test_a_coroutine_run_by_a_synchronous_decorator(self):
        def synchronous(function):
            @functools.wraps(function)
            def wrapper(*args):
                return asyncio.run(function(*args))

            return wrapper

        @synchronous
        async def function(x):
            await asyncio.sleep(0)
            y = x + 1
            return y

        decorated = watch(function, "y")
        decorated(1)
        assert decorated.seen == [{"y": 2}]

    def test_a_generator_that_outlives_the_call_has_none(self):
        @watching("x")
        @contextlib.contextmanager
        def function(x):
            yield x
            x = 2

        with function(1):
            assert function.seen == [{"x": NullVariable}]

    def test_wrapt_proxies(self):
        wrapt = pytest.importorskip("wrapt")

        @wrapt.decorator
        def foreign(wrapped, instance, args, kwargs):
            return wrapped(*args, **kwargs)

        class Owner:
            @foreign
            def method(self, x):
                y = x + 1
                return y

        decorated = watch(Owner().method, "y")
        decorated(1)
        assert decorated.seen == [{"y": 2}]
