"""Observers that are awaited: in order, in the caller's task, isolated; cancelled and closed with the call."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from callpyback import (
    CallPyBack,
    CallVetoed,
    ExecutionState,
    MockTimeSource,
    Outcome,
    StopProcessing,
    handle,
    on_completion,
    on_success,
)
from callpyback.core.telling import TELLING
from kinds import KINDS, Witness, drive, ended, pause

ASYNC_KINDS = [kind for kind in KINDS if kind.is_async]

pytestmark = pytest.mark.parametrize("async_kind", ASYNC_KINDS, ids=str)


class Awaited(Witness):
    """Suspends before and after it notes what it is told."""

    def __init__(self, *states, notes=None, **options) -> None:
        super().__init__(*states, **options)
        self.notes = [] if notes is None else notes

    async def update(self, context) -> None:
        await pause()
        self.notes.append((self.name, context.state.name))
        self.contexts.append(context)
        await pause()


class Failing(Awaited):
    async def update(self, context) -> None:
        await super().update(context)
        raise self.error


def test_async_and_plain_observers_are_told_in_one_order(async_kind):
    notes = []
    observers = [
        Awaited(priority=3, name="first", notes=notes),
        on_success(lambda: notes.append(("second", "POST_SUCCESS")), priority=2),
        Awaited(priority=1, name="third", notes=notes),
        on_completion(lambda: notes.append(("fourth", "COMPLETED")), priority=0),
    ]
    function = async_kind.make(lambda: notes.append(("body", "EXECUTING")) or "value", CallPyBack(observers))
    assert async_kind.call(function) == "value"
    assert notes == [
        ("first", "PRE_EXECUTION"),
        ("third", "PRE_EXECUTION"),
        ("body", "EXECUTING"),
        ("first", "POST_SUCCESS"),
        ("second", "POST_SUCCESS"),
        ("third", "POST_SUCCESS"),
        ("first", "COMPLETED"),
        ("third", "COMPLETED"),
        ("fourth", "COMPLETED"),
    ]


def test_an_async_callback_is_awaited(async_kind):
    values = []

    async def note(value) -> None:
        await pause()
        values.append(value)

    function = async_kind.make(lambda: "value", CallPyBack([on_success(note)]))
    async_kind.call(function)
    assert values == [async_kind.shown("value")]


def test_the_time_spent_awaiting_observers_is_not_the_functions(async_kind):
    clock, witness = MockTimeSource(), Witness(priority=-1)

    class Slow(Awaited):
        async def update(self, context) -> None:
            clock.advance(100)

    function = async_kind.make(lambda: clock.advance(1), CallPyBack([Slow(), witness], time_source=clock))
    async_kind.call(function)
    assert witness.last.execution_time == 1.0


@pytest.mark.parametrize(
    "error", [ValueError(), SystemExit(2), GeneratorExit(), asyncio.CancelledError(), StopIteration()], ids=repr
)
def test_an_async_observer_that_fails_hurts_nobody(async_kind, error):
    failing, after = Failing(priority=1), Awaited(name="after")
    failing.error = error
    function = async_kind.make(lambda: "value", CallPyBack([failing, after]))
    assert async_kind.call(function) == "value"
    assert after.told == failing.told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]
    assert handle(function).health["witness"].failures == 3
    assert TELLING == []


def test_keyboard_interrupt_out_of_an_async_observer_passes_after_book_keeping(async_kind):
    failing, after = Failing(ExecutionState.PRE_EXECUTION, priority=1), Awaited(name="after")
    failing.error = KeyboardInterrupt()
    function = async_kind.make(lambda: "value", CallPyBack([failing, after]))
    assert async_kind.ended(function).exception is failing.error
    assert after.told == ["PRE_EXECUTION", "ERROR"]
    assert after.outcome is Outcome.ABORTED


def test_async_observers_decide_as_others_do(async_kind):
    class Deciding(Awaited):
        guard = True

        async def update(self, context) -> None:
            await pause()
            if context.state is ExecutionState.PRE_EXECUTION:
                raise self.decision

    deciding, witness = Deciding(), Awaited(name="told")
    function = async_kind.make(lambda: "value", CallPyBack([deciding, witness]))
    deciding.decision = StopProcessing(async_kind.answer("answer"))
    assert async_kind.call(function) == "answer"
    assert witness.outcome is Outcome.SUPPLIED
    deciding.decision = CallVetoed("no")
    assert async_kind.ended(function).exception is deciding.decision
    assert witness.outcome is Outcome.VETOED


class Waiting(Awaited):
    """Waits for ever at one state."""

    async def update(self, context) -> None:
        self.contexts.append(context)
        if context.state is self.at:
            await asyncio.get_running_loop().create_future()


async def run_kind(async_kind, function):
    begun = function()
    return await begun if async_kind.name == "coroutine" else [item async for item in begun][-1]


async def waiting(observer) -> None:
    """Let the other tasks run until the observer waits."""
    for _ in range(20):
        await asyncio.sleep(0)
    assert observer.last.state is observer.at


@pytest.mark.parametrize(
    ("at", "states"),
    [
        (ExecutionState.PRE_EXECUTION, ["PRE_EXECUTION", "COMPLETED"]),
        (ExecutionState.POST_SUCCESS, ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]),
    ],
)
def test_a_task_cancelled_while_an_observer_is_awaited_is_cancelled(async_kind, at, states):
    observer, witness, ran = Waiting(priority=1), Awaited(name="told"), []
    observer.at = at
    function = async_kind.make(lambda: ran.append(1), CallPyBack([observer, witness]))

    async def cancel():
        task = asyncio.create_task(run_kind(async_kind, function))
        await waiting(observer)
        task.cancel("why")
        try:
            await task
        except asyncio.CancelledError as error:
            assert task.cancelled()
            return error

    error = asyncio.run(cancel())
    assert (type(error), error.args) == (asyncio.CancelledError, ("why",))
    assert witness.told == states
    assert witness.outcome is Outcome.CANCELLED
    assert ran == ([] if at is ExecutionState.PRE_EXECUTION else [1])
    assert handle(function).health["witness"].failures == 0


def test_a_timeout_around_the_call_ends_an_observer_that_hangs(async_kind):
    observer, witness = Waiting(priority=1), Awaited(name="told")
    observer.at = ExecutionState.PRE_EXECUTION
    function = async_kind.make(lambda: "value", CallPyBack([observer, witness]))

    async def limited():
        async with asyncio.timeout(0.01):
            await run_kind(async_kind, function)

    with pytest.raises(TimeoutError):
        asyncio.run(limited())
    assert witness.outcome is Outcome.CANCELLED


def test_a_timeout_of_the_observers_own_is_its_own_affair(async_kind):
    class Impatient(Awaited):
        async def update(self, context) -> None:
            self.contexts.append(context)
            async with asyncio.timeout(0):
                await asyncio.sleep(3600)

    observer, witness = Impatient(priority=1), Awaited(name="told")
    function = async_kind.make(lambda: "value", CallPyBack([observer, witness]))
    assert asyncio.run(run_kind(async_kind, function)) == "value"
    assert witness.told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]
    assert handle(function).health["witness"].failures == 3


def test_a_call_closed_while_its_body_waits_is_told_without_async_observers(async_kind):
    observer, plain = Awaited(priority=1), Witness(name="plain")

    @CallPyBack([observer, plain])
    async def coroutine():
        await pause()

    running = coroutine()
    steps = running.__await__()
    for _ in range(3):  # through the two suspensions of the observer into the body
        next(steps)
    running.close()
    assert (observer.told, plain.told) == (["PRE_EXECUTION"], ["PRE_EXECUTION", "COMPLETED"])
    assert plain.outcome is Outcome.ABANDONED
    assert (handle(coroutine).health["witness"].skipped, handle(coroutine).health["witness"].failures) == (1, 0)


def test_a_call_closed_while_an_observer_is_awaited_is_told_to_the_others(async_kind):
    observer, plain, ran = Awaited(priority=1), Witness(name="plain"), []
    function = async_kind.make(lambda: ran.append(1), CallPyBack([observer, plain]))
    begun = function()
    step = begun.asend(None) if async_kind.name == "async generator" else begun  # both can be driven by hand
    step.send(None)
    assert isinstance(ended(lambda: step.throw(GeneratorExit)).exception, GeneratorExit)
    assert ran == []
    assert plain.told == ["PRE_EXECUTION", "COMPLETED"]
    assert plain.outcome is Outcome.ABANDONED
    assert TELLING == []


def test_an_async_generator_closed_half_way_awaits_its_observers(async_kind):
    observer = Awaited()

    @CallPyBack([observer])
    async def items():
        yield 1

    async def close_early():
        iterator = items()
        async for _ in iterator:
            break
        await iterator.aclose()

    asyncio.run(close_early())
    assert observer.told == ["PRE_EXECUTION", "COMPLETED"]
    assert observer.outcome is Outcome.ABANDONED


def test_observers_run_in_the_callers_task_and_context(async_kind):
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []

    class Looking(Awaited):
        async def update(self, context) -> None:
            await asyncio.sleep(0)
            seen.append((asyncio.current_task(), variable.get()))

    function = async_kind.make(lambda: variable.set("by the body"), CallPyBack([Looking()]))

    async def call():
        variable.set("by the caller")
        await run_kind(async_kind, function)
        return asyncio.current_task(), variable.get()

    task, value = asyncio.run(call())
    assert value == "by the body"
    assert seen == [(task, "by the caller"), (task, "by the body"), (task, "by the body")]


def test_other_tasks_are_observed_while_an_observer_waits(async_kind):
    observer, witness = Waiting(priority=1), Witness(name="of the other")
    observer.at = ExecutionState.POST_SUCCESS
    slow = async_kind.make(lambda: "slow", CallPyBack([observer]))
    other = async_kind.make(lambda: "other", CallPyBack([witness]))

    async def both():
        task = asyncio.create_task(run_kind(async_kind, slow))
        await waiting(observer)
        await run_kind(async_kind, other)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(both())
    assert witness.told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]
    assert handle(other).unobserved == 0


def test_a_task_started_by_an_observer_is_observed_after_the_observer_has_returned(async_kind):
    witness, tasks = Witness(name="of the other"), []
    other = async_kind.make(lambda: "other", CallPyBack([witness]))

    class Starting(Awaited):
        async def update(self, context) -> None:
            tasks.append(asyncio.create_task(run_kind(async_kind, other)))

    function = async_kind.make(lambda: "value", CallPyBack([Starting(ExecutionState.COMPLETED)]))

    async def both():
        await run_kind(async_kind, function)
        await asyncio.gather(*tasks)

    asyncio.run(both())
    assert witness.told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]


def test_an_async_observer_is_paused_and_tried_again_as_others_are(async_kind):
    clock, failing = MockTimeSource(), Failing()
    failing.error = LookupError()
    decorator = CallPyBack([failing], time_source=clock, max_observer_failures=2)
    function = async_kind.make(lambda: "value", decorator)
    for _ in range(4):
        async_kind.call(function)
    assert failing.told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED", "PRE_EXECUTION"]
    clock.advance(30)
    async_kind.call(function)
    assert len(failing.told) == 5


def test_the_users_exception_is_untouched_by_what_is_awaited_meanwhile(async_kind):
    error, failing = ValueError("the user's"), Failing()
    failing.error = LookupError()

    def body():
        raise error

    function = async_kind.make(body, CallPyBack([failing]))
    assert ended(lambda: drive(run_kind(async_kind, function))).exception is error
    assert (error.__context__, error.__cause__) == (None, None)
