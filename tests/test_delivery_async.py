"""Async observers in the background: an event loop of their own, whatever they observe."""

from __future__ import annotations

import asyncio
import threading
import time

import freezegun

from callpyback import BaseObserver, CallPyBack, ExecutionState, handle, on_success
from callpyback.core.telling import TELLING
from delivering import LIMIT, Kept, background, counted, offered, worker_of

__all__ = ["background"]  # fixtures


class Loop(Kept):
    """Notes the loop it runs in."""

    async def update(self, context):
        await asyncio.sleep(0)
        self.seen.append(asyncio.get_running_loop())


def test_an_async_observer_works_around_every_kind_of_function(kind, background):
    sink = Loop()
    observer = background(sink)
    function = kind.make(lambda: "value", CallPyBack([observer]))
    assert kind.call(function) == "value"
    assert observer.flush(LIMIT)
    assert len(sink.seen) == 3


def test_an_async_observer_has_one_event_loop_of_its_own(background):
    sink = Loop()
    observer = background(sink)

    @CallPyBack([observer])
    async def function():
        return asyncio.get_running_loop()

    callers = asyncio.run(function())
    observer.flush(LIMIT)
    assert len(set(sink.seen)) == 1
    assert callers not in sink.seen


def test_an_async_callback_is_awaited(kind, background):
    async def publish(value):
        await asyncio.sleep(0)
        published.append(value)

    published, observer = [], background(on_success(publish))
    kind.call(kind.make(lambda: "value", CallPyBack([observer])))
    assert observer.flush(LIMIT)
    assert published == [kind.shown("value")]


def test_contexts_reach_an_async_observer_one_after_the_other(background):
    class Slow(Kept):
        async def update(self, context):
            self.seen.append(("begun", context))
            await asyncio.sleep(0.001)
            self.seen.append(("ended", context))

    sink = Slow()
    observer = background(sink)
    offered(observer, 1, 2, 3)
    observer.flush(LIMIT)
    assert sink.seen == [(step, number) for number in (1, 2, 3) for step in ("begun", "ended")]


def test_tasks_of_an_async_observer_go_on_while_it_waits_and_are_cancelled_in_the_end(background):
    went_on, ended = threading.Event(), []

    class Starting(BaseObserver):
        async def update(self, context):
            self.tasks = [asyncio.create_task(self.go_on()), asyncio.create_task(self.wait())]

        async def go_on(self):
            await asyncio.sleep(0.02)
            went_on.set()

        async def wait(self):
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

    observer = background(Starting())
    observer.update(1)
    assert observer.flush(LIMIT)
    assert went_on.wait(LIMIT)
    assert ended == []
    assert observer.shutdown(LIMIT)
    assert ended == ["cancelled"]


def test_what_a_task_of_an_async_observer_calls_is_not_observed(background):
    called = threading.Event()

    class Starting(BaseObserver):
        states = ExecutionState.COMPLETED

        async def update(self, context):
            self.task = asyncio.create_task(self.call())

        async def call(self):
            await asyncio.sleep(0.005)
            function()
            called.set()

    observer = background(Starting())
    function = CallPyBack([observer])(lambda: None)
    function()
    assert called.wait(LIMIT)
    assert handle(function).unobserved == 1
    assert observer.shutdown(LIMIT)
    assert observer.ledger == counted(offered=1, delivered=1)
    assert TELLING == []


def test_a_thread_that_waits_for_its_event_loop_is_not_marked_as_inside_an_observer(background):
    waiting = threading.Event()

    class Waiting(BaseObserver):
        async def update(self, context):
            asyncio.get_running_loop().call_soon(waiting.set)
            await asyncio.sleep(3600)

    observer = background(Waiting())
    observer.update(1)
    assert waiting.wait(LIMIT)
    deadline = time.monotonic() + LIMIT
    while TELLING and time.monotonic() < deadline:
        pass
    assert TELLING == []
    observer.shutdown(0)


def test_an_async_observer_that_hangs_is_cancelled_at_the_end_of_the_shutdown(background):
    class Hanging(Kept):
        async def update(self, context):
            reached.set()
            await asyncio.sleep(3600)

    reached, sink = threading.Event(), Hanging()
    observer = background(sink)
    offered(observer, 1, 2)
    assert reached.wait(LIMIT)
    thread = worker_of(observer)
    assert not observer.shutdown(0.01)
    assert observer.flush(LIMIT)
    assert observer.ledger == counted(offered=2, failed=1, shutdown=1)
    thread.join(LIMIT)
    assert not thread.is_alive()


def test_an_exit_out_of_a_task_of_an_async_observer_does_not_end_the_delivery(background):
    class Exiting(Kept):
        async def update(self, context):
            self.seen.append(context)
            if context == "exit":
                asyncio.create_task(self.exit()).add_done_callback(asyncio.Task.exception)
                await asyncio.sleep(3600)

        async def exit(self):
            raise SystemExit(3)

    sink = Exiting()
    observer = background(sink)
    offered(observer, 1, "exit", 2)
    assert observer.flush(LIMIT)
    assert sink.seen == [1, "exit", 2]
    assert observer.ledger == counted(offered=3, delivered=2, failed=1)


def test_an_async_observer_is_not_stopped_by_a_clock_that_stands_still(background):
    class Sleeping(Kept):
        async def update(self, context):
            await asyncio.sleep(0.001)
            self.seen.append(context)

    sink = Sleeping()
    observer = background(sink)
    with freezegun.freeze_time("2024-05-05"):
        observer.update(1)
        assert observer.flush(LIMIT)
    assert sink.seen == [1]
