"""Nothing is kept after a call that nobody asked to keep: no frames, no cycles, no functions, no observers."""

from __future__ import annotations

import contextlib
import gc
import subprocess
import sys
import tracemalloc
import weakref
from pathlib import Path

import pytest

from callpyback import (
    CallPyBack,
    CallVetoed,
    ExecutionState,
    LoggingObserver,
    MetricsObserver,
    MockTimeSource,
    Notice,
    StopProcessing,
    TimingObserver,
    handle,
    on_call,
    on_completion,
    on_failure,
    on_retry,
)
from callpyback.handlers import Handler
from kinds import BoundWitness, Forgetful, Witness, drive
from retrying import WAYS, Flaky, WaitingClock, make, repeating


class Held:
    """Something that can be watched going."""

    def __init__(self, kind=None) -> None:
        self.kind = kind


class BodyError(Exception):
    pass


@pytest.fixture(autouse=True, scope="module")
def collections_look_at_new_objects_only():
    gc.collect()
    gc.freeze()  # what was there before makes each collection slow
    yield
    gc.unfreeze()


@pytest.fixture
def collector_off():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Failing(Witness):
    def update(self, context) -> None:
        raise LookupError(context.arguments)


WATCHED = {
    "nobody": dict,
    "contexts": lambda: {"observers": [Forgetful()]},
    "plain values": lambda: {"observers": [MetricsObserver()]},
    "built-ins": lambda: {"observers": [MetricsObserver(), TimingObserver(threshold=0.0), LoggingObserver()]},
    "callbacks": lambda: {"observers": [on_call(lambda arguments: None), on_failure(lambda exception: None)]},
    "failing": lambda: {"observers": [Failing(), Forgetful()], "max_observer_failures": 2},
    "locals": lambda: {"observers": [Forgetful()], "variable_names": ["held"]},
    "another clock": lambda: {"observers": [Forgetful()], "time_source": MockTimeSource()},
    "every state": lambda: {"observers": [on_call(lambda: None), on_completion(lambda context: context.slot)]},
}


@pytest.fixture(params=WATCHED.values(), ids=WATCHED)
def options(request):
    return request.param()


@pytest.mark.usefixtures("collector_off")
def test_a_call_that_returned_frees_its_arguments_and_its_result_at_once(kind, options):
    freed = []

    def body(argument):
        result = Held()
        freed.extend([weakref.ref(argument), weakref.ref(result)])
        return result

    function = kind.make(body, CallPyBack(**options))
    for _ in range(3):
        kind.call(function, Held())
    assert [reference() for reference in freed] == [None] * 6


@pytest.mark.usefixtures("collector_off")
def test_a_call_that_raised_frees_its_frames_when_the_exception_goes(kind, options):
    freed = []

    def body(argument):
        held = Held()
        freed.extend([weakref.ref(argument), weakref.ref(held)])
        raise BodyError(len(freed))

    function = kind.make(body, CallPyBack(**options))
    for _ in range(3):
        try:
            kind.call(function, Held())
        except BodyError as error:
            str(error)
    assert [reference() for reference in freed] == [None] * 6


@pytest.mark.usefixtures("collector_off")
def test_a_decided_call_frees_its_arguments_at_once(kind):
    freed = []

    def decide(arguments):
        freed.append(weakref.ref(arguments["argument"]))
        raise StopProcessing(kind.answer("answer")) if len(freed) % 2 else CallVetoed("no")

    function = kind.make(lambda argument: None, CallPyBack([on_call(decide), Forgetful()]), parameters="argument")
    for _ in range(4):
        kind.ended(function, Held())
    assert [reference() for reference in freed] == [None] * 4


@pytest.mark.usefixtures("collector_off")
def test_an_abandoned_call_frees_its_locals_at_once(kind, options):
    if kind.name in ("plain", "method"):
        pytest.skip("cannot be abandoned")
    freed = []

    def argument():
        held = Held()
        freed.append(weakref.ref(held))
        return held

    function = kind.make(lambda argument: None, CallPyBack(**options))
    begun = function(argument())
    if kind.name == "async generator":
        drive(begun.asend(None))
        drive(begun.aclose())
    else:
        begun.send(None)
        begun.close()
    del begun
    assert freed[0]() is None


@pytest.mark.usefixtures("collector_off")
@pytest.mark.parametrize("clock", [None, MockTimeSource()], ids=["system", "mock"])
@pytest.mark.parametrize("names", [(), ("number",)], ids=["", "locals"])
def test_a_context_that_is_kept_keeps_no_frame(kind, clock, names):
    witness, freed = Witness(), []

    def body(argument):
        held, number = Held(), 5
        freed.append(weakref.ref(held))
        raise BodyError(number)

    function = kind.make(body, CallPyBack([witness], variable_names=names, time_source=clock))
    for context_read in (False, True):
        try:
            kind.call(function, "argument")
        except BodyError:
            pass
        last = witness.last
        if context_read:
            assert last.result.exception.args == (5,)
            assert "BodyError: 5" in last.result.traceback_info
            assert last.arguments
    assert [reference() for reference in freed] == [None, None]
    failures = [context.result for context in witness.contexts if context.result is not None]
    assert {type(failure.exception) for failure in failures} == {BodyError}
    assert all(failure.exception.__traceback__ is None for failure in failures)
    assert len(failures) == 4


def raise_chained(original):
    raise BodyError(1) from original


def raise_group(original):
    raise ExceptionGroup("many", [BodyError(1), ExceptionGroup("inner", [original])]) from original


def raise_with_it_as_argument(original):
    raise BodyError(original) from None


def raise_with_it_as_attribute(original):
    error = BodyError(1)
    error.original = original
    try:
        raise error
    finally:
        del error  # else this frame and the exception hold each other


@pytest.mark.usefixtures("collector_off")
@pytest.mark.parametrize("reraise", [raise_chained, raise_group, raise_with_it_as_argument, raise_with_it_as_attribute])
def test_a_context_kept_from_a_failure_with_another_inside_keeps_no_frame(reraise):
    witness, freed = Witness(), []

    def cause():
        held = Held()
        freed.append(weakref.ref(held))
        raise KeyError("cause")

    @CallPyBack([witness])
    def function():
        try:
            cause()
        except KeyError as error:
            reraise(error)

    try:
        function()
    except (BodyError, ExceptionGroup) as raised:
        kind_raised = type(raised)
    assert type(witness.last.result.exception) is kind_raised
    assert freed[0]() is None


@pytest.mark.usefixtures("collector_off")
def test_a_slot_is_released_at_the_end_of_the_call(kind):
    freed = []

    class Remembering(Witness):
        def update(self, context) -> None:
            super().update(context)
            held = context.slot.setdefault("held", Held())
            freed.append(weakref.ref(held))

    kept = Remembering()
    function = kind.make(lambda: "value", CallPyBack([kept]))
    for _ in range(3):
        kind.call(function)
    assert [reference() for reference in freed] == [None] * 9
    assert len(kept.contexts) == 9


RETRIED = {
    "built-ins": lambda: {"observers": [MetricsObserver(), LoggingObserver()]},
    **{name: WAYS[name] for name in ("by nobody", "by the notice", "with locals", "in every state")},
}


@pytest.fixture(params=RETRIED.values(), ids=RETRIED)
def retried(request):
    return {"retry": repeating(on=BodyError), **request.param()}


def forget_contexts(decorator) -> None:
    for observer in decorator.observers:
        getattr(observer, "contexts", []).clear()


@pytest.mark.usefixtures("collector_off")
def test_an_attempt_is_freed_when_the_next_begins(kind, retried):
    alive, freed = [], []

    def body():
        alive.append([reference() is not None for reference in freed])
        held = Held()
        error = BodyError(held)
        freed.extend([weakref.ref(held), weakref.ref(error)])
        if len(alive) % 3 == 0:
            return "value"
        try:
            raise error
        finally:
            del error  # else this frame and the exception hold each other

    decorator = CallPyBack(**retried)
    function = make(kind, body, decorator)
    for _ in range(2):
        alive.clear()
        freed.clear()
        kind.call(function)
        if not any(isinstance(observer, Witness) for observer in decorator.observers):  # which keeps `error.args`
            assert alive == [[], [False] * 2, [False] * 4]
        forget_contexts(decorator)
        assert [reference() for reference in freed] == [None] * 6


@pytest.mark.usefixtures("collector_off")
def test_a_call_that_failed_in_every_attempt_frees_them_when_the_exception_goes(kind, retried):
    freed = []

    def body(argument):
        held = Held()
        freed.extend([weakref.ref(argument), weakref.ref(held)])
        raise BodyError(len(freed))

    decorator = CallPyBack(**retried)
    function = make(kind, body, decorator)
    for _ in range(2):
        try:
            kind.call(function, Held())
        except BodyError as error:
            str(error)
    forget_contexts(decorator)
    assert [reference() for reference in freed] == [None] * 12


@pytest.mark.usefixtures("collector_off")
@pytest.mark.parametrize("attempts", [2, 3])
@pytest.mark.parametrize("clock", [None, MockTimeSource()], ids=["system", "mock"])
def test_what_is_kept_of_attempts_keeps_no_frame_and_no_slot(kind, clock, attempts):
    freed = []

    class Remembering(Witness):
        def update(self, context) -> None:
            super().update(context)
            freed.append(weakref.ref(context.slot.setdefault("held", Held())))

    def body():
        held = Held()
        freed.append(weakref.ref(held))
        runs.append("run")
        if len(runs) < 3:
            raise BodyError(len(runs))

    kept, runs = Remembering(*ExecutionState, notices=Notice.RETRY), []
    decorator = CallPyBack([kept], retry=repeating(attempts=attempts, on=BodyError), time_source=clock)
    kind.ended(make(kind, body, decorator))
    assert {reference() for reference in freed} == {None}
    assert [context.notice.exception.args for context in kept.contexts if context.notice] == [(1,), (2,)][
        : attempts - 1
    ]
    failures = [context.result for context in kept.contexts if context.state is ExecutionState.POST_FAILURE]
    assert [failure.exception.args for failure in failures] == [(1,), (2,)]


def interrupt() -> None:
    raise KeyboardInterrupt


class Critical(Witness):
    critical = True

    def update(self, context) -> None:
        if context.notice is not None or (context.state is ExecutionState.EXECUTING and context.attempt > 1):
            raise LookupError


BETWEEN = {
    "interrupted in the wait": lambda: ([], WaitingClock(interrupt)),
    "interrupted at the notice": lambda: ([on_retry(interrupt)], None),
    "a critical observer failed at the notice": lambda: ([Critical(notices=Notice.RETRY)], None),
    "a critical observer failed at the attempt": lambda: ([Critical(ExecutionState.EXECUTING)], None),
}


@pytest.mark.usefixtures("collector_off")
@pytest.mark.parametrize("between", BETWEEN.values(), ids=BETWEEN)
def test_a_call_that_ends_between_two_attempts_frees_everything_and_keeps_no_frame(kind, between):
    freed = []

    def body(argument):
        held = Held()
        freed.extend([weakref.ref(argument), weakref.ref(held)])
        raise BodyError(len(freed))

    observers, clock = between()
    kept = Witness(*ExecutionState, notices=Notice.RETRY, priority=9)
    decorator = CallPyBack([kept, *observers], retry=repeating(on=BodyError), time_source=clock)
    function = make(kind, body, decorator)
    try:
        kind.call(function, Held())
    except (BodyError, KeyboardInterrupt) as error:
        error.args  # noqa: B018 - it is looked at
    assert kept.told[-1] == "ERROR"
    assert freed[1]() is None
    kept.contexts.clear()
    assert [reference() for reference in freed] == [None, None]


def test_no_cycles_are_left_by_attempts(kind, retried):
    decorator, body = CallPyBack(**retried), Flaky()
    function = make(kind, body, decorator)

    def call_often(times: int) -> None:
        for number in range(times):
            body.errors = [BodyError(attempt) for attempt in range(number % 4)]
            kind.ended(function)
            forget_contexts(decorator)

    call_often(20)
    gc.collect()
    gc.disable()
    try:
        call_often(200)
        assert gc.collect() == 0
    finally:
        gc.enable()


class Raising:
    """Raises where it is asked about an error."""

    def handle_error(self, error, context):
        raise LookupError

    def next_wait(self, error, attempt, elapsed):
        raise LookupError


def raise_from(error):
    raise LookupError from error


INSTEAD = {
    "handler": lambda: {"error_handler": Raising()},
    "chain": lambda: {"error_handler": Handler(answer=raise_from)},
    "retry": lambda: {"retry": Raising()},
    "handler after retries": lambda: {"retry": repeating(on=BodyError, attempts=2), "error_handler": Raising()},
    "another clock": lambda: {"error_handler": Raising(), "time_source": MockTimeSource()},
}


@pytest.mark.parametrize("instead", INSTEAD.values(), ids=INSTEAD)
def test_an_error_that_takes_the_place_of_the_bodys_leaves_no_cycle(kind, instead):
    freed = []

    def body(argument):
        held = Held()
        freed.extend([weakref.ref(argument), weakref.ref(held)])
        raise BodyError(len(freed))

    function = make(kind, body, CallPyBack(**instead()))
    kind.ended(function, Held())
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            with contextlib.suppress(LookupError):
                kind.call(function, Held())
        assert {reference() for reference in freed} == {None}
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_no_cycles_are_left_by_calls(kind, options):
    def body(number):
        held = number
        if number % 2:
            raise BodyError(held)
        return held

    function = kind.make(body, CallPyBack(**options))

    def call_often(times: int) -> None:
        for number in range(times):
            try:
                kind.call(function, number)
            except BodyError:
                pass

    call_often(20)
    gc.collect()
    gc.disable()
    try:
        call_often(200)
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_a_decorated_function_is_collected_with_what_it_closes_over(kind, options):
    held = Held()
    decorator = CallPyBack(**options)
    function = kind.make(lambda held=held: held, decorator)
    kind.call(function)
    references = [weakref.ref(getattr(function, "__func__", function)), weakref.ref(held)]
    del function, held
    gc.collect()
    assert [reference() for reference in references] == [None, None]
    assert "on 0 functions" in repr(decorator)


def test_a_decorator_is_collected_with_its_last_function():
    decorator = CallPyBack([Witness()])
    function = decorator(lambda: 1)
    references = [weakref.ref(decorator), weakref.ref(function), weakref.ref(decorator.observers[0])]
    del decorator
    gc.collect()
    assert None not in [reference() for reference in references]
    del function
    gc.collect()
    assert [reference() for reference in references] == [None] * 3


def test_an_observer_is_held_unless_it_is_weak():
    decorator = CallPyBack([Witness()])
    function = decorator(lambda: 1)
    gc.collect()
    function()
    assert len(decorator.observers[0].contexts) == 3


class Listening:
    """Has a method to be called back."""

    def __init__(self) -> None:
        self.values = []

    def note(self, value) -> None:
        self.values.append(value)


@pytest.mark.usefixtures("collector_off")
def test_a_weak_observer_goes_at_once_and_the_function_runs_on(kind):
    witness, bound, listening = Witness(), BoundWitness(), Listening()
    decorator = CallPyBack()
    function = kind.make(lambda: "value", decorator)
    decorator.add_observer(witness, weak=True)
    handle(function).on_success(listening.note, weak=True)
    kind.call(function)
    assert (len(witness.contexts), listening.values) == (3, [kind.shown("value")])
    references = [weakref.ref(witness), weakref.ref(listening)]
    del witness, listening
    assert [reference() for reference in references] == [None, None]
    assert kind.call(function) == "value"
    assert handle(function).observers == ()
    del bound


def test_a_removed_observer_is_let_go():
    witness, decorator = Witness(), CallPyBack()
    function = decorator(lambda: 1)
    for holder in (decorator, handle(function)):
        holder.add_observer(witness)
        function()
        holder.remove_observer(witness)
        function()
    reference = weakref.ref(witness)
    del witness
    gc.collect()
    assert reference() is None


FEW, MANY = 500, 3_000


def test_no_memory_is_kept_per_call():
    observers = [MetricsObserver(), TimingObserver(threshold=3600.0), Forgetful()]
    decorator = CallPyBack(observers, default_return=None)

    @decorator
    def function(number):
        if number % 5 == 0:
            raise BodyError(number)
        return number

    def call(times: int) -> None:
        for number in range(times):
            function(number)

    call(FEW)
    tracemalloc.start()
    try:
        call(FEW)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        call(MANY)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A batch of metrics waits to be folded: 4,096 floats and their slots.
    assert after - before < 300_000
    assert observers[0].get_metrics()["total_calls"] == 2 * FEW + MANY


RESIDENT = """
import logging, os
from callpyback import CallPyBack, LoggingObserver, MetricsObserver, TimingObserver

logging.disable(logging.CRITICAL)

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")

observers = [MetricsObserver(), TimingObserver(), LoggingObserver(logging.getLogger("off"))]

@CallPyBack(observers, variable_names=["mine"], default_return=None)
def function(number):
    mine = number
    if number % 100 == 0:
        raise ValueError(number)
    return mine

def call(times):
    for number in range(times):
        function(number)

call(20_000)
before = resident()
call(200_000)
print(resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this platform does not tell")
def test_resident_memory_stays_flat_over_200_000_calls():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RESIDENT], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stderr == ""
    assert int(done.stdout) < 5_000_000


def test_no_memory_is_kept_per_function_that_is_gone():
    decorator = CallPyBack([Forgetful(), MetricsObserver(max_series=10)])

    def decorate(times: int) -> None:
        for number in range(times):
            decorator(lambda number=number: number)()

    decorate(100)
    gc.collect()
    tracemalloc.start()
    try:
        decorate(50)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        decorate(500)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100_000


def test_a_failing_call_with_a_large_argument_copies_nothing(kind):
    large = "x" * 50_000_000
    observers = [MetricsObserver(), TimingObserver(threshold=0.0), LoggingObserver(), Witness(ExecutionState.ERROR)]
    function = kind.make(lambda argument: 1 / 0, CallPyBack(observers))
    kind.ended(function, "small")
    tracemalloc.start()
    try:
        kind.ended(function, large)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
