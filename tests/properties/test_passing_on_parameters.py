"""Any value for any parameter of the ready-made observers is taken, or refused by a ConfigurationError (F19)."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callpyback import CallPyBack, ConfigurationError, ExecutionState, MetricsObserver, MockTimeSource, StateObserver
from callpyback.observers.debug import DebugObserver
from callpyback.observers.deduplicate import DeduplicateObserver
from callpyback.observers.history import HistoryObserver
from callpyback.observers.processing import ProcessingObserver
from callpyback.observers.profiling import ProfilingObserver
from callpyback.observers.sampling import SamplingObserver
from kinds import Witness


class Hostile:
    def __getattr__(self, name):
        raise RuntimeError

    def __repr__(self):
        raise RuntimeError

    def __eq__(self, other):
        raise RuntimeError

    __hash__ = None


class Processing(ProcessingObserver):
    def extract(self, context):
        return 1

    def store(self, data):
        pass


class Noting(StateObserver):
    def on_success(self, context):
        pass


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(0, 5),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=3),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.sampled_from(
        [
            *(Hostile(), Hostile, object(), print, len, int, lambda: None, lambda context: None, math.nan, 10**400),
            *(random.Random(1), random.Random, MockTimeSource(), MockTimeSource, Witness(), MetricsObserver()),
            *(ExecutionState, ExecutionState.COMPLETED, [ExecutionState.ERROR], frozenset()),
        ]
    ),
)
MADE = {
    HistoryObserver: ("maxlen", "text", "states", "priority", "name"),
    DebugObserver: ("stream", "logger", "arguments", "results", "mask", "color", "max_length", "priority", "name"),
    ProfilingObserver: ("observer", "time_source", "priority", "name"),
    SamplingObserver: ("rate", "first", "always_failures", "slow", "random", "states", "priority", "name"),
    DeduplicateObserver: ("key", "window", "max_keys", "time_source", "states", "priority", "name"),
    Processing: ("processor", "priority", "name", "states", "critical"),
    Noting: ("priority", "name", "states", "critical"),
}
PARAMETERS = [(cls, parameter) for cls, parameters in MADE.items() for parameter in parameters]


@pytest.mark.parametrize(
    ("cls", "parameter"), PARAMETERS, ids=[f"{cls.__name__}-{parameter}" for cls, parameter in PARAMETERS]
)
@settings(max_examples=40, deadline=None)
@given(value=VALUES)
def test_a_value_is_taken_or_refused_and_never_breaks_a_call(cls, parameter, value):
    given_observer = (Witness(),) if cls in (SamplingObserver, DeduplicateObserver) else ()
    try:
        function = CallPyBack([cls(*given_observer, **{parameter: value})])(lambda: 7)
    except ConfigurationError as error:
        text = str(error)
        assert "=" in text or "observer" in text
        return
    assert function() == 7


@pytest.mark.parametrize("cls", [SamplingObserver, DeduplicateObserver, ProfilingObserver])
@settings(max_examples=60, deadline=None)
@given(value=VALUES)
def test_what_is_no_observer_is_refused(cls, value):
    try:
        cls(value)
    except ConfigurationError:
        return
    assert hasattr(value, "update") or hasattr(value, "bind") or (value is None and cls is ProfilingObserver)
