"""`CallPyBack` itself: its observers, its metrics, its end. (Refusals: `test_configuration.py`.)"""

from __future__ import annotations

import sys
import threading

import pytest

from callpyback import (
    BaseObserver,
    CallPyBack,
    ConfigurationError,
    ExecutionState,
    MetricsObserver,
    handle,
    on_success,
)
from kinds import Ended, Kind, Witness, ended

TOLD = ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]


def test_one_instance_decorates_many_functions():
    witness = Witness()
    decorator = CallPyBack([witness])
    first, second = decorator(lambda: 1), decorator(lambda: 2)
    assert (first(), second()) == (1, 2)
    assert witness.told == TOLD * 2


def test_decorating_does_not_change_the_function(observed):
    witness = Witness()
    observed.add_observer(witness)

    def function():
        return 5

    before, code = dict(vars(function)), function.__code__
    assert observed(function) is not function
    assert vars(function) == before
    if sys.version_info >= (3, 12) or not observed.variable_names:  # 3.11 captures locals by a prologue in the code
        assert function.__code__ is code
    assert function() == 5
    assert witness.told == []


def test_an_observer_added_is_told_about_functions_decorated_before_and_after(kind):
    decorator, witness = CallPyBack(), Witness()
    before = kind.make(lambda: 1, decorator)
    kind.call(before)
    decorator.add_observer(witness)
    after = kind.make(lambda: 2, decorator)
    assert (kind.call(before), kind.call(after)) == (1, 2)
    assert witness.told == TOLD * 2


def test_an_observer_removed_is_told_no_more(kind):
    witness = Witness()
    decorator = CallPyBack([witness])
    decorated = kind.make(lambda: 5, decorator)
    kind.call(decorated)
    decorator.remove_observer(witness)
    assert kind.call(decorated) == 5
    assert kind.call(kind.make(lambda: 6, decorator)) == 6
    assert witness.told == TOLD
    assert decorator.observers == handle(decorated).observers == ()


def test_an_observer_is_removed_by_name():
    decorator = CallPyBack([Witness(name="a"), kept := Witness(name="b")])
    decorator.remove_observer("a")
    assert decorator.observers == (kept,)


def test_an_observer_removed_may_be_added_again(kind):
    witness = Witness()
    decorator = CallPyBack([witness])
    decorated = kind.make(lambda: 5, decorator)
    decorator.remove_observer(witness)
    decorator.add_observer(witness)
    kind.call(decorated)
    assert witness.told == TOLD


def test_states_given_at_registration_win(kind):
    witness = Witness(ExecutionState.PRE_EXECUTION)
    decorator = CallPyBack()
    decorator.add_observer(witness, states=[ExecutionState.COMPLETED])
    kind.call(kind.make(lambda: 5, decorator))
    assert witness.told == ["COMPLETED"]


def test_a_single_state_may_be_given_alone():
    witness = Witness()
    decorator = CallPyBack()
    decorator.add_observer(witness, ExecutionState.POST_SUCCESS)
    decorator(lambda: 5)()
    assert witness.told == ["POST_SUCCESS"]


def test_observers_are_listed_in_the_order_they_are_told():
    low, high, middle = Witness(priority=-1), Witness(priority=5), Witness()
    assert CallPyBack([low, high, middle]).observers == (high, middle, low)


def test_observers_may_come_from_any_iterable():
    witness = Witness()
    for observers in ((witness,), {1: witness}.values(), iter([witness]), (w for w in [witness])):
        assert CallPyBack(observers).observers == (witness,)


def test_an_observer_that_fits_one_function_but_not_another_is_added_to_neither():
    class Later(Witness):
        async def update(self, context): ...

    decorator = CallPyBack()
    coroutine = Kind("coroutine").make(lambda: 1, decorator)
    plain = decorator(lambda: 2)
    with pytest.raises(ConfigurationError, match="is async"):
        decorator.add_observer(Later())
    assert decorator.observers == handle(coroutine).observers == handle(plain).observers == ()


def test_an_observer_of_a_function_cannot_be_added_to_its_decorator_too():
    decorator, witness = CallPyBack(), Witness()
    first, second = decorator(lambda: 1), decorator(lambda: 2)
    handle(second).add_observer(witness)
    with pytest.raises(ConfigurationError, match="registered here already"):
        decorator.add_observer(witness)
    first()
    assert witness.told == []
    second()
    assert witness.told == TOLD


@pytest.mark.parametrize("act", ["add", "remove self", "remove other", "shutdown", "decorate"])
def test_observers_may_change_the_observers_while_they_are_told(kind, act):
    class Acting(Witness):
        def update(self, context):
            super().update(context)
            if context.state is ExecutionState.PRE_EXECUTION and len(self.contexts) == 1:
                acts[act]()

    decorator = CallPyBack()
    added, other, acting = Witness(), Witness(priority=-1), Acting()
    acts = {
        "add": lambda: decorator.add_observer(added),
        "remove self": lambda: decorator.remove_observer(acting),
        "remove other": lambda: decorator.remove_observer(other),
        "shutdown": decorator.shutdown,
        "decorate": lambda: decorator(lambda: 6)(),
    }
    decorator.add_observer(acting)
    decorator.add_observer(other)
    decorated = kind.make(lambda: 5, decorator)
    assert [kind.call(decorated), kind.call(decorated)] == [5, 5]
    expected = {
        "add": (TOLD * 2, TOLD * 2, TOLD),
        "remove self": (TOLD[:1], TOLD * 2, []),
        "remove other": (TOLD * 2, [], []),
        "shutdown": (TOLD, TOLD, []),
        "decorate": (TOLD * 2, TOLD * 2, []),
    }
    assert (acting.told, other.told, added.told) == expected[act]


def test_adding_and_removing_under_load_breaks_no_call():
    decorator, steady = CallPyBack(), Witness()
    decorator.add_observer(steady)
    decorated = decorator(lambda: 5)
    failures, stop = [], threading.Event()

    def churn():
        while not stop.is_set():
            observer = Witness()
            decorator.add_observer(observer)
            decorator.remove_observer(observer)

    def call():
        failures.extend(result for result in (ended(decorated) for _ in range(300)) if result != Ended(5))

    churning = [threading.Thread(target=churn) for _ in range(2)]
    calling = [threading.Thread(target=call) for _ in range(4)]
    for thread in churning + calling:
        thread.start()
    for thread in calling:
        thread.join()
    stop.set()
    for thread in churning:
        thread.join()
    assert failures == []
    assert steady.told.count("COMPLETED") == steady.told.count("PRE_EXECUTION") == 1200


class Measuring(Witness):
    def get_metrics(self):
        return {"told": len(self.contexts)}


def test_get_metrics_collects_what_observers_measure():
    decorator = CallPyBack([Measuring(name="first"), Witness(), MetricsObserver()])
    decorator(lambda: 5)()
    metrics = decorator.get_metrics()
    assert set(metrics) == {"observer_count", "first_metrics", "MetricsObserver_metrics"}
    assert metrics["observer_count"] == 3
    assert metrics["first_metrics"] == {"told": 3}
    assert metrics["MetricsObserver_metrics"]["total_executions"] == 1


def test_get_metrics_tells_equal_names_apart():
    decorator = CallPyBack([Measuring(name="same"), Measuring(name="same"), Measuring(name="same")])
    assert set(decorator.get_metrics()) == {"observer_count", "same_metrics", "same#2_metrics", "same#3_metrics"}


def test_get_metrics_of_no_observers_is_a_count_of_none():
    assert CallPyBack().get_metrics() == {"observer_count": 0}


class Closing(BaseObserver):
    """Notes when it is closed; may raise."""

    def __init__(self, error=None, **options):
        super().__init__(**options)
        self.error = error
        self.closed = 0

    def update(self, context): ...

    def close(self):
        self.closed += 1
        if self.error is not None:
            raise self.error


def test_functions_run_unobserved_after_shutdown(kind):
    witness = Witness()
    decorator = CallPyBack([witness])
    decorated = kind.make(lambda: 5, decorator)
    decorator.shutdown()
    assert kind.call(decorated) == 5
    assert witness.told == []
    assert kind.call(kind.make(lambda: 6, decorator)) == 6
    assert witness.told == []


def test_error_handling_stays_after_shutdown():
    decorator = CallPyBack([Witness()], default_return=5)
    decorated = decorator(lambda: 1 / 0)
    decorator.shutdown()
    assert decorated() == 5


def test_shutdown_closes_every_observer_once():
    shared, own, later = Closing(), Closing(), Closing()
    decorator = CallPyBack([shared])
    first, second = decorator(lambda: 1), decorator(lambda: 2)
    handle(first).add_observer(own)
    handle(second).add_observer(later)
    decorator.shutdown()
    decorator.shutdown()
    assert (shared.closed, own.closed, later.closed) == (1, 1, 1)


@pytest.mark.parametrize("error", [RuntimeError("r"), SystemExit(3)], ids=repr)
def test_an_observer_that_fails_to_close_keeps_no_other_from_closing(error):
    failing, other = Closing(error, priority=1), Closing()
    decorator = CallPyBack([failing, other])
    decorated = decorator(lambda: 5)
    decorator.shutdown()
    assert (failing.closed, other.closed) == (1, 1)
    assert handle(decorated).health["Closing"].failures == 1


def test_a_call_under_way_at_shutdown_ends_as_it_began():
    witness = Witness()
    decorator = CallPyBack([witness])
    generator = decorator(lambda: (yield from "ab"))()
    next(generator)
    decorator.shutdown()
    assert list(generator) == ["b"]
    assert witness.told == TOLD


def test_a_decorator_is_a_context_manager_that_shuts_down(kind):
    closing, witness = Closing(), Witness()
    with CallPyBack([closing, witness]) as decorator:
        decorated = kind.make(lambda: 5, decorator)
        kind.call(decorated)
        assert not closing.closed
    assert kind.call(decorated) == 5
    assert closing.closed == 1
    assert witness.told == TOLD


def test_a_context_manager_lets_exceptions_pass():
    error = ValueError("v")

    def use():
        with CallPyBack():
            raise error

    assert ended(use).exception is error


class Configurable(BaseObserver):
    """Notes its lifecycle."""

    def __init__(self):
        super().__init__()
        self.lifecycle = []

    def update(self, context): ...

    def configure(self, **options):
        self.lifecycle.append(("configure", options))

    def validate(self):
        self.lifecycle.append(("validate",))

    def close(self):
        self.lifecycle.append(("close",))


def test_the_lifecycle_is_configure_validate_close():
    observer = Configurable()
    decorator = CallPyBack()
    decorator.add_observer(observer, options={"threshold": 5})
    decorator.shutdown()
    assert observer.lifecycle == [("configure", {"threshold": 5}), ("validate",), ("close",)]


def test_an_observer_without_options_is_configured_with_none():
    observer = Configurable()
    CallPyBack([observer])
    assert observer.lifecycle == [("configure", {}), ("validate",)]


def test_duck_typed_observers_keep_their_own_configure_and_validate():
    class Own(Witness):
        def configure(self, path): ...

        def validate(self, context): ...

    witness = Own()
    CallPyBack([witness])(lambda: 5)()
    assert witness.told == TOLD


@pytest.mark.parametrize("step", ["configure", "validate"])
def test_an_observer_that_refuses_to_be_registered_is_not(step):
    class Refusing(Configurable):
        def configure(self, **options):
            if step == "configure":
                raise OSError("no such file")

        def validate(self):
            raise OSError("no such file")

    decorator = CallPyBack()
    decorated = decorator(lambda: 5)
    with pytest.raises(ConfigurationError, match=f"'Refusing' refused .* {step}\\(\\) raised .*no such file"):
        decorator.add_observer(Refusing())
    assert decorator.observers == handle(decorated).observers == ()


def test_metadata_reaches_the_observers_as_a_dictionary_of_their_own(kind):
    given = {"team": "shop"}
    witness, other = Witness(), Witness()
    decorated = kind.make(lambda: 5, CallPyBack([witness, other], metadata=given))
    given["team"] = "changed"
    kind.call(decorated)
    assert witness.last.metadata == {"team": "shop"}
    witness.last.metadata["team"] = "changed"
    assert other.last.metadata == {"team": "shop"}
    kind.call(decorated)
    assert other.last.metadata == {"team": "shop"}


def test_repr_tells_how_many():
    decorator = CallPyBack([Witness()])
    kept = decorator(lambda: 5)
    assert repr(decorator) == "<CallPyBack with 1 observers on 1 functions>"
    assert kept() == 5


def test_subclasses_may_have_parameters_of_their_own():
    class Watched(CallPyBack):
        """A decorator with a house style."""

        def __init__(self, team, **options):
            super().__init__(**options)
            self.team = team

    witness = Witness()
    assert Watched("shop", observers=[witness])(lambda: 5)() == 5
    assert witness.told == TOLD


def test_an_observer_on_two_decorators_of_one_function_is_told_by_both(kind):
    witness = Witness()
    decorated = kind.make(lambda: 5, lambda function: CallPyBack([witness])(CallPyBack([witness])(function)))
    kind.call(decorated)
    assert sorted(witness.told) == sorted(TOLD * 2)


def test_callbacks_of_one_function_may_be_used_as_different_observers():
    seen = []

    def note(value):
        seen.append(value)

    CallPyBack([on_success(note), on_success(note)])(lambda: 5)()
    assert seen == [5, 5]
