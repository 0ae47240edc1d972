"""Observers of the calls inside a `with`: told of what this thread or task and what it starts calls, until it ends."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import gc
import os
import queue
import threading
import weakref

import pytest
import trio

from callpyback import (
    BaseObserver,
    CallPyBack,
    CallVetoed,
    ConfigurationError,
    ExecutionState,
    MetricsObserver,
    RateLimitObserver,
    Subscription,
    add_global_observer,
    handle,
    observing,
    on_completion,
    remove_global_observer,
)
from callpyback.core.plan import EMPTY, STALE
from callpyback.core.visitors import VISITORS, inside
from kinds import WAYS, BoundWitness, Witness, drive
from test_concurrency import hurried, in_threads
from watching import run_python

__all__ = ["hurried"]

TOLD = ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]
COMPLETED = ExecutionState.COMPLETED


@pytest.fixture(autouse=True)
def every_scope_is_closed():
    """What a test opens it closes, and no context is left inside."""
    yield
    left = (VISITORS.open_scopes, inside.get())
    inside.set(())
    assert left == (0, ())


def ends():
    return Witness(COMPLETED)


@CallPyBack()
def work(value="done"):
    return value


@CallPyBack()
async def work_async(value="done"):
    await asyncio.sleep(0)
    return value


def test_calls_inside_are_told_and_others_are_not(kind):
    function = kind.make(lambda: 1, CallPyBack())
    kind.call(function)
    with observing(Witness()) as witness:
        kind.call(function)
        later = kind.make(lambda: 2, CallPyBack())
        kind.call(later)
    kind.call(function), kind.call(later)
    assert witness.told == TOLD * 2


def test_calls_inside_are_told_however_else_they_are_observed(kind):
    for way in WAYS.values():
        function = kind.make(lambda: "value", way())
        kind.call(function)
        with observing(Witness()) as witness:
            assert kind.call(function) == "value"
        kind.call(function)
        assert witness.told == TOLD


def test_what_raises_inside_is_told_and_ends_the_scope():
    function = CallPyBack()(lambda: 1 / 0)
    witness = Witness()
    with pytest.raises(ZeroDivisionError), observing(witness):
        function()
    assert witness.told == ["PRE_EXECUTION", "POST_FAILURE", "COMPLETED"]
    assert VISITORS.open_scopes == 0


def test_filters_states_and_subscriptions(kind):
    function = kind.make(lambda n: n, CallPyBack(), parameters="n")
    with (
        observing(Witness(), COMPLETED, match="*function", when=lambda context: context.arguments["n"] > 1) as picky,
        observing(Subscription(metrics := MetricsObserver(), match="nobody")) as target,
    ):
        for n in range(3):
            kind.call(function, n)
        work()
    assert [context.arguments["n"] for context in picky.contexts] == [2]
    assert target is metrics
    assert metrics.get_metrics()["total_calls"] == 0


@pytest.mark.parametrize("observer", [5, None, Witness], ids=repr)
def test_what_is_no_observer_is_refused_and_opens_nothing(observer):
    with pytest.raises(ConfigurationError), observing(observer):
        pytest.fail("opened")


def test_nested_scopes_are_told_in_order_and_each_until_it_ends():
    with observing(ends()) as outer:
        work(1)
        with observing(ends()) as inner:
            work(2)
        work(3)
    work(4)
    values = [[context.result.value for context in witness.contexts] for witness in (outer, inner)]
    assert values == [[1, 2, 3], [2]]


def test_the_same_observer_in_nested_scopes_is_told_once():
    witness = ends()
    with observing(witness), observing(witness):
        work()
    assert len(witness.told) == 1


def test_the_same_observer_global_registered_and_in_a_scope_is_told_once(kind):
    witness = ends()
    function = kind.make(lambda: 1, CallPyBack([witness]))
    add_global_observer(witness)
    try:
        with observing(witness):
            kind.call(function)
            work()
    finally:
        remove_global_observer(witness)
    assert len(witness.told) == 2


def test_scopes_that_overlap_without_being_nested_end_each_for_itself():
    def open_for(witness):
        with observing(witness):
            yield

    first, second = ends(), ends()
    one, two = open_for(first), open_for(second)
    next(one), next(two)
    work(1)
    one.close()
    work(2)
    two.close()
    work(3)
    values = [[context.result.value for context in witness.contexts] for witness in (first, second)]
    assert values == [[1], [1, 2]]


def test_one_scope_object_can_be_entered_again_and_in_several_threads():
    scope = observing(witness := ends())
    for _ in range(2):
        with scope:
            work("main")
    with scope, scope:
        work("main")
    entered, go_on = threading.Event(), threading.Event()

    def elsewhere():
        with scope:
            entered.set()
            go_on.wait()
            work("thread")

    thread = threading.Thread(target=elsewhere)
    thread.start()
    entered.wait()
    with scope:
        go_on.set()
        thread.join()
        work("main")
    values = [context.result.value for context in witness.contexts]
    assert values == ["main"] * 3 + ["thread", "main"]


# What is started inside


def in_thread(job):
    thread = threading.Thread(target=job)
    thread.start()
    thread.join()


def in_subclass(job):
    class Own(threading.Thread):
        def run(self):
            job()

    thread = Own()
    thread.start()
    thread.join()


def in_timer(job):
    timer = threading.Timer(0, job)
    timer.start()
    timer.join()


def in_thread_of_a_thread(job):
    in_thread(lambda: in_thread(job))


def in_pool_made_here(job):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(job).result()


def in_to_thread(job):
    asyncio.run(asyncio.to_thread(job))


def in_task(job):
    async def task():
        job()

    async def main():
        await asyncio.create_task(task())
        await asyncio.gather(asyncio.sleep(0))

    asyncio.run(main())


def in_callback_of_the_loop(job):
    async def main():
        done = asyncio.Event()
        asyncio.get_running_loop().call_soon(lambda: (job(), done.set()))
        await done.wait()

    asyncio.run(main())


def in_trio(job):
    async def child():
        job()

    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)

    trio.run(main)


def in_a_thread_of_trio(job):
    async def main():
        await trio.to_thread.run_sync(job)

    trio.run(main)


def in_a_copied_context(job):
    contextvars.copy_context().run(job)


STARTED = [
    in_thread,
    in_subclass,
    in_timer,
    in_thread_of_a_thread,
    in_pool_made_here,
    in_to_thread,
    in_task,
    in_callback_of_the_loop,
    in_trio,
    in_a_thread_of_trio,
    in_a_copied_context,
]


@pytest.mark.parametrize("start", STARTED, ids=lambda start: start.__name__)
def test_what_is_started_inside_counts(start):
    with observing(ends()) as witness:
        start(work)
    start(work)
    assert len(witness.told) == 1


def test_threads_that_were_there_before_do_not_count():
    jobs = queue.SimpleQueue()
    done = queue.SimpleQueue()

    def worker():
        while (job := jobs.get()) is not None:
            done.put(job())

    thread = threading.Thread(target=worker)
    thread.start()
    with observing(ends()) as witness:
        jobs.put(work)
        assert done.get() == "done"
    jobs.put(None)
    thread.join()
    assert witness.told == []


def test_threads_started_inside_count_until_the_scope_ends():
    go_on, called = threading.Semaphore(0), threading.Semaphore(0)
    new = []

    def thread_of_the_scope():
        for _ in range(3):
            go_on.acquire()
            [function() for function in (work, *new)]
            called.release()

    witness = ends()
    with observing(witness):
        thread = threading.Thread(target=thread_of_the_scope)
        thread.start()
        go_on.release()
        called.acquire()
    new.append(CallPyBack()(lambda: 1))  # which has never met the scope
    go_on.release()
    called.acquire()
    with observing(ends()) as other:  # while any scope is open, calls go another way
        go_on.release()
        called.acquire()
    thread.join()
    assert (len(witness.told), other.told) == (1, [])


def test_a_scope_of_one_thread_says_nothing_of_another(hurried):
    def calling(number):
        for round_ in range(100):
            with observing(ends()) as witness:
                work((number, round_))
                work((number, round_))
            work("outside")
            assert [context.result.value for context in witness.contexts] == [(number, round_)] * 2

    in_threads(calling)


def test_tasks_of_one_loop_have_scopes_of_their_own():
    async def task(number):
        with observing(ends()) as witness:
            for _ in range(5):
                await work_async(number)
                await asyncio.gather(work_async(number), asyncio.to_thread(work, number))
        await work_async("outside")
        return [context.result.value for context in witness.contexts] == [number] * 15

    async def main():
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(task(number)) for number in range(20)]
        return [task.result() for task in tasks]

    assert asyncio.run(main()) == [True] * 20


def test_a_task_group_inside_counts_and_a_task_from_before_does_not():
    async def main():
        go_on = asyncio.Event()

        async def waiting():
            await go_on.wait()
            await work_async("before")

        before = asyncio.create_task(waiting())
        with observing(ends()) as witness:
            go_on.set()
            await before
            async with asyncio.TaskGroup() as group:
                group.create_task(work_async("inside"))
                await work_async("here")
        return sorted(context.result.value for context in witness.contexts)

    assert asyncio.run(main()) == ["here", "inside"]


def test_scopes_in_trio_tasks_stay_apart():
    witnesses = [ends() for _ in range(5)]

    async def child(number):
        with observing(witnesses[number]):
            for _ in range(3):
                work(number)
                await trio.lowlevel.checkpoint()

    async def main():
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(child, number)

    trio.run(main)
    assert [[c.result.value for c in witness.contexts] for witness in witnesses] == [[n] * 3 for n in range(5)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
def test_a_fork_inside_a_scope_goes_on_inside_and_forgets_the_scopes_of_other_threads():
    program = """
        import os, threading
        from callpyback import CallPyBack, ExecutionState, handle, observing
        from callpyback.core.visitors import VISITORS
        from kinds import Witness
        work = CallPyBack()(lambda: 1)
        opened, close = threading.Event(), threading.Event()

        def elsewhere():
            with observing(Witness()):
                opened.set()
                close.wait()

        threading.Thread(target=elsewhere).start()
        opened.wait()
        witness = Witness(ExecutionState.COMPLETED)
        child = -1
        with observing(witness):
            child = os.fork()
            work()
        work()
        work()
        if child == 0:
            straight = handle(work).current_plan().is_empty
            os._exit(10 * len(witness.told) + VISITORS.open_scopes + (0 if straight else 5))
        _, status = os.waitpid(child, 0)
        close.set()
        print(os.waitstatus_to_exitcode(status), len(witness.told))
    """
    assert run_python(program) == "10 1"


# Calls that begin inside and end outside, and the other way round


def test_a_generator_begun_inside_and_finished_outside_is_told_no_more():
    @CallPyBack()
    def items():
        yield 1
        yield 2

    with observing(Witness()) as witness:
        running = items()
        next(running)
    assert list(running) == [2]
    assert witness.told == ["PRE_EXECUTION"]


def test_a_generator_begun_before_is_not_told():
    @CallPyBack()
    def items():
        yield 1
        yield 2

    running = items()
    next(running)
    with observing(Witness()) as witness:
        assert list(running) == [2]
        assert list(items()) == [1, 2]
    assert witness.told == TOLD


def test_a_coroutine_made_outside_and_awaited_inside_begins_inside():
    made = work_async()
    with observing(Witness()) as witness:
        assert asyncio.run(made) == "done"
    assert witness.told == TOLD


def test_a_scope_that_ends_during_a_call_ends_its_telling():
    stack = contextlib.ExitStack()
    witness = stack.enter_context(observing(Witness()))
    CallPyBack()(stack.close)()
    assert witness.told == ["PRE_EXECUTION"]


def test_a_scope_that_opens_during_a_call_hears_of_the_next():
    stack = contextlib.ExitStack()
    witness = Witness()
    CallPyBack()(lambda: stack.enter_context(observing(witness)))()
    work()
    stack.close()
    assert witness.told == TOLD


# What the observer is


def test_bound_observers_guards_and_critical_ones_in_a_scope(kind):
    class Critical(Witness):
        critical = True

        def update(self, context):
            raise LookupError("no")

    function = kind.make(lambda: 1, CallPyBack())
    with observing(BoundWitness()) as bound, observing(RateLimitObserver(1, 60)):
        assert kind.call(function) == 1
        assert isinstance(kind.ended(function).exception, CallVetoed)
    assert (bound.begun, len(bound.ends)) == (2, 2)
    with observing(Critical()):
        assert isinstance(kind.ended(function).exception, LookupError)
    assert kind.call(function) == 1


def test_scoped_observers_stand_in_order_with_the_functions_own_guard_and_critical_one(kind):
    told = []

    class Own(Witness):
        def update(self, context):
            told.append(self.name)

    function = kind.make(
        lambda: 1,
        CallPyBack(
            [Own(COMPLETED, name="critical", critical=True), Own(COMPLETED, name="guard", guard=True, priority=5)]
        ),
    )
    with (
        observing(Own(COMPLETED, name="scoped", priority=2)),
        observing(Own(COMPLETED, name="last"), requires=("critical", "not here")),
    ):
        kind.call(function)
    assert told == ["guard", "scoped", "critical", "last"]


def test_an_async_observer_is_awaited_where_it_can_be(caplog):
    class Awaited(Witness):
        async def update(self, context):
            await asyncio.sleep(0)
            super().update(context)

    async def main():
        with observing(Awaited()) as awaited:
            await work_async()
            work()
            work()
        return awaited.told

    assert asyncio.run(main()) == TOLD
    assert len([record for record in caplog.records if "hears nothing of work" in record.getMessage()]) == 1


def test_a_failing_observer_hurts_nobody_and_is_paused_on_each_decorator():
    class Failing(Witness):
        def update(self, context):
            super().update(context)
            raise LookupError

    function = CallPyBack(max_observer_failures=2)(lambda: 1)
    with observing(Failing(COMPLETED)) as failing:
        assert [function() for _ in range(4)] == [1] * 4
        assert handle(function).health["witness"].paused
    assert len(failing.told) == 2
    assert handle(function).health == {}


def test_health_and_explain_show_scopes_from_inside_alone():
    with observing(Witness(COMPLETED, name="inner")):
        assert list(handle(work).health) == ["inner"]
        assert [str(hearing) for hearing in handle(work).explain()] == ["inner hears COMPLETED"]
    assert handle(work).health == {}
    assert handle(work).explain() == []


# As a decorator, as a fixture


def test_as_a_decorator_it_opens_a_scope_around_each_call():
    witness = ends()

    @observing(witness, match="*work")
    def test(depth):
        work()
        return test(depth - 1) if depth else "done"

    assert (test(2), test.__name__) == ("done", "test")
    work()
    assert len(witness.told) == 3


def test_as_a_decorator_of_a_coroutine_function_too():
    witness = ends()

    @observing(witness)
    async def test(number):
        await asyncio.gather(*(work_async() for _ in range(number)))

    async def main():
        await asyncio.gather(test(2), test(3))
        await work_async()

    asyncio.run(main())
    assert len(witness.told) == 5


@pytest.mark.parametrize("target", ["generator", "async generator", 5, None])
def test_what_it_could_not_be_around_is_refused(target):
    def items():
        yield 1

    async def items_async():
        yield 1

    with pytest.raises(ConfigurationError, match=r"with observing"):
        observing(Witness())({"generator": items, "async generator": items_async}.get(target, target))


@pytest.fixture
def observed_by_fixture():
    with observing(ends()) as witness:
        yield witness


def test_as_a_fixture_it_is_open_for_the_test(observed_by_fixture):
    work()
    in_thread(work)
    assert len(observed_by_fixture.told) == 2


def test_an_async_fixture_may_be_left_in_another_context_than_it_was_entered():
    witness = ends()

    async def fixture():
        with observing(witness):
            work()
            yield

    fixed = fixture()
    contextvars.copy_context().run(drive, fixed.__anext__())
    with pytest.raises(StopAsyncIteration):
        contextvars.copy_context().run(drive, fixed.__anext__())
    work()
    assert len(witness.told) == 1


# Nothing is left


@pytest.mark.parametrize(
    "make",
    [Witness, BoundWitness, MetricsObserver, lambda: on_completion(lambda outcome: None)],
    ids=["contexts", "bound", "metrics", "callback"],
)
def test_nothing_is_left_of_a_scope(kind, make):
    function = kind.make(lambda: 1, CallPyBack())
    kind.call(function)
    code, plan = handle(function).wrapper.__code__.co_code, handle(function).current_plan()
    with observing(make()) as observer:
        kind.call(function)
    reference = weakref.ref(observer)
    del observer
    gc.collect()
    assert reference() is None
    kind.call(function)
    assert handle(function).current_plan() is plan is EMPTY
    assert handle(function).wrapper.__code__.co_code == code
    assert not handle(function)._plans


def test_the_straight_path_comes_back_after_the_last_scope(kind):
    function = kind.make(lambda: 1, CallPyBack([Witness()]))
    kind.call(function)
    shape = handle(function)._cell.cell_contents.shape
    with observing(Witness()):
        with observing(Witness()):
            kind.call(function)
        assert handle(function)._cell.cell_contents is STALE
        kind.call(function)
    kind.call(function)
    assert handle(function)._cell.cell_contents.shape == shape > 0


def test_while_another_scope_is_open_nothing_is_left_of_one_that_closed():
    def one():
        with observing(BoundWitness()) as bound:
            work()
            assert len(bound.ends) == 1
        return weakref.ref(bound)

    with observing(BoundWitness()) as outer:
        references = [one() for _ in range(100)]
        gc.collect()
        assert [reference() for reference in references] == [None] * 100
        assert len(handle(work)._plans) <= 1
    assert len(outer.ends) == 100


def test_a_thread_that_outlives_the_scope_does_not_keep_the_observer():
    go_on = threading.Event()

    def one():
        with observing(Witness()) as witness:
            thread = threading.Thread(target=go_on.wait)
            thread.start()
            in_thread(work)
        return weakref.ref(witness), thread

    reference, thread = one()
    gc.collect()
    try:
        assert reference() is None
    finally:
        go_on.set()
        thread.join()


def test_functions_are_collected_inside_a_scope():
    with observing(MetricsObserver()):

        def foo(): ...

        decorator = CallPyBack()
        wrapped = decorator(foo)
        wrapped()
        references = [weakref.ref(known) for known in (foo, wrapped, decorator)]
        del foo, wrapped, decorator
        gc.collect()
        assert [reference() for reference in references] == [None] * 3


def test_opening_a_scope_does_not_ask_about_functions_that_are_not_called():
    asked = []
    others = [CallPyBack()(lambda: 1) for _ in range(50)]
    with observing(Witness(match=lambda signature: asked.append(signature.name))):
        work()
    assert asked.count("<lambda>") == 0
    assert len(others) == 50


def test_threads_are_as_they_were_outside_scopes():
    class Refusing(threading.Thread):
        """Does not let its `run` be replaced."""

        ran = False

        def __setattr__(self, name, value):
            if name == "run":
                raise AttributeError(name)
            super().__setattr__(name, value)

        def run(self):
            self.ran = True

    with observing(ends()):
        refusing = Refusing()
        refusing.start()
        refusing.join()
        started = threading.Thread(target=work)
        started.start()
        started.join()
        with pytest.raises(RuntimeError, match="only be started once"):
            started.start()
    assert refusing.ran
    assert threading.Thread.start.__name__ == "start"


def test_options_are_given_to_the_observer(kind):
    class Configured(BaseObserver):
        limit = 0

        def update(self, context): ...

    with observing(Configured(), options={"limit": 5}) as configured:
        kind.call(kind.make(lambda: 1, CallPyBack()))
        assert configured.limit == 5
