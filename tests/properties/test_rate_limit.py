"""A rate limit does what a list of times would do, whatever calls come and however time passes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from callpyback import CallPyBack, MockTimeSource, Outcome
from callpyback.errors import RateLimitExceeded
from callpyback.guards.moving_window import MovingWindow
from callpyback.guards.rate_limit import RateLimitObserver
from kinds import KINDS, Witness

# Sums of these are exact, so that the model need not round as the limiter does.
seconds = st.integers(0, 200).map(lambda eighths: eighths / 8)
keys = st.integers(0, 5)


class Times:
    """The model of one limit: the times of the calls it admitted."""

    def __init__(self, admitted=()):
        self.admitted = list(admitted)

    def live(self, now, period):
        return [time for time in self.admitted if now - time < period]


class Limited(RuleBasedStateMachine):
    """A function limited by key, called while time passes; the model keeps every time of every key."""

    @initialize(
        max_calls=st.integers(1, 4),
        period=st.sampled_from([0.5, 3.0, 10.0]),
        max_keys=st.integers(1, 4),
        kind=st.sampled_from(KINDS),
    )
    def decorate(self, max_calls, period, max_keys, kind):
        self.time, self.kind, self.fails = MockTimeSource(100.0), kind, False
        self.max_calls, self.period, self.max_keys = max_calls, period, max_keys
        self.own, self.shared, self.of_key, self.ran = {}, None, {}, []
        self.limit = RateLimitObserver(max_calls, period, lambda arguments: arguments["key"], max_keys=max_keys)
        self.witness = Witness()
        self.function = kind.make(
            self.ran.append,
            CallPyBack([self.limit, self.witness], time_source=self, max_observer_failures=10**9),
            parameters="key",
        )
        self.admitted = self.refused = 0

    def now(self):
        return self.monotonic()

    def monotonic(self):
        if self.fails:
            raise OSError
        return self.time.monotonic()

    def expected(self, key):
        """Return the model of what decides about a key, made if need be."""
        if key in self.own:
            return self.own[key]
        now = self.time.now()
        self.own = {known: times for known, times in self.own.items() if times.live(now, self.period)}
        if len(self.own) >= self.max_keys:
            self.shared = self.shared or Times()
            return self.shared
        self.own[key] = Times(self.shared.live(now, self.period) if self.shared else ())
        return self.own[key]

    @rule(key=keys)
    def call(self, key):
        times, now, before = self.expected(key), self.time.now(), len(self.ran)
        live = times.live(now, self.period)
        error = self.kind.ended(self.function, key).exception
        if len(live) < self.max_calls:
            assert error is None
            assert self.ran[before:] == [key]
            assert self.witness.outcome is Outcome.SUCCESS
            times.admitted.append(now)
            self.of_key.setdefault(key, Times()).admitted.append(now)
            self.admitted += 1
        else:
            assert isinstance(error, RateLimitExceeded)
            assert error.retry_after == sorted(live)[-self.max_calls] + self.period - now
            assert len(self.ran) == before
            assert self.witness.outcome is Outcome.VETOED
            self.refused += 1

    @rule(key=keys, times=st.integers(2, 6))
    def call_often(self, key, times):
        for _ in range(times):
            self.call(key)

    @rule(key=keys)
    def wait_as_long_as_told(self, key):
        times = self.expected(key)
        error = self.kind.ended(self.function, key).exception
        if error is None:
            times.admitted.append(self.time.now())
            self.of_key.setdefault(key, Times()).admitted.append(self.time.now())
            self.admitted += 1
        else:
            self.refused += 1
            self.time.advance(error.retry_after)
            self.call(key)

    @rule(elapsed=seconds)
    def pass_time(self, elapsed):
        self.time.advance(elapsed)

    @rule(key=keys)
    def call_while_the_clock_fails(self, key):
        before = len(self.ran)
        self.fails = True
        error = self.kind.ended(self.function, key).exception
        self.fails = False
        assert error is None
        assert self.ran[before:] == [key]
        # Nothing is known to be idle then, so nothing is forgotten either.
        if key not in self.own and len(self.own) < self.max_keys:
            self.own[key] = Times(self.shared.admitted if self.shared else ())
        elif key not in self.own:
            self.shared = self.shared or Times()

    @rule()
    def start_anew(self):
        self.limit.reset()
        self.own, self.shared, self.of_key = {}, None, {}
        self.admitted = self.refused = 0

    @invariant()
    def numbers_are_right(self):
        assert self.limit.get_metrics() == {
            "admitted": self.admitted,
            "refused": self.refused,
            "functions": {
                next(iter(self.limit.get_metrics()["functions"])): {
                    "admitted": self.admitted,
                    "refused": self.refused,
                    "keys": len(self.own),
                    "shares": self.shared is not None,
                }
            },
        }

    @invariant()
    def no_window_holds_more_than_the_limit(self):
        for times in (known.admitted for known in self.of_key.values()):
            for sooner, later in zip(times, times[self.max_calls :], strict=False):
                assert later - sooner >= self.period


TestLimited = Limited.TestCase


@given(
    st.integers(1, 4),
    st.floats(1e-3, 1e3),
    st.floats(-1e6, 1e6),
    st.lists(st.tuples(st.sampled_from(["advance", "wait", "go back", "call"]), st.floats(0, 1e3)), max_size=40),
)
def test_no_clock_takes_more_out_or_shuts_out_for_longer_than_a_period(max_calls, period, start, steps):
    time = MockTimeSource(start)
    window = MovingWindow(max_calls, period, time.monotonic)
    since_back = []
    for step, elapsed in steps:
        if step == "go back":
            time.set_time(time.now() - elapsed)
            since_back = []
        if step == "advance":
            time.advance(elapsed)
        wait = window.take()
        if wait is None:
            since_back.append(time.now() + period)
            assert len(since_back) <= max_calls or since_back[-max_calls - 1] <= time.now()
        else:
            assert 0 < wait <= period or wait == pytest.approx(period)
            if step == "wait":
                time.advance(wait)
    for _ in range(2):
        for _ in range(max_calls + 1):
            window.take()  # the last one finds none, and so finds out that the clock went back
        time.advance(period)
    assert [window.take() for _ in range(max_calls)] == [None] * max_calls
