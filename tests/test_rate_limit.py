"""Exact limits on every kind of callable, under threads, tasks, forks and clocks that fail."""

from __future__ import annotations

import asyncio
import copy
import gc
import itertools
import json
import logging
import math
import pickle
import threading
import tracemalloc
import weakref
from collections import defaultdict

import freezegun
import pytest

from callpyback import (
    CallPyBack,
    CallVetoed,
    ConfigurationError,
    FunctionSignature,
    MetricsObserver,
    MockTimeSource,
    StopProcessing,
    handle,
    on_call,
)
from callpyback.errors import RateLimitExceeded
from callpyback.guards.rate_limit import RateLimitObserver
from kinds import Witness, drive, ended
from test_concurrency import hurried, in_threads
from watching import run_python

__all__ = ["hurried"]

THREADS = 16
YEAR = 365 * 86400.0


@pytest.fixture(params=["straight", "general"])
def source(request):
    """None for the system's clock, with which the wrapper runs other code; limits last for a year then."""
    return None if request.param == "straight" else MockTimeSource(1000.0)


def admitting(observer, clock=lambda: 0.0):
    """Return a function that asks the guard of one function: None, or how long to wait."""
    admit, end = observer.bind_guard(FunctionSignature("f", module="m"), clock)
    assert end is None

    def ask(*args, **kwargs):
        try:
            admit(args, kwargs)
        except RateLimitExceeded as refused:
            return refused.retry_after
        return None

    ask.admit = admit
    return ask


def waits(*answers):
    return [wait for wait in answers if wait is not None]


def admitted_of(outcomes):
    """Return how many calls came through; whatever failed otherwise comes out."""
    outcomes = list(outcomes)
    for outcome in outcomes:
        if outcome is not None and not isinstance(outcome, RateLimitExceeded):
            raise outcome
    return sum(outcome is None for outcome in outcomes)


# What is refused


def test_calls_beyond_the_limit_are_refused_and_their_body_never_runs(kind, source):
    ran = []
    decorated = kind.make(
        lambda n: ran.append(n) or n, CallPyBack([RateLimitObserver(3, YEAR)], time_source=source), parameters="n"
    )
    assert [kind.call(decorated, n) for n in range(3)] == [0, 1, 2]
    for n in range(3, 6):
        assert isinstance(kind.ended(decorated, n).exception, RateLimitExceeded)
    assert ran == [0, 1, 2]


def test_a_refused_call_is_vetoed_and_no_failure(kind, source):
    metrics, witness = MetricsObserver(), Witness()
    limit = RateLimitObserver(1, YEAR)
    decorated = kind.make(lambda: 1, CallPyBack([metrics, witness, limit], time_source=source))
    kind.call(decorated)
    refused = kind.ended(decorated).exception
    counters = metrics.get_metrics()["counters"]
    assert (counters["calls"], counters["successes"], counters["vetoed"], counters["failures"]) == (2, 1, 1, 0)
    kept = witness.last.result.exception
    assert (type(kept), str(kept), kept.retry_after) == (RateLimitExceeded, str(refused), refused.retry_after)
    assert [health.failures for health in handle(decorated).health.values()] == [0, 0, 0]


def test_a_call_is_admitted_again_when_the_oldest_is_a_period_old(kind):
    time = MockTimeSource(5.0)
    decorated = kind.make(lambda: "done", CallPyBack([RateLimitObserver(2, 10.0)], time_source=time))
    kind.call(decorated)
    time.advance(4.0)
    kind.call(decorated)
    assert kind.ended(decorated).exception.retry_after == 6.0
    time.advance(5.5)
    assert kind.ended(decorated).exception.retry_after == 0.5
    time.advance(0.5)
    assert kind.call(decorated) == "done"
    assert kind.ended(decorated).exception.retry_after == 4.0


def test_the_window_moves_and_a_full_minute_starts_nothing_anew():
    time = MockTimeSource(59.0)
    ask = admitting(RateLimitObserver(2, 60.0), time.monotonic)
    assert [ask(), ask()] == [None, None]
    time.advance(2.0)
    assert [ask(), ask()] == [58.0, 58.0]


def test_refused_calls_use_nothing_up():
    time = MockTimeSource()
    ask = admitting(RateLimitObserver(1, 10.0), time.monotonic)
    ask()
    for _ in range(9):
        time.advance(1.0)
        assert ask() is not None
    time.advance(1.0)
    assert ask() is None


@pytest.mark.parametrize(("now", "period"), [(0.1, 60.0), (1e9 + 0.3, 0.1), (1e-9, 1 / 3), (12345.678, 1e-3)])
def test_after_retry_after_a_call_is_admitted_however_the_sum_is_rounded(now, period):
    for step in range(200):
        time = MockTimeSource(now)
        ask = admitting(RateLimitObserver(1, period), time.monotonic)
        ask()
        time.advance(period * step / 200)
        wait = ask()
        assert 0 < wait <= period + math.ulp(now + period)
        time.advance(wait)
        assert ask() is None


def test_the_refusal_names_function_limit_and_when_to_try_again():
    limit = RateLimitObserver(5, 2.5)

    @CallPyBack([limit], time_source=MockTimeSource())
    def checkout():
        pass

    refused = [ended(checkout).exception for _ in range(6)][-1]
    assert isinstance(refused, CallVetoed)
    assert str(refused) == (
        f"{__name__}.test_the_refusal_names_function_limit_and_when_to_try_again.<locals>.checkout "
        "is limited to 5 calls in 2.5 s; try again in 2.5 s"
    )
    assert refused.retry_after == 2.5


def test_the_refusal_shows_the_key_bounded_and_in_one_line():
    class User:
        def __repr__(self):
            return "User\n" * 1000

    user = User()
    limit = RateLimitObserver(1, 60.0, lambda arguments: arguments["user"])
    admit, _ = limit.bind_guard(FunctionSignature.of(lambda user: None), lambda: 0.0)
    admit((user,), {})
    with pytest.raises(RateLimitExceeded, match="1 call in 60 s for each key, and this one is User") as refused:
        admit((user,), {})
    assert len(str(refused.value)) < 500
    assert "\n" not in str(refused.value)


def test_a_key_whose_repr_raises_is_refused_like_any_other():
    class User:
        def __repr__(self):
            raise RuntimeError

    user = User()
    admit, _ = RateLimitObserver(1, key=lambda arguments: user).bind_guard(FunctionSignature("f"), lambda: 0.0)
    admit((), {})
    with pytest.raises(RateLimitExceeded, match="unrepresentable User"):
        admit((), {})


# What counts


def test_a_call_that_a_later_guard_refuses_or_answers_counts(kind, source):
    def deciding(arguments):
        raise decisions.pop(0)

    decisions = [CallVetoed("no"), StopProcessing(kind.answer("answer"))]
    decorated = kind.make(lambda: 1, CallPyBack([RateLimitObserver(2, YEAR), on_call(deciding)], time_source=source))
    kind.ended(decorated)
    assert kind.call(decorated) == "answer"
    assert isinstance(kind.ended(decorated).exception, RateLimitExceeded)


def test_a_call_that_an_earlier_guard_decided_does_not_count(kind, source):
    class Answering(Witness):
        guard = True

        def update(self, context):
            if context.state.name == "PRE_EXECUTION" and context.arguments["answered"]:
                raise StopProcessing(kind.answer("answer"))

    limit = RateLimitObserver(1, YEAR)
    decorator = CallPyBack([limit, Answering(priority=200)], time_source=source)
    decorated = kind.make(lambda answered: "body", decorator, parameters="answered")
    assert [kind.call(decorated, True) for _ in range(3)] == ["answer"] * 3
    assert kind.call(decorated, False) == "body"
    assert limit.get_metrics()["admitted"] == 1


def test_calls_count_however_they_end():
    limit = RateLimitObserver(4, YEAR)

    @CallPyBack([limit])
    def function(error):
        raise error

    for error in (ValueError(), KeyboardInterrupt(), SystemExit(), asyncio.CancelledError()):
        assert ended(lambda raised=error: function(raised)).exception is error
    assert isinstance(ended(lambda: function(ValueError())).exception, RateLimitExceeded)


def test_a_function_that_calls_itself_counts_at_each_level():
    limit = RateLimitObserver(5, YEAR)

    @CallPyBack([limit])
    def down(n):
        return 0 if n == 0 else 1 + down(n - 1)

    assert down(3) == 3
    assert isinstance(ended(lambda: down(1)).exception, RateLimitExceeded)
    assert limit.get_metrics()["admitted"] == 5


def test_coroutines_and_generators_count_at_their_first_step():
    limit = RateLimitObserver(1, YEAR)

    @CallPyBack([limit])
    def items():
        yield 1

    @CallPyBack([limit])
    async def answer():
        return 2

    unused = [items(), items()]
    never_awaited = answer()
    never_awaited.close()
    assert list(items()) == [1]
    assert isinstance(ended(lambda: next(unused[0])).exception, RateLimitExceeded)
    assert drive(answer()) == 2
    assert isinstance(ended(lambda: drive(answer())).exception, RateLimitExceeded)


def test_each_function_has_its_own_limit(kind, source):
    limit = RateLimitObserver(1, YEAR)
    decorator = CallPyBack([limit], time_source=source)
    first, second = (kind.make(lambda: 1, decorator) for _ in range(2))
    kind.call(first)
    assert kind.call(second) == 1
    assert isinstance(kind.ended(first).exception, RateLimitExceeded)
    assert isinstance(kind.ended(second).exception, RateLimitExceeded)


def test_each_key_has_its_own_limit(kind, source):
    limit = RateLimitObserver(2, YEAR, key=lambda arguments: arguments["user"])
    decorated = kind.make(lambda user, n: n, CallPyBack([limit], time_source=source), parameters="user, n=0")
    for user in ("ann", "ben"):
        assert kind.call(decorated, user, n=1) == 1
        assert kind.call(decorated, user=user) == 0
        assert isinstance(kind.ended(decorated, user).exception, RateLimitExceeded)


def test_a_key_may_be_the_instance_of_a_method():
    class Client:
        @CallPyBack([RateLimitObserver(1, YEAR, key=lambda arguments, instance: id(instance))])
        def send(self):
            return "sent"

    one, other = Client(), Client()
    assert (one.send(), other.send()) == ("sent", "sent")
    assert isinstance(ended(one.send).exception, RateLimitExceeded)


def test_a_key_that_is_the_instance_does_not_keep_it_alive_and_is_shown_in_the_refusal():  # M06
    class Client:
        @CallPyBack([RateLimitObserver(1, YEAR, key=lambda arguments, instance: instance)])
        def send(self):
            return "sent"

        def __repr__(self):
            return "<the client>"

    one, other = Client(), Client()
    assert (one.send(), other.send()) == ("sent", "sent")
    with pytest.raises(RateLimitExceeded, match="this one is <the client>;"):
        one.send()
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None
    assert Client().send() == "sent"


def test_the_limit_goes_on_when_other_observers_come_and_go(kind, source):
    decorator = CallPyBack([RateLimitObserver(3, YEAR)], time_source=source)
    decorated = kind.make(lambda: 1, decorator)
    kind.call(decorated)
    witness = Witness()
    decorator.add_observer(witness)
    kind.call(decorated)
    decorator.remove_observer(witness)
    handle(decorated).on_success(lambda: None)
    kind.call(decorated)
    assert isinstance(kind.ended(decorated).exception, RateLimitExceeded)


def test_as_the_seeds_write_it():
    rate_limiter = RateLimitObserver(max_calls_per_minute=5)

    @CallPyBack(observers=[rate_limiter])
    def limited_function():
        return "allowed"

    assert [limited_function() for _ in range(5)] == ["allowed"] * 5
    assert 59 < ended(limited_function).exception.retry_after <= 60
    assert (rate_limiter.priority, rate_limiter.name, rate_limiter.period) == (100, "RateLimit", 60.0)


def test_without_arguments_it_is_sixty_calls_a_minute():
    ask = admitting(RateLimitObserver())
    assert waits(*(ask() for _ in range(61))) == [60.0]


# Exactness


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("key", [None, lambda arguments: "the same for all"], ids=["for all", "by key"])
def test_sixteen_threads_at_a_limit_of_a_hundred_admit_exactly_a_hundred(source, key):  # C41
    for _ in range(5):
        limit = RateLimitObserver(100, YEAR, key)
        decorated = CallPyBack([limit], time_source=source)(lambda: None)
        outcomes = in_threads(lambda _, call=decorated: [ended(call).exception for _ in range(20)], THREADS)
        assert admitted_of(itertools.chain(*outcomes)) == 100
        assert (limit.get_metrics()["admitted"], limit.get_metrics()["refused"]) == (100, 220)


@pytest.mark.usefixtures("hurried")
def test_permits_that_come_free_are_given_out_exactly_once():
    time = MockTimeSource()
    ask = admitting(RateLimitObserver(100, 10.0), time.monotonic)
    for used_later in (0, 30, 99):
        time.advance(10.0)
        assert waits(*(ask() for _ in range(100))) == []
        time.advance(4.0)
        assert len(waits(*(ask() for _ in range(5)))) == 5
        time.advance(6.0)
        for _ in range(used_later):
            ask()
        outcomes = in_threads(lambda _: [ask() for _ in range(10)], THREADS)
        assert sum(wait is None for wait in itertools.chain(*outcomes)) == 100 - used_later
        assert waits(ask()) == [10.0]


@pytest.mark.usefixtures("hurried")
def test_no_key_gets_more_than_its_limit_while_others_are_forgotten():
    readings, taken_at, period, max_calls = itertools.count(), threading.local(), 60, 3

    def clock():
        taken_at.last = now = next(readings)
        return now

    limit = RateLimitObserver(max_calls, period, lambda arguments: arguments["key"])
    admit, _ = limit.bind_guard(FunctionSignature.of(lambda key: None), clock)
    admitted = defaultdict(list)

    def work(number):
        for turn in range(1500):
            key = (number + turn) % 11
            try:
                admit((key,), {})
            except RateLimitExceeded:
                continue
            admitted[key].append(taken_at.last)

    in_threads(work, 6)
    for times in map(sorted, admitted.values()):
        assert all(later - sooner >= period for sooner, later in zip(times, times[max_calls:], strict=False))
    assert limit.get_metrics()["admitted"] == sum(map(len, admitted.values()))


def test_a_key_that_is_forgotten_while_a_call_is_decided_is_remembered_after_all():
    meanwhile = []

    def clock():
        if meanwhile:
            meanwhile.pop()()
        return 0.0

    limit = RateLimitObserver(1, 60.0, lambda arguments: arguments["key"])
    admit, _ = limit.bind_guard(FunctionSignature.of(lambda key: None), clock)

    def others_come():
        for key in range(20):
            admit((key,), {})

    meanwhile.append(others_come)
    admit(("a",), {})
    with pytest.raises(RateLimitExceeded):
        admit(("a",), {})


def test_a_thousand_tasks_are_admitted_exactly(source):
    limit = RateLimitObserver(100, YEAR)

    @CallPyBack([limit], time_source=source)
    async def function():
        await asyncio.sleep(0)

    async def all_at_once():
        return await asyncio.gather(*(function() for _ in range(1000)), return_exceptions=True)

    assert admitted_of(asyncio.run(all_at_once())) == 100


# Time


def test_steps_and_standstill_of_the_wall_clock_change_nothing():  # K06
    decorated = CallPyBack([RateLimitObserver(1, 3600.0)])(lambda: "done")
    with freezegun.freeze_time("2030-01-01") as frozen:
        assert decorated() == "done"
        for _ in range(2):
            frozen.tick(86400.0)
            assert isinstance(ended(decorated).exception, RateLimitExceeded)
    assert isinstance(ended(decorated).exception, RateLimitExceeded)


@pytest.mark.parametrize("max_calls", [1, 3])
def test_a_clock_that_goes_back_shuts_nobody_out_for_longer_than_a_period(max_calls):  # K02
    time = MockTimeSource(1e6)
    ask = admitting(RateLimitObserver(max_calls, 60.0), time.monotonic)
    for _ in range(max_calls):
        ask()
        time.advance(5.0)
    time.set_time(10.0)
    assert ask() == 60.0
    time.advance(59.0)
    assert ask() == 1.0
    time.advance(1.0)
    assert [ask() for _ in range(max_calls)] == [None] * max_calls
    assert ask() == 60.0


def test_a_clock_that_goes_back_a_little_frees_nothing_early():
    time = MockTimeSource(100.0)
    ask = admitting(RateLimitObserver(2, 60.0), time.monotonic)
    ask()
    time.set_time(90.0)
    ask()
    time.set_time(80.0)
    assert ask() == 60.0
    time.advance(59.0)
    assert ask() is not None


def test_a_clock_that_jumps_ahead_frees_everything():
    time = MockTimeSource()
    ask = admitting(RateLimitObserver(2, 60.0), time.monotonic)
    ask(), ask()
    time.advance(1e9)
    assert [ask(), ask(), ask()] == [None, None, 60.0]


class FailingClock:
    """Fails while told to."""

    def __init__(self):
        self.seconds = 0.0
        self.fails = False

    def now(self):
        return self.monotonic()

    def monotonic(self):
        if self.fails:
            raise OSError
        return self.seconds


@pytest.mark.parametrize("used", [0, 1, 2])
def test_while_the_clock_fails_calls_go_on_uncounted(kind, used):  # K04
    clock, limit = FailingClock(), RateLimitObserver(2, 60.0)
    decorated = kind.make(lambda: "done", CallPyBack([limit], time_source=clock, max_observer_failures=100))
    for _ in range(used):
        kind.call(decorated)
    clock.fails = True
    assert [kind.call(decorated) for _ in range(5)] == ["done"] * 5
    clock.fails = False
    assert [kind.ended(decorated).exception is None for _ in range(3)] == [True] * (2 - used) + [False] * (1 + used)
    [health] = handle(decorated).health.values()
    assert health.failures == 5
    assert "the clock failed" in health.last_error


def test_while_the_clock_fails_a_critical_limit_refuses(kind):
    clock = FailingClock()
    decorated = kind.make(lambda: "done", CallPyBack([RateLimitObserver(2, critical=True)], time_source=clock))
    clock.fails = True
    assert isinstance(kind.ended(decorated).exception, ValueError)
    clock.fails = False
    assert kind.call(decorated) == "done"


# Keys that fail


@pytest.mark.parametrize("key", [lambda arguments: [], lambda arguments: arguments["nobody"]])
def test_with_a_key_that_fails_calls_go_on_and_a_critical_limit_refuses(kind, source, key):
    decorated = kind.make(lambda: "done", CallPyBack([RateLimitObserver(1, YEAR, key)], time_source=source))
    assert [kind.call(decorated) for _ in range(3)] == ["done"] * 3
    [health] = handle(decorated).health.values()
    assert health.failures == 3
    critical = RateLimitObserver(1, YEAR, key, critical=True)
    assert kind.ended(kind.make(lambda: "done", CallPyBack([critical], time_source=source))).exception is not None


def test_a_key_may_call_the_function_it_belongs_to():
    limit = RateLimitObserver(3, YEAR, key=lambda arguments: function(arguments["n"] - 1) if arguments["n"] else 0)

    @CallPyBack([limit])
    def function(n):
        return n

    assert function(2) == 2
    assert limit.get_metrics()["admitted"] == 1


# Memory


def test_keys_are_forgotten_once_their_calls_are_a_period_old():
    time = MockTimeSource()
    limit = RateLimitObserver(2, 10.0, lambda arguments: arguments["key"])
    admit, _ = limit.bind_guard(FunctionSignature.of(lambda key: None), time.monotonic)
    for key in range(10_000):
        admit((key,), {})
        time.advance(0.5)
    [counts] = limit.get_metrics()["functions"].values()
    assert counts == {"admitted": 10_000, "refused": 0, "keys": counts["keys"], "shares": False}
    assert counts["keys"] <= 25


def test_keys_beyond_the_greatest_number_share_a_limit(caplog):
    time = MockTimeSource()
    limit = RateLimitObserver(2, 10.0, lambda arguments: arguments["key"], max_keys=3)
    admit, _ = limit.bind_guard(FunctionSignature.of(lambda key: None), time.monotonic)

    def ask(key):
        try:
            admit((key,), {})
        except RateLimitExceeded:
            return False
        return True

    assert [ask(key) for key in "aabbcc"] == [True] * 6
    with caplog.at_level(logging.WARNING, "callpyback"):
        assert [ask(key) for key in "defg"] == [True, True, False, False]
    assert "more than 3 keys" in caplog.text
    [counts] = limit.get_metrics()["functions"].values()
    assert (counts["keys"], counts["shares"]) == (3, True)
    time.advance(5.0)
    assert not ask("a")
    time.advance(5.0)
    assert [ask(key) for key in "dddaaa"] == [True, True, False, True, True, False]


def test_a_key_that_shared_a_limit_gets_no_more_when_it_has_its_own():
    time = MockTimeSource()
    limit = RateLimitObserver(2, 10.0, lambda arguments: arguments["key"], max_keys=1)
    admit, _ = limit.bind_guard(FunctionSignature.of(lambda key: None), time.monotonic)
    admit(("a",), {})
    time.advance(9.0)
    admit(("b",), {})
    time.advance(1.0)
    admit(("b",), {})  # there is room for a limit of its own now, which knows of the first
    with pytest.raises(RateLimitExceeded) as refused:
        admit(("b",), {})
    assert refused.value.retry_after == 9.0


def test_memory_goes_with_use_and_not_with_the_limit():
    tracemalloc.start()
    try:
        ask = admitting(RateLimitObserver(10**30, YEAR))
        for _ in range(100):
            ask()
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()


def test_a_function_that_is_gone_takes_its_limit_with_it():
    limit = RateLimitObserver(5)

    def make():
        return CallPyBack([limit])(lambda: None)

    function = make()
    function()
    assert len(limit.get_metrics()["functions"]) == 1
    del function
    gc.collect()
    assert limit.get_metrics() == {"admitted": 0, "refused": 0, "functions": {}}


# Numbers, copies, processes


def test_the_numbers_of_each_function_and_their_sums():
    limit = RateLimitObserver(2, YEAR)

    @CallPyBack([limit])
    def one():
        pass

    @CallPyBack([limit])
    def other():
        pass

    for function in (one, one, one, other):
        ended(function)
    qualname = f"{__name__}.test_the_numbers_of_each_function_and_their_sums.<locals>"
    assert limit.get_metrics() == {
        "admitted": 3,
        "refused": 1,
        "functions": {
            f"{qualname}.one": {"admitted": 2, "refused": 1},
            f"{qualname}.other": {"admitted": 1, "refused": 0},
        },
    }
    assert json.loads(json.dumps(limit.get_metrics())) == limit.get_metrics()
    assert CallPyBack([limit]).get_metrics()["RateLimit_metrics"] == limit.get_metrics()


@pytest.mark.parametrize("key", [None, lambda arguments: 1])
def test_reset_starts_anew(key):
    limit = RateLimitObserver(1, YEAR, key)
    ask = admitting(limit)
    assert waits(ask(), ask()) == [YEAR]
    limit.reset()
    assert (limit.get_metrics()["admitted"], limit.get_metrics()["refused"]) == (0, 0)
    assert waits(ask(), ask()) == [YEAR]


def by_user(arguments):
    return arguments["user"]


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda limit: pickle.loads(pickle.dumps(limit))])
def test_a_copy_keeps_the_configuration_and_starts_anew(again):
    limit = RateLimitObserver(1, 30.0, by_user, max_keys=7, priority=3, name="mine", critical=True)
    admitting(limit)
    copied = again(limit)
    for name in ("max_calls", "period", "key", "max_keys", "priority", "name", "critical"):
        assert getattr(copied, name) == getattr(limit, name)
    assert copied.get_metrics()["functions"] == {}
    assert len(limit.get_metrics()["functions"]) == 1


def test_a_forked_child_goes_on_with_what_was_used_and_counts_by_itself():
    printed = run_python(
        """
        import os
        from callpyback import CallPyBack
        from callpyback.errors import RateLimitExceeded
        from callpyback.guards.rate_limit import RateLimitObserver

        @CallPyBack([RateLimitObserver(4, 3600.0)])
        def function(): pass

        def admitted():
            count = 0
            try:
                while True:
                    function()
                    count += 1
            except RateLimitExceeded:
                return count

        function()
        read, write = os.pipe()
        if os.fork() == 0:
            os.write(write, b"%d" % admitted())
            os._exit(0)
        os.wait()
        print(os.read(read, 9).decode(), admitted())
        """
    )
    assert printed == "3 3"


@pytest.mark.parametrize("key", ["None", "lambda arguments: 'the same'"])
def test_no_permit_is_lost_or_gained_by_forks_while_threads_take_them(key):  # C20
    printed = run_python(
        f"""
        import itertools, os, sys, threading
        from callpyback import FunctionSignature
        from callpyback.errors import RateLimitExceeded
        from callpyback.guards.rate_limit import RateLimitObserver

        sys.setswitchinterval(1e-6)
        readings, offset = itertools.count(), [0]
        limit = RateLimitObserver(3, 10, {key})
        admit, _ = limit.bind_guard(FunctionSignature("f"), lambda: offset[0] + next(readings))

        def work():
            while True:
                try:
                    admit((), {{}})
                except RateLimitExceeded:
                    pass

        for _ in range(4):
            threading.Thread(target=work, daemon=True).start()
        wrong = 0
        for _ in range(60):
            child = os.fork()
            if child == 0:
                readings, offset[0] = itertools.repeat(0), 10**9
                admitted = 0
                for _ in range(6):
                    try:
                        admit((), {{}})
                        admitted += 1
                    except RateLimitExceeded:
                        pass
                os._exit(0 if admitted == 3 else 1)
            wrong += os.waitpid(child, 0)[1] != 0
        print("wrong:", wrong)
        os._exit(0) if sys.stdout.flush() is None else None
        """
    )
    assert printed == "wrong: 0"


# Configuration


@pytest.mark.parametrize("wrong", [0, -1, 2.5, math.nan, True, "5", None, [5]])
def test_a_wrong_number_of_calls_is_refused(wrong):
    if wrong is not None:
        with pytest.raises(ConfigurationError, match=r"^max_calls="):
            RateLimitObserver(wrong)
        with pytest.raises(ConfigurationError, match=r"^max_calls_per_minute="):
            RateLimitObserver(max_calls_per_minute=wrong)
    with pytest.raises(ConfigurationError, match=r"^max_keys="):
        RateLimitObserver(max_keys=wrong)


@pytest.mark.parametrize("wrong", [0, -1.0, math.nan, math.inf, True, "60", None, 10**400])
def test_a_wrong_period_is_refused(wrong):
    with pytest.raises(ConfigurationError, match=r"^period="):
        RateLimitObserver(5, wrong)


def test_two_limits_at_once_are_refused():
    with pytest.raises(ConfigurationError, match=r"^max_calls_per_minute=5 .*max_calls, which is 10, not both"):
        RateLimitObserver(10, max_calls_per_minute=5)
    with pytest.raises(ConfigurationError, match=r"^period=10 .*60 with max_calls_per_minute"):
        RateLimitObserver(period=10, max_calls_per_minute=5)
    assert RateLimitObserver(period=60, max_calls_per_minute=5).max_calls == 5


@pytest.mark.parametrize("wrong", ["user", 5, ["user"]])
def test_a_key_that_cannot_be_called_is_refused(wrong):
    with pytest.raises(ConfigurationError, match=r"^key="):
        RateLimitObserver(key=wrong)


def test_its_numbers_cannot_be_changed_afterwards():
    with pytest.raises(ConfigurationError, match="no option 'max_calls'"):
        RateLimitObserver().configure(max_calls=5)


@pytest.mark.parametrize("path", [{}, {"time_source": MockTimeSource()}], ids=["straight", "general"])
def test_one_callers_bad_key_is_let_through_and_pauses_the_limit_for_nobody(path):
    limit = RateLimitObserver(1, key=lambda arguments: arguments["user"])

    @CallPyBack([limit], max_observer_failures=2, **path)
    def api(user):
        return "admitted"

    assert api("ann") == "admitted"
    for _ in range(5):
        assert api(["unhashable"]) == "admitted"
    with pytest.raises(RateLimitExceeded):
        api("ann")
    health = handle(api).health[limit.name]
    assert (health.failures, health.failures_in_a_row, health.paused) == (5, 0, False)


@pytest.mark.parametrize(
    "key", [lambda: "none", lambda a, b: "two", lambda *, user: user], ids=["none", "two", "other"]
)
def test_a_key_that_does_not_take_the_arguments_is_refused(key):
    with pytest.raises(ConfigurationError, match="key="):
        RateLimitObserver(1, key=key)


def test_a_key_that_is_async_is_refused():
    async def key(arguments): ...

    with pytest.raises(ConfigurationError, match="a plain function of the arguments"):
        RateLimitObserver(1, key=key)
