"""Laws of error handlers: whom a chain asks, what a mistake can do, and when a retry gives up."""

from __future__ import annotations

import itertools
import logging
import math
from typing import Any

import pytest
import tenacity
from hypothesis import example, given, settings
from hypothesis import strategies as st

from callpyback import CallPyBack, ConfigurationError, MockTimeSource, factory
from callpyback.core.decisions import Again, Answered, Reraised
from callpyback.handlers import (
    BusinessLogicErrorHandler,
    ConditionalErrorHandler,
    DefaultErrorHandler,
    ErrorHandlerBuilder,
    ErrorHandlerChain,
    Handler,
    NetworkErrorHandler,
    ReraiseErrorHandler,
    Retry,
    SecurityErrorHandler,
    TimeoutErrorHandler,
    ValidationErrorHandler,
    create_robust_error_chain,
    create_simple_error_chain,
    create_standard_error_chain,
    create_user_friendly_error_chain,
    create_validation_error_chain,
)
from handling import Hostile, OwnHandler, Translated, decided, failed
from kinds import KINDS, ended


class Base(Exception): ...


class Left(Base): ...


class Right(Base): ...


class Both(Left, Right): ...


class Apart(Exception): ...


ERRORS = (Base, Left, Right, Both, Apart)
MATCHED = (*ERRORS, Exception)

some_classes = st.lists(st.sampled_from(MATCHED), min_size=1, max_size=3, unique=True).map(tuple)


@st.composite
def links(draw):
    """Return a handler as its classes, whether a predicate narrows them and holds, and what it does."""
    return (
        draw(some_classes),
        draw(st.sampled_from([None, True, False, "raises"])),
        draw(st.sampled_from(["value", "reraise", "raises", "answer", "passing", "mistaken", "retry"])),
    )


def predicate(holds):
    if holds is None:
        return None
    return lambda error: error.absent if holds == "raises" else holds


def passing(error):
    raise error


ACTIONS = {
    "value": {"value": "given"},
    "reraise": {"reraise": True},
    "raises": {"raises": Translated},
    "answer": {"answer": lambda error: "given"},
    "passing": {"answer": passing},
    "mistaken": {"answer": lambda error: error.absent},
    "retry": {"retry": Retry(1, on=Exception)},
}
DECISIONS = {"value": Answered, "answer": Answered, "reraise": Reraised, "raises": Reraised}
ALWAYS = {"value", "reraise", "raises"}


def made(number, link):
    classes, holds, action = link
    return Handler(classes, when=predicate(holds), name=str(number), **ACTIONS[action])


def is_reachable(number, several):
    """Return whether some error gets as far as this handler."""
    decided_before = [
        cls for classes, holds, act in several[:number] if holds is None and act in ALWAYS for cls in classes
    ]
    return any(not issubclass(cls, tuple(decided_before)) for cls in several[number][0])


def expected(error, several):
    """Return the number of the handler that decides, and the sort of decision; None for nobody."""
    for number, (classes, holds, action) in enumerate(several):
        if isinstance(error, classes) and holds in (None, True) and action in DECISIONS:
            return str(number), DECISIONS[action]
    return None


@settings(max_examples=200, deadline=None)
@given(several=st.lists(links(), max_size=6), error=st.sampled_from(ERRORS))
def test_the_first_handler_that_decides_wins_and_none_is_out_of_reach(several, error):
    handlers = [made(number, link) for number, link in enumerate(several)]
    if not all(is_reachable(number, several) for number in range(len(several))):
        with pytest.raises(ConfigurationError, match="would never be asked"):
            ErrorHandlerChain(handlers)
        return
    raised = error()
    decision = decided(ErrorHandlerChain(handlers), raised)
    assert (decision and (decision.by, type(decision))) == expected(raised, several)
    if isinstance(decision, Reraised) and decision.error is not raised:
        assert decision.error.__cause__ is raised


@settings(max_examples=100, deadline=None)
@given(several=st.lists(links(), min_size=3, max_size=6), cuts=st.lists(st.integers(0, 6), max_size=4))
def test_how_a_chain_was_put_together_makes_no_difference(several, cuts):
    handlers = [made(number, link) for number, link in enumerate(several) if is_reachable(number, several)]
    flat = ErrorHandlerChain(handlers)
    bounds = sorted({0, len(handlers), *(cut for cut in cuts if cut <= len(handlers))})
    nested = ErrorHandlerChain(ErrorHandlerChain(handlers[start:end]) for start, end in itertools.pairwise(bounds))
    built, joined = ErrorHandlerBuilder(), ErrorHandlerChain()
    for handler in handlers:
        built.add_handler(handler)
        joined = joined | handler
    assert flat.handlers == nested.handlers == built.build().handlers == joined.handlers == tuple(handlers)


@settings(max_examples=200, deadline=None)
@given(classes=some_classes, error=st.sampled_from(ERRORS))
def test_the_most_specific_of_mapped_classes_counts(classes, error):
    decision = decided(BusinessLogicErrorHandler({cls: cls.__name__ for cls in classes}), error())
    known = [cls for cls in error.__mro__ if cls in classes]
    assert (decision and decision.value) == (known[0].__name__ if known else None)


def raise_it(error):
    raise error


def raise_another(error, context):
    raise RuntimeError


def raise_from(error):
    raise Translated from error


def raise_from_none(error, context):
    raise Translated from None


async def later(error):
    return "later"


def generator_function(error):
    yield


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.sampled_from([10**400, math.nan, math.inf, 1j])
)
classes = st.sampled_from(
    [ValueError, Exception, BaseException, KeyboardInterrupt, GeneratorExit, ExceptionGroup, UnicodeError, int, type]
)
functions = st.sampled_from(
    [
        len,
        print,
        str,
        int,
        dict,
        lambda: None,
        lambda error: error,
        lambda error, context: True,
        lambda error, context, more: True,
        lambda *args, **kwargs: args,
        lambda error, *, needed: True,
        raise_it,
        raise_another,
        raise_from,
        raise_from_none,
        later,
        generator_function,
        Hostile,
    ]
)
handlers = (
    st.builds(OwnHandler, functions)
    | st.builds(Hostile)
    | st.builds(DefaultErrorHandler, scalars)
    | st.builds(NetworkErrorHandler)
    | st.sampled_from([DefaultErrorHandler, Handler, Retry])
)
others = st.sampled_from(
    [
        tenacity.wait_fixed(1),
        tenacity.wait_fixed,
        tenacity.wait_none() + tenacity.wait_exponential(),
        logging.getLogger("tests"),
        Retry(wait=0),
        ValueError("instance"),
        factory(list),
        factory(generator_function),
        object(),
    ]
)
leaves = scalars | classes | functions | handlers | others
anything = (
    leaves
    | st.lists(leaves, max_size=3)
    | st.lists(classes, max_size=3).map(tuple)
    | st.lists(handlers, max_size=3).map(iter)
    | st.dictionaries(classes | st.text(max_size=3), leaves, max_size=3)
)

CONSTRUCTORS: dict[Any, tuple[str, ...]] = {
    Handler: ("on", "when", "value", "answer", "raises", "reraise", "retry", "name"),
    Retry: ("attempts", "on", "wait", "timeout", "name"),
    TimeoutErrorHandler: ("default_return", "name"),
    ValidationErrorHandler: ("on", "reraise", "default_return", "name"),
    NetworkErrorHandler: ("retry_count", "default_return", "wait", "timeout", "name"),
    BusinessLogicErrorHandler: ("error_mapping", "name"),
    SecurityErrorHandler: ("on", "logger", "name"),
    ConditionalErrorHandler: ("condition", "handler", "name"),
    DefaultErrorHandler: ("default_return", "name"),
    ReraiseErrorHandler: ("name",),
    ErrorHandlerChain: ("handlers",),
    create_simple_error_chain: ("default_return",),
    create_standard_error_chain: ("default_return", "retry_count", "wait"),
    create_user_friendly_error_chain: ("default_return", "error_mapping"),
    create_validation_error_chain: ("default_return",),
    create_robust_error_chain: ("default_return", "retry_count", "wait"),
}
REQUIRED = {
    BusinessLogicErrorHandler: {"error_mapping": {ValueError: 0}},
    ConditionalErrorHandler: {"condition": bool, "handler": DefaultErrorHandler()},
}


@pytest.mark.parametrize("make", CONSTRUCTORS, ids=lambda make: make.__name__)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_value_of_any_parameter_is_taken_or_refused(make, data):
    names = data.draw(st.lists(st.sampled_from(CONSTRUCTORS[make]), unique=True))
    arguments = REQUIRED.get(make, {}) | {name: data.draw(anything, name) for name in names}
    try:
        handler = make(**arguments)
    except ConfigurationError:
        return
    assert isinstance(repr(handler), str)
    for error in (ValueError("v"), ConnectionResetError(), PermissionError()):
        assert_nothing_is_hidden(handler, error)


def assert_nothing_is_hidden(handler, error):
    """A decision gives a value, the error, one that it caused or that was raised in its place, or another attempt."""
    decision = decided(handler, error)
    assert decision is None or type(decision) in (Answered, Again, Reraised)
    if isinstance(decision, Again):
        assert 0 <= decision.wait < math.inf
    if isinstance(decision, Reraised) and decision.error is not error:
        assert decision.error.__cause__ is error or decision.error.__suppress_context__
    assert error.__cause__ is None


@settings(max_examples=200, deadline=None)
@given(function=functions, parameter=st.sampled_from(["on", "when", "answer", "raises", "condition", "own"]))
def test_a_mistake_in_a_users_function_hides_no_error(function, parameter):
    error = ValueError("v")
    try:
        handler = {
            "own": lambda: ErrorHandlerChain([OwnHandler(function)]),
            "condition": lambda: ConditionalErrorHandler(function, DefaultErrorHandler("given")),
        }.get(
            parameter,
            lambda: Handler(**{"value": "given"} if parameter in ("on", "when") else {}, **{parameter: function}),
        )()
    except ConfigurationError:
        return
    assert_nothing_is_hidden(handler, error)
    if handler.is_async:
        return
    came = ended(lambda: handler.handle_error(error, failed(error)))
    raised = came.exception
    assert raised is None or raised is error or raised.__cause__ is error or raised.__suppress_context__
    assert error.__context__ is None


@settings(max_examples=200, deadline=None)
@given(
    attempts=st.integers(1, 6),
    wait=st.none() | st.floats(0, 1e6) | st.sampled_from([lambda attempt: attempt, lambda attempt: None, raise_it]),
    timeout=st.none() | st.floats(0, 1e6, exclude_min=True),
    attempt=st.integers(1, 8),
    elapsed=st.none() | st.floats(),
)
@example(attempts=2, wait=0.0, timeout=1.0, attempt=1, elapsed=math.nan)
def test_a_retry_waits_a_finite_time_within_its_limits_or_gives_up(attempts, wait, timeout, attempt, elapsed):
    given_wait = Retry(attempts, wait=wait, timeout=timeout).next_wait(TimeoutError(), attempt, elapsed)
    if given_wait is None:
        certain = attempt < attempts and not callable(wait)
        assert not certain or (timeout is not None and (elapsed or 0) + (20 if wait is None else wait) > timeout)
        return
    assert attempt < attempts
    assert 0 <= given_wait < math.inf
    known = elapsed is not None and not math.isnan(elapsed)
    assert timeout is None or (elapsed if known else 0) + given_wait <= timeout or not known


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from([kind for kind in KINDS if not kind.is_generator]),
    errors=st.lists(st.sampled_from([ConnectionResetError, TimeoutError, KeyError]), max_size=7),
    attempts=st.integers(1, 5),
    way=st.sampled_from(["decorator", "chain", "handler"]),
)
def test_a_body_runs_until_it_returns_or_the_retry_gives_up(kind, errors, attempts, way):
    clock, raised = MockTimeSource(), []
    left = list(errors)

    def body():
        if not left:
            return "value"
        raised.append(left.pop(0)())
        raise raised[-1]

    retry = Retry(attempts, wait=1)
    options: dict[str, Any] = {
        "decorator": {"retry": retry},
        "chain": {"error_handler": Handler(ZeroDivisionError, value=1) | retry},
        "handler": {"error_handler": Handler(retry=retry)},
    }[way]
    came = kind.ended(kind.make(body, CallPyBack(time_source=clock, **options)))
    stops = [number for number, error in enumerate(errors, 1) if error is KeyError or number == attempts]
    failures = stops[0] if stops else len(errors)
    assert len(raised) == failures
    assert clock.now() == (failures - 1 if stops else failures)
    assert came.exception is (raised[-1] if stops else None)
    assert came.value == (None if stops else "value")
