"""EventBus: the events that handlers return, breadth-first; stopping; emitting from inside a handler."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time

import pytest

from callpyback import ConfigurationError, EndlessEvents, Event, EventBus, MockTimeSource, StopProcessing
from kinds import drive

NEVER = object()


@pytest.fixture
def bus():
    return EventBus()


def processed(bus, name):
    """Emit an event and return the names of all that were processed."""
    names = []
    bus.register(lambda event: names.append(event.name), "last", priority=-1000)
    bus.emit(name)
    bus.unregister("last")
    return names


def returning(bus, answers, **asked):
    """Register a handler that answers by the name of the event; a text with blanks stands for events of these names."""

    def answer(event):
        given = answers.get(event.name)
        return [Event(name) for name in given.split()] if isinstance(given, str) else given

    bus.register(answer, **asked)


class TestReturnedEvents:
    def test_they_are_processed_breadth_first_in_the_order_they_were_returned(self, bus):
        returning(bus, {"a": "b c", "b": "d", "c": "e"})
        returning(bus, {"a": "f"})
        assert processed(bus, "a") == ["a", "b", "c", "f", "d", "e"]

    @pytest.mark.parametrize(
        "several",
        [list, tuple, iter, lambda events: (event for event in events), lambda events: dict.fromkeys(events).keys()],
        ids=["list", "tuple", "iterator", "generator", "keys"],
    )
    def test_several_may_come_in_any_iterable(self, bus, several):
        returning(bus, {"a": several([Event("b"), Event("c")])})
        assert processed(bus, "a") == ["a", "b", "c"]

    def test_event_that_is_handled_is_no_new_one(self, bus):
        bus.register(lambda event: event)
        assert processed(bus, "a") == ["a"]

    @pytest.mark.parametrize("is_async", [False, True])
    def test_emit_of_another_bus_is_a_handler(self, bus, is_async):
        other, told = EventBus(), []
        other.register(told.append)
        bus.register(other.aemit if is_async else other.emit)
        event = drive(bus.aemit("a")) if is_async else bus.emit("a")
        assert told == [event]

    def test_one_needs_no_list(self, bus):
        returning(bus, {"a": Event("b")})
        assert processed(bus, "a") == ["a", "b"]

    @pytest.mark.parametrize(
        "value",
        [0, 7, True, "b", b"b", {"b": 1}, 1.5, object(), [], Event],
        ids=lambda value: repr(value).partition(" at 0x")[0],
    )
    def test_what_is_no_event_is_dropped(self, bus, value):
        returning(bus, {"a": value if value != "b" else NEVER})
        assert processed(bus, "a") == ["a"]
        assert bus.health["answer"].failures == 0

    def test_text_is_no_list_of_events(self, bus):
        bus.register(lambda event: "abc", "handler")
        bus.emit("x")
        assert bus.health["handler"].failures == 0

    def test_stranger_among_events_is_the_handlers_failure_and_none_of_them_is_processed(self, bus):
        returning(bus, {"a": [Event("b"), "c"]})
        assert processed(bus, "a") == ["a"]
        assert bus.health["answer"].last_error == (
            "TypeError: returned 'c' (str) among events: expected nothing but events"
        )

    def test_nameless_event_is_the_handlers_failure_too(self, bus):
        class Nameless(Event):
            @property
            def name(self):
                raise LookupError("no name")

        returning(bus, {"a": Nameless()})
        assert processed(bus, "a") == ["a"]
        assert bus.health["answer"].last_error == "LookupError: no name"

    def test_generator_runs_in_the_handlers_turn(self, bus):
        done = []

        @bus.register
        def first(event):
            done.append("first begins")
            if event.name == "a":
                yield Event("b")
            done.append("first ends")

        bus.register(lambda event: done.append(event.name))
        bus.emit("a")
        assert done == ["first begins", "first ends", "a", "first begins", "first ends", "b"]

    def test_generator_that_fails_half_way_is_a_failure(self, bus):
        @bus.register
        def broken(event):
            if event.name == "a":
                yield Event("b")
                raise ValueError("half way")

        assert processed(bus, "a") == ["a"]
        assert bus.health["broken"].last_error == "ValueError: half way"

    def test_each_has_the_time_at_which_it_is_processed(self):
        clock = MockTimeSource(10.0)
        bus = EventBus(time_source=clock, history=9)

        @bus.register
        def handler(event):
            clock.advance(1)
            return Event("b") if event.name == "a" else None

        bus.emit("a")
        assert [event.timestamp for event in bus.history] == [10.0, 11.0]

    def test_they_are_processed_where_the_first_one_was_emitted(self, bus):
        child = bus.child("below")
        names = []
        child.register(lambda event: names.append(event.name))
        returning(bus, {"a": "b"})
        child.emit("a")
        assert names == ["a", "b"]

    @pytest.mark.parametrize("fan_out", [1, 2, 1000])
    def test_events_that_return_themselves_end_with_an_error_of_the_handler(self, fan_out):
        bus = EventBus(max_returned_events=5000)
        count = 0

        @bus.register
        def again(event):
            nonlocal count
            count += 1
            return [event] * fan_out

        begun = time.monotonic()
        bus.emit("a")
        assert time.monotonic() - begun < 10
        assert count <= 5001
        assert bus.health["again"].failures == 1
        assert "EndlessEvents: more than 5000 events" in bus.health["again"].last_error
        bus.unregister("again")
        assert processed(bus, "a") == ["a"]

    def test_endless_generator_ends_the_same_way(self):
        bus = EventBus(max_returned_events=100)

        @bus.register
        def endless(event):
            while event.name == "a":
                yield Event("b")

        assert processed(bus, "a") == ["a"]
        assert bus.health["endless"].failures == 1

    def test_emitter_gets_the_error_by_choice(self):
        bus = EventBus(errors="raise", max_returned_events=10)
        bus.register(lambda event: [event])
        with pytest.raises(EndlessEvents, match="more than 10 events"):
            bus.emit("a")

    def test_as_many_as_there_may_be_are_processed(self):
        bus = EventBus(max_returned_events=3)
        returning(bus, {"a": "b c", "b": "d"})
        assert processed(bus, "a") == ["a", "b", "c", "d"]


class TestStopProcessing:
    @pytest.mark.parametrize(
        "value", [None, 0, "refused", Event("x"), NEVER], ids=["None", "0", "text", "event", "object"]
    )
    def test_value_ends_everything_and_is_what_process_returns(self, bus, value):
        names = []
        returning(bus, {"a": "b c"}, priority=3)

        @bus.register(priority=2, events="b")
        def stop(event):
            raise StopProcessing(value)

        bus.register(lambda event: names.append(event.name))
        assert bus.process("a") is value
        assert names == ["a"]

    def test_without_a_value_only_this_event_ends(self, bus):
        names = []
        returning(bus, {"a": "b"}, priority=3)

        @bus.register(priority=2, events="a")
        def stop(event):
            raise StopProcessing

        bus.register(lambda event: names.append(event.name))
        assert bus.process("a") is None
        assert names == ["b"]

    def test_it_is_no_failure(self, bus):
        @bus.register
        def stop(event):
            raise StopProcessing

        for _ in range(20):
            bus.emit("a")
        assert bus.health["stop"].failures == 0

    def test_emit_returns_the_event_all_the_same(self, bus):
        @bus.register
        def stop(event):
            raise StopProcessing(7)

        event = Event("a")
        assert bus.emit(event) is event
        assert bus.process("a") == 7

    def test_value_of_an_event_inside_an_event_ends_the_inner_one_alone(self, bus):
        answers = []

        @bus.register(events="inner")
        def stop(event):
            raise StopProcessing("inner")

        @bus.register(events="outer")
        def ask(event):
            answers.append(bus.process("inner"))

        bus.register(lambda event: answers.append(event.name), events="outer")
        assert bus.process("outer") is None
        assert answers == ["inner", "outer"]

    def test_events_returned_after_the_end_are_dropped(self, bus):
        @bus.register
        def stop(event):
            yield Event("b")
            raise StopProcessing(1)

        assert bus.process("a") == 1


class TestEmittingInsideAHandler:
    def test_emitted_events_are_processed_at_once_and_returned_ones_later(self, bus):
        names = []

        @bus.register(events="a")
        def handler(event):
            bus.emit("emitted")
            return Event("returned")

        bus.register(lambda event: names.append(event.name))
        bus.emit("a")
        assert names == ["emitted", "a", "returned"]

    @pytest.mark.parametrize("fan_out", [1, 3])
    def test_handler_that_emits_what_it_handles_fails_once_and_the_others_are_told(self, bus, fan_out, caplog):
        told = []

        @bus.register
        def again(event):
            for _ in range(fan_out):
                bus.emit(event.name)

        bus.register(lambda event: told.append(event.name), priority=-1)
        bus.emit("a")
        health = bus.health["again"]
        assert (health.failures, health.last_error[:15]) == (1, "RecursionError:")
        assert told == ["a"]
        assert "where handling it emits events that have it emitted again" in caplog.text

    def test_recursion_through_two_buses_is_one_too(self, bus):
        other = EventBus("other")

        def there(event):
            other.emit("b")
            other.emit("b")

        def back(event):
            bus.emit("a")
            bus.emit("a")

        bus.register(there)
        other.register(back)
        bus.emit("a")
        assert (bus.health["there"].failures, other.health["back"].failures) == (1, 0)

    def test_recursion_of_a_handlers_own_is_its_own_failure(self, bus):
        told = []

        def deeper(number):
            return deeper(number + 1)

        bus.register(lambda event: deeper(0), "deep")
        bus.register(lambda event: told.append(event.name))
        bus.emit("a")
        assert (told, bus.health["deep"].failures) == (["a"], 1)

    def test_the_process_survives_handlers_that_emit_for_ever(self):
        program = """
            import asyncio, sys, threading
            from callpyback import Event, EventBus
            sys.setrecursionlimit(3000)

            bus = EventBus()
            bus.register(lambda bus, event: [bus.emit(event), bus.emit(event)] and None, "again")

            async def again(bus, event):
                await bus.aemit(event)
                await bus.aemit(event)

            other = EventBus()
            other.register(again)
            threads = [threading.Thread(target=bus.emit, args=("x",)) for _ in range(3)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            asyncio.run(other.aemit("x"))
            print(bus.health["again"].failures, other.health["again"].failures)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout) == (0, "3 1\n"), done.stderr


def test_wrong_name_inside_a_handler_is_the_handlers_failure(bus):
    @bus.register
    def wrong(event):
        bus.emit(7)

    bus.emit("a")
    assert "ConfigurationError" in bus.health["wrong"].last_error
    with pytest.raises(ConfigurationError):
        bus.emit(7)
