"""EventBus: buses by name, above and below each other; bubbling, broadcasting, explaining."""

from __future__ import annotations

import pytest

from callpyback import (
    BaseObserver,
    ConfigurationError,
    Event,
    EventBus,
    MockTimeSource,
    StopProcessing,
    get_event_bus,
)


@pytest.fixture
def family():
    """Three buses, one below the other, each with a handler that notes where it heard of what."""
    top = EventBus("top")
    buses = {"top": top, "middle": top.child("middle"), "bottom": top.child("middle").child("bottom")}
    top.log = []
    for name, bus in buses.items():
        bus.register(lambda event, name=name: top.log.append((name, event.name)), "note")
    return buses


class TestNames:
    def test_same_name_is_the_same_bus(self):
        assert get_event_bus("family.one") is get_event_bus("family").child("one")
        assert get_event_bus("family.one.two") is get_event_bus("family").child("one.two")
        assert get_event_bus() is get_event_bus("main")
        assert get_event_bus("family.two") is not get_event_bus("family.one")

    def test_name_is_shown_with_those_above(self, family):
        assert [bus.name for bus in family.values()] == ["top", "top.middle", "top.middle.bottom"]
        assert EventBus().child("alone").name == "alone"
        assert (family["bottom"].parent, family["top"].parent) == (family["middle"], None)

    @pytest.mark.parametrize("name", ["", None, 7, ".", "a..b", "a."])
    def test_name_that_is_none_is_refused(self, name):
        with pytest.raises(ConfigurationError, match="name="):
            get_event_bus(name)
        with pytest.raises(ConfigurationError, match="name="):
            EventBus().child(name)

    def test_options_are_given_where_the_bus_is_first_asked_for(self):
        bus = get_event_bus("family.options", history=1)
        bus.emit("x")
        assert len(bus.history) == 1
        with pytest.raises(ConfigurationError, match="already"):
            get_event_bus("family.options", history=5)
        with pytest.raises(ConfigurationError, match="already"):
            get_event_bus("family").child("options", bubble=False)
        assert get_event_bus("family.options") is bus

    def test_options_that_there_are_not_leave_no_bus_behind(self):
        with pytest.raises(TypeError, match="histori"):
            get_event_bus("family.wrong", histori=1)
        assert get_event_bus("family.wrong", history=1).name == "family.wrong"

    def test_child_inherits_how_it_works_but_not_what_it_keeps(self):
        clock = MockTimeSource(7.0)
        top = EventBus("top", errors="raise", history=9, deduplicate=9, max_observer_failures=2, time_source=clock)
        below = top.child("below")
        assert below.emit("x").timestamp == 7.0
        assert (below.history, len(top.history)) == ([], 1)

        @below.register
        def fails(event):
            raise ValueError

        with pytest.raises(ValueError):
            below.emit("x")

    def test_unknown_option_is_a_type_error(self):
        with pytest.raises(TypeError, match="histori"):
            EventBus().child("below", histori=3)


class TestBubbling:
    def test_event_is_heard_on_its_bus_first_and_then_above(self, family):
        family["bottom"].emit("x")
        family["middle"].emit("y")
        family["top"].emit("z")
        assert family["top"].log == [
            ("bottom", "x"), ("middle", "x"), ("top", "x"), ("middle", "y"), ("top", "y"), ("top", "z"),
        ]  # fmt: skip

    def test_priority_counts_within_a_bus(self, family):
        family["top"].register(lambda event: family["top"].log.append("high"), "high", priority=1000)
        family["middle"].emit("x")
        assert family["top"].log == [("middle", "x"), "high", ("top", "x")]

    def test_child_that_does_not_bubble_keeps_to_itself(self, family):
        apart = family["top"].child("apart", bubble=False)
        apart.register(lambda event: family["top"].log.append("apart"))
        apart.child("below").emit("x")
        assert family["top"].log == ["apart"]

    def test_stop_ends_the_way_up(self, family):
        @family["middle"].register(priority=1)
        def stop(event):
            raise StopProcessing

        family["bottom"].emit("x")
        assert family["top"].log == [("bottom", "x")]

    def test_those_above_remember_what_came_up(self):
        top = EventBus("top", history=5)
        event = top.child("below").emit("x")
        assert top.history == [event]

    def test_bus_above_knows_repeated_events_by_itself(self):
        top = EventBus("top", deduplicate=5)
        told = []
        top.register(lambda event: told.append("top"))
        below = top.child("below")
        below.register(lambda event: told.append("below"))
        event = below.emit("x")
        below.emit(event)
        top.emit(event)
        assert (told, top.duplicates, below.duplicates) == (["below", "top", "below"], 2, 0)

    def test_failure_above_is_isolated_too(self, family):
        @family["top"].register(priority=5)
        def fails(event):
            raise ValueError

        family["bottom"].emit("x")
        assert len(family["top"].log) == 3
        assert family["top"].health["fails"].failures == 1

    def test_handler_registered_above_later_is_heard(self, family):
        family["bottom"].emit("x")
        family["top"].register(lambda event: family["top"].log.append("late"))
        family["bottom"].emit("x")
        assert family["top"].log[-1] == "late"

    def test_requirement_that_can_not_be_met_above_is_found_below(self, family):
        family["top"].register(lambda event: None, "report", requires="audit")
        for learns in (family["bottom"].check, lambda: family["bottom"].emit("x")):
            with pytest.raises(ConfigurationError, match="bus 'top' is called that"):
                learns()

    def test_closing_closes_those_below(self, family):
        family["top"].close()
        family["bottom"].emit("x")
        assert family["top"].log == []


class TestBroadcast:
    def test_subscriber_gets_exactly_what_was_broadcast(self):
        broker = get_event_bus("broadcast.one")
        got = []
        broker.broadcast_sent.connect(lambda *args, **kwargs: got.append((args, kwargs)))
        broker.broadcast("positional arg", keyword_arg=None)
        assert got == [(("positional arg",), {"keyword_arg": None})]

    def test_broadcast_comes_up_to_those_above(self, family):
        got = []
        for name, bus in family.items():
            bus.broadcast_sent.connect(lambda value, name=name: got.append((name, value)))
        apart = family["top"].child("apart", bubble=False)
        apart.broadcast(0)
        family["middle"].broadcast(1)
        assert got == [("middle", 1), ("top", 1)]

    def test_publisher_needs_no_subscriber_and_subscriber_no_publisher(self):
        get_event_bus("broadcast.two").broadcast("nobody listens")


class TestExplaining:
    @pytest.fixture
    def bus(self):
        bus = EventBus("shop")
        bus.register(lambda event: None, "everything")
        bus.register(lambda event: None, "orders", match="order.*", priority=5)
        bus.register(lambda event: None, "users", match=["user.*", "account.*"])
        bus.register(lambda event: None, "large", match="order.*", when=lambda event: event.data["total"] > 100)
        return bus

    def test_event_names_who_hears_it_in_order_and_why_others_do_not(self, bus):
        assert str(bus.explain(Event("order.paid", total=5))) == (
            "'order.paid' on bus 'shop' is heard by\n"
            "1. orders: it hears of order.*\n"
            "2. everything: it hears of every event\n"
            "not by users: it hears only of user.*, account.*\n"
            "not by large: its predicate says no"
        )

    def test_name_leaves_predicates_open(self, bus):
        told = {known.name: known.hears for known in bus.explain("order.paid")}
        assert told == {"orders": True, "everything": True, "large": None, "users": False}

    def test_true_predicate_says_so(self, bus):
        [large] = [known for known in bus.explain(Event("order.paid", total=500)) if known.name == "large"]
        assert (large.hears, large.reason) == (True, "it hears of order.*, and its predicate says yes")

    def test_predicate_that_fails_is_shown(self, bus):
        [large] = [known for known in bus.explain(Event("order.paid")) if known.name == "large"]
        assert (large.hears, large.reason) == (False, "its predicate fails: KeyError: 'total'")

    def test_nobody_is_told_and_nothing_remembered(self, bus):
        def fails(event):
            raise ValueError

        bus.register(fails)
        before = bus.health
        bus.explain("order.paid")
        assert (bus.health, bus.history) == (before, [])

    def test_pause_and_async_are_reasons(self):
        bus = EventBus(max_observer_failures=1)

        @bus.register
        def fails(event):
            raise ValueError("broken")

        @bus.register
        async def slow(event): ...

        bus.emit("x")
        reasons = {known.name: known.reason for known in bus.explain("x")}
        assert reasons["fails"] == "it is paused after 1 failures in a row, the last: ValueError: broken"
        assert "only aemit() and aprocess() tell it" in reasons["slow"]

    def test_classes_and_interest_are_reasons(self):
        class Paid(Event):
            pass

        class ByName(BaseObserver):
            def on_event(self, event): ...

            def is_interested(self, event_type: str) -> bool:
                return event_type == "y"

        bus = EventBus()
        bus.register(lambda event: None, "paid", events=Paid)
        bus.register_observer(ByName())
        reasons = {known.name: known.reason for known in bus.explain("x").others}
        assert reasons == {"paid": "it hears only of Paid", "ByName": "it is not interested in 'x'"}
        assert [known.name for known in bus.explain(Paid()).hearers] == ["paid"]

    def test_repeated_event_is_a_reason(self):
        bus = EventBus(deduplicate=5)
        bus.register(lambda event: None, "handler")
        event = bus.emit("x")
        assert [known.reason for known in bus.explain(event).others] == ["the event was processed already"]
        assert [known.hears for known in bus.explain("x")] == [True]

    def test_those_above_are_shown_with_their_bus(self, family):
        assert str(family["middle"].explain("x")) == (
            "'x' on bus 'top.middle' is heard by\n"
            "1. note: it hears of every event\n"
            "2. note on bus 'top': it hears of every event"
        )

    def test_nobody_is_an_answer(self):
        assert str(EventBus("empty").explain("x")) == "'x' on bus 'empty' is heard by nobody"
