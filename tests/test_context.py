"""What observers see: `ExecutionContext`, `ExecutionResult`, `ExecutionFailure`."""

from __future__ import annotations

import json
import weakref

import pytest

from callpyback import (
    CallPyBack,
    ExecutionContext,
    ExecutionFailure,
    ExecutionResult,
    ExecutionState,
    FunctionSignature,
    MockTimeSource,
    Outcome,
    StopProcessing,
    handle,
)
from kinds import Witness, ended

COMPLETED, PRE = ExecutionState.COMPLETED, ExecutionState.PRE_EXECUTION


def built(**fields):
    """Build a context as tests of observers do."""
    given = {
        "function_signature": FunctionSignature("checkout"),
        "arguments": {"cart": 3},
        "state": COMPLETED,
        "result": ExecutionResult(30, 0.5),
        "timestamp": 7.0,
    }
    return ExecutionContext(**{**given, **fields})


def watched(body, call, **options):
    """Return the contexts of one call."""
    witness = Witness(*ExecutionState)
    decorated = CallPyBack([witness], time_source=MockTimeSource(7.0), **options)(body)
    ended(lambda: call(decorated))
    return witness.contexts


def test_a_context_is_built_by_keyword():
    context = built()
    assert (context.state, context.arguments, context.timestamp) == (COMPLETED, {"cart": 3}, 7.0)
    assert (context.result.value, context.execution_time) == (30, 0.5)
    assert context.is_successful
    assert not context.is_failed
    assert context.outcome is Outcome.SUCCESS
    assert context.function_signature.name == "checkout"


def test_a_context_needs_no_more_than_a_state():
    context = ExecutionContext(state=PRE)
    assert (context.arguments, context.local_variables, context.metadata) == ({}, {}, {})
    assert (context.result, context.outcome, context.execution_time, context.instance) == (None, None, None, None)
    assert (context.slot, context.call_id, context.returned) == ({}, "", None)
    assert not context.is_successful
    assert not context.is_failed


def test_a_failure_built_by_hand_tells_its_type_and_text():
    failure = ExecutionFailure(exception=ValueError("v"), execution_time=0.5)
    assert failure.exception_type is ValueError
    assert failure.traceback_info == "ValueError: v"
    assert (failure.value, failure.execution_time) == (None, 0.5)
    context = built(result=failure)
    assert context.is_failed
    assert context.outcome is Outcome.FAILURE
    assert not context.is_successful


def test_a_failure_takes_all_four_of_its_fields():
    failure = ExecutionFailure(KeyError("k"), KeyError, "text", 0.25)
    assert (failure.exception_type, failure.traceback_info, failure.execution_time) == (KeyError, "text", 0.25)


def test_a_result_has_value_time_and_memory():
    result = ExecutionResult(value=5, execution_time=0.5, memory_usage=1024)
    assert (result.value, result.execution_time, result.memory_usage, result.exception) == (5, 0.5, 1024, None)
    assert ExecutionResult(5, 0.5).memory_usage is None


@pytest.mark.parametrize("context", [built(), *watched(lambda a: a, lambda f: f(1))], ids=repr)
@pytest.mark.parametrize("name", ["state", "arguments", "result", "outcome", "slot", "call_id", "invented"])
def test_a_context_is_immutable(context, name):
    with pytest.raises(AttributeError):
        setattr(context, name, None)
    with pytest.raises(AttributeError):
        delattr(context, name)


def test_results_are_immutable():
    for result in (ExecutionResult(5, 0.5), ExecutionFailure(ValueError())):
        for name in ("value", "exception", "execution_time", "exception_type"):
            with pytest.raises(AttributeError):
                setattr(result, name, None)


def test_equal_contexts_are_equal_and_hash_alike():
    assert built() == built()
    assert hash(built()) == hash(built())
    assert len({built(), built()}) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"state": ExecutionState.POST_SUCCESS},
        {"arguments": {"cart": 4}},
        {"result": ExecutionResult(31, 0.5)},
        {"result": None},
        {"local_variables": {"total": 1}},
        {"metadata": {"team": "shop"}},
        {"timestamp": 8.0},
        {"function_signature": FunctionSignature("other")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_different_contexts_are_different(change):
    assert built(**change) != built()
    assert built() != "context"


def test_the_call_id_is_outside_equality():
    first, second = (watched(lambda a: a, lambda f: f(1))[-1] for _ in range(2))
    assert first.call_id != second.call_id
    assert first == second


def test_contexts_of_a_call_equal_those_built_by_hand():
    live = watched(lambda cart: 30, lambda f: f(3))[-1]
    assert live == built(function_signature=live.function_signature, result=ExecutionResult(30, 0.0))


def test_with_state_with_result_and_with_variables_make_changed_copies():
    context = built()
    assert context.with_state(PRE) == built(state=PRE)
    assert context.with_result(None) == built(result=None)
    assert context.with_variables({"total": 5}) == built(local_variables={"total": 5})
    assert context == built()


def test_another_result_is_another_outcome():
    failed = built().with_result(ExecutionFailure(ValueError("v")))
    assert failed.outcome is Outcome.FAILURE
    assert failed.is_failed
    assert built().with_state(PRE).outcome is None


def test_a_changed_copy_of_a_live_context_keeps_the_rest():
    for live in watched(lambda a: a, lambda f: f(1), metadata={"team": "shop"}):
        changed = live.with_variables({"total": 5})
        for name in ("state", "arguments", "metadata", "timestamp", "call_id", "outcome", "execution_time", "instance"):
            assert getattr(changed, name) == getattr(live, name)
        assert changed.local_variables == {"total": 5}
        assert live.local_variables == {}


def test_variables_given_are_copied():
    variables = {"total": 5}
    context = built().with_variables(variables)
    variables["total"] = 6
    assert context.local_variables == {"total": 5}


def test_contexts_are_plain_data_where_values_are(kind):
    witness = Witness()
    kind.call(kind.make(lambda *a, **kw: 5, CallPyBack([witness]), "a, b=2, *rest, c=3, **kw"), 1, z=9)
    expected = {"a": 1, "b": 2, "rest": (), "c": 3, "z": 9}
    assert witness.last.arguments == expected
    assert json.loads(json.dumps(witness.last.arguments)) == {**expected, "rest": []}
    assert type(witness.last.local_variables) is type(witness.last.metadata) is type(witness.last.arguments) is dict


def test_dictionaries_are_the_contexts_own(kind):
    first, second = Witness(), Witness()
    decorator = CallPyBack([first, second], metadata={"team": "shop"}, variable_names=["a"])
    kind.call(kind.make(lambda a: a, decorator, "a"), 1)
    assert second.last.local_variables == {"a": 1}
    for name in ("arguments", "metadata", "local_variables"):
        getattr(first.last, name)["changed"] = True
        assert "changed" in getattr(first.last, name)
        assert "changed" not in getattr(first.contexts[0], name)
        assert "changed" not in getattr(second.last, name)


def test_values_are_the_live_objects(kind):
    value, witness = object(), Witness()
    kind.call(kind.make(lambda a: a, CallPyBack([witness]), "a"), value)
    assert witness.last.arguments["a"] is value
    assert witness.at(ExecutionState.POST_SUCCESS).result.value is kind.shown(value)


def test_the_result_is_there_from_the_end_of_the_body_on():
    told = {context.state.name: context for context in watched(lambda a: a, lambda f: f(1))}
    assert {name: context.result is not None for name, context in told.items()} == {
        "INITIALIZED": False,
        "PRE_EXECUTION": False,
        "EXECUTING": False,
        "POST_SUCCESS": True,
        "COMPLETED": True,
    }
    assert {name: context.outcome for name, context in told.items() if context.outcome} == {
        "COMPLETED": Outcome.SUCCESS
    }
    assert told["POST_SUCCESS"].result is told["COMPLETED"].result


def test_a_kept_context_stays_as_it_was():
    early, *_, last = watched(lambda a: a, lambda f: f(1))
    assert early.result is early.outcome is early.execution_time is None
    assert not early.is_successful
    assert last.is_successful


def test_the_execution_time_is_that_of_the_body_alone(kind):
    clock = MockTimeSource(100.0)

    class Slow(Witness):
        def update(self, context):
            super().update(context)
            clock.advance(10.0)

    witness = Slow()
    kind.call(kind.make(lambda: clock.advance(2.0), CallPyBack([witness], time_source=clock)))
    assert witness.last.execution_time == witness.last.result.execution_time == 2.0
    assert {context.timestamp for context in witness.contexts} == {100.0}


def test_the_timestamp_is_the_wall_clock_when_the_call_began(kind):
    clock = MockTimeSource(1_000_000.0)
    witness = Witness()
    kind.call(kind.make(lambda: clock.advance(60), CallPyBack([witness], time_source=clock)))
    assert witness.last.timestamp == 1_000_000.0


def test_call_ids_are_the_same_in_one_call_and_differ_between_calls(kind):
    first, second = Witness(), Witness()
    decorated = kind.make(lambda: 5, CallPyBack([first, second]))
    for _ in range(3):
        kind.call(decorated)
    ids = [context.call_id for context in first.contexts]
    assert [context.call_id for context in second.contexts] == ids
    assert len(set(ids)) == 3
    assert ids[0] == ids[1] == ids[2] != ids[3]


def test_a_slot_belongs_to_one_observer_and_one_call(kind):
    class Slotted(Witness):
        def update(self, context):
            context.slot.setdefault("seen", []).append((self.name, context.state.name))
            super().update(context)
            self.seen = context.slot["seen"]

    first, second = Slotted(name="first"), Slotted(name="second")
    decorated = kind.make(lambda: 5, CallPyBack([first, second]))
    for _ in range(2):
        kind.call(decorated)
        for observer in (first, second):
            assert observer.seen == [(observer.name, state) for state in ("PRE_EXECUTION", "POST_SUCCESS", "COMPLETED")]


def test_a_slot_is_released_after_the_call(kind):
    class Item:
        pass

    references = []

    class Slotted(Witness):
        def update(self, context):
            super().update(context)
            if context.state is PRE:
                context.slot["item"] = item = Item()
                references.append(weakref.ref(item))

    witness = Slotted()
    decorated = kind.make(lambda: 5, CallPyBack([witness]))
    kind.call(decorated)
    kind.call(decorated)
    assert [reference() for reference in references] == [None, None]
    assert witness.last.slot == {}


def test_returned_is_what_the_caller_got_when_it_was_supplied():
    def answer(context):
        raise StopProcessing(5)

    witness = Witness()
    decorated = CallPyBack([witness])(lambda: 6)
    handle(decorated).on_call(answer)
    assert decorated() == witness.last.returned == 5
    assert witness.contexts[0].returned is None
    assert watched(lambda: 6, lambda f: f())[-1].returned is None
    assert watched(lambda: 1 / 0, lambda f: f(), default_return=7)[-1].returned == 7


def test_generators_tell_items_and_lifetime_and_others_do_not(kind):
    witness = Witness()
    kind.call(kind.make(lambda: 5, CallPyBack([witness])))
    early, last = witness.contexts[0], witness.last
    assert early.items is early.lifetime is early.time_to_first_item is None
    if kind.is_generator:
        assert last.items == 2
        assert last.lifetime >= last.execution_time >= 0
        assert last.time_to_first_item >= 0
    else:
        assert last.items is last.lifetime is last.time_to_first_item is None


def test_repr_is_short_and_looks_at_no_value():
    class Unrepresentable:
        def __repr__(self):
            raise AssertionError("repr was called")

    contexts = watched(lambda a: a, lambda f: f(Unrepresentable()))
    assert [repr(context).partition(": ")[2] for context in contexts] == [
        "INITIALIZED>",
        "PRE_EXECUTION>",
        "EXECUTING>",
        "POST_SUCCESS>",
        "COMPLETED, outcome=SUCCESS>",
    ]
    failure = ExecutionFailure(ValueError(Unrepresentable()))
    assert repr(failure) == "ExecutionFailure(exception_type=ValueError, execution_time=0.0)"


def test_failures_compare_by_type_arguments_and_time():
    assert ExecutionFailure(ValueError(1)) == ExecutionFailure(ValueError(1))
    assert ExecutionFailure(ValueError(1)) != ExecutionFailure(ValueError(2))
    assert ExecutionFailure(ValueError(1)) != ExecutionFailure(KeyError(1))
    assert ExecutionFailure(ValueError(1)) != ExecutionFailure(ValueError(1), execution_time=1.0)
    assert ExecutionFailure(ValueError(1)) != ExecutionResult(1, 0.0)
    assert hash(ExecutionFailure(ValueError(1))) == hash(ExecutionFailure(ValueError(1)))


def test_traceback_text_names_function_and_source_line():
    def body():
        raise ValueError("shown")

    witness = Witness()
    ended(CallPyBack([witness])(body))
    text = witness.last.result.traceback_info
    assert text.startswith("Traceback (most recent call last):\n")
    assert ', in body\n    raise ValueError("shown")\n' in text
    assert text.endswith("ValueError: shown")


def test_a_frameless_exception_keeps_attributes():
    class Coded(Exception):
        def __init__(self, code, *, detail):
            super().__init__(code)
            self.detail = detail

    def body():
        raise Coded(5, detail="d")

    witness = Witness()
    ended(CallPyBack([witness])(body))
    kept = witness.last.result.exception
    assert (type(kept), kept.args, kept.detail, kept.__traceback__) == (Coded, (5,), "d", None)


@pytest.mark.parametrize("error", [OSError(2, "No such file", "name"), UnicodeDecodeError("utf-8", b"x", 0, 1, "why")])
def test_a_frameless_exception_of_the_interpreter_keeps_its_text(error):
    def body():
        raise error

    witness = Witness()
    ended(CallPyBack([witness])(body))
    kept = witness.last.result.exception
    assert (type(kept), str(kept), kept.args) == (type(error), str(error), error.args)
    assert getattr(kept, "errno", None) == getattr(error, "errno", None)
    assert getattr(kept, "reason", None) == getattr(error, "reason", None)
