"""The circuit breaker does what a simple model of it does, whatever calls, clocks and hands do in between.

The calls are generators, so that many are under way at once and end in any order; each belongs to one of a few keys.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from callpyback import CallPyBack, ExecutionState, MockTimeSource
from callpyback.errors import CallVetoed, CircuitOpen, ExecutionTimeout
from callpyback.guards.circuit import PROBE_PATIENCE
from callpyback.guards.circuit_breaker import CircuitBreakerObserver
from kinds import ended

KEYS = ("ann", "ben")

ENDS = {
    "returns": None,
    "fails": ConnectionResetError(),
    "is answered by another error": LookupError(),
    "runs out of time": ExecutionTimeout("inner", 1.0),
    "is cancelled": asyncio.CancelledError(),
    "is aborted": KeyboardInterrupt(),
    "is closed": GeneratorExit(),
}
FAILED, ANSWERED = {"fails"}, {"returns", "is answered by another error"}


@dataclass
class Model:
    """One circuit, as its documentation describes it."""

    threshold: int
    recovery_time: float
    state: str = "closed"
    failures: int = 0
    since: float = math.nan
    probe: int | None = None
    probe_since: float = math.nan
    stretch: int = 0
    calls: dict[int, int] = field(default_factory=dict)  # the stretch of time in which each was admitted
    opened: int = 0
    probes: int = 0
    refused: int = 0

    def turn(self, state: str, failures: int = 0, since: float = math.nan) -> None:
        self.opened += state == "open" != self.state
        self.state, self.failures, self.since, self.probe = state, failures, since, None
        self.stretch += 1

    def is_due(self, now: float) -> bool:
        return self.state == "open" and not 0 <= now - self.since < self.recovery_time

    def is_free(self, now: float) -> bool:
        is_lost = now - self.probe_since >= max(self.recovery_time, PROBE_PATIENCE)
        return self.state == "half-open" and (self.probe is None or is_lost)

    def admits(self, call: int, now: float) -> bool:
        if self.is_due(now):
            self.turn("half-open", self.failures)
        if self.is_free(now):
            self.probe, self.probe_since = call, now
            self.probes += 1
        elif self.state != "closed":
            self.refused += 1
            return False
        self.calls[call] = self.stretch
        return True

    def end(self, call: int, how: str, now: float) -> None:
        if self.calls.pop(call) != self.stretch:
            return
        if how in FAILED:
            self.failures += 1
            if self.state == "half-open" or self.failures >= self.threshold:
                self.turn("open", self.failures, now)
        elif how in ANSWERED:
            if self.state == "half-open":
                self.turn("closed")
            self.failures = 0
        elif self.probe == call:
            self.probe = None

    def wait(self, now: float) -> float | None:
        """Return the seconds of a refusal; None if a call is admitted."""
        if self.state == "closed" or self.is_due(now) or self.is_free(now):
            return None
        return self.recovery_time - (now - self.since) if self.state == "open" else self.recovery_time


class Later:
    """A later guard that refuses, when it is told to."""

    guard = True
    priority = 0
    states = ExecutionState.PRE_EXECUTION
    refuses = False

    def update(self, context) -> None:
        if self.refuses:
            raise CallVetoed


class Breaking(RuleBasedStateMachine):
    """Begins and ends calls in any order, and moves the clock, well and badly."""

    @initialize(
        threshold=st.integers(1, 3), recovery_time=st.sampled_from([0.0, 1.0, 10.0, 100.0]), with_keys=st.booleans()
    )
    def guard(self, threshold, recovery_time, with_keys) -> None:
        self.clock = MockTimeSource(1000.0)
        self.by_key = (lambda arguments: arguments["key"]) if with_keys else None
        self.breaker = CircuitBreakerObserver(
            threshold, recovery_time, on=(ConnectionError, PermissionError), key=self.by_key
        )
        self.later = Later()
        self.models = {key: Model(threshold, recovery_time) for key in (KEYS if with_keys else (None,))}
        self.under_way: dict[int, tuple] = {}
        self.begun = 0

        @CallPyBack([self.breaker, self.later], time_source=self.clock)
        def items(key):
            how = yield "begun"
            if ENDS[how] is not None:
                raise ENDS[how]

        self.function = items

    def of(self, key):
        key = key if self.by_key else None
        return self.models[key], {"key": key} if self.by_key else {}

    @rule(key=st.sampled_from(KEYS))
    def begin(self, key) -> None:
        self.begun += 1
        model, _ = self.of(key)
        now = self.clock.now()
        wait = model.wait(now)
        call = self.function(key)
        came = ended(lambda: next(call))
        assert (came.exception is None) is model.admits(self.begun, now) is (wait is None)
        if came.exception is None:
            self.under_way[self.begun] = (call, model)
        else:
            assert type(came.exception) is CircuitOpen
            assert came.exception.retry_after == wait

    @rule(key=st.sampled_from(KEYS))
    def begin_and_be_refused_by_a_later_guard(self, key) -> None:
        self.begun += 1
        model, _ = self.of(key)
        self.later.refuses = True
        came = ended(lambda: next(self.function(key)))
        self.later.refuses = False
        if model.admits(self.begun, self.clock.now()):
            assert type(came.exception) is CallVetoed
            model.end(self.begun, "is refused", self.clock.now())
        else:
            assert type(came.exception) is CircuitOpen

    @precondition(lambda self: self.under_way)
    @rule(at=st.integers(0, 99), how=st.sampled_from(list(ENDS)))
    def end(self, at, how) -> None:
        number = list(self.under_way)[at % len(self.under_way)]
        call, model = self.under_way.pop(number)
        if how == "is closed":
            call.close()
        else:
            came = ended(lambda: call.send(how))
            assert type(came.exception) is (StopIteration if ENDS[how] is None else type(ENDS[how]))
        model.end(number, how, self.clock.now())

    @rule(key=st.sampled_from(KEYS), times=st.integers(1, 3))
    def call_and_fail(self, key, times) -> None:
        for _ in range(times):
            self.begin(key)
            if self.begun in self.under_way:
                self.end(len(self.under_way) - 1, "fails")

    @rule(seconds=st.sampled_from([0.25, 1.0, 5.0, 10.0, 30.0, 100.0]))
    def wait(self, seconds) -> None:
        if math.isnan(self.clock.now()):
            self.clock.set_time(1000.0)
        self.clock.advance(seconds)

    @rule(reading=st.sampled_from([0.0, 995.0, math.nan]))
    def the_clock_goes_back_or_fails(self, reading) -> None:
        self.clock.set_time(reading)

    @rule(key=st.sampled_from(KEYS))
    def trip(self, key) -> None:
        model, which = self.of(key)
        self.breaker.trip(self.function, **which)
        model.turn("open", model.failures, self.clock.now())

    @rule(key=st.sampled_from(KEYS))
    def reset(self, key) -> None:
        model, which = self.of(key)
        self.breaker.reset(self.function, **which)
        model.turn("closed")

    @invariant()
    def states_are_those_of_the_model(self) -> None:
        for key, model in getattr(self, "models", {}).items():
            shown = "half-open" if model.is_due(self.clock.now()) else model.state
            assert self.breaker.state(self.function, **self.of(key)[1]) == shown

    @invariant()
    def metrics_are_those_of_the_model(self) -> None:
        models = getattr(self, "models", {})
        if not models:
            return
        [known] = self.breaker.get_metrics()["functions"].values()
        for name in ("opened", "probes", "refused"):
            assert known[name] == sum(getattr(model, name) for model in models.values())
        not_closed = sum(model.state != "closed" for model in models.values())
        if self.by_key:
            assert known["not_closed"] == len(known["circuits"]) == not_closed
        else:
            model = models[None]
            seconds = None if model.state == "closed" else model.wait(self.clock.now()) or 0.0
            assert known["failures_in_a_row"] == model.failures
            assert known["seconds_until_probe"] == seconds

    def teardown(self) -> None:
        for call, _ in getattr(self, "under_way", {}).values():
            call.close()


TestBreaking = Breaking.TestCase
TestBreaking.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
