"""Any value for any parameter gives success or ConfigurationError when decorating: never another type, never later.

F01 to F19. An endless iterable is the one value left out: nobody can tell it from a long one.
"""

from __future__ import annotations

import contextlib
import decimal
import fractions
import logging
import threading
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from callpyback import (
    BaseObserver,
    CallbackObserver,
    CallPyBack,
    ConfigurationError,
    ExecutionState,
    MetricsObserver,
    MockTimeSource,
    NoOpVariableExtractor,
    Subscription,
    SystemTimeSource,
    TracingVariableExtractor,
    add_global_observer,
    create_callback_observer,
    factory,
    handle,
    observing,
    on_call,
    on_completion,
    on_error,
    on_failure,
    on_success,
    remove_global_observer,
    required_by,
    requires,
    want,
)
from callpyback.core.visitors import VISITORS
from kinds import KINDS, Kind, Witness


class Hostile:
    """Raises whatever is asked of it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")

    def __repr__(self) -> str:
        raise RuntimeError("no text")

    __str__ = __bool__ = __len__ = __iter__ = __eq__ = __hash__ = __lt__ = __float__ = __repr__


class HostileObserver(Witness):
    def __repr__(self) -> str:
        raise RuntimeError("no text")


class HostileProperties:
    update = len

    @property
    def priority(self) -> int:
        raise RuntimeError("no priority")

    name = states = critical = guard = bind = priority


class HostileMembers:
    """Has every member there is; reading one again gives something else."""

    priority = 0

    def __init__(self) -> None:
        self.read = set()

    def __getattribute__(self, name: str) -> Any:
        read = object.__getattribute__(self, "read") if name != "read" else None
        if read is not None and not name.startswith("__"):
            if name in read:
                raise RuntimeError("asked twice")
            read.add(name)
        return object.__getattribute__(self, name)

    def update(self, context) -> None: ...

    now = setup_extraction = extract_variables = handle_error = update


class HostileMapping(dict):
    def __iter__(self):
        raise RuntimeError("no keys")

    keys = items = values = __iter__


class Liar(list):
    def __iter__(self):
        raise RuntimeError("no items")


class Unhashable:
    """As a dataclass observer is."""

    __hash__ = None
    priority = 0

    def update(self, context) -> None: ...


class Slotted:
    __slots__ = ()
    priority = 0

    def update(self, context) -> None: ...


class BoundToNothing:
    priority = 0

    def bind(self, function_signature) -> None: ...


class BoundWrongly:
    priority = 0

    def __init__(self, bound) -> None:
        self.bound = bound

    def bind(self, function_signature):
        if self.bound is None:
            raise RuntimeError("no binding")
        return self.bound


class WithMember:
    """An observer of which one member is something else."""

    def __init__(self, name: str, value: Any) -> None:
        self.priority = 0
        setattr(self, name, value)

    def update(self, context) -> None: ...


async def update_awaited(context) -> None: ...


def generator_function(context):
    yield


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.complex_numbers()
    | st.decimals()
    | st.fractions()
    | st.sampled_from([10**400, -(10**400), float("nan"), decimal.Decimal("NaN"), fractions.Fraction(10**400)])
)
states = st.sampled_from([*ExecutionState, "COMPLETED", "completed", 1, None])
classes = st.sampled_from(
    [ValueError, Exception, BaseException, KeyboardInterrupt, SystemExit, ExceptionGroup, int, type, "ValueError"]
)
callables = st.sampled_from(
    [
        len,
        print,
        max,
        int,
        lambda: None,
        lambda context: None,
        lambda exeption: None,
        lambda *args, **kwargs: None,
        lambda context, /, arguments, *, result=1: None,
        generator_function,
        update_awaited,
        Witness,
        [].append,
        Witness().update,
        threading.Lock,
    ]
)
members = st.builds(
    WithMember,
    st.sampled_from(
        [
            "priority",
            "name",
            "states",
            "critical",
            "guard",
            "update",
            "bind",
            "wanted",
            "wants",
            "when",
            "match",
            "is_interested",
            "requires",
            "required_by",
            "notices",
            "callback",
            "configure",
        ]
    ),
    scalars | st.lists(states, max_size=3) | callables | st.builds(Hostile),
)
observers = (
    st.builds(Witness)
    | st.builds(HostileObserver, priority=scalars)
    | st.builds(HostileProperties)
    | st.builds(HostileMembers)
    | st.builds(Unhashable)
    | st.builds(Slotted)
    | st.builds(MetricsObserver)
    | st.builds(BoundToNothing)
    | st.builds(BoundWrongly, scalars | st.tuples(callables, callables) | st.tuples(scalars, callables) | callables)
    | st.sampled_from([Witness, MetricsObserver, BaseObserver])
    | members
)
others = (
    st.builds(Hostile)
    | st.builds(HostileMapping, st.just({"a": 1}))
    | st.builds(Liar, st.just([1]))
    | st.builds(MockTimeSource)
    | st.builds(SystemTimeSource)
    | st.builds(NoOpVariableExtractor)
    | st.builds(TracingVariableExtractor)
    | st.builds(threading.Lock)
    | st.builds(object)
    | st.builds(factory, callables)
    | st.sampled_from([MockTimeSource, SystemTimeSource, NoOpVariableExtractor, CallPyBack, logging])
)
leaves = scalars | states | classes | callables | observers | others


@st.composite
def several(draw):
    items = draw(st.lists(leaves, max_size=3))
    make = draw(st.sampled_from([list, tuple, iter, lambda items: {str(at): item for at, item in enumerate(items)}]))
    return make(items)


anything = leaves | several()

PARAMETERS = (
    "observers",
    "variable_names",
    "exception_classes",
    "default_return",
    "max_execution_time",
    "enable_async_observers",
    "max_observer_failures",
    "time_source",
    "variable_extractor",
    "error_handler",
    "metadata",
)


class BodyError(Exception):
    pass


def or_refused(action) -> Any:
    """Return what the action gives, or None if it is refused as it should be."""
    try:
        return action()
    except ConfigurationError as error:
        refusal = error
    assert isinstance(refusal, ValueError)
    assert len(str(refusal)) > 10
    return None


def assert_calls_are_unhurt(kind: Kind, function, fails) -> None:
    fails.clear()
    assert kind.call(function) == "value"
    fails.append(BodyError())
    came = kind.ended(function)
    assert came.exception is fails[0] or came.exception is None
    fails.clear()


@pytest.mark.parametrize("parameter", PARAMETERS)
@settings(max_examples=120, deadline=None)
@given(value=anything, kind=st.sampled_from(KINDS))
def test_any_value_of_any_parameter_is_taken_or_refused(parameter, value, kind):
    assume(not (parameter == "default_return" and isinstance(value, factory)))  # what it makes is made at the call
    assert_taken_or_refused({parameter: value}, kind)


@settings(max_examples=300, deadline=None)
@given(values=st.dictionaries(st.sampled_from(PARAMETERS), anything, min_size=2), kind=st.sampled_from(KINDS))
def test_any_values_of_several_parameters_are_taken_or_refused(values, kind):
    assume(not isinstance(values.get("default_return"), factory))
    assert_taken_or_refused(values, kind)


def assert_taken_or_refused(values: dict[str, Any], kind: Kind) -> None:
    fails = []

    def body():
        if fails:
            raise fails[0]
        return "value"

    decorator = or_refused(lambda: CallPyBack(**values))
    function = decorator and or_refused(lambda: kind.make(body, decorator))
    # What an error handler raises is for the caller; a critical observer decides as it likes.
    steers = "error_handler" in values or any(getattr(known, "critical", False) for known in decorators_own(decorator))
    if function is not None and not steers:
        assert_calls_are_unhurt(kind, function, fails)


def decorators_own(decorator) -> tuple:
    return () if decorator is None else decorator.registrations


@settings(max_examples=400, deadline=None)
@given(
    observer=anything,
    states=st.none() | anything,
    weak=st.booleans() | anything,
    options=st.none() | anything,
    kind=st.sampled_from(KINDS),
    on_function=st.booleans(),
)
def test_any_observer_is_taken_or_refused_by_add_observer(observer, states, weak, options, kind, on_function):
    decorator = CallPyBack()
    function = kind.make(lambda: "value", decorator)
    holder = handle(function) if on_function else decorator
    or_refused(lambda: holder.add_observer(observer, states, weak=weak, options=options))
    critical = any(known.critical for known in [*decorator.registrations, *handle(function).own_registrations])
    if not critical:
        assert kind.call(function) == "value"
    or_refused(lambda: holder.remove_observer(observer))
    assert kind.call(function) == "value"
    or_refused(lambda: handle(function).enable_observer(observer))


ASKED = ("states", "when", "match", "name", "priority", "requires", "required_by", "weak", "options")


def on_decorator(function, subscription, **asked) -> None:
    or_refused(lambda: handle(function).decorator.add_observer(subscription, **asked))


def on_function(function, subscription, **asked) -> None:
    or_refused(lambda: handle(function).add_observer(subscription, **asked))


def everywhere(function, subscription, **asked) -> None:
    or_refused(lambda: add_global_observer(subscription, **asked))


@pytest.mark.parametrize("place", [on_decorator, on_function, everywhere], ids=lambda place: place.__name__)
@settings(max_examples=300, deadline=None)
@given(asked=st.dictionaries(st.sampled_from(ASKED), anything), kind=st.sampled_from(KINDS), as_one=st.booleans())
def test_anything_asked_for_an_observer_is_given_or_refused(place, asked, kind, as_one):
    function, witness = kind.make(lambda: "value", CallPyBack()), Witness()
    subscription = or_refused(lambda: Subscription(witness, **asked)) if as_one else witness
    try:
        if subscription is not None:
            place(function, subscription, **({} if as_one else asked))
        assert kind.call(function) == "value"
        handle(function).explain()
        or_refused(lambda: handle(function).decorator.add_observer(Witness()))
        with contextlib.ExitStack() as stack:
            or_refused(lambda: stack.enter_context(observing(witness, **asked)))
            assert kind.call(function) == "value"
    finally:
        for visitor in VISITORS.everywhere:
            remove_global_observer(visitor.name)


@pytest.mark.parametrize("mark", [want, requires, required_by], ids=["want", "requires", "required_by"])
@settings(max_examples=200, deadline=None)
@given(criteria=st.lists(anything, max_size=3), kind=st.sampled_from(KINDS))
def test_anything_wanted_or_required_is_taken_or_refused(mark, criteria, kind):
    marked = or_refused(lambda: mark(*criteria))
    if marked is not None:
        decorator = CallPyBack()
        or_refused(lambda: decorator.add_observer(marked(Witness())))
        or_refused(lambda: decorator.add_observer(on_completion(marked(lambda context: None))))
        function = or_refused(lambda: kind.make(lambda: "value", decorator))
        assert function is None or kind.call(function) == "value"


@pytest.mark.parametrize("hook", ["on_call", "on_success", "on_failure", "on_completion", "on_error"])
@settings(max_examples=100, deadline=None)
@given(callback=anything, priority=anything, name=st.none() | anything, weak=st.booleans())
def test_any_callback_is_taken_or_refused_by_the_hooks(hook, callback, priority, name, weak):
    function = CallPyBack()(lambda: "value")
    hooked = getattr(function, hook)
    given = or_refused(lambda: hooked(callback, priority=priority, name=name, weak=weak))
    if callback is not None and given is not None:
        assert given is callback
    assert function() == "value"


@pytest.mark.parametrize("make", [on_call, on_success, on_failure, on_completion, on_error], ids=lambda f: f.__name__)
@settings(max_examples=60, deadline=None)
@given(callback=anything, priority=anything, name=st.none() | anything)
def test_any_callback_is_taken_or_refused_by_the_constructors(make, callback, priority, name):
    observer = or_refused(lambda: make(callback, priority, name))
    if observer is not None:
        function = or_refused(lambda: CallPyBack([observer])(lambda: "value"))
        assert function is None or function() == "value"


@pytest.mark.parametrize("make", [create_callback_observer, CallbackObserver], ids=lambda f: f.__name__)
@settings(max_examples=100, deadline=None)
@given(callback=callables, states=anything, priority=anything, name=st.none() | anything)
def test_any_states_are_taken_or_refused(make, callback, states, priority, name):
    or_refused(lambda: make(callback, states, priority, name))


@settings(max_examples=300, deadline=None)
@given(priority=anything, name=anything, states=anything, critical=anything)
def test_any_value_is_taken_or_refused_by_base_observer(priority, name, states, critical):
    observer = or_refused(lambda: BaseObserver(priority, name, states=states, critical=critical))
    assert observer is None or isinstance(repr(observer), str)


@settings(max_examples=200, deadline=None)
@given(options=st.dictionaries(st.sampled_from(["priority", "name", "states", "critical", "guard", "x"]), anything))
def test_any_option_is_taken_or_refused_by_configure(options):
    class Configured(BaseObserver):
        def update(self, context) -> None: ...

    decorator = CallPyBack()
    function = decorator(lambda: "value")
    or_refused(lambda: decorator.add_observer(Configured(), options=options))
    assert function() == "value"


@settings(max_examples=200, deadline=None)
@given(target=anything)
def test_any_target_is_decorated_or_refused(target):
    or_refused(lambda: CallPyBack([Witness()])(target))
    or_refused(lambda: handle(target))
