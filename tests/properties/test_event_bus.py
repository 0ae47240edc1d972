"""A bus does what a simple model of it does: order, filters, returned events, stopping; or says why not."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from callpyback import ConfigurationError, Event, EventBus, StopProcessing
from kinds import drive, pause

EVENTS = ["a", "b", "c", "d"]
NAMES = ["ada", "bob", "cyd", "dan", "eve"]


@dataclass(frozen=True)
class Act:
    """What a handler does with an event. It returns only events whose names come later, so that there is an end."""

    kind: str = "nothing"
    returned: tuple[str, ...] = ()
    value: Any = None


@dataclass
class Model:
    """A handler as the model knows it."""

    name: str
    bus: str
    priority: float
    requires: frozenset[str]
    hears: frozenset[str]
    acts: dict[str, Act] = field(default_factory=dict)


class Failed(Exception):
    pass


def acts():
    def of(event):
        later = EVENTS[EVENTS.index(event) + 1 :]
        kinds = ["nothing", "nothing", "fails", "stops", "ends"]
        returned = st.lists(st.sampled_from(later), max_size=3).map(lambda names: Act("returns", tuple(names)))
        plain = st.builds(Act, st.sampled_from(kinds), value=st.sampled_from([None, 0, "value"]))
        return st.one_of(plain, returned) if later else plain

    return st.fixed_dictionaries({event: of(event) for event in EVENTS})


def in_order(models):
    """The order of the model: what is required first, then priority, then registration; None if there is none."""
    names, told = {model.name for model in models}, []
    if any(not model.requires <= names for model in models):
        return None
    waiting = list(models)
    while waiting:
        done = {model.name for model in told}
        ready = [model for model in waiting if model.requires <= done]
        if not ready:
            return None
        best = max(ready, key=lambda model: model.priority)  # the first of equal ones
        told.append(best)
        waiting.remove(best)
    return told


class Buses(RuleBasedStateMachine):
    """A bus and one below it, on which handlers come, go, and do what they were told to do with an event."""

    @initialize(is_async=st.booleans())
    def begin(self, is_async):
        self.is_async = is_async
        self.top = EventBus("top", max_observer_failures=10**9, history=5)
        self.buses = {"top": self.top, "below": self.top.child("below")}
        self.models = {"top": [], "below": []}
        self.log = []
        self.failures = {}

    def handler(self, model):
        def act(event):
            self.log.append((model.bus, model.name, event.name))
            doing = model.acts[event.name]
            if doing.kind == "fails":
                raise Failed
            if doing.kind == "stops":
                raise StopProcessing
            if doing.kind == "ends":
                raise StopProcessing(doing.value)
            return [Event(name) for name in doing.returned] or None

        async def act_later(event):
            await pause()
            return act(event)

        return act_later if self.is_async and len(model.name) % 2 else act

    @rule(
        bus=st.sampled_from(["top", "below"]),
        name=st.sampled_from(NAMES),
        priority=st.sampled_from([-1, 0, 0, 1, 2.5]),
        requires=st.frozensets(st.sampled_from(NAMES), max_size=2),
        hears=st.one_of(st.just(frozenset(EVENTS)), st.frozensets(st.sampled_from(EVENTS), min_size=2)),
        acts=acts(),
        way=st.sampled_from(["events", "match", "when", "all"]),
    )
    def register(self, bus, name, priority, requires, hears, acts, way):
        if way == "all":
            hears = frozenset(EVENTS)
        asked = {
            "events": {"events": sorted(hears)},
            "match": {"match": [*hears]},
            "when": {"when": lambda event: event.name in hears},
            "all": {},
        }[way]
        model = Model(name, bus, priority, requires, hears, acts)
        handler = self.handler(model)
        if any(known.name == name for known in self.models[bus]):
            with pytest.raises(ConfigurationError, match=name):
                self.buses[bus].register(handler, name, priority=priority, requires=requires, **asked)
            return
        self.buses[bus].register(handler, name, priority=priority, requires=requires, **asked)
        self.models[bus].append(model)
        self.failures[bus, name] = 0

    @rule(bus=st.sampled_from(["top", "below"]), name=st.sampled_from(NAMES))
    def unregister(self, bus, name):
        known = [model for model in self.models[bus] if model.name == name]
        if not known:
            with pytest.raises(ConfigurationError, match=name):
                self.buses[bus].unregister(name)
            return
        self.buses[bus].unregister(name)
        self.models[bus].remove(known[0])

    @rule(bus=st.sampled_from(["top", "below"]), name=st.sampled_from(EVENTS), twice=st.booleans())
    def process(self, bus, name, twice):
        for _ in range(1 + twice):
            self.log.clear()
            lineage = ["below", "top"] if bus == "below" else ["top"]
            orders = [in_order(self.models[place]) for place in lineage]
            processing = self.run(self.buses[bus], name)
            if None in orders:
                with pytest.raises(ConfigurationError):
                    processing()
                assert self.log == []
                return
            if any(self.never_meet(order) for order in orders):
                with pytest.raises(ConfigurationError, match="requires"):
                    processing()
                assert self.log == []
                return
            log, value = self.expected(orders, name)
            assert processing() == value
            assert self.log == log

    def run(self, bus, name):
        if self.is_async:
            return lambda: drive(bus.aprocess(name))
        return lambda: bus.process(name)

    def never_meet(self, order):
        """Whether somebody requires one who names nothing of what it hears; those with `when` or all name nothing."""
        named = {model.name: self.named(model) for model in order}
        return any(
            named[model.name] and named[other] and not named[model.name] & named[other]
            for model in order
            for other in model.requires
        )

    def named(self, model):
        [listener] = [
            known for known in self.buses[model.bus]._channel.listeners if known.registration.name == model.name
        ]
        return set(listener.names)

    def expected(self, orders, name):
        log, pending, value = [], deque([name]), None
        while pending:
            event = pending.popleft()
            is_stopped = False
            for model in (model for order in orders for model in order):
                if is_stopped or event not in model.hears:
                    continue
                log.append((model.bus, model.name, event))
                act = model.acts[event]
                if act.kind == "fails":
                    self.failures[model.bus, model.name] += 1
                elif act.kind in ("stops", "ends"):
                    is_stopped = True
                    if act.kind == "ends":
                        return log, act.value
                pending += act.returned
        return log, value

    @invariant()
    def counts_are_exact(self):
        for bus, models in self.models.items():
            health = self.buses[bus].health
            assert {name: known.failures for name, known in health.items()} == {
                model.name: self.failures[bus, model.name] for model in models
            }

    @invariant()
    def explanation_agrees_with_the_order(self):
        order = in_order(self.models["top"])
        if order is None or self.never_meet(order):
            return
        for event in EVENTS:
            told = [known.name for known in self.top.explain(Event(event)).hearers]
            assert told == [model.name for model in order if event in model.hears]


TestBuses = pytest.mark.filterwarnings("default")(Buses.TestCase)
TestBuses.settings = settings(max_examples=120, stateful_step_count=25, deadline=None)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(-3, 3),
            st.frozensets(st.sampled_from(range(8)), max_size=3),
            st.frozensets(st.sampled_from(range(8)), max_size=2),
        ),
        max_size=8,
    )
)
def test_any_requirements_and_priorities_give_a_valid_order_or_an_error_that_names_somebody(handlers):
    bus, told = EventBus(), []
    for number, (priority, requires, required_by) in enumerate(handlers):
        bus.register(
            lambda event, number=number: told.append(number),
            f"handler{number}",
            priority=priority,
            requires=[f"handler{other}" for other in requires],
            required_by=[f"handler{other}" for other in required_by],
        )
    edges = {(other, number) for number, (_, requires, _) in enumerate(handlers) for other in requires}
    edges |= {(number, other) for number, (_, _, required_by) in enumerate(handlers) for other in required_by}
    unknown = [edge for edge in edges if max(edge) >= len(handlers)]
    models = [
        Model(str(number), "", priority, frozenset(str(one) for one, two in edges if two == number), frozenset())
        for number, (priority, _, _) in enumerate(handlers)
    ]
    expected = None if unknown else in_order(models)
    if expected is None:
        with pytest.raises(ConfigurationError, match=r"handler\d"):
            bus.check()
        with pytest.raises(ConfigurationError, match=r"handler\d"):
            bus.emit("x")
        assert told == []
        return
    bus.emit("x")
    assert told == [int(model.name) for model in expected]
    assert all(told.index(one) < told.index(two) for one, two in edges)


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=3),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
    st.builds(object), st.just(Event), st.just(Event("x")), st.functions(), st.just(print), st.just(int),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    parameter=st.sampled_from(
        ["name", "history", "errors", "deduplicate", "max_observer_failures", "max_returned_events", "time_source"]
    ),
    value=VALUES,
)
def test_any_value_for_any_option_makes_a_bus_that_works_or_a_configuration_error(parameter, value):
    try:
        bus = EventBus(**{parameter: value})
    except ConfigurationError as error:
        message = str(error)
    else:
        message = None
    if message is not None:
        assert f"{parameter}=" in message
        return
    got = []
    bus.register(got.append)
    bus.register(lambda event: [Event("y")] if event.name == "x" else None)
    bus.emit("x")
    assert [event.name for event in got] == ["x", "y"]


@settings(max_examples=400, deadline=None)
@given(
    parameter=st.sampled_from(
        ["handler", "name", "events", "match", "when", "priority", "requires", "required_by", "weak"]
    ),
    value=VALUES,
)
def test_any_value_at_any_registration_is_told_or_a_configuration_error(parameter, value):
    bus = EventBus()
    asked = {"handler": lambda event: None}
    asked[parameter] = value
    handler = asked.pop("handler")
    try:
        bus.register_observer(handler, **asked)
    except ConfigurationError:
        assert bus.get_registered_observers() == []
        return
    try:
        bus.emit("x")
    except ConfigurationError:
        assert parameter in ("requires", "required_by")  # a name that nobody has


@settings(max_examples=200, deadline=None)
@given(st.lists(VALUES, max_size=3), VALUES)
def test_any_event_is_processed_or_a_configuration_error(events, value):
    bus, told = EventBus(), []
    bus.register(lambda event: told.append(event.name))
    bus.register(lambda event: events if event.name == "first" else None, "returns")
    bus.emit("first")
    try:
        bus.emit(value)
    except ConfigurationError:
        assert not isinstance(value, Event)
    assert told[0] == "first"
