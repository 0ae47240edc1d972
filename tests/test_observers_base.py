"""What every observer has, with or without `super().__init__()`, and the lifecycle of the seeds."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import itertools
import pickle
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callpyback import (
    BaseObserver,
    CallPyBack,
    ConfigurationError,
    ExecutionState,
    LoggingObserver,
    MetricsObserver,
    TimingObserver,
    create_callback_observer,
    on_call,
)


class Silent(BaseObserver):
    def update(self, context):
        pass


class Unprepared(BaseObserver):
    """Defines `__init__` and forgets the one it inherits."""

    def __init__(self):
        self.seen = []

    def update(self, context):
        self.seen.append((context.function_signature.name, context.state.name))


class Windowed(Silent):
    window = 10

    def __init__(self):
        super().__init__(priority=5)
        self._size = 1
        self.label = "a"

    @property
    def size(self):
        return self._size

    @size.setter
    def size(self, value):
        self._size = value

    @property
    def fixed(self):
        return 1


def test_what_is_given_is_kept():
    observer = Silent(50, "Mine", states=[ExecutionState.COMPLETED, ExecutionState.ERROR], critical=True)
    assert (observer.priority, observer.name, observer.critical, observer.guard) == (50, "Mine", True, False)
    assert observer.states == {ExecutionState.COMPLETED, ExecutionState.ERROR}


def test_defaults():
    observer = Silent()
    assert (observer.priority, observer.name, observer.critical, observer.guard) == (0, "Silent", False, False)
    assert observer.states is None
    assert repr(observer) == "<Silent 'Silent' priority=0>"


def test_one_state_may_be_given_alone():
    assert Silent(states=ExecutionState.ERROR).states == {ExecutionState.ERROR}


def test_an_observer_that_forgot_super_init_works():
    observer = Unprepared()

    @CallPyBack(observers=[observer])
    def f():
        pass

    f()
    assert observer.seen == [("f", "PRE_EXECUTION"), ("f", "POST_SUCCESS"), ("f", "COMPLETED")]
    assert (observer.priority, observer.name, observer.states, observer.critical) == (0, "Unprepared", None, False)
    observer.set_metadata("owner", "ops")
    assert observer.metadata == {"owner": "ops"}
    assert Unprepared().metadata == {}


def test_what_a_class_says_holds_where_the_default_is_left():
    class Declared(Silent):
        priority = 7
        states = frozenset({ExecutionState.ERROR})
        critical = True
        name = "declared"

    for observer in (Declared(), Declared.__new__(Declared)):
        assert (observer.priority, observer.name, observer.critical) == (7, "declared", True)
        assert observer.states == {ExecutionState.ERROR}
    assert Declared(9).priority == 9


def test_a_dataclass_may_be_an_observer():
    @dataclasses.dataclass
    class Tally(BaseObserver):
        calls: int = 0

        def update(self, context):
            self.calls += 1

    tally = Tally()

    @CallPyBack(observers=[tally])
    def f():
        pass

    f()
    assert (tally.calls, tally.name) == (3, "Tally")


@pytest.mark.parametrize("priority", [-3, 2.5, Fraction(1, 3), 10**30])
def test_any_finite_number_is_a_priority(priority):
    assert Silent(priority).priority == priority


@pytest.mark.parametrize(
    ("parameter", "value", "said"),
    [
        ("priority", True, "priority=True (bool)"),
        ("priority", "high", "priority='high' (str)"),
        ("priority", float("nan"), "priority=nan (float)"),
        ("priority", float("inf"), "priority=inf (float)"),
        ("priority", None, "priority=None (NoneType)"),
        ("name", 3, "name=3 (int)"),
        ("states", "COMPLETED", "no ExecutionState"),
        ("states", [ExecutionState.ERROR, 1], "1 (int) is no ExecutionState"),
        ("states", 5, "5 (int) is no ExecutionState"),
        ("states", [], "states=[] (list): expected at least one"),
        ("states", itertools.repeat(1), "1 (int) is no ExecutionState"),
        ("states", (1 // 0 for _ in "x"), "looking at it raised ZeroDivisionError"),
        ("critical", 1, "critical=1 (int)"),
    ],
)
def test_what_is_none_of_these_is_refused_by_name(parameter, value, said):
    with pytest.raises(ConfigurationError) as caught:
        Silent(**{parameter: value})
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("priority", True, "priority=True (bool)"),
        ("name", 3, "name=3 (int)"),
        ("states", [], "states=[] (list)"),
        ("critical", 1, "critical=1"),
    ],
)
def test_configure_refuses_what_the_constructor_refuses(option, value, said):
    observer = Silent()
    with pytest.raises(ConfigurationError) as caught:
        observer.configure(name="set", **{option: value}) if option != "name" else observer.configure(name=value)
    assert said in str(caught.value)
    assert observer.name == "Silent"


class Hostile:
    """Raises whatever is asked of it, its class included."""

    def __getattribute__(self, name):
        raise RuntimeError(name)

    def __call__(self):
        pass


class Incomparable(int):
    def __lt__(self, other):
        raise RuntimeError

    __gt__ = __le__ = __ge__ = __eq__ = __ne__ = __lt__
    __hash__ = int.__hash__


class Shouting(str):
    __slots__ = ()

    def upper(self):
        raise RuntimeError


HOSTILE = [Hostile(), Incomparable(3), Shouting("INFO"), 10**400, float("nan"), range(10**9), itertools.count()]
PARAMETERS = [
    (make, name)
    for make in (Silent, MetricsObserver, TimingObserver, LoggingObserver, on_call, create_callback_observer)
    for name in inspect.signature(make).parameters
]


@given(st.sampled_from(PARAMETERS), st.from_type(object) | st.integers(-len(HOSTILE), -1))
def test_any_value_for_any_parameter_is_taken_or_refused(parameter, value):
    make, name = parameter
    if isinstance(value, int) and -len(HOSTILE) <= value < 0:
        value = HOSTILE[value]  # by number, because Hypothesis looks at what it draws
    others = (
        {"callback": len, "states": ExecutionState.ERROR} if "callback" in inspect.signature(make).parameters else {}
    )
    needed = {key: other for key, other in others.items() if key in inspect.signature(make).parameters}
    try:
        observer = make(**{**needed, name: value})
    except ConfigurationError:
        return
    assert isinstance(observer, BaseObserver)
    assert isinstance(observer.name, str)


def test_configure_sets_public_attributes_and_settable_properties():
    observer = Windowed()
    assert observer.configure(window=20, label="b", size=3, priority=9, states=ExecutionState.ERROR) is None
    assert (observer.window, observer.label, observer.size, observer.priority) == (20, "b", 3, 9)
    assert observer.states == {ExecutionState.ERROR}
    assert Windowed.window == 10


@pytest.mark.parametrize("option", ["windw", "_size", "fixed", "update", "reset", "metadata_", "set_metadata"])
def test_an_unknown_option_is_refused_and_nothing_is_set(option):
    observer = Windowed()
    with pytest.raises(ConfigurationError) as caught:
        observer.configure(window=99, **{option: 1})
    assert repr(option) in str(caught.value)
    assert observer.window == 10


def test_the_nearest_option_is_named():
    with pytest.raises(ConfigurationError, match=r"no option 'windw' - did you mean 'window'\?; it has .*window"):
        Windowed().configure(windw=1)


def test_an_observer_that_does_nothing_is_refused_at_registration():
    class Empty(BaseObserver):
        pass

    with pytest.raises(ConfigurationError, match="does nothing: define update"):
        Empty().validate()
    with pytest.raises(ConfigurationError, match="does nothing: define update"):
        CallPyBack(observers=[Empty()])(lambda: None)


def test_bind_alone_or_an_update_of_the_instance_is_enough():
    class Bound(BaseObserver):
        def bind(self, function_signature):
            return None, None

    Bound().validate()
    observer = BaseObserver()
    observer.update = lambda context: None
    observer.validate()


def test_the_rest_of_the_lifecycle_does_nothing_by_default():
    observer = Silent(3, "x")
    before = dict(vars(observer))
    assert (observer.update(None), observer.reset(), observer.close(), observer.close()) == (None, None, None, None)
    assert vars(observer) == before


@pytest.mark.parametrize("again", [lambda o: pickle.loads(pickle.dumps(o)), copy.copy, copy.deepcopy])
def test_an_observer_survives_pickling_and_copying(again):
    observer = Silent(4, "x", states=ExecutionState.ERROR, critical=True)
    observer.set_metadata("k", [1])
    twin = again(observer)
    assert vars(twin) == vars(observer)
    assert twin.states == {ExecutionState.ERROR}
