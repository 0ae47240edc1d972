"""EventBus: async handlers are awaited by aemit, in order, and passed over by emit."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading

import pytest

from callpyback import BaseObserver, CallPyBack, Event, EventBus, MetricsObserver, StopProcessing, handle
from kinds import drive, pause


@pytest.fixture
def bus():
    bus = EventBus("shop")
    bus.log = []
    return bus


def register_both(bus):
    @bus.register
    async def slow(event):
        await pause()
        bus.log.append(("slow", event.name))

    @bus.register
    def plain(event):
        bus.log.append(("plain", event.name))


def test_aemit_awaits_one_handler_after_the_other_without_an_event_loop(bus):
    register_both(bus)
    event = Event("x")
    assert drive(bus.aemit(event)) is event
    assert bus.log == [("slow", "x"), ("plain", "x")]


def test_aemit_makes_an_event_of_a_name(bus):
    event = drive(bus.aemit("x", a=1))
    assert (event.name, event.data) == ("x", {"a": 1})


def test_emit_passes_async_handlers_over_counts_and_logs_that(bus, caplog):
    register_both(bus)
    for _ in range(9):
        bus.emit("x")
    assert bus.log == [("plain", "x")] * 9
    health = bus.health["slow"]
    assert (health.skipped, health.failures, health.paused) == (9, 0, False)
    assert "emit() can't await it" in health.last_error
    assert len(caplog.records) == 1


def test_emit_tells_the_emitter_where_errors_are_raised():
    bus = EventBus(errors="raise")

    @bus.register
    async def slow(event): ...

    with pytest.raises(TypeError, match="'slow' is async"):
        bus.emit("x")


def test_async_observer_is_awaited(bus):
    class Slow(BaseObserver):
        async def on_event(self, event):
            await pause()
            bus.log.append(event.name)

    bus.register_observer(Slow())
    drive(bus.aemit("x"))
    assert bus.log == ["x"]


def test_coroutine_that_a_plain_function_returns_is_awaited_or_refused_never_lost(bus, recwarn):
    async def slow(event):
        bus.log.append(event.name)

    bus.register(lambda event: slow(event), "handler")
    drive(bus.aemit("a"))
    bus.emit("b")
    gc.collect()
    assert bus.log == ["a"]
    assert bus.health["handler"].skipped == 1
    assert not recwarn.list


def test_task_that_a_handler_starts_is_its_own_business_in_emit(bus):
    async def main():
        async def slow():
            bus.log.append("done")

        tasks = []

        @bus.register
        def start(event):
            tasks.append(asyncio.get_running_loop().create_task(slow()))
            return tasks[0]

        bus.emit("x")
        await tasks[0]

    asyncio.run(main())
    assert bus.log == ["done"]
    assert bus.health["start"].failures == 0


def test_async_handlers_return_events_too(bus):
    @bus.register
    async def returns(event):
        await pause()
        return [Event("b"), Event("c")] if event.name == "a" else None

    @bus.register
    async def yields(event):
        await pause()
        if event.name == "b":
            yield Event("d")

    bus.register(lambda event: bus.log.append(event.name))
    drive(bus.aemit("a"))
    assert bus.log == ["a", "b", "c", "d"]


def test_endless_async_generator_is_bounded():
    bus = EventBus(max_returned_events=10)

    closed = []

    @bus.register
    async def endless(event):
        try:
            while event.name == "a":
                yield Event("b")
        finally:
            closed.append(event.name)

    drive(bus.aemit("a"))
    assert "more than 10" in bus.health["endless"].last_error
    assert closed == ["a"]


@pytest.mark.parametrize("value", [None, 7])
def test_aprocess_returns_the_value_of_the_stop(bus, value):
    @bus.register
    async def stop(event):
        await pause()
        raise StopProcessing(value)

    bus.register(lambda event: bus.log.append("never"))
    assert drive(bus.aprocess("x")) == value
    assert drive(bus.aprocess(Event("x"))) == value
    assert bus.log == []


def test_failures_of_async_handlers_are_isolated_counted_and_pause(bus):
    @bus.register
    async def fails(event):
        await pause()
        raise ValueError("broken")

    bus.register(lambda event: bus.log.append("next"))
    for _ in range(7):
        drive(bus.aemit("x"))
    assert bus.log == ["next"] * 7
    assert (bus.health["fails"].failures, bus.health["fails"].paused) == (5, True)


def test_success_of_an_async_handler_ends_its_run_of_failures(bus):
    @bus.register
    async def sometimes(event):
        await pause()
        if event.name == "bad":
            raise ValueError

    for _ in range(3):
        for name in ("bad", "bad", "bad", "good"):
            drive(bus.aemit(name))
    assert not bus.health["sometimes"].paused


def test_cancelled_task_tells_nobody_else_and_counts_no_failure(bus):
    async def main():
        begun = asyncio.Event()

        @bus.register
        async def waits(event):
            begun.set()
            await asyncio.Event().wait()

        bus.register(lambda event: bus.log.append("never"))
        task = asyncio.create_task(bus.aemit("x"))
        await begun.wait()
        task.cancel("why")
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert (task.cancelled(), caught.value.args) == (True, ("why",))

    asyncio.run(main())
    assert (bus.log, bus.health["waits"].failures) == ([], 0)


def test_cancellation_of_something_else_is_a_failure_of_the_handler(bus):
    async def main():
        @bus.register
        async def waits(event):
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

        bus.register(lambda event: bus.log.append("next"))
        await bus.aemit("x")

    asyncio.run(main())
    assert (bus.log, bus.health["waits"].failures) == (["next"], 1)


def test_closing_an_emission_half_way_closes_the_handler(bus):
    @bus.register
    async def waits(event):
        try:
            await pause()
        finally:
            bus.log.append("closed")

    emission = bus.aemit("x")
    emission.send(None)
    emission.close()
    assert bus.log == ["closed"]
    assert bus.health["waits"].failures == 0


def test_handlers_run_in_the_emitting_task_and_thread(bus):
    variable = contextvars.ContextVar("variable", default="unset")

    async def main():
        @bus.register
        async def sets(event):
            await asyncio.sleep(0)
            variable.set("set")
            bus.log.append((asyncio.current_task(), threading.get_ident()))

        await bus.aemit("x")
        assert bus.log == [(asyncio.current_task(), threading.get_ident())]
        assert variable.get() == "set"

    asyncio.run(main())


def test_emissions_of_several_tasks_keep_apart(bus):
    @bus.register
    async def slow(event):
        for _ in range(event.data["n"]):
            await asyncio.sleep(0)
        return Event("done", n=event.data["n"]) if event.name == "begun" else None

    bus.register(lambda event: bus.log.append(event.data["n"]), events="done")

    async def main():
        await asyncio.gather(*(bus.aemit("begun", n=number) for number in (5, 3, 1)))

    asyncio.run(main())
    assert bus.log == [1, 3, 5]


def test_what_async_handlers_call_is_observed(bus):
    metrics = MetricsObserver()

    @CallPyBack(observers=[metrics])
    async def book():
        return "booked"

    @bus.register
    async def handler(event):
        await book()

    drive(bus.aemit("x"))
    assert (metrics.get_metrics()["total_calls"], handle(book).unobserved) == (1, 0)


def test_async_handler_that_emits_what_it_handles_fails_once(bus):
    @bus.register
    async def again(event):
        await bus.aemit("x")
        await bus.aemit("x")

    asyncio.run(bus.aemit("x"))
    assert bus.health["again"].failures == 1


def test_handler_removed_while_another_is_awaited_is_told_no_more(bus):
    @bus.register
    async def first(event):
        await pause()
        bus.unregister("second")

    bus.register(lambda event: bus.log.append("second"), "second")
    drive(bus.aemit("x"))
    assert bus.log == []


def test_trio_may_drive_it_and_cancel_it(bus):
    trio = pytest.importorskip("trio")

    @bus.register
    async def waits(event):
        bus.log.append("begun")
        await trio.sleep_forever()

    async def main():
        with trio.move_on_after(0.01) as scope:
            await bus.aemit("x")
        return scope.cancelled_caught

    assert trio.run(main)
    assert (bus.log, bus.health["waits"].failures) == (["begun"], 0)
