"""What becomes of an error: `exception_classes` classifies, `default_return` and `error_handler` answer."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import sys

import pytest

from callpyback import (
    CallPyBack,
    ConfigurationError,
    ExecutionState,
    LoggingObserver,
    MetricsObserver,
    MockTimeSource,
    Outcome,
    TimingObserver,
    factory,
)
from kinds import Ended, Kind, Witness, ended

FAILED = ["PRE_EXECUTION", "POST_FAILURE", "COMPLETED"]
UNEXPECTED = ["PRE_EXECUTION", "POST_FAILURE", "ERROR"]

single_valued = pytest.mark.parametrize(
    "kind", [Kind("plain"), Kind("coroutine"), Kind("method")], ids=str
)  # generators have no single value to replace


@pytest.fixture(params=[None, MockTimeSource()], ids=["straight", "general"])
def clock(request):
    """The wrapper runs other code when the clock is not the system's."""
    return request.param


def raising(error):
    def body(*args):
        raise error

    return body


class Handler:
    """An error handler that notes what it is asked, and does what it is told."""

    def __init__(self, act):
        self.act = act
        self.asked = []

    def handle_error(self, error, context):
        self.asked.append((error, context))
        return self.act(error, context)


def test_exception_classes_alone_only_classify(kind, clock):
    for error, told in ((ValueError("v"), FAILED), (KeyError("k"), UNEXPECTED)):
        witness = Witness()
        decorator = CallPyBack([witness], exception_classes=(ValueError,), time_source=clock)
        assert kind.ended(kind.make(raising(error), decorator)).exception is error
        assert witness.told == told
        assert witness.outcome is Outcome.FAILURE
        assert witness.last.is_failed
        assert witness.last.returned is None


def test_subclasses_of_the_expected_are_expected(kind):
    witness = Witness()
    decorator = CallPyBack([witness], exception_classes=LookupError)
    kind.ended(kind.make(raising(KeyError("k")), decorator))
    assert witness.told == FAILED


def test_without_exception_classes_every_exception_is_expected(kind):
    witness = Witness()
    kind.ended(kind.make(raising(KeyError("k")), CallPyBack([witness])))
    assert witness.told == FAILED


@single_valued
@pytest.mark.parametrize("default", [None, 0, "d", (1, 2), frozenset(), len], ids=repr)
def test_a_default_reaches_the_caller_in_place_of_an_error(kind, clock, default):
    witness = Witness()
    decorated = kind.make(raising(ValueError("v")), CallPyBack([witness], default_return=default, time_source=clock))
    assert kind.call(decorated) is default
    assert witness.told == FAILED
    assert witness.outcome is Outcome.HANDLED
    assert witness.last.returned is default
    assert witness.last.result.exception_type is ValueError
    assert witness.last.is_failed


@single_valued
def test_a_default_works_with_nobody_listening(kind):
    assert kind.call(kind.make(raising(ValueError("v")), CallPyBack(default_return=5))) == 5


@single_valued
def test_a_default_does_not_replace_an_unexpected_error(kind, clock):
    error, witness = KeyError("k"), Witness()
    decorator = CallPyBack([witness], exception_classes=(ValueError,), default_return=5, time_source=clock)
    assert kind.ended(kind.make(raising(error), decorator)).exception is error
    assert witness.told == UNEXPECTED
    assert witness.outcome is Outcome.FAILURE


@single_valued
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), asyncio.CancelledError()], ids=repr)
def test_a_default_replaces_exceptions_only(kind, error):
    decorator = CallPyBack(default_return=5, error_handler=Handler(lambda error, context: 6))
    assert kind.ended(kind.make(raising(error), decorator)).exception is error


@single_valued
def test_a_default_replaces_no_value(kind):
    assert kind.call(kind.make(lambda: None, CallPyBack(default_return=5))) is None


@single_valued
@pytest.mark.parametrize(
    "default",
    [[], [[1]], {}, {"a": []}, set(), bytearray(b"x"), collections.deque([1]), collections.defaultdict(list)],
    ids=repr,
)
def test_a_mutable_default_is_not_shared(kind, default):  # E29
    expected = type(default)(default) if not isinstance(default, collections.defaultdict) else default.copy()
    decorated = kind.make(raising(ValueError("v")), CallPyBack(default_return=default))
    first = kind.call(decorated)
    assert (type(first), first) == (type(default), expected)
    first.clear()
    assert kind.call(decorated) == expected
    assert kind.call(decorated) is not kind.call(decorated)


@single_valued
def test_what_is_inside_a_mutable_default_is_not_shared_either(kind):  # E29
    decorated = kind.make(raising(ValueError("v")), CallPyBack(default_return={"a": []}))
    kind.call(decorated)["a"].append(1)
    assert kind.call(decorated) == {"a": []}


@single_valued
def test_a_factory_makes_each_default_anew(kind):  # E29
    made = []

    def make():
        made.append(object())
        return made[-1]

    decorated = kind.make(raising(ValueError("v")), CallPyBack(default_return=factory(make)))
    assert made == []
    assert [kind.call(decorated), kind.call(decorated)] == made


@single_valued
def test_a_factory_that_raises_raises_to_the_caller_with_the_users_error_as_context(kind):  # E28
    user_error, error = ValueError("v"), KeyError("of the factory")
    decorated = kind.make(raising(user_error), CallPyBack(default_return=factory(raising(error))))
    assert kind.ended(decorated).exception is error
    assert error.__context__ is user_error


@pytest.mark.parametrize("make", [5, None, "list", []], ids=repr)
def test_a_factory_of_what_cannot_be_called_is_refused(make):
    with pytest.raises(ConfigurationError, match="expected something to call"):
        factory(make)


@pytest.mark.parametrize("name", ["generator", "async generator"])
@pytest.mark.parametrize("default", [None, 5, []], ids=repr)
def test_a_default_on_a_generator_is_refused_at_decoration(name, default):
    with pytest.raises(ConfigurationError, match="has no single value"):
        Kind(name).make(lambda: 5, CallPyBack(default_return=default))


@single_valued
def test_a_handler_answers_in_place_of_the_error(kind, clock):
    user_error, witness = ValueError("v"), Witness()
    handler = Handler(lambda error, context: "answer")
    decorator = CallPyBack([witness], error_handler=handler, time_source=clock)
    assert kind.call(kind.make(raising(user_error), decorator)) == "answer"
    [(error, context)] = handler.asked
    assert error is user_error
    assert context.state is ExecutionState.POST_FAILURE
    assert context.result.exception_type is ValueError
    assert witness.told == FAILED
    assert witness.outcome is Outcome.HANDLED
    assert witness.last.returned == "answer"


@single_valued
def test_a_handler_is_asked_with_nobody_listening(kind):
    handler = Handler(lambda error, context: context.arguments)
    decorated = kind.make(raising(ValueError("v")), CallPyBack(error_handler=handler), "x")
    assert kind.call(decorated, 5) == {"x": 5}


@single_valued
def test_a_handler_may_answer_none(kind):
    assert kind.ended(kind.make(raising(KeyError()), CallPyBack(error_handler=Handler(lambda *_: None)))) == Ended()


@single_valued
def test_a_handler_is_not_asked_about_unexpected_errors(kind):
    handler, error = Handler(lambda error, context: 5), KeyError("k")
    decorator = CallPyBack(error_handler=handler, exception_classes=(ValueError,))
    assert kind.ended(kind.make(raising(error), decorator)).exception is error
    assert handler.asked == []


@single_valued
def test_a_handler_is_not_asked_when_the_body_returns(kind):
    handler = Handler(lambda error, context: 5)
    assert kind.call(kind.make(lambda: 6, CallPyBack(error_handler=handler))) == 6
    assert handler.asked == []


@single_valued
def test_a_handler_that_raises_the_error_itself_lets_it_pass(kind, clock):  # E28
    def raise_it(error, context):
        raise error

    user_error, witness = ValueError("v"), Witness()
    decorator = CallPyBack([witness], error_handler=Handler(raise_it), time_source=clock)
    assert kind.ended(kind.make(raising(user_error), decorator)).exception is user_error
    assert user_error.__context__ is None
    assert user_error.__cause__ is None
    assert witness.told == FAILED
    assert witness.outcome is Outcome.FAILURE


@single_valued
def test_the_default_answers_where_the_handler_lets_the_error_pass(kind):
    def raise_it(error, context):
        raise error

    decorated = kind.make(raising(ValueError("v")), CallPyBack(error_handler=Handler(raise_it), default_return=5))
    assert kind.call(decorated) == 5


@single_valued
def test_a_handler_that_raises_another_error_sends_that_with_the_users_as_context(kind, clock):  # E28
    user_error, error, witness = ValueError("v"), RuntimeError("of the handler"), Witness()

    def raise_another(*_):
        raise error

    decorator = CallPyBack([witness], error_handler=Handler(raise_another), time_source=clock)
    assert kind.ended(kind.make(raising(user_error), decorator)).exception is error
    assert error.__context__ is user_error
    assert error.__cause__ is None
    assert user_error.__context__ is None
    assert witness.told == FAILED
    assert witness.outcome is Outcome.FAILURE


@single_valued
def test_a_handler_may_translate_with_a_cause(kind):  # E28
    user_error = ValueError("v")

    def translate(error, context):
        raise RuntimeError("translated") from error

    decorated = kind.make(raising(user_error), CallPyBack(error_handler=Handler(translate)))
    raised = kind.ended(decorated).exception
    assert repr(raised) == "RuntimeError('translated')"
    assert raised.__cause__ is user_error


@single_valued
@pytest.mark.parametrize("error", [KeyboardInterrupt("k"), SystemExit(3)], ids=repr)
def test_an_interrupt_out_of_a_handler_reaches_the_caller(kind, error):  # E28
    def interrupt(*_):
        raise error

    witness = Witness()
    decorated = kind.make(raising(ValueError("v")), CallPyBack([witness], error_handler=Handler(interrupt)))
    assert kind.ended(decorated).exception is error
    assert witness.contexts[-1].state.is_terminal


@pytest.mark.parametrize("name", ["generator", "async generator"])
def test_a_handler_around_a_generator_may_translate(name):
    def translate(error, context):
        raise RuntimeError("translated") from error

    kind = Kind(name)
    decorated = kind.make(raising(ValueError("v")), CallPyBack(error_handler=Handler(translate)))
    assert repr(kind.ended(decorated).exception) == "RuntimeError('translated')"


@pytest.mark.parametrize("name", ["generator", "async generator"])
def test_a_handler_that_answers_for_a_generator_ends_it(name):
    kind, witness = Kind(name), Witness()
    handler = Handler(lambda error, context: "no item")
    decorated = kind.make(raising(ValueError("v")), CallPyBack([witness], error_handler=handler))
    assert kind.call(decorated) == "first item"
    assert witness.outcome is Outcome.HANDLED


class Internal(Exception):
    """An error of a part that is not the user's function."""


class FailingExtractor:
    def __init__(self, where):
        self.where = where

    def setup_extraction(self):
        if self.where == "setup":
            raise Internal
        return contextlib.nullcontext()

    def extract_variables(self, names):
        if self.where == "extract":
            raise Internal
        return {}


class FailingClock:
    def now(self):
        raise Internal


class FailingObserver:
    priority = 0

    def update(self, context):
        raise Internal


@single_valued
@pytest.mark.parametrize(
    "options",
    [
        {"variable_extractor": FailingExtractor("setup"), "variable_names": ["x"]},
        {"variable_extractor": FailingExtractor("extract"), "variable_names": ["x"]},
        {"time_source": FailingClock()},
        {},
    ],
    ids=["extractor setup", "extractor", "clock", "observer"],
)
def test_an_internal_error_does_not_become_the_default(kind, options):  # E30
    decorator = CallPyBack([FailingObserver()], exception_classes=(Exception,), default_return="d", **options)
    assert kind.call(kind.make(lambda: "value", decorator)) == "value"
    error = KeyError("k")
    undecided = CallPyBack([FailingObserver()], exception_classes=(ValueError,), default_return="d", **options)
    assert kind.ended(kind.make(raising(error), undecided)).exception is error


def test_a_users_type_error_is_the_users(kind, observed):  # E31
    calls = []

    def body(*args):
        calls.append(args)
        raise TypeError("body() takes 0 positional arguments but 1 was given")

    assert str(kind.ended(kind.make(body, observed), 1).exception).startswith("body() takes 0")
    assert calls == [(1,)]


def test_default_observers_count_failures_nobody_expected(kind):  # E32
    metrics, timing = MetricsObserver(), TimingObserver(threshold=0.0)
    error = ValueError("v")
    decorated = kind.make(raising(error), CallPyBack([metrics, timing, LoggingObserver()]))
    assert kind.ended(decorated).exception is error
    counters = metrics.get_metrics()["counters"]
    assert (counters["calls"], counters["failures"], counters["successes"]) == (1, 1, 0)


@pytest.mark.parametrize(
    ("options", "counted"),
    [
        ({}, "failures"),
        ({"default_return": 5}, "handled"),
        ({"exception_classes": (KeyError,)}, "failures"),
        ({"exception_classes": (KeyError,), "default_return": 5}, "failures"),
    ],
    ids=["expected", "handled", "unexpected", "unexpected, with a default"],
)
def test_failures_are_counted_by_what_became_of_them(options, counted):  # E32
    metrics = MetricsObserver()
    ended(CallPyBack([metrics], **options)(raising(ValueError("v"))))
    counters = metrics.get_metrics()["counters"]
    assert (counters["calls"], counters[counted]) == (1, 1)


@single_valued
def test_the_exception_under_way_after_a_handled_error_is_gone(kind):
    decorated = kind.make(raising(ValueError("v")), CallPyBack(default_return=5))
    kind.call(decorated)
    assert sys.exc_info() == (None, None, None)


@single_valued
def test_locals_captured_at_the_raise_reach_the_handler(kind):
    handler = Handler(lambda error, context: context.local_variables)
    decorator = CallPyBack(error_handler=handler, variable_names=["kept"])

    def plain(x):
        kept = x
        raise ValueError(kept)

    async def later(x):
        kept = x
        raise ValueError(kept)

    function = decorator(later if kind.is_async else plain)
    assert (kind if kind.is_async else Kind("plain")).call(function, 5) == {"kept": 5}
