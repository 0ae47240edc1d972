"""The user's exception is the user's: same object, same chain, same traceback, nothing kept (group E)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import traceback
import tracemalloc
import weakref

import pytest

from callpyback import (
    CallPyBack,
    CallVetoed,
    MetricsObserver,
    MockTimeSource,
    Outcome,
    StopProcessing,
    handle,
    on_call,
    on_failure,
)
from kinds import BoundWitness, Ended, Kind, Witness, collected, drive, ended

ABORTS = [KeyboardInterrupt("k"), SystemExit(3), BaseException("custom")]


def raising(error, cause=None):
    """Return a body that raises, `from` the cause if one is given, as the interpreter does it."""

    def body(*args, **kwargs):
        if cause is not None:
            raise error from cause
        raise error

    return body


def state_of(error):
    return error.__cause__, error.__context__, error.__suppress_context__, getattr(error, "__notes__", None), error.args


@pytest.mark.parametrize(
    "error", [ValueError("v"), StopAsyncIteration("s"), ExceptionGroup("g", [KeyError("k")]), *ABORTS], ids=repr
)
def test_the_same_exception_arrives(kind, observed, error):  # E01, E04
    if kind.name == "async generator" and isinstance(error, StopAsyncIteration):
        pytest.skip("Python itself turns it into a RuntimeError there")
    before = state_of(error)
    assert kind.ended(kind.make(raising(error), observed)).exception is error
    assert state_of(error) == before


def test_a_cause_is_kept(kind, observed):  # E02
    error, cause = ValueError("v"), KeyError("c")
    assert kind.ended(kind.make(raising(error, cause), observed)).exception is error
    assert error.__cause__ is cause
    assert error.__suppress_context__
    assert error.__context__ is None


def test_from_none_is_kept(kind, observed):  # E02
    error = ValueError("v")

    def body():
        try:
            raise KeyError("inner")
        except KeyError:
            raise error from None

    assert kind.ended(kind.make(body, observed)).exception is error
    assert error.__cause__ is None
    assert error.__suppress_context__
    assert isinstance(error.__context__, KeyError)
    assert error.__context__.__context__ is None


def test_notes_are_kept(kind, observed):  # E02
    error = ValueError("v")
    error.add_note("a note")
    assert kind.ended(kind.make(raising(error), observed)).exception.__notes__ == ["a note"]


def test_the_exception_being_handled_outside_is_the_context(kind, observed):  # E02
    outer, error = KeyError("outer"), ValueError("v")

    def run():
        try:
            raise outer
        except KeyError:
            return kind.ended(kind.make(raising(error), observed))

    assert run().exception is error
    assert error.__context__ is outer
    assert outer.__context__ is None


def test_an_exception_raised_again_and_again_stays_the_same(kind, observed):  # E01
    error = ValueError("v")
    decorated = kind.make(raising(error), observed)
    for _ in range(3):
        assert kind.ended(decorated).exception is error
        error.__traceback__ = None
    assert state_of(error) == (None, None, False, None, ("v",))


class Meddler:
    """An observer that does to the exception what should be left to its owner, and raises."""

    priority = 0

    def __init__(self, meddle):
        self.meddle = meddle

    def update(self, context):
        if context.result is not None and context.result.exception is not None:
            self.meddle(context.result.exception)


def raise_again(error):
    raise error


def raise_again_from_another(error):
    raise error from KeyError("of the observer")


def raise_while_handling(error):
    try:
        raise KeyError("of the observer")
    except KeyError:
        raise error


def raise_another(error):
    raise KeyError("of the observer")


def raise_another_from_it(error):
    raise KeyError("of the observer") from error


def set_everything(error):
    error.__cause__ = KeyError("set")
    error.__context__ = KeyError("set")
    error.__suppress_context__ = True
    error.__traceback__ = None
    error.add_note("of the observer")


def throw_into_a_generator(error):
    def generator():
        yield

    begun = generator()
    next(begun)
    begun.throw(error)


MEDDLINGS = [
    raise_again,
    raise_again_from_another,
    raise_while_handling,
    raise_another,
    raise_another_from_it,
    set_everything,
    throw_into_a_generator,
]


@pytest.mark.parametrize("meddle", MEDDLINGS, ids=lambda meddle: meddle.__name__)
@pytest.mark.parametrize("clock", [None, MockTimeSource()], ids=["system", "mock"])
@pytest.mark.parametrize("cause", [None, KeyError("cause")], ids=["bare", "caused"])
def test_what_observers_do_to_an_exception_does_not_last(kind, meddle, clock, cause):  # E24, rule 2
    bare, error = ValueError("v"), ValueError("v")
    bare.add_note("a note")
    error.add_note("a note")
    kind.ended(kind.make(raising(bare, cause)))
    decorated = kind.make(raising(error, cause), CallPyBack([Meddler(meddle)], time_source=clock))
    assert kind.ended(decorated).exception is error
    assert state_of(error) == state_of(bare)
    names = [entry.name for entry in traceback.extract_tb(error.__traceback__)]
    assert names[-1] == "body"
    assert "update" not in names
    assert "meddle" not in names
    assert not {meddle.__name__} & set(names)


def entries(error):
    return [entry.name for entry in traceback.extract_tb(error.__traceback__)]


def entries_added(kind, decorated):
    """Return how many traceback entries a decorated function has more than the bare one."""
    bare = kind.ended(kind.make(raising(ValueError("v")))).exception
    return len(entries(kind.ended(decorated).exception)) - len(entries(bare))


def test_a_traceback_has_at_most_one_entry_more(kind, observed):  # E03
    decorated = kind.make(raising(ValueError("v")), observed)
    assert entries_added(kind, decorated) <= 1  # the first call included
    assert entries_added(kind, kind.make(raising(ValueError("v")), observed)) <= 1
    kind.ended(decorated)
    observed.add_observer(Witness())
    decorated_again = kind.make(raising(ValueError("v")), observed)
    assert entries_added(kind, decorated_again) <= 1


def test_a_traceback_has_at_most_one_entry_more_after_an_observer_was_added(kind, observed):  # E03
    decorated = kind.make(lambda fail: 1 / fail, observed)
    kind.call(decorated, 1)
    bare = len(entries(kind.ended(kind.make(lambda fail: 1 / fail), 0).exception))
    for observer in (Witness(), BoundWitness(), Witness()):
        handle(decorated).add_observer(observer)
        assert len(entries(kind.ended(decorated, 0).exception)) - bare <= 1
    for _ in range(20):  # so many that the code for them is made by the next call
        handle(decorated).add_observer(Witness())
    assert len(entries(kind.ended(decorated, 0).exception)) - bare <= 1
    handle(decorated).pause()
    assert len(entries(kind.ended(decorated, 0).exception)) - bare <= 1


def test_a_traceback_can_be_printed(kind, observed):  # E03
    error = kind.ended(kind.make(raising(ValueError("shown")), observed)).exception
    text = "".join(traceback.format_exception(error))
    assert text.count("ValueError: shown") == 1
    assert "in body" in text


@pytest.mark.parametrize("error", [*ABORTS, GeneratorExit("g"), asyncio.CancelledError("c")], ids=repr)
def test_a_base_exception_propagates_and_its_record_is_closed(kind, observed, error):  # E04
    witness, metrics = Witness(), MetricsObserver(in_progress=True)
    observed.add_observer(witness)
    observed.add_observer(metrics)
    assert kind.ended(kind.make(raising(error), observed)).exception is error
    expected = {
        GeneratorExit: (Outcome.ABANDONED, "COMPLETED"),
        asyncio.CancelledError: (Outcome.CANCELLED, "COMPLETED"),
    }
    outcome, terminal = expected.get(type(error), (Outcome.ABORTED, "ERROR"))
    assert witness.told == ["PRE_EXECUTION", terminal]
    assert witness.outcome is outcome
    assert witness.last.execution_time >= 0
    assert witness.last.is_failed == (outcome is Outcome.ABORTED)
    assert metrics.get_metrics()["in_progress"] == 0
    assert metrics.get_metrics()["total_calls"] == 1


def test_exception_groups_split_as_before(kind, observed):  # E06
    leaves = [ValueError("v"), KeyError("k")]
    decorated = kind.make(raising(ExceptionGroup("g", leaves)), observed)
    split = []
    try:
        kind.call(decorated)
    except* ValueError as values:
        split.append(values.exceptions)
    except* KeyError as keys:
        split.append(keys.exceptions)
    assert split == [(leaves[0],), (leaves[1],)]


def test_failures_by_type_count_the_leaves_of_a_group(kind):  # E06
    metrics = MetricsObserver()
    group = ExceptionGroup("g", [ValueError("v"), ExceptionGroup("inner", [KeyError("k"), ValueError("w")])])
    kind.ended(kind.make(raising(group), CallPyBack([metrics])))
    [stats] = metrics.get_metrics()["function_stats"].values()
    assert stats["failures"] == 1
    assert stats["failures_by_type"] == {"ValueError": 2, "KeyError": 1}


class Explosive(Exception):
    """An exception none of whose methods may be called."""

    explosion = AssertionError("this exception was touched")

    def refuse(self, *_):
        raise self.explosion

    __repr__ = __str__ = __eq__ = __ne__ = __hash__ = __bool__ = __len__ = __format__ = refuse


class Interrupting(Explosive):
    explosion = KeyboardInterrupt("from __str__")


class Exiting(Explosive):
    explosion = SystemExit("from __str__")


class Recursing(Exception):
    """An exception whose text never ends."""

    def __str__(self):
        return str(self)

    __repr__ = __str__


class Faceless(Exception):
    """An exception whose class does not want to be known."""

    @property
    def args(self):
        raise AssertionError("args was read")

    def __getattr__(self, name):
        raise AssertionError(f"{name} was read")


RUDE = [Explosive, Interrupting, Exiting, Recursing, Faceless]


@pytest.mark.parametrize("cls", RUDE)
def test_a_rude_exception_arrives(kind, observed, cls):  # E07, E08, rule 4
    error = cls()
    arrived = kind.ended(kind.make(raising(error), observed)).exception is error
    assert arrived  # apart from the comparison, so that pytest shows no rude exception


@pytest.mark.parametrize("cls", [cls for cls in RUDE if cls is not Interrupting])
def test_the_text_of_a_rude_exception_hurts_nobody(kind, cls):  # E07, E08
    texts = []
    error = cls()
    decorator = CallPyBack([on_failure(lambda result: texts.append(result.traceback_info)), MetricsObserver()])
    arrived = kind.ended(kind.make(raising(error), decorator)).exception is error
    assert arrived
    [text] = texts
    assert cls.__name__ in text


def test_a_keyboard_interrupt_met_in_a_text_somebody_asked_for_belongs_to_the_program(kind):  # E08
    # It can't be told from Ctrl-C pressed during a slow `__str__`; nobody is interrupted who asks for no text.
    decorator = CallPyBack([on_failure(lambda result: result.traceback_info)])
    raised = kind.ended(kind.make(raising(Interrupting()), decorator)).exception
    is_interrupt = type(raised) is KeyboardInterrupt
    assert is_interrupt


def test_exceptions_are_never_compared_or_turned_to_text():  # rule 4
    error = Explosive()
    told = Witness(), MetricsObserver(), on_failure(lambda exception, result, outcome: None)
    with contextlib.suppress(Explosive):
        CallPyBack(told, exception_classes=(KeyError, OSError))(raising(error))()
    assert told[0].told == ["PRE_EXECUTION", "POST_FAILURE", "ERROR"]


class Unrepresentable:
    """An argument that cannot be shown."""

    def __repr__(self):
        raise RuntimeError("no repr")


def test_arguments_that_cannot_be_shown_hurt_nobody(kind, observed):  # E14
    argument = Unrepresentable()
    assert kind.call(kind.make(lambda x: x, observed, "x"), argument) is argument
    error = ValueError("v")
    assert kind.ended(kind.make(raising(error), observed, "x"), argument).exception is error


class Huge:
    """An argument that would be expensive to show, compare or copy."""

    def __init__(self):
        self.looked_at = 0

    def look(self, *_):
        self.looked_at += 1
        return "x" * 1000

    __repr__ = __str__ = __copy__ = __deepcopy__ = __len__ = __iter__ = look


def test_no_argument_is_shown_or_copied_unasked(kind, observed):  # E17, E18
    huge = Huge()
    kind.ended(kind.make(raising(ValueError("v")), observed, "x"), huge)
    kind.call(kind.make(lambda x: 5, observed, "x"), huge)
    assert huge.looked_at == 0


def test_a_failing_call_with_a_huge_argument_takes_no_memory_for_it(kind, observed):  # E18
    huge = "x" * 10_000_000
    decorated = kind.make(raising(ValueError("v")), observed, "x")
    kind.ended(decorated, huge)
    tracemalloc.start()
    try:
        kind.ended(decorated, huge)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


class Local:
    """Something a body holds in a local variable, to see whether it is let go of."""


class Referable(ValueError):
    """An exception that can be weakly referenced, as those of builtin classes can't."""


def forget(observed):
    for observer in observed.observers:
        for kept in ("contexts", "ends"):
            getattr(observer, kept, []).clear()


@pytest.fixture
def no_collector():
    """Switch the cyclic collector off: what is freed then, reference counts freed."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_a_failure_makes_no_cycle(kind, observed):  # E20
    references = []

    def body(argument):
        local = Local()
        references.append(weakref.ref(local))
        raise Referable("v")

    decorated = kind.make(body, observed, "x")
    for _ in range(2):
        argument = Local()
        references.append(weakref.ref(argument))
        try:
            kind.call(decorated, argument)
        except ValueError as error:
            references.append(weakref.ref(error))
        del argument
    forget(observed)
    assert [reference() for reference in references] == [None] * 6


@pytest.mark.usefixtures("no_collector")
def test_a_success_frees_arguments_and_result_at_once(kind, observed):  # E23
    references = []

    def body(argument):
        local, result = Local(), Local()
        references.extend(map(weakref.ref, (local, result, argument)))
        return result

    decorated = kind.make(body, observed, "x")
    for _ in range(2):
        kind.call(decorated, Local())
    forget(observed)
    assert [reference() for reference in references] == [None] * 6


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("meddle", MEDDLINGS, ids=lambda meddle: meddle.__name__)
def test_a_failing_observer_makes_no_cycle(kind, meddle):  # E20
    references = []

    def body(argument):
        local = Local()
        references.extend((weakref.ref(local), weakref.ref(argument)))
        raise ValueError("v")

    decorated = kind.make(body, CallPyBack([Meddler(meddle)]), "x")
    for _ in range(2):
        with contextlib.suppress(ValueError):
            kind.call(decorated, Local())
    assert [reference() for reference in references] == [None] * 4


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("decide", ["veto", "answer", "handle"])
def test_a_decision_makes_no_cycle(kind, decide):  # E20
    references = []

    def note(arguments):
        references.append(weakref.ref(arguments["x"]))
        if decide == "veto":
            raise CallVetoed("no")
        if decide == "answer":
            raise StopProcessing([1, 2])

    def body(argument):
        raise ValueError("v")

    options = {"default_return": 5} if decide == "handle" and not kind.is_generator else {}
    decorated = kind.make(body, CallPyBack([on_call(note)], **options), "x")
    for _ in range(2):
        with contextlib.suppress(CallVetoed, ValueError):
            kind.call(decorated, Local())
    assert [reference() for reference in references] == [None] * 2


@pytest.mark.usefixtures("no_collector")
def test_a_closed_generator_makes_no_cycle(observed):  # E20
    references = []

    @observed
    def items(argument):
        local = Local()
        references.extend((weakref.ref(local), weakref.ref(argument)))
        yield local
        yield argument

    for _ in range(2):
        begun = items(Local())
        next(begun)
        begun.close()
        del begun
    forget(observed)
    assert [reference() for reference in references] == [None] * 4


def test_a_kept_context_of_a_failure_keeps_no_frame(kind):  # E21, M03
    witness, references = Witness(), []

    def body():
        local = Local()
        references.append(weakref.ref(local))
        raise ValueError("kept", 5)

    exception = kind.ended(kind.make(body, CallPyBack([witness]))).exception
    assert witness.last.result.exception_type is ValueError
    del exception
    assert references[0]() is None
    kept = witness.last.result.exception
    assert (type(kept), kept.args, kept.__traceback__) == (ValueError, ("kept", 5), None)
    assert "in body" in witness.last.result.traceback_info


def test_while_the_call_runs_observers_see_the_exception_itself(kind):
    seen, error = [], ValueError("v")
    decorator = CallPyBack([on_failure(lambda exception, result: seen.extend((exception, result.exception)))])
    kind.ended(kind.make(raising(error), decorator))
    assert seen[0] is seen[1] is error


@pytest.mark.parametrize("cls", [Explosive, Faceless, Recursing])
def test_a_kept_rude_exception_can_be_read(cls):
    witness = Witness()
    with contextlib.suppress(Exception):
        CallPyBack([witness])(raising(cls()))()
    assert type(witness.last.result.exception) is cls
    assert witness.last.result.exception_type is cls


def test_a_kept_exception_group_keeps_its_leaves_and_no_frames():  # E06, E21
    references, witness = [], Witness()

    def leaf():
        local = Local()
        references.append(weakref.ref(local))
        raise KeyError("leaf")

    @CallPyBack([witness])
    def body():
        try:
            leaf()
        except KeyError as error:
            raise ExceptionGroup("g", [error]) from None

    assert ended(body).exception.message == "g"
    assert references[0]() is None
    kept = witness.last.result.exception
    assert kept.message == "g"
    assert [leaf.args for leaf in kept.exceptions] == [("leaf",)]


class Failing(Witness):
    """Raises at one state, after noting it."""

    def __init__(self, state, error):
        super().__init__()
        self.state = state
        self.error = error

    def update(self, context):
        super().update(context)
        if context.state.name == self.state:
            raise self.error


STATES = ["PRE_EXECUTION", "POST_SUCCESS", "POST_FAILURE", "COMPLETED"]
ERRORS = [
    RuntimeError("of the observer"),
    Explosive(),  # E25
    Recursing(),
    SystemExit(3),  # E27
    GeneratorExit("g"),
    asyncio.CancelledError("c"),
    BaseException("b"),
    StopIteration("s"),
    StopAsyncIteration("s"),
    MemoryError(),
    RecursionError(),
]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_observer_that_raises_changes_nothing(kind, state, error):  # E24, E25, E27
    failing, other = Failing(state, error), Witness(priority=-1)
    decorator = CallPyBack([failing, other])
    user_error = ValueError("v")
    assert kind.ended(kind.make(lambda: 5, decorator)) == Ended(5)
    assert kind.ended(kind.make(raising(user_error), decorator)) == Ended(exception=user_error)
    assert state_of(user_error) == (None, None, False, None, ("v",))
    everything = ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED", "PRE_EXECUTION", "POST_FAILURE", "COMPLETED"]
    assert other.told == failing.told == everything


def test_failures_of_an_observer_are_counted():  # E24
    decorator = CallPyBack([Failing("POST_SUCCESS", RuntimeError("r"))])
    function = decorator(lambda: 5)
    function()
    function()
    [health] = handle(function).health.values()
    assert (health.name, health.failures, health.failures_in_a_row, health.paused) == ("witness", 2, 2, False)
    assert "RuntimeError" in health.last_error


class Nameless:
    """An observer without a name."""

    __slots__ = ()
    priority = 0

    def update(self, context):
        raise RuntimeError("r")


def test_an_observer_without_a_name_may_raise(kind):  # E26
    decorated = kind.make(lambda: 5, CallPyBack([Nameless()]))
    assert kind.call(decorated) == 5
    assert list(handle(decorated).health) == ["Nameless"]


class BadName:
    """An observer whose name cannot be read."""

    priority = 0

    def update(self, context):
        raise RuntimeError("r")

    @property
    def name(self):
        raise RuntimeError("no name")


def test_an_observer_whose_name_cannot_be_read_is_refused_or_works(kind):  # E26, rule 6
    decorated = ended(lambda: kind.make(lambda: 5, CallPyBack([BadName()])))
    if decorated.exception is None:
        assert kind.call(decorated.value) == 5
    else:
        assert isinstance(decorated.exception, ValueError)


@pytest.mark.parametrize("state", STATES[:2] + STATES[3:])
def test_a_keyboard_interrupt_in_an_observer_passes_after_book_keeping(kind, state):  # E27
    interrupt, told = KeyboardInterrupt("from the keyboard"), Witness(priority=-1)
    decorated = kind.make(lambda: 5, CallPyBack([Failing(state, interrupt), told]))
    assert kind.ended(decorated).exception is interrupt
    assert told.contexts[-1].state.is_terminal
    assert told.told.count("COMPLETED") + told.told.count("ERROR") == 1


def test_a_keyboard_interrupt_in_an_observer_of_a_failure_passes(kind):  # E27
    interrupt, told = KeyboardInterrupt("from the keyboard"), Witness(priority=-1)
    decorated = kind.make(raising(ValueError("v")), CallPyBack([Failing("POST_FAILURE", interrupt), told]))
    assert kind.ended(decorated).exception is interrupt
    assert told.contexts[-1].state.is_terminal


def test_a_keyboard_interrupt_before_the_body_keeps_the_body_from_running(kind):
    ran = []
    decorated = kind.make(lambda: ran.append(1), CallPyBack([Failing("PRE_EXECUTION", KeyboardInterrupt())]))
    assert type(kind.ended(decorated).exception) is KeyboardInterrupt
    assert not ran


def test_the_exception_under_way_is_visible_to_the_body_as_ever(kind, observed):
    def run():
        try:
            raise KeyError("outer")
        except KeyError:
            return kind.call(kind.make(lambda: sys.exc_info()[1], observed))

    assert repr(run()) == "KeyError('outer')"
    assert kind.call(kind.make(lambda: sys.exc_info()[1], observed)) is None


def test_an_exception_of_an_async_generators_consumer_is_not_ours(observed):
    generator = Kind("async generator").make(lambda: 5, observed)

    async def consume():
        async for _ in generator():
            raise KeyError("of the consumer")

    assert repr(ended(lambda: drive(consume())).exception) == "KeyError('of the consumer')"
    assert drive(collected(generator())) == ["first item", 5]
