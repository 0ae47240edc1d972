"""Nobody pays for knowing which call a call is made in until somebody asks, in whatever way."""

from __future__ import annotations

import functools
import subprocess
import sys
import textwrap

import pytest

from callpyback import BaseObserver, CallPyBack, ExecutionState, handle, on_completion
from callpyback.core.current import CURRENT, NOTHING
from callpyback.core.tracking import TRACKING
from callpyback.testing import RecordingObserver
from kinds import Witness
from tracking import WATCHING, current_call

S = ExecutionState


@pytest.fixture(params=WATCHING.values(), ids=WATCHING)
def watched(request):
    return request.param


@pytest.fixture(autouse=True)
def _off():
    TRACKING.switch_off()
    CURRENT.set(NOTHING)
    yield
    TRACKING.switch_off()


def watch(*states):
    return Witness(*(states or (S.COMPLETED, S.ERROR)))


def plan_of(function):
    return handle(function)._cell.cell_contents


def test_nobody_asks_nothing_is_tracked():
    source = """
        from callpyback import CurrentCall, CallPyBack, MetricsObserver, on_completion
        from callpyback.core.tracking import TRACKING
        @CallPyBack([MetricsObserver(), on_completion(lambda context: (context.tags, context.call_id))])
        def work():
            return 1
        work()
        print(TRACKING.is_on)
        from callpyback import current_call
        print(TRACKING.is_on)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["False", "True"]


def test_functions_decorated_before_are_tracked_too(kind, watched):
    witness = watch()
    function = kind.make(lambda: CURRENT.get().tag(a=1), watched(witness))
    kind.call(function)
    TRACKING.switch_on()
    kind.call(function)
    TRACKING.switch_off()
    kind.call(function)
    assert [context.tags for context in witness.contexts] == [{}, {"a": 1}, {}]


def test_a_call_under_way_when_it_is_switched_ends_as_it_began(kind, watched):
    witness = watch()

    def switching(on):
        (TRACKING.switch_on if on else TRACKING.switch_off)()
        CURRENT.get().tag(a=1)
        return on

    function = kind.make(switching, watched(witness))
    assert kind.call(function, True) is True
    assert kind.call(function, False) is False
    assert [context.tags for context in witness.contexts] == [{}, {"a": 1}]
    assert CURRENT.get() is NOTHING


def test_a_function_that_names_it_switches_it_on():
    def plain():
        return 1

    def naming():
        import callpyback  # noqa: PLC0415

        return callpyback.current_call()

    def by_attribute(module):
        return module.current_call()

    def around():
        def inner():
            return current_call()

        return inner

    @functools.wraps(naming)
    def wrapping():
        return naming()

    for function, expected in ((plain, False), (naming, True), (by_attribute, True), (around, True)):
        TRACKING.switch_off()
        CallPyBack()(function)
        assert TRACKING.is_on is expected
    TRACKING.switch_off()
    CallPyBack()(wrapping)
    assert TRACKING.is_on


def test_functions_that_wrap_each_other_in_a_circle_are_looked_at_once():
    def first(): ...

    def second(): ...

    first.__wrapped__, second.__wrapped__ = second, first
    CallPyBack()(first)
    assert not TRACKING.is_on


@pytest.mark.parametrize("name", ["depth", "parent_call_id"])
def test_a_callback_that_names_what_is_around_switches_it_on(name):
    told = []
    observer = on_completion(eval(f"lambda {name}: told.append({name})", {"told": told}))
    assert not TRACKING.is_on
    function = CallPyBack([observer])(lambda: None)
    assert TRACKING.is_on
    function()
    assert told == [0 if name == "depth" else None]


def test_an_observer_that_says_so_switches_it_on():
    class Tracing(BaseObserver):
        traces_calls = True

        def update(self, context):
            """Do nothing."""

    function = CallPyBack([Witness()])(lambda: None)
    assert not plan_of(function).tracks
    function.callpyback.add_observer(Tracing())
    assert TRACKING.is_on
    function()
    assert plan_of(function).tracks


@pytest.mark.parametrize(
    "read",
    [
        lambda context: context.depth,
        lambda context: context.parent_call_id,
        lambda context: context.with_state(S.ERROR),
    ],
    ids=["depth", "parent", "copy"],
)
def test_reading_it_makes_it_right_from_the_next_call_on(kind, read):
    seen = []

    class Reading(BaseObserver):
        states = frozenset({S.COMPLETED})

        def update(self, context):
            if not TRACKING.is_on:
                read(context)
                seen.append(TRACKING.is_on)
            seen.append((context.depth, context.parent_call_id is None))

    inner = kind.make(lambda: None, CallPyBack([Reading()]))
    outer = kind.make(lambda: kind.call(inner), CallPyBack([Witness()]))
    kind.call(outer)
    kind.call(outer)
    assert seen == [True, (0, True), (1, False)]


def test_a_recorder_knows_it_from_the_first_call_on():
    recorder = RecordingObserver()
    watch = CallPyBack([recorder])
    inner = watch(lambda: None)

    @watch
    def outer():
        inner()

    outer()
    first, second = recorder.calls
    assert (first.depth, second.depth) == (0, 1)
    assert (first.parent_call_id, second.parent_call_id) == (None, first.call_id)


def test_while_it_is_off_contexts_have_no_tags(kind, watched):
    witness = Witness()
    kind.call(kind.make(lambda: None, watched(witness, metadata={"m": 1})))
    assert {tuple(context.tags) for context in witness.contexts} == {()}
    assert [context.metadata for context in witness.contexts] == [{"m": 1}] * 3
