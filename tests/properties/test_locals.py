"""No bleed: whatever calls what, in whichever order, each call's captured locals are its own."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from watching import KINDS, passing, passing_async, passing_generator, watch

# Threads and loops take what time they take, and a busy machine is slow at drawing trees.
steady = partial(settings, deadline=None, suppress_health_check=[HealthCheck.too_slow])

LAYERS = {
    "function": [lambda function: function, passing, lambda function: watch(function, "mine")],
    "coroutine": [
        lambda function: function,
        passing_async,
        lambda function: watch(function, "mine", kind=KINDS["coroutine"]),
    ],
    "generator": [
        lambda function: function,
        passing_generator,
        lambda function: watch(function, "mine", kind=KINDS["generator"]),
    ],
}


def layered(function, kind, layer):
    return watch(LAYERS[kind][layer](function), "mine", "done", kind=KINDS[kind])


# One call: whom it calls of three functions, whether it raises, whether its caller catches that, and what it calls.
calls = st.recursive(
    st.tuples(st.integers(0, 2), st.booleans(), st.just(())),
    lambda inner: st.tuples(st.integers(0, 2), st.booleans(), st.lists(inner, max_size=3).map(tuple)),
    max_leaves=12,
)


class Expected:
    """Numbers the calls as they begin, and notes what each must have captured when it ends."""

    def __init__(self, functions):
        self.number = 0
        self.seen = [[] for _ in range(functions)]

    def begin(self):
        self.number += 1
        return self.number

    def end(self, which, mine, done):
        self.seen[which].append({"mine": mine, "done": done})


@steady()
@given(calls, st.tuples(*[st.integers(0, 2)] * 3))
def test_nested_calls_capture_their_own(tree, layers):
    expected = Expected(3)

    def make(which):
        def function(tree):
            mine = expected.begin()
            done = []
            _, raises, inner = tree
            for call in inner:
                with contextlib.suppress(KeyError):
                    functions[call[0]](call)
                done.append(call[0])
            expected.end(which, mine, done)
            if raises:
                raise KeyError(mine)
            return mine

        return layered(function, "function", layers[which])

    functions = [make(which) for which in range(3)]
    with contextlib.suppress(KeyError):
        functions[tree[0]](tree)
    assert [function.seen for function in functions] == expected.seen


@steady(max_examples=30)
@given(st.lists(calls, min_size=2, max_size=4), st.tuples(*[st.integers(0, 2)] * 3))
def test_threads_capture_their_own(trees, layers):
    def make(which):
        def function(tree):
            mine = tree
            done = [functions[call[0]](call) for call in tree[2]]
            return mine, done

        return layered(function, "function", layers[which])

    def count(tree):
        return sum(map(count, tree[2]), 1)

    functions = [make(which) for which in range(3)]
    with ThreadPoolExecutor(len(trees)) as pool:
        results = list(pool.map(lambda tree: functions[tree[0]](tree), trees))
    seen = [one for function in functions for one in function.seen]
    assert len(seen) == sum(map(count, trees))
    assert all(len(one["done"]) == len(one["mine"][2]) for one in seen)
    assert all(tuple(mine for mine, _ in one["done"]) == one["mine"][2] for one in seen)
    assert [mine for mine, _ in results] == trees


@steady()
@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.data(), st.integers(0, 2))
def test_generators_stepped_in_any_order_capture_their_own(lengths, data, layer):
    def function(number, length):
        mine = number
        done = 0
        for step in range(length):
            yield mine
            done = step + 1  # noqa: F841 - captured

    decorated = layered(function, "generator", layer)
    running = {number: decorated(number, length) for number, length in enumerate(lengths)}
    expected = []
    while running:
        number = data.draw(st.sampled_from(sorted(running)))
        if next(running[number], None) is None:
            del running[number]
            expected.append({"mine": number, "done": lengths[number]})
    assert decorated.seen == expected


@steady(max_examples=50)
@given(calls, st.tuples(*[st.integers(0, 2)] * 3))
def test_tasks_capture_their_own(tree, layers):
    expected = Expected(3)

    def make(which):
        async def function(tree):
            mine = expected.begin()
            done = []
            _, raises, inner = tree
            await asyncio.sleep(0)
            await asyncio.gather(*[functions[call[0]](call) for call in inner], return_exceptions=True)
            done.extend(call[0] for call in inner)
            expected.end(which, mine, done)
            if raises:
                raise KeyError(mine)
            return mine

        return layered(function, "coroutine", layers[which])

    functions = [make(which) for which in range(3)]
    with contextlib.suppress(KeyError):
        asyncio.run(functions[tree[0]](tree))
    assert [function.seen for function in functions] == expected.seen
