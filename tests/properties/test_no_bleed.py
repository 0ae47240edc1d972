"""Slot, arguments, call id, locals and results of one call never show up in another."""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callpyback import (
    CallPyBack,
    ExecutionState,
    MetricsObserver,
    MockTimeSource,
    Notice,
    NullVariable,
    Outcome,
    Retry,
    handle,
)
from callpyback.core.telling import TELLING
from kinds import BoundWitness, ended


class Separate:
    """Checks at every state that all it is shown belongs to the call it was shown first.

    The observed functions take `own`, have a local `mine = own` and return `own`, or raise ValueError(own).
    """

    notices = Notice.RETRY

    def __init__(self, priority: int = 0) -> None:
        self.priority = priority
        self.name = f"separate {priority}"
        self.mixed = []  # what did not belong together
        self.ended = []

    def update(self, context) -> None:
        own, slot = context.arguments["own"], context.slot
        if context.state is ExecutionState.PRE_EXECUTION:
            self.same("an empty slot", slot, {})
            slot["own"], slot["id"], slot["by"], slot["failed"] = own, context.call_id, self, 0
            return
        self.same("the slot", (slot["own"], slot["id"], slot["by"]), (own, context.call_id, self))
        slot["failed"] += context.state is ExecutionState.POST_FAILURE
        if context.notice is not None:
            self.same("the notice", (context.notice.exception.args, context.notice.attempt), ((own,), slot["failed"]))
            return
        if context.outcome is Outcome.ABANDONED:
            # GeneratorExit says nothing, and the frame of an abandoned call is not read.
            self.same("the local", context.local_variables.get("mine", NullVariable), NullVariable)
            self.ended.append((own, context.call_id))
            return
        self.same("the attempt", context.attempt, slot["failed"] + (context.result.exception is None))
        if context.result.exception is not None:
            self.same("the exception", context.result.exception.args, (own,))
        elif context.function_signature.kind != "async generator function":
            self.same("the value", context.result.value, own)
        self.same("the local", context.local_variables.get("mine", own), own)
        if context.state.is_terminal:
            self.ended.append((own, context.call_id))

    def same(self, what, seen, expected) -> None:
        if seen != expected:
            self.mixed.append((what, seen, expected))


def repeating() -> Retry:
    return Retry(attempts=3, on=ValueError, wait=0)


WATCHERS = {
    "straight": lambda: CallPyBack([Separate(1), MetricsObserver(), Separate(-1)]),
    "with locals": lambda: CallPyBack([Separate(1), Separate(-1)], variable_names=["mine"]),
    "general": lambda: CallPyBack([Separate(1), Separate(-1)], variable_names=["mine"], time_source=MockTimeSource()),
    "retried": lambda: CallPyBack([Separate(1), MetricsObserver(), Separate(-1)], retry=repeating()),
    "retried, with locals": lambda: CallPyBack(
        [Separate(1), Separate(-1)], variable_names=["mine"], time_source=MockTimeSource(), retry=repeating()
    ),
}


@pytest.fixture(params=WATCHERS.values(), ids=WATCHERS)
def watcher(request):
    return request.param()


def assert_separate(watcher, calls: int) -> None:
    separates = [observer for observer in watcher.observers if isinstance(observer, Separate)]
    assert [observer.mixed for observer in separates] == [[], []]
    for observer in separates:
        assert len(observer.ended) == calls
        assert len({call_id for _, call_id in observer.ended}) == calls
    assert sorted(separates[0].ended) == sorted(separates[1].ended)
    assert TELLING == []


def test_recursive_and_mutually_recursive_calls_stay_apart(watcher):
    @watcher
    def down(own):
        mine = own
        if own:
            across(own - 1)
            ended(lambda: failing(own * 100))
        return mine

    @watcher
    def across(own):
        mine = own
        if own:
            down(own - 1)
        return mine

    @watcher
    def failing(own):
        mine = own
        raise ValueError(mine)

    assert down(12) == 12
    assert_separate(watcher, 12 + 1 + 6)


def test_equal_local_names_of_nested_functions_stay_apart():
    seen = []

    class Locals:
        priority = 0

        def update(self, context) -> None:
            seen.append((context.arguments["own"], context.local_variables["mine"]))

    watcher = CallPyBack(variable_names=["mine"])
    watcher.add_observer(Locals(), ExecutionState.COMPLETED)

    @watcher
    def outer(own):
        @watcher
        def inner(own):
            mine = own

            def unobserved():
                mine = "an unobserved function's"
                return mine * 2

            unobserved()
            return mine

        inner(own + 1)
        return inner(own + 2)

    outer(1)
    assert seen == [(2, 2), (3, 3), (1, NullVariable)]


def test_eight_threads_stay_apart(watcher):
    @watcher
    def plain(own):
        mine = own
        if own % 3 == 0:
            raise ValueError(mine)
        return mine

    @watcher
    def generator(own):
        mine = own
        yield own
        return mine

    start = threading.Barrier(8)

    def work(worker):
        start.wait()
        for number in range(worker * 1000, worker * 1000 + 150):
            ended(lambda number=number: plain(number))
            list(generator(number))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
    finally:
        sys.setswitchinterval(interval)
    assert_separate(watcher, 8 * 150 * 2)


@pytest.mark.parametrize("way", WATCHERS)
@settings(max_examples=60, deadline=None)
@given(turns=st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["next", "next", "close", "throw"])), max_size=40))
def test_interleaved_generators_stay_apart(way, turns):
    watcher = WATCHERS[way]()

    @watcher
    def generator(own):
        mine = own
        try:
            yield own
            yield own
        except LookupError:
            raise ValueError(mine) from None
        return mine

    running: dict[int, object] = {}
    begun = 0
    for slot, turn in turns:
        if slot not in running:
            begun += 1
            running[slot] = generator(begun)
            assert next(running[slot]) == begun
        elif turn == "close":
            running.pop(slot).close()
        else:
            step = running[slot].__next__ if turn == "next" else lambda it=running[slot]: it.throw(LookupError())
            if ended(step).exception is not None:
                del running[slot]
    for left in running.values():
        list(left)
    assert_separate(watcher, begun)


def test_interleaved_tasks_stay_apart(watcher):
    tasks = 200

    @watcher
    async def coroutine(own):
        mine = own
        for _ in range(own % 5):
            await asyncio.sleep(0)
        if own % 7 == 0:
            raise ValueError(mine)
        await asyncio.gather(*(nested(own * 1000 + part) for part in range(2)))
        return mine

    @watcher
    async def nested(own):
        mine = own
        await asyncio.sleep(0)
        return mine

    @watcher
    async def items(own):
        mine = own
        for _ in range(3):
            yield mine
            await asyncio.sleep(0)

    async def consume(own):
        return [item async for item in items(own)]

    async def everything():
        return await asyncio.gather(
            *(coroutine(own) for own in range(tasks)), *(consume(own) for own in range(tasks)), return_exceptions=True
        )

    asyncio.run(everything())
    failed = len(range(0, tasks, 7))
    assert_separate(watcher, tasks + 2 * (tasks - failed) + tasks)


class AwaitedSeparate(Separate):
    async def update(self, context) -> None:
        await asyncio.sleep(0)
        super().update(context)
        await asyncio.sleep(0)


def test_what_async_observers_of_interleaved_tasks_see_stays_apart():
    watcher = CallPyBack([AwaitedSeparate(1), Separate(-1)], variable_names=["mine"])

    @watcher
    async def coroutine(own):
        mine = own
        await asyncio.sleep(0)
        return mine

    async def everything():
        await asyncio.gather(*(coroutine(own) for own in range(200)))

    asyncio.run(everything())
    assert_separate(watcher, 200)


def test_one_observer_on_many_functions_of_every_kind_keeps_their_calls_apart(kind):
    bound, separate = BoundWitness(), Separate()
    watcher = CallPyBack([bound, separate])
    functions = [kind.make(lambda own: own, watcher, parameters="own") for _ in range(5)]
    for round_ in range(3):
        for number, function in enumerate(functions):
            assert kind.call(function, own=(round_, number)) == (round_, number)
    assert separate.mixed == []
    assert [own for own, _ in separate.ended] == [(round_, number) for round_ in range(3) for number in range(5)]
    assert [value for value, _, _ in bound.ends] == [
        kind.shown((round_, number)) for round_ in range(3) for number in range(5)
    ]
    assert [handle(function).unobserved for function in functions] == [0] * 5
