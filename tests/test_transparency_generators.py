"""Generators keep their protocol: send, throw, close and the returned value (T32, T36, T37)."""

from __future__ import annotations

import contextlib
import gc
import inspect
import itertools
import sys
import traceback
import weakref

import pytest

from callpyback import CallPyBack, MockTimeSource, Outcome
from kinds import Ended, Witness, ended


def echo(start):
    """Yield what is sent, and what was thrown; return how it ended."""
    received = start
    while True:
        try:
            received = yield received
        except ValueError as error:
            received = ("caught", error)
        if received == "stop":
            return "stopped"


def test_items_come_one_by_one(observed):  # T37
    produced = []

    @observed
    def count():
        for n in range(3):
            produced.append(n)
            yield n

    items = count()
    assert next(items) == 0
    assert produced == [0]
    assert list(items) == [1, 2]
    with pytest.raises(StopIteration):
        next(items)


def test_sent_values_arrive(observed):  # T37
    generator = observed(echo)("first")
    assert next(generator) == "first"
    assert generator.send("second") == "second"
    assert next(generator) is None
    assert ended(lambda: generator.send("stop")).exception.value == "stopped"


def test_sending_to_a_generator_that_has_not_begun_is_refused_as_ever(observed):  # T37
    generator, bare = observed(echo)("first"), echo("first")
    assert str(ended(lambda: generator.send(1)).exception) == str(ended(lambda: bare.send(1)).exception)
    assert next(generator) == "first"


def test_thrown_exceptions_arrive_as_they_are(observed):  # T37
    generator = observed(echo)("first")
    next(generator)
    error = ValueError("thrown")
    caught = generator.throw(error)
    assert caught == ("caught", error)
    assert error.__context__ is None
    assert error.__cause__ is None
    assert generator.send("again") == "again"


@pytest.mark.parametrize("error", [KeyError("k"), KeyboardInterrupt(), SystemExit(3), RuntimeError("r")], ids=repr)
def test_thrown_exceptions_that_nobody_catches_come_back(observed, error):  # T37
    generator = observed(echo)("first")
    next(generator)
    assert ended(lambda: generator.throw(error)).exception is error
    assert error.__context__ is None
    assert ended(lambda: next(generator)).exception.args == ()


def test_throwing_before_the_first_step_runs_nothing(observed):  # T37
    witness = Witness()
    observed.add_observer(witness)
    generator = observed(echo)("first")
    error = ValueError("early")
    assert ended(lambda: generator.throw(error)).exception is error
    assert witness.told == []


def test_an_exception_can_be_replaced_by_another(observed):  # T37
    @observed
    def translate():
        try:
            yield
        except ValueError as error:
            raise KeyError("translated") from error

    generator = translate()
    next(generator)
    thrown = ValueError("original")
    raised = ended(lambda: generator.throw(thrown)).exception
    assert type(raised) is KeyError
    assert raised.__cause__ is raised.__context__ is thrown


def test_close_runs_the_cleanup_once(observed):  # T37
    cleaned = []

    @observed
    def careful():
        try:
            yield 1
        finally:
            cleaned.append(1)

    generator = careful()
    next(generator)
    assert generator.close() is None
    generator.close()
    assert cleaned == [1]
    assert inspect.getgeneratorstate(generator) == "GEN_CLOSED"


def test_closing_a_generator_that_has_not_begun_runs_nothing(observed):  # T37
    generator = observed(echo)("first")
    generator.close()
    assert list(generator) == []


def test_a_generator_that_ignores_being_closed_is_an_error_as_ever(observed):  # T37
    @observed
    def stubborn():
        try:
            yield 1
        except GeneratorExit:
            yield 2

    generator = stubborn()
    next(generator)
    assert str(ended(generator.close).exception) == "generator ignored GeneratorExit"


def returns_when_closed():
    """Answer being closed by returning a value, as `close` gives it from 3.13 on."""
    try:
        yield 1
    except GeneratorExit:
        return "closed"


def test_close_gives_what_it_gave(observed):  # T37
    if not observed.observers:
        pytest.skip("`yield from`, which is all there is where nobody listens, drops what `close` gives from 3.13 on")
    generator, bare = observed(returns_when_closed)(), returns_when_closed()
    next(generator)
    next(bare)
    assert generator.close() == bare.close()


def test_an_exception_raised_in_cleanup_comes_out_of_close(observed):  # T37
    @observed
    def careless():
        try:
            yield 1
        finally:
            raise KeyError("in cleanup")

    generator = careless()
    next(generator)
    raised = ended(generator.close).exception
    assert repr(raised) == "KeyError('in cleanup')"
    assert isinstance(raised.__context__, GeneratorExit)


def test_the_returned_value_goes_through_yield_from(observed):  # T37
    @observed
    def inner():
        received = yield 1
        return received

    def outer():
        result = yield from inner()
        yield ("returned", result)

    generator = outer()
    assert next(generator) == 1
    assert generator.send("sent") == ("returned", "sent")


def test_yield_from_inside_the_body_works(observed):  # T37
    @observed
    def outer():
        result = yield from echo("first")
        return ("outer", result)

    generator = outer()
    assert next(generator) == "first"
    assert generator.throw(ValueError("v"))[0] == "caught"
    assert ended(lambda: generator.send("stop")).exception.value == ("outer", "stopped")


def test_a_stop_iteration_raised_in_the_body_becomes_a_runtime_error_as_ever(observed):
    @observed
    def careless():
        yield 1
        raise StopIteration("by mistake")

    generator = careless()
    next(generator)
    raised = ended(lambda: next(generator)).exception
    assert repr(raised) == "RuntimeError('generator raised StopIteration')"
    assert repr(raised.__cause__) == "StopIteration('by mistake')"


def test_a_stop_iteration_thrown_in_becomes_a_runtime_error_as_ever(observed):
    generator = observed(echo)("first")
    next(generator)
    thrown = StopIteration("thrown")
    raised = ended(lambda: generator.throw(thrown)).exception
    assert repr(raised) == "RuntimeError('generator raised StopIteration')"
    assert raised.__cause__ is thrown


def test_iterators_of_tools_work_over_observed_generators(observed):
    @observed
    def count():
        yield from range(5)

    assert list(itertools.islice(count(), 2)) == [0, 1]
    assert sum(count()) == 10
    first, *rest = count()
    assert (first, rest) == (0, [1, 2, 3, 4])
    assert dict(zip(count(), count(), strict=True)) == {n: n for n in range(5)}


@pytest.mark.parametrize("above", [True, False], ids=["observed above", "observed below"])
def test_context_managers_work(observed, above):  # T37
    def resource(name):
        events.append(f"open {name}")
        try:
            yield name
        except KeyError:
            events.append("suppressed")
        finally:
            events.append("closed")

    events = []
    manager = observed(contextlib.contextmanager(resource)) if above else contextlib.contextmanager(observed(resource))
    with manager("a") as name:
        assert name == "a"
    assert events == ["open a", "closed"]
    with manager("b"):
        raise KeyError
    assert events[2:] == ["open b", "suppressed", "closed"]
    error = ValueError("passes")
    context = ended(lambda: raise_inside(manager("c"), error))
    assert context == Ended(exception=error)
    assert error.__context__ is None


def raise_inside(manager, error):
    with manager:
        raise error


def test_a_context_manager_used_as_a_decorator_works(observed):  # T37
    events = []

    @contextlib.contextmanager
    @observed
    def around():
        events.append("before")
        yield
        events.append("after")

    @around()
    def function():
        events.append("body")

    function()
    function()
    assert events == ["before", "body", "after"] * 2


def test_a_stop_iteration_of_the_with_block_passes_a_context_manager(observed):
    @contextlib.contextmanager
    @observed
    def around():
        yield

    error = StopIteration("of the block")
    assert ended(lambda: raise_inside(around(), error)).exception is error


def test_interleaved_generators_keep_apart(observed):
    generators = [observed(echo)(n) for n in range(3)]
    assert [next(generator) for generator in generators] == [0, 1, 2]
    assert [generator.send(n * 10) for n, generator in enumerate(generators)] == [0, 10, 20]


def test_a_generator_that_is_running_refuses_to_be_entered_as_ever(observed):
    @observed
    def selfish():
        yield ended(lambda: next(generator)).exception

    generator = selfish()
    assert str(next(generator)) == "generator already executing"


def test_a_dropped_generator_is_cleaned_up_at_once(observed):
    cleaned = []

    @observed
    def careful():
        try:
            yield 1
        finally:
            cleaned.append(1)

    generator = careful()
    next(generator)
    del generator
    assert cleaned == [1]


def test_what_is_sent_is_let_go_of_as_by_the_function(observed):
    class Item:
        pass

    @observed
    def sink():
        while True:
            yield

    generator = sink()
    next(generator)
    item = Item()
    reference = weakref.ref(item)
    generator.send(item)
    del item
    assert reference() is None


def test_what_is_yielded_is_let_go_of_as_by_the_function(observed):
    class Item:
        pass

    @observed
    def source():
        while True:
            yield Item()

    generator = source()
    reference = weakref.ref(next(generator))
    next(generator)
    assert reference() is None


def test_a_generator_under_way_keeps_the_names_debuggers_read(observed):
    generator = observed(echo)("first")
    next(generator)
    assert generator.__name__ == "echo"
    assert generator.gi_frame is not None
    assert generator.__qualname__ == "echo"
    assert generator.gi_running is False


def test_a_thrown_exceptions_traceback_has_at_most_one_entry_of_the_wrapper(observed):
    def body():
        yield 1

    generator = observed(body)()
    next(generator)
    raised = ended(lambda: generator.throw(ValueError("v"))).exception
    names = [entry.name for entry in traceback.extract_tb(raised.__traceback__)]
    assert names[-2:] == ["body", "body"]
    assert len(names) <= 5  # `ended`, the lambda, the wrapper, the body


def test_long_generators_leave_nothing_behind():
    def source():
        yield from range(2000)

    decorated = CallPyBack([Witness()])(source)
    for _ in decorated():
        pass
    gc.collect()
    generator = decorated()
    next(generator)
    before = sys.getallocatedblocks()
    for _ in range(1000):
        next(generator)
    assert sys.getallocatedblocks() - before < 100


def abandon(generator):
    next(generator)
    generator.close()


def exhaust(generator):
    return list(generator)


def throw(generator):
    next(generator)
    with contextlib.suppress(KeyError):
        generator.throw(KeyError("k"))


@pytest.mark.parametrize(
    ("use", "told", "outcome"),
    [
        (exhaust, ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"], Outcome.SUCCESS),
        (abandon, ["PRE_EXECUTION", "COMPLETED"], Outcome.ABANDONED),
        (throw, ["PRE_EXECUTION", "POST_FAILURE", "COMPLETED"], Outcome.FAILURE),
    ],
    ids=["exhausted", "abandoned", "thrown into"],
)
def test_observers_are_told_how_a_generator_ended(use, told, outcome):
    witness = Witness()
    use(CallPyBack([witness])(lambda: (yield from "ab"))())
    assert witness.told == told
    assert witness.outcome is outcome


def test_an_abandoned_generator_has_not_failed():
    witness = Witness()
    abandon(CallPyBack([witness])(lambda: (yield from "ab"))())
    assert not witness.last.is_failed
    assert not witness.last.is_successful
    assert witness.last.result.exception_type is GeneratorExit


def test_a_generator_that_returns_when_closed_has_returned():
    witness = Witness()
    abandon(CallPyBack([witness])(returns_when_closed)())
    assert witness.told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]
    assert witness.outcome is Outcome.SUCCESS


def test_the_times_of_a_generator_are_those_of_its_running_and_of_its_life():
    clock, witness = MockTimeSource(100.0), Witness()

    @CallPyBack([witness], time_source=clock)
    def slow():
        clock.advance(1.0)
        yield "a"
        clock.advance(2.0)
        yield "b"
        clock.advance(4.0)
        return "end"

    for _ in slow():
        clock.advance(100.0)
    context = witness.last
    assert context.result.value == "end"
    assert (context.timestamp, context.execution_time, context.items) == (100.0, 7.0, 2)
    assert (context.lifetime, context.time_to_first_item) == (207.0, 1.0)


def test_a_generator_without_items_has_no_time_to_the_first():
    witness = Witness()
    list(CallPyBack([witness])(lambda: (yield from ()))())
    assert witness.last.items == 0
    assert witness.last.time_to_first_item is None


def test_the_times_of_a_failing_generator_are_known():
    clock, witness = MockTimeSource(), Witness()

    @CallPyBack([witness], time_source=clock)
    def slow():
        clock.advance(1.0)
        yield "a"
        clock.advance(2.0)
        raise KeyError

    ended(lambda: list(slow()))
    assert (witness.last.execution_time, witness.last.items, witness.last.time_to_first_item) == (3.0, 1, 1.0)


def test_who_is_told_is_fixed_when_the_generator_begins():
    early, late = Witness(), Witness()
    decorator = CallPyBack([early])
    generator = decorator(lambda: (yield from "ab"))()
    next(generator)
    decorator.add_observer(late)
    exhaust(generator)
    assert early.told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]
    assert late.told == []


def test_a_removed_observer_is_told_no_more_of_a_generator_under_way():
    witness = Witness()
    decorator = CallPyBack([witness])
    generator = decorator(lambda: (yield from "ab"))()
    next(generator)
    decorator.remove_observer(witness)
    exhaust(generator)
    assert witness.told == ["PRE_EXECUTION"]
