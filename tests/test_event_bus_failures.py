"""EventBus: what a handler raises changes nothing for anybody else, is counted, pauses it; or reaches the emitter."""

from __future__ import annotations

import asyncio
import logging

import pytest

from callpyback import BaseObserver, Event, EventBus, MockTimeSource, StopProcessing


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


@pytest.fixture
def clock():
    return MockTimeSource(1000.0)


@pytest.fixture
def bus(clock):
    bus = EventBus("shop", time_source=clock)
    bus.failing = True
    bus.told = []

    @bus.register
    def fails(event):
        bus.told.append("fails")
        if bus.failing:
            raise ValueError("broken")

    bus.register(lambda event: bus.told.append("next"), "next")
    return bus


@pytest.mark.parametrize(
    "error", [ValueError("broken"), Unprintable(), AssertionError(), ExceptionGroup("g", [OSError()])]
)
def test_others_are_told_and_the_emitter_hears_nothing(error):
    bus, told = EventBus(), []

    @bus.register
    def fails(event):
        raise error

    bus.register(lambda event: told.append(event))
    event = bus.emit("x")
    assert told == [event]
    assert bus.health["fails"].failures == 1


def test_failure_is_counted_and_logged_once_a_minute(bus, clock, caplog):
    for _ in range(3):
        bus.emit("order.paid")
    clock.advance(61)
    bus.emit("order.paid")
    texts = [record.getMessage() for record in caplog.records]
    assert texts == [
        "observer fails failed at 'order.paid' on bus 'shop': ValueError: broken",
        "observer fails failed at 'order.paid' on bus 'shop': ValueError: broken (2 more since the last report)",
    ]
    assert bus.health["fails"].failures == 4
    assert bus.health["next"].failures == 0


def test_name_of_an_event_stays_on_one_line_of_the_log(bus, caplog):
    bus.emit("order\npaid")
    assert "\n" not in caplog.records[0].getMessage()


def test_handler_that_fails_again_and_again_is_paused_then_tried_once_after_a_while(bus, clock, caplog):
    for _ in range(7):
        bus.emit("x")
    assert bus.told.count("fails") == 5
    assert bus.health["fails"].paused
    clock.advance(31)
    for _ in range(3):
        bus.emit("x")
    assert bus.told.count("fails") == 6
    clock.advance(31)
    bus.failing = False
    for _ in range(3):
        bus.emit("x")
    assert bus.told.count("fails") == 9
    health = bus.health["fails"]
    assert (health.paused, health.failures, health.failures_in_a_row) == (False, 6, 0)
    assert bus.told.count("next") == 13


def test_one_success_ends_a_run_of_failures(bus):
    for _ in range(10):
        bus.failing = True
        for _ in range(4):
            bus.emit("x")
        bus.failing = False
        bus.emit("x")
    assert (bus.health["fails"].paused, bus.told.count("fails")) == (False, 50)


def test_event_that_the_handler_does_not_want_ends_no_run_of_failures(clock):
    bus = EventBus(time_source=clock)

    @bus.register(when=lambda event: event.data["wanted"])
    def fails(event):
        raise ValueError

    for _ in range(5):
        bus.emit("x", wanted=True)
        bus.emit("x", wanted=False)
    assert bus.health["fails"].paused


def test_event_that_a_paused_handler_does_not_want_is_no_trial(clock):
    bus, told = EventBus(time_source=clock), []

    @bus.register(when=lambda event: event.data["wanted"])
    def fails(event):
        told.append(event)
        if len(told) <= 5:
            raise ValueError

    for _ in range(6):
        bus.emit("x", wanted=True)
    clock.advance(31)
    for _ in range(3):
        bus.emit("x", wanted=False)
    bus.emit("x", wanted=True)
    bus.emit("x", wanted=True)
    assert len(told) == 7
    assert not bus.health["fails"].paused


def test_paused_handler_is_enabled_by_hand(bus):
    for _ in range(5):
        bus.emit("x")
    bus.failing = False
    bus.enable_observer("fails")
    bus.emit("x")
    assert bus.told.count("fails") == 6


def test_number_of_failures_before_the_pause_is_a_choice():
    bus = EventBus(max_observer_failures=1)
    told = []

    @bus.register
    def fails(event):
        told.append(event)
        raise ValueError

    bus.emit("x")
    bus.emit("x")
    assert len(told) == 1


def test_handler_removed_while_paused_is_not_tried_again(bus, clock):
    for _ in range(5):
        bus.emit("x")
    bus.unregister("fails")
    clock.advance(100)
    bus.emit("x")
    assert bus.told.count("fails") == 5


def test_ctrl_c_passes_and_ends_the_telling():
    bus, told = EventBus(), []

    @bus.register
    def interrupted(event):
        raise KeyboardInterrupt

    bus.register(told.append)
    with pytest.raises(KeyboardInterrupt):
        bus.emit("x")
    assert (told, bus.health["interrupted"].failures) == ([], 0)


@pytest.mark.parametrize("error", [SystemExit(5), GeneratorExit(), asyncio.CancelledError()], ids=repr)
def test_end_of_a_handlers_own_is_its_failure(error):
    bus, told = EventBus(), []

    @bus.register
    def ends(event):
        raise error

    bus.register(told.append)
    bus.emit("x")
    assert (len(told), bus.health["ends"].failures) == (1, 1)


def test_log_that_fails_hurts_nobody(bus):
    class Broken(logging.Filter):
        def filter(self, record):
            raise RuntimeError("log is broken")

    broken = Broken()
    logger = logging.getLogger("callpyback")
    logger.addFilter(broken)
    try:
        bus.emit("x")
    finally:
        logger.removeFilter(broken)
    assert bus.told == ["fails", "next"]


def test_clock_that_fails_hurts_nobody():
    class Broken:
        def now(self):
            raise OSError("no clock")

    bus = EventBus(time_source=Broken())

    @bus.register
    def fails(event):
        raise ValueError

    for _ in range(8):
        bus.emit("x")
    assert bus.health["fails"].failures == 5


class TestRaising:
    def test_emitter_gets_the_first_error_once_everyone_has_been_told(self):
        bus, told = EventBus(errors="raise"), []
        first, second = ValueError("first"), ValueError("second")

        @bus.register
        def one(event):
            raise first

        @bus.register
        def two(event):
            raise second

        bus.register(told.append)
        with pytest.raises(ValueError, match="first") as caught:
            bus.emit("x")
        assert caught.value is first
        assert first.__context__ is None
        assert len(told) == 1
        assert (bus.health["one"].failures, bus.health["two"].failures) == (1, 1)

    def test_returned_events_are_dropped(self):
        bus, names = EventBus(errors="raise"), []

        @bus.register
        def returns(event):
            names.append(event.name)
            return Event("b") if event.name == "a" else None

        @bus.register
        def fails(event):
            raise ValueError

        with pytest.raises(ValueError):
            bus.emit("a")
        assert names == ["a"]

    def test_nobody_is_paused(self):
        bus = EventBus(errors="raise")

        @bus.register
        def fails(event):
            raise ValueError

        for _ in range(20):
            with pytest.raises(ValueError):
                bus.emit("x")
        assert bus.health["fails"].failures == 20

    def test_stopping_is_no_error(self):
        bus = EventBus(errors="raise")

        @bus.register
        def stop(event):
            raise StopProcessing(5)

        assert bus.process("x") == 5

    def test_error_before_a_stop_reaches_the_emitter(self):
        bus = EventBus(errors="raise")

        @bus.register
        def fails(event):
            raise ValueError("first")

        @bus.register
        def stop(event):
            raise StopProcessing(5)

        with pytest.raises(ValueError, match="first"):
            bus.process("x")


class TestCriticalObservers:
    def test_its_error_reaches_the_emitter_and_it_is_never_paused(self):
        bus, told = EventBus(), []

        class Critical(BaseObserver):
            critical = True

            def on_event(self, event):
                raise PermissionError("not you")

        bus.register_observer(Critical())
        bus.register(told.append)
        for _ in range(8):
            with pytest.raises(PermissionError, match="not you"):
                bus.emit("x")
        assert len(told) == 8

    def test_other_handlers_stay_isolated(self, bus):
        class Critical(BaseObserver):
            critical = True

            def on_event(self, event):
                bus.told.append("critical")

        bus.register_observer(Critical())
        bus.emit("x")
        assert bus.told == ["fails", "next", "critical"]
