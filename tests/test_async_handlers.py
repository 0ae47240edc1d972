"""Error handlers that are awaited: in the caller's task, cancelled and closed with the call, refused elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import sys
import weakref

import pytest

from callpyback import (
    CallPyBack,
    ConfigurationError,
    ExecutionState,
    MockTimeSource,
    Outcome,
    handle,
)
from callpyback.core.telling import TELLING
from callpyback.handlers import Handler
from kinds import KINDS, Kind, Witness, collected, drive, ended, pause
from retrying import ASYNC_KINDS, BodyError, Flaky, make, repeating

S = ExecutionState


@pytest.fixture(params=["straight", "general"])
def clock(request):
    """With the system's clock the body takes the straight path."""
    return None if request.param == "straight" else MockTimeSource()


class AsyncHandler:
    """Suspends before and after it does what it is told to."""

    def __init__(self, act):
        self.act = act
        self.asked = []

    async def handle_error(self, error, context):
        await pause()
        self.asked.append((error, context.state, context.result.exception is error))
        value = self.act(error, context)
        await pause()
        return value


def raising(error):
    def act(*args):
        raise error

    return act


def pass_on(error, context):
    raise error


def raise_another(error, context):
    raise KeyError("other")


ACTS = ["answers", "raises another", "passes on"]


async def answer(error):
    await pause()
    return "handled"


@pytest.mark.parametrize("async_kind", ASYNC_KINDS, ids=str)
class TestAwaited:
    def test_what_it_returns_answers(self, async_kind, clock):
        error, witness, handler = BodyError(1), Witness(), AsyncHandler(lambda error, context: "handled")
        function = make(async_kind, Flaky(error), CallPyBack([witness], error_handler=handler, time_source=clock))
        came = async_kind.ended(function)
        assert came.value == "handled" or async_kind.is_generator
        assert handler.asked == [(error, S.POST_FAILURE, True)]
        assert witness.told == ["PRE_EXECUTION", "POST_FAILURE", "COMPLETED"]
        assert (witness.outcome, witness.last.returned, witness.last.decided_by) == (
            Outcome.HANDLED,
            "handled",
            "AsyncHandler",
        )
        assert TELLING == []

    def test_the_error_it_raises_again_goes_on_untouched(self, async_kind, clock):
        error, witness = BodyError(1), Witness()
        handler = AsyncHandler(pass_on)
        function = make(async_kind, Flaky(error), CallPyBack([witness], error_handler=handler, time_source=clock))
        bare = BodyError(1)
        async_kind.ended(make(async_kind, Flaky(bare)))
        assert async_kind.ended(function).exception is error
        assert (error.__context__, error.__cause__) == (None, None)
        assert depth(error) - depth(bare) <= 1
        assert (witness.outcome, witness.last.decided_by) == (Outcome.FAILURE, None)

    def test_another_error_goes_to_the_caller_with_the_bodys_as_context(self, async_kind, clock):
        error, other, witness = BodyError(1), KeyError("other"), Witness()
        decorator = CallPyBack([witness], error_handler=AsyncHandler(raising(other)), time_source=clock)
        assert async_kind.ended(make(async_kind, Flaky(error), decorator)).exception is other
        assert other.__context__ is error
        assert (witness.outcome, witness.last.decided_by) == (Outcome.FAILURE, "AsyncHandler")
        assert witness.last.result.exception_type is BodyError

    @pytest.mark.parametrize("own", [KeyboardInterrupt("k"), SystemExit(3), BaseException("own")], ids=repr)
    def test_what_belongs_to_the_program_passes(self, async_kind, clock, own):
        witness = Witness()
        decorator = CallPyBack([witness], error_handler=AsyncHandler(raising(own)), time_source=clock)
        assert async_kind.ended(make(async_kind, Flaky(BodyError(1)), decorator)).exception is own
        assert witness.told[-1] in ("COMPLETED", "ERROR")
        assert witness.told.count(witness.told[-1]) == 1

    def test_functions_in_a_chain_are_awaited_in_their_order(self, async_kind, clock):
        order = []

        def asking(name, result):
            async def ask(error):
                await pause()
                order.append(name)
                return result

            return ask

        chain = (
            Handler(asking("first", result=False), value="of the first")
            | Handler(BodyError, when=asking("second", result=True), answer=asking("third", "handled"), name="second")
            | Handler(value="of the last")
        )
        witness = Witness()
        function = make(async_kind, Flaky(BodyError(1)), CallPyBack([witness], error_handler=chain, time_source=clock))
        async_kind.ended(function)
        assert order == ["first", "second", "third"]
        assert (witness.last.returned, witness.last.decided_by) == ("handled", "second")

    def test_it_is_asked_when_the_retries_have_failed(self, async_kind, clock):
        handler, body = AsyncHandler(lambda error, context: context.attempt), Flaky(BodyError(1), BodyError(2))
        witness = Witness()
        decorator = CallPyBack([witness], retry=repeating(attempts=2), error_handler=handler, time_source=clock)
        async_kind.ended(make(async_kind, body, decorator))
        assert [repr(error) for error, *_ in handler.asked] == ["BodyError(2)"]
        assert (body.ran, witness.last.returned) == (2, 2)

    def test_a_chain_may_be_awaited_and_retry(self, async_kind, clock):
        asked = []

        async def is_for(error):
            await pause()
            asked.append(error.args[0])
            return True

        chain = Handler(BodyError, when=is_for, retry=repeating(), value="gave up")
        body, witness = Flaky(BodyError(1), BodyError(2)), Witness()
        function = make(async_kind, body, CallPyBack([witness], error_handler=chain, time_source=clock))
        assert async_kind.call(function) == "value"
        assert (asked, body.ran, witness.last.attempt) == ([1, 2], 3, 3)

    def test_it_is_not_inside_an_observer(self, async_kind, clock):
        witness = Witness()

        @CallPyBack([witness])
        async def looked_up():
            await pause()
            return "found"

        class Looking:
            async def handle_error(self, error, context):
                return await looked_up()

        function = make(async_kind, Flaky(BodyError(1)), CallPyBack(error_handler=Looking(), time_source=clock))
        async_kind.ended(function)
        assert witness.told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]
        assert handle(looked_up).unobserved == 0

    def test_it_sees_the_context_variables_of_the_call(self, async_kind, clock):
        variable = contextvars.ContextVar("variable")

        class Setting:
            async def handle_error(self, error, context):
                variable.set((variable.get(), "set by the handler"))
                return "handled"

        function = make(async_kind, Flaky(BodyError(1)), CallPyBack(error_handler=Setting(), time_source=clock))

        def run():
            variable.set("of the caller")
            async_kind.ended(function)
            return variable.get()

        assert contextvars.copy_context().run(run) == ("of the caller", "set by the handler")

    def test_after_it_no_exception_is_under_way(self, async_kind, clock):
        decorator = CallPyBack(error_handler=AsyncHandler(lambda error, context: "handled"), time_source=clock)
        function = make(async_kind, Flaky(BodyError(1)), decorator)

        async def caller():
            if async_kind.name == "coroutine":
                await function()
            else:
                assert [item async for item in function()] == []
            return sys.exc_info()

        assert drive(caller()) == (None, None, None)

    @pytest.mark.parametrize("act", [lambda *asked: "handled", raise_another, pass_on], ids=ACTS)
    def test_a_call_leaves_nothing_behind(self, async_kind, clock, act):
        freed = []

        class Acting:
            async def handle_error(self, error, context):
                await pause()
                return act(error, context)

        class Held:
            pass

        def body(argument):
            held = Held()
            freed.extend([weakref.ref(held), weakref.ref(argument)])
            raise BodyError

        function = make(async_kind, body, CallPyBack(error_handler=Acting(), time_source=clock))
        async_kind.ended(function, Held())
        gc.collect()
        gc.disable()
        try:
            for _ in range(2):
                with contextlib.suppress(BodyError, KeyError):
                    (drive(function(Held())) if async_kind.name == "coroutine" else drive(collected(function(Held()))))
            assert {reference() for reference in freed} == {None}
            assert gc.collect() == 0
        finally:
            gc.enable()


def depth(error) -> int:
    trace, count = error.__traceback__, 0
    while trace is not None:
        trace, count = trace.tb_next, count + 1
    return count


def consuming(kind, function):
    """Return a coroutine function that calls to the end."""

    async def consume():
        if kind.name == "coroutine":
            return await function()
        return [item async for item in function()]

    return consume


@pytest.mark.parametrize("async_kind", ASYNC_KINDS, ids=str)
class TestInterrupted:
    def test_a_task_that_is_cancelled_in_it_is_cancelled(self, async_kind, clock):
        witness, body, waits, cleaned = Witness(), Flaky(BodyError(1)), [], []

        class Waiting:
            async def handle_error(self, error, context):
                waits[-1].set()
                try:
                    await asyncio.get_running_loop().create_future()
                finally:
                    cleaned.append("cleaned")

        function = make(async_kind, body, CallPyBack([witness], error_handler=Waiting(), time_source=clock))

        async def main():
            waits.append(asyncio.Event())
            task = asyncio.create_task(consuming(async_kind, function)())
            await waits[-1].wait()
            task.cancel("why")
            await asyncio.wait([task])
            return task

        task = asyncio.run(main())
        assert (task.cancelled(), cleaned) == (True, ["cleaned"])
        assert witness.told == ["PRE_EXECUTION", "POST_FAILURE", "COMPLETED"]
        assert (witness.outcome, witness.last.is_failed) == (Outcome.CANCELLED, False)

    def test_a_cancellation_it_swallows_is_swallowed(self, async_kind, clock):
        witness, waits = Witness(), []

        class Swallowing:
            async def handle_error(self, error, context):
                waits[-1].set()
                try:
                    await asyncio.get_running_loop().create_future()
                except asyncio.CancelledError:
                    asyncio.current_task().uncancel()
                return "handled"

        function = make(
            async_kind, Flaky(BodyError(1)), CallPyBack([witness], error_handler=Swallowing(), time_source=clock)
        )

        async def main():
            waits.append(asyncio.Event())
            task = asyncio.create_task(consuming(async_kind, function)())
            await waits[-1].wait()
            task.cancel()
            await asyncio.wait([task])
            return task

        task = asyncio.run(main())
        assert not task.cancelled()
        assert task.exception() is None
        assert witness.outcome is Outcome.HANDLED

    def test_a_call_given_up_in_it_is_abandoned(self, async_kind, clock):
        witness, handler = Witness(), AsyncHandler(lambda error, context: "handled")
        function = make(
            async_kind, Flaky(BodyError(1)), CallPyBack([witness], error_handler=handler, time_source=clock)
        )
        steps = (function() if async_kind.name == "coroutine" else function().__anext__()).__await__()
        next(steps)
        if async_kind.name == "coroutine":
            next(steps)  # it suspends once before the body
            steps.close()
        del steps
        assert handler.asked == []
        assert witness.told == ["PRE_EXECUTION", "POST_FAILURE", "COMPLETED"]
        assert (witness.outcome, witness.last.is_failed, witness.last.returned) == (Outcome.ABANDONED, False, None)

    def test_a_chain_given_up_in_its_first_handler_asks_no_other(self, async_kind, clock):
        asked = []

        async def refuse(error):
            await pause()
            asked.append("refuse")

        async def answer(error):
            asked.append("answer")
            await pause()
            return "handled"

        chain = Handler(refuse, value="of the first") | Handler(answer=answer)
        witness = Witness()
        function = make(async_kind, Flaky(BodyError(1)), CallPyBack([witness], error_handler=chain, time_source=clock))
        steps = (function() if async_kind.name == "coroutine" else function().__anext__()).__await__()
        next(steps)
        if async_kind.name == "coroutine":
            next(steps)
            steps.close()
        del steps
        assert asked == []
        assert (witness.told[-1], witness.outcome) == ("COMPLETED", Outcome.ABANDONED)

    def test_an_error_of_its_own_that_looks_like_a_closing_is_one_of_the_handler(self, async_kind, clock):
        witness, own = Witness(), GeneratorExit("own")
        decorator = CallPyBack([witness], error_handler=AsyncHandler(raising(own)), time_source=clock)
        assert async_kind.ended(make(async_kind, Flaky(BodyError(1)), decorator)).exception is own
        assert witness.told == ["PRE_EXECUTION", "POST_FAILURE", "COMPLETED"]


class TestRefused:
    @pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.is_async], ids=str)
    @pytest.mark.parametrize(
        "handler",
        [
            AsyncHandler(answer),
            Handler(answer=answer),
            Handler(KeyError, value=1) | Handler(BodyError, when=answer, value=2),
        ],
        ids=["own", "handler", "chain"],
    )
    def test_around_what_can_not_await_it_is_refused_at_decoration(self, kind, handler):
        decorator = CallPyBack(error_handler=handler)
        with pytest.raises(ConfigurationError, match=r"error_handler on .*: it is async"):
            make(kind, Flaky(), decorator)

    @pytest.mark.parametrize("wrap", [staticmethod, classmethod, property], ids=lambda wrap: wrap.__name__)
    def test_under_a_descriptor_it_is_refused_too(self, wrap):
        with pytest.raises(ConfigurationError, match="nothing to await it"):
            CallPyBack(error_handler=AsyncHandler(raising(BodyError())))(wrap(lambda self: None))

    @pytest.mark.parametrize("async_kind", ASYNC_KINDS, ids=str)
    def test_a_refusal_spoils_the_decorator_for_nothing_else(self, async_kind):
        decorator, witness = CallPyBack(error_handler=AsyncHandler(lambda *asked: "handled")), Witness()
        with pytest.raises(ConfigurationError):
            decorator(lambda: None)
        decorator.add_observer(witness)
        async_kind.ended(make(async_kind, Flaky(BodyError(1)), decorator))
        assert witness.outcome is Outcome.HANDLED


def test_interleaved_tasks_keep_what_their_handlers_answer_apart():
    class Answering:
        async def handle_error(self, error, context):
            for _ in range(context.arguments["number"] % 5):
                await asyncio.sleep(0)
            return (error.args[0], context.arguments["number"])

    @CallPyBack(error_handler=Answering())
    async def function(number):
        await asyncio.sleep(0)
        raise BodyError(number)

    async def main():
        return await asyncio.gather(*map(function, range(200)))

    assert asyncio.run(main()) == [(number, number) for number in range(200)]


def test_an_async_generator_that_has_yielded_may_have_its_error_translated():
    translated = KeyError("translated")
    kind = Kind("async generator")
    function = kind.make(Flaky(BodyError(1)), CallPyBack(error_handler=AsyncHandler(raising(translated))))
    assert kind.ended(function).exception is translated


def test_a_handler_that_needs_no_loop_is_driven_by_hand():
    handler = AsyncHandler(lambda error, context: "handled")

    @CallPyBack(error_handler=handler)
    async def function():
        raise BodyError

    assert drive(function()) == "handled"
    assert ended(lambda: drive(function())).value == "handled"
