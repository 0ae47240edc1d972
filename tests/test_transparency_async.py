"""Coroutines and async generators keep their protocol, their task, their context variables and their cancellation."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import inspect
import weakref

import pytest

from callpyback import CallPyBack, MockTimeSource, Outcome
from kinds import Ended, Kind, Witness, collected, drive, ended, pause

variable = contextvars.ContextVar("variable", default="unset")


async def outcome_of(awaitable):
    """Await, and return what came of it."""
    try:
        return Ended(value=await awaitable)
    except BaseException as error:
        return Ended(exception=error)


async def echo(start):
    """Yield what is sent, and what was thrown; end when told to."""
    received = start
    while True:
        try:
            received = yield received
        except ValueError as error:
            received = ("caught", error)
        await pause()
        if received == "stop":
            return


def test_a_coroutine_gives_its_value(observed):
    @observed
    async def double(n):
        await asyncio.sleep(0)
        return 2 * n

    assert asyncio.run(double(4)) == 8


def test_a_coroutine_is_driven_without_an_event_loop(observed):  # C12
    assert drive(Kind("coroutine").make(lambda: 5, observed)()) == 5


def test_an_async_generator_is_driven_without_an_event_loop(observed):  # C12
    assert drive(collected(Kind("async generator").make(lambda: 5, observed)())) == ["first item", 5]


def test_a_coroutine_object_is_a_coroutine(observed):
    begun = Kind("coroutine").make(lambda: 5, observed)()
    assert inspect.iscoroutine(begun)
    assert begun.__name__ == "function"
    assert begun.send(None) is None
    assert ended(lambda: begun.send(None)).exception.value == 5


def test_awaiting_twice_is_refused_as_ever(observed):
    begun = Kind("coroutine").make(lambda: 5, observed)()
    drive(begun)
    assert str(ended(lambda: drive(begun)).exception) == "cannot reuse already awaited coroutine"


def test_a_coroutine_that_is_closed_runs_its_cleanup(observed):
    cleaned = []

    @observed
    async def careful():
        try:
            await pause()
        finally:
            cleaned.append(1)

    begun = careful()
    begun.send(None)
    begun.close()
    assert cleaned == [1]


def test_exceptions_thrown_into_a_coroutine_arrive(observed):
    caught = []

    @observed
    async def careful():
        try:
            await pause()
        except ValueError as error:
            caught.append(error)
            return "caught"

    begun, error = careful(), ValueError("thrown")
    begun.send(None)
    assert ended(lambda: begun.throw(error)).exception.value == "caught"
    assert caught == [error]
    assert error.__context__ is None


def test_a_coroutine_may_await_itself_and_others(observed):
    @observed
    async def leaf(n):
        await asyncio.sleep(0)
        return n

    @observed
    async def root():
        return await asyncio.gather(*(leaf(n) for n in range(5)))

    assert asyncio.run(root()) == [0, 1, 2, 3, 4]


def test_sent_values_arrive_in_async_generators(observed):  # T38
    generator = observed(echo)("first")
    assert drive(anext(generator)) == "first"
    assert drive(generator.asend("second")) == "second"
    assert drive(generator.asend(None)) is None
    assert isinstance(ended(lambda: drive(generator.asend("stop"))).exception, StopAsyncIteration)


def test_thrown_exceptions_arrive_in_async_generators(observed):  # T38
    generator = observed(echo)("first")
    drive(anext(generator))
    error = ValueError("thrown")
    assert drive(generator.athrow(error)) == ("caught", error)
    assert error.__context__ is None
    assert error.__cause__ is None
    assert drive(generator.asend("again")) == "again"
    drive(generator.aclose())


@pytest.mark.parametrize("error", [KeyError("k"), KeyboardInterrupt(), asyncio.CancelledError("why")], ids=repr)
def test_thrown_exceptions_that_nobody_catches_come_back(observed, error):  # T38
    generator = observed(echo)("first")
    drive(anext(generator))
    assert ended(lambda: drive(generator.athrow(error))).exception is error
    assert error.__context__ is None


def test_throwing_before_the_first_step_runs_nothing(observed):  # T38
    witness = Witness()
    observed.add_observer(witness)
    generator = observed(echo)("first")
    error = ValueError("early")
    assert ended(lambda: drive(generator.athrow(error))).exception is error
    assert witness.told == []


def test_aclose_runs_the_cleanup_once_and_awaits_it(observed):  # T38
    cleaned = []

    @observed
    async def careful():
        try:
            yield 1
        finally:
            await pause()
            cleaned.append(1)

    generator = careful()
    drive(anext(generator))
    drive(generator.aclose())
    drive(generator.aclose())
    assert cleaned == [1]


def test_closing_an_async_generator_that_has_not_begun_runs_nothing(observed):  # T38
    generator = observed(echo)("first")
    drive(generator.aclose())
    assert drive(collected(generator)) == []


def test_an_async_generator_that_ignores_being_closed_is_an_error_as_ever(observed):  # T38
    def make(decorate):
        @decorate
        async def stubborn():
            try:
                yield 1
            except GeneratorExit:
                yield 2

        generator = stubborn()
        drive(anext(generator))
        return str(ended(lambda: drive(generator.aclose())).exception)

    assert make(observed) == make(lambda function: function) == "async generator ignored GeneratorExit"


def test_a_stop_async_iteration_raised_in_the_body_becomes_a_runtime_error_as_ever(observed):
    @observed
    async def careless():
        yield 1
        raise StopAsyncIteration("by mistake")

    raised = ended(lambda: drive(collected(careless()))).exception
    assert repr(raised) == "RuntimeError('async generator raised StopAsyncIteration')"
    assert repr(raised.__cause__) == "StopAsyncIteration('by mistake')"


def test_a_stop_iteration_raised_in_a_coroutine_becomes_a_runtime_error_as_ever(observed):
    @observed
    async def careless():
        raise StopIteration("by mistake")

    raised = ended(lambda: drive(careless())).exception
    assert repr(raised) == "RuntimeError('coroutine raised StopIteration')"
    assert repr(raised.__cause__) == "StopIteration('by mistake')"


@pytest.mark.parametrize("above", [True, False], ids=["observed above", "observed below"])
def test_async_context_managers_work(observed, above):  # T38
    async def resource(name):
        events.append(f"open {name}")
        try:
            yield name
        except KeyError:
            events.append("suppressed")
        finally:
            await asyncio.sleep(0)
            events.append("closed")

    events = []
    wrap = contextlib.asynccontextmanager
    manager = observed(wrap(resource)) if above else wrap(observed(resource))
    error = ValueError("passes")

    async def raise_inside(name, error):
        async with manager(name):
            raise error

    async def main():
        async with manager("a") as name:
            assert name == "a"
        await raise_inside("b", KeyError())
        return await outcome_of(raise_inside("c", error))

    assert asyncio.run(main()) == Ended(exception=error)
    assert error.__context__ is None
    closed = "closed"
    assert events == ["open a", closed, "open b", "suppressed", closed, "open c", closed]


def test_a_dropped_async_generator_is_finalised_by_the_event_loop(observed):
    cleaned = []

    @observed
    async def careful():
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            cleaned.append(1)

    async def main():
        async for _ in careful():
            break
        gc.collect()
        for _ in range(5):
            await asyncio.sleep(0)

    asyncio.run(main())
    assert cleaned == [1]


def test_context_variables_set_inside_are_seen_outside(kind, observed):  # C09
    def body():
        before = variable.get()
        variable.set("set inside")
        return before

    def run():
        variable.set("set outside")
        return kind.call(kind.make(body, observed)), variable.get()

    assert contextvars.copy_context().run(run) == ("set outside", "set inside")


def test_a_body_runs_in_the_task_of_its_caller(observed):  # C10
    @observed
    async def task_of_the_coroutine():
        await asyncio.sleep(0)
        return asyncio.current_task()

    @observed
    async def tasks_of_the_steps():
        yield asyncio.current_task()
        await asyncio.sleep(0)
        yield asyncio.current_task()

    async def main():
        tasks = [await task_of_the_coroutine(), *[task async for task in tasks_of_the_steps()]]
        return set(tasks) == {asyncio.current_task()}

    assert asyncio.run(main())


def test_a_timeout_inside_an_async_generator_fires(observed):  # C10
    @observed
    async def limited():
        async with asyncio.timeout(0):
            yield 1
            await asyncio.Event().wait()

    async def main():
        return await outcome_of(collected(limited()))

    assert isinstance(asyncio.run(main()).exception, TimeoutError)


@pytest.mark.parametrize("name", ["coroutine", "async generator"])
def test_a_timeout_outside_works(name, observed):  # C11
    @observed
    async def coroutine():
        await asyncio.Event().wait()

    @observed
    async def generator():
        await asyncio.Event().wait()
        yield

    async def main():
        async with asyncio.timeout(0):
            await (coroutine() if name == "coroutine" else collected(generator()))

    assert isinstance(ended(lambda: asyncio.run(main())).exception, TimeoutError)


def test_cancellation_arrives_with_its_message_and_is_no_failure(observed):  # C11
    witness, cleaned = Witness(), []
    observed.add_observer(witness)

    @observed
    async def patient():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            cleaned.append(error.args)
            raise
        finally:
            cleaned.append("finally")

    async def main():
        task = asyncio.create_task(patient())
        await asyncio.sleep(0)
        task.cancel("why")
        result = await outcome_of(task)
        return task.cancelled(), result.exception.args

    assert asyncio.run(main()) == (True, ("why",))
    assert cleaned == [("why",), "finally"]
    assert witness.told == ["PRE_EXECUTION", "COMPLETED"]
    assert witness.outcome is Outcome.CANCELLED
    assert not witness.last.is_failed


def test_a_cancellation_that_the_body_swallows_is_a_success(observed):  # C11
    witness = Witness()
    observed.add_observer(witness)

    @observed
    async def stubborn():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "stayed"

    async def main():
        task = asyncio.create_task(stubborn())
        await asyncio.sleep(0)
        task.cancel()
        return await task

    assert asyncio.run(main()) == "stayed"
    assert witness.outcome is Outcome.SUCCESS


def test_task_groups_cancel_observed_coroutines(observed):  # C11
    witness = Witness()

    @CallPyBack([witness])
    async def patient():
        await asyncio.Event().wait()

    @observed
    async def failing():
        await asyncio.sleep(0)
        raise KeyError("failing")

    async def main():
        async with asyncio.TaskGroup() as group:
            group.create_task(patient())
            group.create_task(failing())

    raised = ended(lambda: asyncio.run(main())).exception
    assert [repr(error) for error in raised.exceptions] == ["KeyError('failing')"]
    assert witness.outcome is Outcome.CANCELLED


def test_a_coroutine_that_is_closed_half_way_is_abandoned():
    witness = Witness()
    begun = Kind("coroutine").make(lambda: 5, CallPyBack([witness]))()
    begun.send(None)
    begun.close()
    assert witness.told == ["PRE_EXECUTION", "COMPLETED"]
    assert witness.outcome is Outcome.ABANDONED


def test_an_async_generator_that_is_closed_half_way_is_abandoned():
    witness = Witness()
    generator = CallPyBack([witness])(echo)("first")
    drive(anext(generator))
    drive(generator.aclose())
    assert witness.told == ["PRE_EXECUTION", "COMPLETED"]
    assert witness.outcome is Outcome.ABANDONED


def test_a_coroutine_is_timed_until_it_is_awaited_to_the_end():
    clock, witness = MockTimeSource(), Witness()

    @CallPyBack([witness], time_source=clock)
    async def slow():
        clock.advance(1.0)
        await pause()
        clock.advance(2.0)

    begun = slow()
    begun.send(None)
    clock.advance(10.0)
    ended(lambda: begun.send(None))
    assert witness.last.execution_time == 13.0


def test_the_times_of_an_async_generator_are_those_of_its_running_and_of_its_life():
    clock, witness = MockTimeSource(100.0), Witness()

    @CallPyBack([witness], time_source=clock)
    async def slow():
        clock.advance(1.0)
        yield "a"
        clock.advance(2.0)
        yield "b"
        clock.advance(4.0)

    async def main():
        async for _ in slow():
            clock.advance(100.0)

    drive(main())
    context = witness.last
    assert (context.timestamp, context.execution_time, context.items) == (100.0, 7.0, 2)
    assert (context.lifetime, context.time_to_first_item) == (207.0, 1.0)


class AsyncWitness(Witness):
    """Awaits something before it notes what it is told."""

    async def update(self, context):
        await pause()
        self.contexts.append(context)


@pytest.mark.parametrize("name", ["coroutine", "async generator"])
def test_async_observers_are_awaited_in_order(name):
    kind, notes = Kind(name), []

    class Noting(AsyncWitness):
        async def update(self, context):
            notes.append((self.name, "begins", context.state.name))
            await pause()
            notes.append((self.name, "ends", context.state.name))

    observers = [Noting(name="low"), Noting(name="high", priority=5)]
    assert kind.call(kind.make(lambda: notes.append("body"), CallPyBack(observers))) is None
    around = [
        [("high", "begins", state), ("high", "ends", state), ("low", "begins", state), ("low", "ends", state)]
        for state in ("PRE_EXECUTION", "POST_SUCCESS", "COMPLETED")
    ]
    assert notes == [*around[0], "body", *around[1], *around[2]]


@pytest.mark.parametrize("name", ["coroutine", "async generator"])
def test_calls_are_as_transparent_around_async_observers(name):
    kind, witness = Kind(name), AsyncWitness()
    decorator = CallPyBack([witness])
    assert kind.call(kind.make(lambda x: x, decorator), 5) == 5
    error = KeyError("k")

    def fail():
        raise error

    assert kind.ended(kind.make(fail, decorator)) == Ended(exception=error)
    assert error.__context__ is None
    assert witness.told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED", "PRE_EXECUTION", "POST_FAILURE", "COMPLETED"]


def test_async_observers_run_in_the_task_and_context_of_the_call():
    tasks = []

    class Noting(AsyncWitness):
        async def update(self, context):
            await asyncio.sleep(0)
            tasks.append(asyncio.current_task())
            variable.set("set by the observer")

    @CallPyBack([Noting()])
    async def function():
        return variable.get()

    async def main():
        value = await function()
        return value, set(tasks) == {asyncio.current_task()}

    assert asyncio.run(main()) == ("set by the observer", True)


def test_an_async_observer_is_skipped_while_a_coroutine_is_closed():
    told_async, told = AsyncWitness(name="async"), Witness()
    decorator = CallPyBack([told_async, told])
    begun = Kind("coroutine").make(lambda: 5, decorator)()
    begun.send(None)  # the async observer suspends first
    begun.send(None)  # the body does
    begun.close()
    assert told_async.told == ["PRE_EXECUTION"]
    assert told.told == ["PRE_EXECUTION", "COMPLETED"]
    assert told.outcome is Outcome.ABANDONED


def test_a_task_cancelled_while_an_async_observer_is_awaited_is_cancelled():
    told, ran = Witness(priority=-1), []

    class Stuck(AsyncWitness):
        async def update(self, context):
            if context.state.name == "PRE_EXECUTION":
                await asyncio.Event().wait()

    @CallPyBack([Stuck(), told])
    async def function():
        ran.append(1)

    async def main():
        task = asyncio.create_task(function())
        await asyncio.sleep(0)
        task.cancel("why")
        result = await outcome_of(task)
        return task.cancelled(), result.exception.args

    assert asyncio.run(main()) == (True, ("why",))
    assert not ran
    assert told.told == ["PRE_EXECUTION", "COMPLETED"]
    assert told.outcome is Outcome.CANCELLED


def test_a_cancelled_error_of_an_async_observers_own_is_its_failure():  # E27
    class Confused(AsyncWitness):
        async def update(self, context):
            raise asyncio.CancelledError("its own")

    @CallPyBack([Confused()])
    async def function():
        return 5

    assert asyncio.run(function()) == 5


def test_calls_made_by_an_async_observer_are_unobserved_and_those_of_other_tasks_are_not():
    told = Witness()
    decorator = CallPyBack([told])

    @decorator
    async def function(who):
        return who

    class Calling(AsyncWitness):
        async def update(self, context):
            if context.state.name == "PRE_EXECUTION":
                await function("observer")
                await asyncio.sleep(0)

    @CallPyBack([Calling()])
    async def watched():
        return "body"

    async def main():
        return await asyncio.gather(watched(), function("other task"))

    assert asyncio.run(main()) == ["body", "other task"]
    assert {context.arguments["who"] for context in told.contexts} == {"other task"}


@pytest.mark.parametrize("name", ["plain", "generator", "method"])
def test_an_async_observer_is_refused_where_nothing_awaits_it(name):
    with pytest.raises(ValueError, match=r"is async, and .* there is nothing to await it"):
        Kind(name).make(lambda: 5, CallPyBack([AsyncWitness()]))


def test_a_coroutine_leaves_no_frame_behind(observed):
    class Item:
        pass

    @observed
    async def function(item):
        local = item
        await pause()
        return id(local)

    item = Item()
    drive(function(item))
    reference = weakref.ref(item)
    for observer in observed.observers:
        vars(observer).get("contexts", []).clear()
    del item
    assert reference() is None


def test_a_coroutine_never_awaited_warns_by_its_own_name(observed):
    begun = Kind("coroutine").make(lambda: 5, observed)()
    with pytest.warns(RuntimeWarning, match="coroutine 'function' was never awaited"):
        del begun


def test_the_wait_of_a_coroutine_is_shown_by_its_awaited_coroutine(observed):
    begun = Kind("coroutine").make(lambda: 5, observed)()
    begun.send(None)
    assert begun.cr_await.__name__ == "function"
    assert begun.cr_frame.f_code.co_name == "function"
    begun.close()
