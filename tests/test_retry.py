"""What a `Retry` says about one attempt, and what calls do when it says so."""

from __future__ import annotations

import asyncio
import fractions
import gc
import math
import pickle
import random
import traceback
import weakref

import pytest
import tenacity
from freezegun import freeze_time

from callpyback import (
    CallPyBack,
    ConfigurationError,
    ExecutionState,
    MetricsObserver,
    MockTimeSource,
    Outcome,
    on_retry,
)
from callpyback.handlers import (
    ConditionalErrorHandler,
    DefaultErrorHandler,
    Handler,
    NetworkErrorHandler,
    Retry,
)
from handling import Translated, raising
from kinds import Kind, Witness, drive, ended, pause
from watching import run_python

single_valued = pytest.mark.parametrize(
    "kind", [Kind("plain"), Kind("coroutine"), Kind("method")], ids=str
)  # a generator of `kinds` has yielded before its body runs


class Lost(ConnectionResetError):
    """Raised anew each time: an exception raised again would keep its old traceback."""


def waits(retry, error=None, attempts=10):
    """Return the waits after each attempt in a row, as long as it does not give up."""
    error = error or Lost()
    given = (retry.next_wait(error, attempt, 0.0) for attempt in range(1, attempts + 1))
    return [wait for wait in given if wait is not None]


class Failing:
    """A body that raises each of these in turn, and then gives a value."""

    def __init__(self, *errors, value="value"):
        self.errors = list(errors)
        self.value = value
        self.ran = 0

    def __call__(self, *args):
        self.ran += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.value


class TestGivingUp:
    def test_the_first_run_counts_as_an_attempt(self):
        assert waits(Retry(attempts=3, wait=0)) == [0.0, 0.0]
        assert waits(Retry(attempts=1, wait=0)) == []

    @pytest.mark.parametrize(
        ("on", "error", "retries"),
        [
            (ConnectionError, ConnectionResetError(), True),
            (ConnectionError, KeyError(), False),
            ([KeyError, OSError], FileNotFoundError(), True),
            (lambda error: error.args == (503,), Translated(503), True),
            (lambda error: error.args == (503,), Translated(404), False),
            (Exception, KeyError(), True),
        ],
    )
    def test_on_says_which_errors_are_worth_another_attempt(self, on, error, retries):
        assert waits(Retry(attempts=2, on=on, wait=0), error) == ([0.0] if retries else [])

    @pytest.mark.parametrize("error", [ConnectionRefusedError(), TimeoutError(), BrokenPipeError()], ids=repr)
    def test_by_default_connections_and_timeouts_are_retried(self, error):
        assert waits(Retry(wait=0), error) == [0.0, 0.0]
        assert waits(Retry(wait=0), OSError()) == []

    @pytest.mark.parametrize(
        "error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit(), asyncio.CancelledError()], ids=repr
    )
    def test_what_belongs_to_the_program_is_never_retried(self, error):  # E33
        asked = []
        assert waits(Retry(on=lambda error: asked.append(error) or True, wait=0), error) == []
        assert asked == []

    def test_no_attempt_begins_after_the_timeout(self):
        retry = Retry(attempts=100, wait=2.0, timeout=10.0)
        assert [retry.next_wait(Lost(), 1, elapsed) for elapsed in (0.0, 8.0, 8.001, 11.0)] == [2.0, 2.0, None, None]

    @pytest.mark.parametrize("elapsed", [None, math.nan])
    def test_with_an_unknown_time_the_attempts_are_the_limit(self, elapsed):
        retry = Retry(attempts=2, wait=1.0, timeout=10.0)
        assert [retry.next_wait(Lost(), attempt, elapsed) for attempt in (1, 2)] == [1.0, None]

    def test_a_predicate_that_raises_gives_up(self, caplog):
        assert waits(Retry(on=raising(ZeroDivisionError("bug")), wait=0)) == []
        assert "bug" in caplog.text

    @pytest.mark.parametrize(
        "given", ["soon", None, -1, math.nan, math.inf, -math.inf, fractions.Fraction(1, 2), 10**400], ids=repr
    )
    def test_a_wait_that_is_none_gives_up(self, given, caplog):
        assert waits(Retry(wait=lambda attempt: given)) == []
        assert "wait= gave" in caplog.text or "OverflowError" in caplog.text

    def test_a_wait_that_raises_gives_up(self, caplog):
        assert waits(Retry(wait=raising(ZeroDivisionError("bug")))) == []
        assert "bug" in caplog.text


class TestWaits:
    @pytest.mark.parametrize("wait", [0, 2, 2.5])
    def test_a_number_is_waited_each_time(self, wait):
        assert waits(Retry(4, wait=wait)) == [wait] * 3

    def test_a_function_gives_the_wait_after_each_attempt(self):
        assert waits(Retry(4, wait=lambda attempt: attempt * 10)) == [10, 20, 30]

    @pytest.mark.parametrize(
        ("strategy", "expected"),
        [
            (tenacity.wait_exponential(multiplier=2, max=5), [2, 4, 5]),
            (tenacity.wait_fixed(1) + tenacity.wait_incrementing(0, 10), [1, 11, 21]),
            (tenacity.wait_chain(tenacity.wait_fixed(3), tenacity.wait_fixed(4)), [3, 4, 4]),
            (tenacity.wait_exception(lambda error: len(error.args) / 2), [0.5, 0.5, 0.5]),
            (tenacity.wait_none(), [0, 0, 0]),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_a_strategy_of_tenacity_gives_the_wait(self, strategy, expected):
        assert waits(Retry(4, wait=strategy), Lost("one")) == expected

    def test_a_strategy_of_tenacity_sees_the_time_since_the_beginning(self):
        class Late(tenacity.wait.wait_base):
            def __call__(self, retry_state):
                return retry_state.seconds_since_start / 2

        assert Retry(wait=Late()).next_wait(Lost(), 1, 5.0) == 2.5

    def test_by_default_a_wait_is_random_below_a_bound_that_doubles_up_to_20_seconds(self):
        random.seed(3)
        several = [waits(Retry(8)) for _ in range(400)]
        for attempt, drawn in enumerate(zip(*several, strict=True)):
            bound = min(2**attempt, 20)
            assert 0 <= min(drawn) < 0.05 * bound
            assert 0.95 * bound < max(drawn) <= bound
            assert abs(sum(drawn) / len(drawn) - bound / 2) < 0.1 * bound

    def test_the_same_seed_gives_the_same_waits(self):
        def drawn(seed):
            random.seed(seed)
            return waits(Retry(6))

        assert drawn(7) == drawn(7) != drawn(8)


def lost_items(begun):
    begun.append("again")
    if len(begun) < 3:
        raise Lost
    yield 1
    raise Lost


async def lost_items_awaited(begun):
    for item in lost_items(begun):
        yield item


class TestAroundCalls:
    @single_valued
    def test_the_body_runs_again_until_it_returns(self, kind):
        body, clock, witness = Failing(Lost(), TimeoutError()), MockTimeSource(), Witness()
        decorator = CallPyBack([witness], retry=Retry(wait=lambda attempt: 10 * attempt), time_source=clock)
        assert kind.call(kind.make(body, decorator)) == "value"
        assert body.ran == 3
        assert clock.now() == 30
        assert (witness.outcome, witness.last.attempt, witness.last.result.value) == (Outcome.SUCCESS, 3, "value")

    @single_valued
    def test_one_call_stays_one_call(self, kind):
        witness, metrics = Witness(*ExecutionState), MetricsObserver()
        decorator = CallPyBack([witness, metrics], retry=Retry(wait=0), time_source=MockTimeSource())
        kind.call(kind.make(Failing(Lost()), decorator))
        states = "INITIALIZED PRE_EXECUTION EXECUTING POST_FAILURE EXECUTING POST_SUCCESS COMPLETED"
        assert witness.told == states.split()
        assert len({context.call_id for context in witness.contexts}) == 1
        counters = metrics.get_metrics()["counters"]
        assert (counters["calls"], counters["successes"], counters["failures"]) == (1, 1, 0)

    @single_valued
    def test_each_retry_is_told(self, kind):
        told, clock = [], MockTimeSource()
        first, second = ConnectionResetError("1"), TimeoutError("2")

        def note(attempt, exception, wait):
            told.append((attempt, exception, wait, clock.now()))

        decorator = CallPyBack([on_retry(note)], retry=Retry(wait=lambda attempt: 5 * attempt), time_source=clock)
        kind.call(kind.make(Failing(first, second), decorator))
        assert told == [(1, first, 5.0, 0.0), (2, second, 10.0, 5.0)]

    @single_valued
    def test_the_last_error_reaches_the_caller_as_itself(self, kind):  # E34
        errors = [ConnectionResetError(str(attempt)) for attempt in range(3)]
        body, last = Failing(*errors), errors[-1]
        came = kind.ended(kind.make(body, CallPyBack(retry=Retry(wait=0), time_source=MockTimeSource())))
        assert came.exception is last
        assert (last.__cause__, last.__context__, body.ran) == (None, None, 3)

    @single_valued
    def test_a_retry_adds_one_line_at_most_to_the_traceback(self, kind):  # E03
        def depth(decorator):
            error = kind.ended(kind.make(Failing(Lost(), Lost(), Lost()), decorator)).exception
            return len(traceback.extract_tb(error.__traceback__))

        plain = depth(lambda function: function)
        assert depth(CallPyBack(retry=Retry(wait=0), time_source=MockTimeSource())) <= plain + 1

    @single_valued
    def test_other_errors_are_not_retried(self, kind):
        error = KeyError("k")
        body = Failing(Lost(), error)
        came = kind.ended(kind.make(body, CallPyBack(retry=Retry(9, wait=0), time_source=MockTimeSource())))
        assert (came.exception, body.ran) == (error, 2)

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), asyncio.CancelledError()], ids=repr)
    def test_what_belongs_to_the_program_ends_the_call(self, kind, error):  # E33
        body = Failing(error)
        retry = Retry(on=lambda error: True, wait=0)
        for decorator in (CallPyBack(retry=retry), CallPyBack(error_handler=retry | DefaultErrorHandler(5))):
            body = Failing(error)
            assert kind.ended(kind.make(body, decorator)).exception is error
            assert body.ran == 1

    @single_valued
    def test_the_timeout_ends_the_attempts(self, kind):
        clock = MockTimeSource()

        class Slow(Failing):
            def __call__(self, *args):
                clock.advance(3)
                return super().__call__(*args)

        body = Slow(*[Lost() for _ in range(20)])
        retry = Retry(attempts=20, wait=2, timeout=9.5)
        for decorator in (
            CallPyBack(retry=retry, time_source=clock),
            CallPyBack(error_handler=Handler(retry=retry), time_source=clock),
        ):
            body.ran, begun = 0, clock.now()
            assert kind.ended(kind.make(body, decorator)).exception.__class__ is Lost
            assert (body.ran, clock.now() - begun) == (2, 8)  # the third would begin at 10

    @single_valued
    def test_what_comes_after_a_retry_in_a_chain_follows_when_it_gives_up(self, kind):
        body, witness = Failing(*[Lost() for _ in range(5)]), Witness()
        chain = Retry(attempts=3, wait=1, name="thrice") | Handler(OSError, value="offline")
        decorated = kind.make(body, CallPyBack([witness], error_handler=chain, time_source=MockTimeSource()))
        assert kind.call(decorated) == "offline"
        assert body.ran == 3
        assert (witness.outcome, witness.last.decided_by) == (Outcome.HANDLED, "handler of OSError")

    @single_valued
    def test_the_decorators_handler_is_asked_when_its_retry_gives_up(self, kind):
        body = Failing(*[Lost() for _ in range(5)])
        decorator = CallPyBack(
            retry=Retry(2, wait=1), error_handler=DefaultErrorHandler("offline"), time_source=MockTimeSource()
        )
        assert kind.call(kind.make(body, decorator)) == "offline"
        assert body.ran == 2

    @single_valued
    def test_a_handler_of_the_network_retries_and_then_gives_its_default(self, kind):
        body, clock = Failing(*[Lost() for _ in range(5)]), MockTimeSource()
        handler = NetworkErrorHandler(retry_count=3, default_return="offline", wait=10)
        assert kind.call(kind.make(body, CallPyBack(error_handler=handler, time_source=clock))) == "offline"
        assert (body.ran, clock.now()) == (4, 30)

    @single_valued
    def test_retries_of_several_handlers_count_the_same_attempts(self, kind):
        body = Failing(Lost(), KeyError("k"), Lost(), KeyError("l"), Lost())
        chain = Retry(3, on=ConnectionError, wait=0) | Retry(5, on=KeyError, wait=0) | DefaultErrorHandler("given up")
        assert kind.call(kind.make(body, CallPyBack(error_handler=chain, time_source=MockTimeSource()))) == "given up"
        assert body.ran == 3

    @single_valued
    def test_a_condition_may_ask_the_arguments_whether_to_retry(self, kind):
        handler = ConditionalErrorHandler(lambda error, context: context.arguments["method"] == "GET", Retry(wait=0))
        for method, runs in (("GET", 3), ("POST", 1)):
            body = Failing(*[Lost() for _ in range(5)])
            decorator = CallPyBack(error_handler=handler, time_source=MockTimeSource())
            assert kind.ended(kind.make(body, decorator, "method"), method).exception.__class__ is Lost
            assert body.ran == runs

    @single_valued
    def test_anything_with_next_wait_will_do_for_a_retry(self, kind):
        class Twice:
            def next_wait(self, error, attempt, elapsed):
                return 1 if attempt < 2 else None

        for decorator in (
            CallPyBack(retry=Twice(), time_source=MockTimeSource()),
            CallPyBack(error_handler=Handler(retry=Twice()), time_source=MockTimeSource()),
        ):
            body = Failing(*[Lost() for _ in range(5)])
            assert kind.ended(kind.make(body, decorator)).exception.__class__ is Lost
            assert body.ran == 2

    @pytest.mark.parametrize(
        "given", [{"retry": Retry(5, wait=0)}, {"error_handler": Retry(5, wait=0)}], ids=["decorator", "handler"]
    )
    @pytest.mark.parametrize("make", [lost_items, lost_items_awaited], ids=["generator", "async generator"])
    def test_a_generator_is_retried_until_it_has_yielded(self, make, given):
        begun, received = [], []

        async def consume():
            async for item in decorated(begun):
                received.append(item)  # noqa: PERF401 - what came before the error counts

        def consume_plainly():
            received.extend(decorated(begun))

        decorated = CallPyBack(time_source=MockTimeSource(), **given)(make)
        is_async = make is lost_items_awaited
        assert ended(lambda: drive(consume()) if is_async else consume_plainly()).exception.__class__ is Lost
        assert (received, len(begun)) == ([1], 3)

    @pytest.mark.parametrize("kind", [Kind("generator"), Kind("async generator")], ids=str)
    def test_the_next_handler_is_asked_when_a_generator_that_has_yielded_fails(self, kind):
        retry, translate = Retry(wait=0), Handler(ConnectionError, raises=Translated)
        for given in ({"error_handler": retry | translate}, {"retry": retry, "error_handler": translate}):
            raised = kind.ended(kind.make(raising(Lost()), CallPyBack(**given))).exception
            assert type(raised) is Translated

    def test_the_waits_of_a_coroutine_let_others_run(self):
        order = []

        async def main():
            @CallPyBack(retry=Retry(2, wait=0.001))
            async def failing():
                order.append("attempt")
                raise Lost

            async def other():
                order.append("other")

            await asyncio.gather(failing(), other(), return_exceptions=True)

        asyncio.run(main())
        assert order == ["attempt", "other", "attempt"]

    def test_a_frozen_clock_hangs_nothing(self):  # K06
        with freeze_time("2020-01-01"):
            body = Failing(Lost(), Lost())
            assert CallPyBack(retry=Retry(wait=0.001, timeout=60))(lambda: body())() == "value"

            @CallPyBack(retry=Retry(wait=0.001, timeout=60))
            async def coroutine():
                await pause()
                return Failing(value="value")()

            assert asyncio.run(coroutine()) == "value"

    def test_a_failed_attempt_keeps_nothing_alive(self):  # E20
        class Local: ...

        kept = []

        @CallPyBack(retry=Retry(2, wait=tenacity.wait_none()))
        def function():
            assert all(earlier() is None for earlier in kept)
            local = Local()
            kept.append(weakref.ref(local))
            raise ConnectionResetError

        gc.collect()
        gc.disable()
        try:
            assert type(ended(function).exception) is ConnectionResetError
            assert [earlier() for earlier in kept] == [None, None]
        finally:
            gc.enable()


def is_lost(error):
    return isinstance(error, ConnectionError)


def by_attempt(attempt):
    return attempt * 2


class TestObject:
    @pytest.mark.parametrize(
        "retry",
        [
            Retry(),
            Retry(5, on=is_lost, wait=by_attempt, timeout=60),
            Retry(on=OSError, wait=tenacity.wait_fixed(1) + tenacity.wait_random(0, 1)),
            Retry(wait=1),
        ],
        ids=repr,
    )
    def test_a_retry_can_be_pickled(self, retry):
        copy = pickle.loads(pickle.dumps(retry))

        def drawn(retry):
            random.seed(5)
            return waits(retry)

        assert drawn(copy) == drawn(retry) != []
        assert (copy.attempts, copy.timeout, copy.name) == (retry.attempts, retry.timeout, retry.name)

    def test_it_shows_what_it_does(self):
        assert repr(Retry(5, on=(KeyError, OSError))) == "<Retry 'retry' attempts=5 on=KeyError | OSError>"
        assert repr(Retry(5, on=is_lost)) == "<Retry 'retry' attempts=5 on=is_lost>"

    def test_tenacity_is_imported_when_it_is_needed(self):
        printed = run_python(
            """
            import sys
            import callpyback.handlers
            from callpyback import CallPyBack
            callpyback.handlers.Retry(wait=1)
            print("tenacity" in sys.modules)
            callpyback.handlers.Retry()
            print("tenacity" in sys.modules)
            """
        )
        assert printed.split() == ["False", "True"]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"attempts": 0}, "attempts=0.*at least 1"),
            ({"attempts": 2.5}, "attempts=2.5"),
            ({"attempts": True}, "attempts=True"),
            ({"on": "ConnectionError"}, "on='ConnectionError'.*Exception subclasses"),
            ({"on": ()}, "on=.*at least one"),
            ({"on": asyncio.CancelledError}, "CancelledError belongs to the program"),
            ({"on": (OSError, SystemExit)}, "SystemExit belongs to the program"),
            ({"on": lambda error, context: True}, "on=.*function of the error alone"),
            ({"wait": -1}, "wait=-1.*seconds"),
            ({"wait": math.nan}, "wait=nan.*seconds"),
            ({"wait": True}, "wait=True.*seconds"),
            ({"wait": "1"}, "wait='1'.*seconds"),
            ({"wait": lambda: 1}, "wait=.*an attempt's number"),
            ({"wait": tenacity.wait_fixed}, "wait=.*a wait strategy of tenacity"),
            ({"timeout": 0}, "timeout=0.*seconds"),
            ({"timeout": "10"}, "timeout='10'.*seconds"),
            ({"name": None}, "name=None.*a text"),
        ],
        ids=lambda given: next(iter(given)) if isinstance(given, dict) else given,
    )
    def test_misuse_is_refused_when_it_is_made(self, options, message):
        with pytest.raises(ConfigurationError, match=message):
            Retry(**options)

    def test_a_coroutine_function_can_not_say_whether_to_retry(self):
        async def later(argument): ...

        for options in ({"on": later}, {"wait": later}):
            with pytest.raises(ConfigurationError, match="nothing is awaited"):
                Retry(**options)
