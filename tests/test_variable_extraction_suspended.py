"""Captured locals of coroutines, generators and async generators, however they are interleaved and ended."""
# ruff: noqa: RET504 - local variables are the subject

from __future__ import annotations

import asyncio
import contextlib
import functools
import types
from concurrent.futures import ThreadPoolExecutor

import pytest

from callpyback.core.variable_extraction import (
    NullVariable,
    TracingVariableExtractor,
)
from watching import (
    KINDS,
    passing_async,
    passing_generator,
    watch,
    watching,
)


class TestCoroutines:
    def test_values_at_the_end(self):
        @watching("x", "y", "later", kind=KINDS["coroutine"])
        async def function(x):
            y = x
            await asyncio.sleep(0)
            y += 1
            if x < 0:
                raise ValueError
            later = True
            return later

        async def main():
            await function(1)
            with pytest.raises(ValueError):
                await function(-1)

        asyncio.run(main())
        assert function.seen == [{"x": 1, "y": 2, "later": True}, {"x": -1, "y": 0, "later": NullVariable}]

    @pytest.mark.parametrize("layer", [lambda f: f, passing_async, watching("x", kind=KINDS["coroutine"])])
    def test_two_hundred_interleaved_tasks(self, layer):
        @watching("x", "y", kind=KINDS["coroutine"])
        @layer
        async def function(x):
            y = [x]
            for _ in range(x % 5):
                await asyncio.sleep(0)
            y.append(x)
            if x % 7 == 0:
                raise ValueError
            return y

        async def main():
            await asyncio.gather(*map(function, range(200)), return_exceptions=True)

        asyncio.run(main())
        assert sorted(function.seen, key=lambda seen: seen["x"]) == [{"x": x, "y": [x, x]} for x in range(200)]

    def test_cancelled_while_suspended(self):
        @watching("x", "y", kind=KINDS["coroutine"])
        async def function(x):
            y = x
            await asyncio.Event().wait()
            y = "never"
            return y

        async def main():
            task = asyncio.create_task(function(1))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        assert function.seen == [{"x": 1, "y": 1}]

    def test_closed_while_suspended_has_none(self):
        @watching("x", kind=KINDS["coroutine"])
        async def function(x):
            await asyncio.sleep(0)
            return x

        running = function(1)
        running.send(None)
        running.close()
        assert function.seen == [{"x": NullVariable}]

    def test_recursion_and_child_tasks(self):
        @watching("n", kind=KINDS["coroutine"])
        @passing_async
        async def function(n):
            if n:
                await asyncio.gather(function(n - 1), asyncio.create_task(function(n - 1)))
            return n

        asyncio.run(function(3))
        assert sorted(seen["n"] for seen in function.seen) == [0] * 8 + [1] * 4 + [2] * 2 + [3]

    def test_a_decorator_that_gives_the_coroutine_a_task(self):
        def in_task(function):
            @functools.wraps(function)
            async def wrapper(*args):
                return await asyncio.create_task(function(*args))

            return wrapper

        @watching("x", "y", kind=KINDS["coroutine"])
        @in_task
        async def function(x):
            await asyncio.sleep(0)
            y = x + 1
            return y

        async def main():
            await asyncio.gather(*map(function, range(20)))

        asyncio.run(main())
        assert sorted(function.seen, key=lambda seen: seen["x"]) == [{"x": x, "y": x + 1} for x in range(20)]

    @pytest.mark.parametrize("layer", [lambda f: f, passing_async])
    def test_stepped_by_hand_in_one_context(self, layer):
        @types.coroutine
        def pause():
            yield

        @watching("x", kind=KINDS["coroutine"])
        @layer
        async def function(x):
            await pause()
            x += 10
            return x

        running = [function(1), function(2), function(3)]
        for coroutine in running:
            coroutine.send(None)
        for coroutine in (running[1], running[0], running[2]):
            with pytest.raises(StopIteration):
                coroutine.send(None)
        assert function.seen == [{"x": 12}, {"x": 11}, {"x": 13}]

    def test_one_whose_body_is_skipped_gets_nothing_of_an_interleaved_one(self):
        @types.coroutine
        def pause():
            yield

        def skipping(function):
            @functools.wraps(function)
            async def wrapper(x):
                await (pause() if x == "skipped" else function(x))

            return wrapper

        @watching("x", kind=KINDS["coroutine"])
        @skipping
        async def function(x):
            await pause()
            return x

        runs, skipped = function("runs"), function("skipped")
        runs.send(None)
        skipped.send(None)
        for coroutine in (runs, skipped):
            with pytest.raises(StopIteration):
                coroutine.send(None)
        assert function.seen == [{"x": "runs"}, {"x": NullVariable}]

    @pytest.mark.parametrize("layer", [lambda f: f, passing_async])
    def test_finished_in_another_thread_and_context(self, layer):
        @types.coroutine
        def pause():
            yield

        @watching("x", kind=KINDS["coroutine"])
        @layer
        async def function(x):
            await pause()
            return x

        def finish(coroutine):
            with contextlib.suppress(StopIteration):
                coroutine.send(None)

        running = function(1)
        running.send(None)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(finish, running).result()
        assert function.seen == [{"x": 1}]

    def test_other_awaitables_have_none(self):
        def function(x):
            return asyncio.sleep(0, x)

        async def main():
            binding = TracingVariableExtractor().bind(function, ("x",), KINDS["coroutine"])
            for inner in (asyncio.ensure_future(function(1)), function(2)):
                state = binding.begin(inner)
                await inner
                assert binding.returned(state) == {"x": NullVariable}

        asyncio.run(main())


class TestGenerators:
    def test_values_when_exhausted_and_when_raising(self):
        @watching("total", kind=KINDS["generator"])
        def function(fails):
            total = 0
            for n in range(3):
                total += n
                yield total
            total = "end"
            if fails:
                raise ValueError
            return total

        assert list(function(fails=False)) == [0, 1, 3]
        with pytest.raises(ValueError):
            list(function(fails=True))
        assert function.seen == [{"total": "end"}, {"total": "end"}]

    def test_send_and_throw_reach_the_end(self):
        @watching("got", kind=KINDS["generator"])
        def function():
            got = []
            while len(got) < 2:
                try:
                    got.append((yield))
                except KeyError as error:
                    got.append(error.args[0])
            return got

        running = function()
        next(running)
        running.send("sent")
        with pytest.raises(StopIteration):
            running.throw(KeyError("thrown"))
        running = function()
        next(running)
        with pytest.raises(ZeroDivisionError):
            running.throw(ZeroDivisionError)
        assert function.seen == [{"got": ["sent", "thrown"]}, {"got": []}]

    @pytest.mark.parametrize("layer", [lambda f: f, passing_generator])
    @pytest.mark.parametrize("end", ["close", "drop", "throw GeneratorExit"])
    def test_closed_early_has_none_and_its_frame_is_not_read(self, end, layer):
        @watching("x", "y", kind=KINDS["generator"])
        @layer
        def function(x):
            y = [x]
            yield y
            yield y

        running = function(1)
        next(running)
        if end == "close":
            running.close()
        elif end == "drop":
            del running
        else:
            with pytest.raises(GeneratorExit):
                running.throw(GeneratorExit)
        assert function.seen == [{"x": NullVariable, "y": NullVariable}]

    def test_a_generator_exit_told_as_an_error_reads_no_frame(self):
        def function(x):
            yield x

        binding = TracingVariableExtractor().bind(function, ("x",), KINDS["generator"])
        inner = function(1)
        state = binding.begin(inner)
        next(inner)
        inner.close()
        assert binding.raised(state, GeneratorExit()) == {"x": NullVariable}

    @pytest.mark.parametrize("layer", [lambda f: f, passing_generator, watching("x", kind=KINDS["generator"])])
    def test_interleaved_ones_keep_apart(self, layer):
        @watching("x", "y", kind=KINDS["generator"])
        @layer
        def function(x):
            y = x
            for _ in range(x):
                yield y
            y += 100
            return y

        running = [function(x) for x in (3, 1, 2, 1)]
        while running:
            running = [one for one in running if next(one, None) is not None]
        assert function.seen == [{"x": x, "y": x + 100} for x in (1, 1, 2, 3)]

    def test_recursive_generators(self):
        @watching("n", kind=KINDS["generator"])
        @passing_generator
        def function(n):
            if n:
                yield from function(n - 1)
            yield n

        assert list(function(3)) == [0, 1, 2, 3]
        assert function.seen == [{"n": n} for n in range(4)]

    def test_a_generator_consumed_by_a_decorator(self):
        def listed(function):
            @functools.wraps(function)
            def wrapper(*args):
                return list(function(*args))

            return wrapper

        @listed
        @watching("n", kind=KINDS["generator"])
        @passing_generator
        def function(n):
            yield n
            n += 1

        decorated = watch(function, "n")
        assert decorated(1) == [1]
        assert decorated.seen == function.__wrapped__.seen == [{"n": 2}]


class TestAsyncGenerators:
    @staticmethod
    def make():
        @watching("x", kind=KINDS["async generator"])
        async def function(x):
            while x < 3:
                await asyncio.sleep(0)
                try:
                    sent = yield x
                except KeyError:
                    sent = 1
                x += sent or 1
                if x == 100:
                    raise ValueError

        return function

    def test_exhausted_sent_to_thrown_at_and_raising(self):
        async def main():
            assert [x async for x in function(0)] == [0, 1, 2]
            running = function(0)
            await anext(running)
            await running.asend(1)
            await running.athrow(KeyError)
            with pytest.raises(StopAsyncIteration):
                await running.asend(5)
            running = function(0)
            await anext(running)
            with pytest.raises(ValueError):
                await running.asend(100)
            running = function(2)
            await anext(running)
            with pytest.raises(ZeroDivisionError):
                await running.athrow(ZeroDivisionError)

        function = self.make()
        asyncio.run(main())
        assert function.seen == [{"x": 3}, {"x": 7}, {"x": 100}, {"x": 2}]

    def test_closed_early_has_none(self):
        async def main():
            running = function(0)
            await anext(running)
            await running.aclose()
            dropped = function(0)
            await anext(dropped)
            del dropped
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        function = self.make()
        asyncio.run(main())
        assert function.seen == [{"x": NullVariable}, {"x": NullVariable}]
