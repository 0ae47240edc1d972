"""How observers that fail are counted, logged, paused and tried again."""

from __future__ import annotations

import gc
import logging
import weakref

import pytest

from callpyback import (
    CallPyBack,
    CallVetoed,
    ConfigurationError,
    ExecutionState,
    MockTimeSource,
    StopProcessing,
    handle,
)
from callpyback.core.health import COOL_DOWN
from kinds import Witness


class Failing:
    """Fails at the states of one set while `fails`."""

    priority = 1

    def __init__(self, *at: ExecutionState, name: str = "failing", **options) -> None:
        self.at = set(at)
        self.name = name
        self.fails = True
        self.told = []
        vars(self).update(options)

    def update(self, context) -> None:
        self.told.append(context.state.name)
        if self.fails and (not self.at or context.state in self.at):
            raise LookupError(context.state.name)


@pytest.fixture
def clock():
    return MockTimeSource(1000)


def watched(kind, clock, *observers, **options):
    function = kind.make(lambda: "value", CallPyBack(observers, time_source=clock, **options))
    return function, handle(function)


def test_an_observer_is_healthy_until_it_fails(kind, clock):
    function, known = watched(kind, clock, Failing(fails=False), Witness())
    kind.call(function)
    assert [(h.name, h.failures, h.failures_in_a_row, h.paused, h.last_error) for h in known.health.values()] == [
        ("failing", 0, 0, False, None),
        ("witness", 0, 0, False, None),
    ]


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_after_so_many_calls_in_a_row_with_a_failure_an_observer_is_paused(kind, clock, limit):
    failing, witness = Failing(), Witness()
    function, known = watched(kind, clock, failing, witness, max_observer_failures=limit)
    for call in range(1, limit + 1):
        assert not known.health["failing"].paused
        kind.call(function)
        assert known.health["failing"].failures_in_a_row == call
    assert known.health["failing"].paused
    told = len(failing.told)
    kind.call(function)
    assert len(failing.told) == told
    assert len(witness.contexts) == 3 * (limit + 1)
    assert known.health["failing"].last_error == "LookupError: " + failing.told[-1]


def test_the_default_limit_is_five(clock):
    function = CallPyBack([Failing()], time_source=clock)(lambda: None)
    paused = []
    for _ in range(5):
        function()
        paused.append(handle(function).health["failing"].paused)
    assert paused == [False] * 4 + [True]


def test_several_failures_in_one_call_count_once_in_a_row(kind, clock):
    function, known = watched(kind, clock, Failing(), max_observer_failures=2)
    kind.call(function)
    assert (known.health["failing"].failures, known.health["failing"].failures_in_a_row) == (3, 1)
    assert not known.health["failing"].paused


def test_an_observer_paused_in_a_call_is_told_no_more_of_it(kind, clock):
    failing = Failing(ExecutionState.PRE_EXECUTION)
    function, _ = watched(kind, clock, failing, max_observer_failures=1)
    kind.call(function)
    assert failing.told == ["PRE_EXECUTION"]


def test_only_a_whole_call_without_a_failure_ends_the_row(kind, clock):
    failing = Failing(ExecutionState.COMPLETED)
    function, known = watched(kind, clock, failing, max_observer_failures=3)
    for _ in range(2):
        kind.call(function)
    assert known.health["failing"].failures_in_a_row == 2  # though PRE_EXECUTION and POST_SUCCESS went well
    failing.fails = False
    kind.call(function)
    assert known.health["failing"].failures_in_a_row == 0
    failing.fails = True
    for _ in range(2):
        kind.call(function)
    assert not known.health["failing"].paused
    assert known.health["failing"].failures == 4


def test_after_the_cool_down_one_call_tries_a_paused_observer(kind, clock):
    failing = Failing()
    function, known = watched(kind, clock, failing, max_observer_failures=1)
    kind.call(function)
    clock.advance(COOL_DOWN - 0.1)
    kind.call(function)
    assert failing.told == ["PRE_EXECUTION"]
    clock.advance(0.1)
    kind.call(function)  # the probe fails at its first state
    kind.call(function)
    assert failing.told == ["PRE_EXECUTION"] * 2
    assert known.health["failing"].paused
    clock.advance(COOL_DOWN)
    failing.fails = False
    kind.call(function)  # the whole call goes well
    assert failing.told == ["PRE_EXECUTION"] * 3 + ["POST_SUCCESS", "COMPLETED"]
    assert (known.health["failing"].paused, known.health["failing"].failures_in_a_row) == (False, 0)
    kind.call(function)
    assert len(failing.told) == 8


def test_a_probe_that_fails_at_its_last_state_pauses_again(kind, clock):
    failing = Failing()
    function, known = watched(kind, clock, failing, max_observer_failures=1)
    kind.call(function)
    failing.at = {ExecutionState.COMPLETED}
    clock.advance(COOL_DOWN)
    kind.call(function)
    assert failing.told[1:] == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]
    assert known.health["failing"].paused
    kind.call(function)
    assert len(failing.told) == 4


def test_enable_observer_ends_the_pause_at_once(kind, clock):
    failing = Failing()
    function, known = watched(kind, clock, failing, max_observer_failures=1)
    kind.call(function)
    known.enable_observer("failing")
    assert not known.health["failing"].paused
    failing.fails = False
    kind.call(function)
    assert failing.told == ["PRE_EXECUTION"] * 2 + ["POST_SUCCESS", "COMPLETED"]
    known.enable_observer(failing)  # one that is not paused stays as it is
    with pytest.raises(ConfigurationError, match="not registered"):
        known.enable_observer("somebody")


def test_failures_are_counted_per_decorator_and_over_all_its_functions(clock):
    shared = Failing()
    first, second = CallPyBack([shared], time_source=clock), CallPyBack([shared], time_source=clock)
    one, other, elsewhere = first(lambda: 1), first(lambda: 2), second(lambda: 3)
    for function in (one, other, one, other, one):
        function()
    assert handle(one).health["failing"].paused
    assert handle(other).health["failing"].paused
    assert handle(elsewhere).health["failing"].failures == 0
    told = len(shared.told)
    elsewhere()
    assert len(shared.told) == told + 3


def test_a_critical_observer_is_never_paused(clock):
    critical = Failing(critical=True)
    function = CallPyBack([critical], time_source=clock, max_observer_failures=1)(lambda: "value")
    for _ in range(4):
        with pytest.raises(LookupError):
            function()
    assert not handle(function).health["failing"].paused
    assert len(critical.told) == 4 * 2


@pytest.mark.parametrize("decision", [CallVetoed("no"), StopProcessing(5), StopProcessing()], ids=repr)
def test_a_decision_is_no_failure(kind, clock, decision):
    class Deciding(Failing):
        states = frozenset({ExecutionState.PRE_EXECUTION})

        def update(self, context) -> None:
            raise StopProcessing(kind.answer(5)) if getattr(decision, "has_value", False) else decision

    function, known = watched(kind, clock, Deciding(), max_observer_failures=1)
    for _ in range(3):
        kind.ended(function)
    assert known.health["failing"].failures == 0


def test_equal_names_are_told_apart(clock):
    function = CallPyBack([Failing(), Failing(), Failing()], time_source=clock)(lambda: None)
    function()
    assert list(handle(function).health) == ["failing", "failing#2", "failing#3"]
    assert [h.name for h in handle(function).health.values()] == ["failing", "failing#2", "failing#3"]


def records_of(caplog, part: str) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "callpyback" and part in r.getMessage()]


def test_a_failure_is_logged_once_a_minute_with_the_number_in_between(caplog, clock):
    caplog.set_level(logging.WARNING, "callpyback")
    function = CallPyBack([Failing(ExecutionState.COMPLETED)], time_source=clock, max_observer_failures=1000)(lambda: 1)
    for _ in range(100):
        function()
    assert len(records_of(caplog, "failed at COMPLETED")) == 1
    clock.advance(59)
    function()
    assert len(records_of(caplog, "failed at")) == 1
    clock.advance(1)
    function()
    [first, second] = records_of(caplog, "failed at")
    assert "failing" in first
    assert "LookupError: COMPLETED" in first
    assert "100 more" in second


def test_each_observer_has_its_own_share_of_the_log(caplog, clock):
    caplog.set_level(logging.WARNING, "callpyback")
    observers = [Failing(name=f"number {number}") for number in range(3)]
    function = CallPyBack(observers, time_source=clock)(lambda: None)
    function()
    assert [sum(f"number {n} failed" in text for text in records_of(caplog, "failed")) for n in range(3)] == [1, 1, 1]


def test_pausing_is_logged(caplog, clock):
    caplog.set_level(logging.WARNING, "callpyback")
    function = CallPyBack([Failing()], time_source=clock, max_observer_failures=2)(lambda: None)
    for _ in range(4):
        function()
    assert len(records_of(caplog, "paused after failing in 2 calls")) == 1


class BrokenSource:
    def now(self):
        raise RuntimeError("no clock")


def test_without_a_clock_failures_are_still_logged_rarely_and_observers_still_paused(caplog):
    caplog.set_level(logging.WARNING, "callpyback")
    failing = Failing()
    function = CallPyBack([failing], time_source=BrokenSource(), max_observer_failures=2)(lambda: None)
    for _ in range(50):
        function()
    assert len(records_of(caplog, "failed at")) == 1
    assert failing.told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED", "PRE_EXECUTION"]


def test_an_observer_that_failed_and_was_removed_is_let_go():
    decorator, failing = CallPyBack(), Failing()
    decorator.add_observer(failing)
    function = decorator(lambda: "value")
    function()
    decorator.remove_observer(failing)
    reference = weakref.ref(failing)
    del failing
    gc.collect()
    assert reference() is None


def test_a_removed_observer_stays_removed_when_it_is_enabled(clock):
    decorator, failing = CallPyBack(time_source=clock), Failing()
    decorator.add_observer(failing)
    function = decorator(lambda: "value")
    decorator.remove_observer(failing)
    with pytest.raises(ConfigurationError, match="not registered"):
        handle(function).enable_observer(failing)
    function()
    assert failing.told == []


def test_weak_observers_that_are_gone_are_forgotten():
    decorator = CallPyBack()
    function = decorator(lambda: "value")
    for _ in range(20):
        decorator.add_observer(Witness(), weak=True)
        handle(function).add_observer(Witness(), weak=True)
        gc.collect()
        function()
    assert (decorator.observers, handle(function).observers, handle(function).health) == ((), (), {})
    assert decorator.get_metrics()["observer_count"] == 0


def test_a_clock_that_fails_only_while_pausing_delays_the_next_try_but_does_not_prevent_it():
    clock, failing = MockTimeSource(), Failing()
    broken = [True]

    class Sometimes:
        def now(self) -> float:
            if broken:
                raise RuntimeError("no clock")
            return clock.now()

    function = CallPyBack([failing], time_source=Sometimes(), max_observer_failures=1)(lambda: None)
    function()
    broken.clear()
    failing.fails = False
    for _ in range(3):
        clock.advance(COOL_DOWN)
        function()
    assert not handle(function).health["failing"].paused
