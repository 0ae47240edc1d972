"""What can be asked and changed about one decorated function while the program runs."""

from __future__ import annotations

import weakref

import pytest

from callpyback import (
    BaseObserver,
    CallPyBack,
    ConfigurationError,
    ExecutionState,
    FunctionHandle,
    StopProcessing,
    handle,
    on_completion,
)
from kinds import Witness

TOLD = ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]


def test_a_handle_is_reached_by_attribute_and_by_function(kind):
    decorated = kind.make(lambda: 5, CallPyBack())
    assert isinstance(handle(decorated), FunctionHandle)
    assert decorated.callpyback is handle(decorated)


@pytest.mark.parametrize("function", [len, lambda: 5, None, 5, CallPyBack], ids=lambda value: type(value).__name__)
def test_a_handle_of_what_is_not_decorated_is_refused(function):
    with pytest.raises(ConfigurationError, match="expected a callable decorated by CallPyBack"):
        handle(function)


def test_a_handle_knows_function_and_decorator(kind):
    decorator = CallPyBack()
    decorated = kind.make(lambda: 5, decorator)
    assert handle(decorated).decorator is decorator
    assert handle(decorated).signature.name == "function"
    assert handle(decorated).wrapper is getattr(decorated, "__func__", decorated)
    assert "function: 0 observers" in repr(handle(decorated))


def test_observers_added_to_one_function_are_told_about_it_alone(kind):
    decorator, witness = CallPyBack(), Witness()
    first, second = kind.make(lambda: 1, decorator), kind.make(lambda: 2, decorator)
    handle(first).add_observer(witness)
    assert (kind.call(first), kind.call(second)) == (1, 2)
    assert witness.told == TOLD
    assert handle(first).observers == (witness,)
    assert handle(second).observers == decorator.observers == ()


def test_observers_are_listed_with_those_of_the_decorator_in_the_order_they_are_told(kind):
    low, high, own = Witness(priority=-1), Witness(priority=1), Witness()
    decorated = kind.make(lambda: 5, CallPyBack([low, high]))
    handle(decorated).add_observer(own)
    assert handle(decorated).observers == (high, own, low)


def test_a_removed_observer_is_told_no_more(kind):
    witness = Witness()
    decorated = kind.make(lambda: 5, CallPyBack())
    handle(decorated).add_observer(witness)
    handle(decorated).remove_observer(witness)
    assert kind.call(decorated) == 5
    assert witness.told == []


def test_an_observer_is_removed_by_name(kind):
    decorated = kind.make(lambda: 5, CallPyBack())
    handle(decorated).add_observer(Witness(name="a"))
    handle(decorated).add_observer(kept := Witness(name="b"))
    handle(decorated).remove_observer("a")
    assert handle(decorated).observers == (kept,)


def test_an_observer_removed_may_be_added_again(kind):
    witness = Witness()
    decorated = kind.make(lambda: 5, CallPyBack())
    for _ in range(2):
        handle(decorated).add_observer(witness)
        kind.call(decorated)
        handle(decorated).remove_observer(witness)
    assert witness.told == TOLD * 2


def test_an_observer_of_the_decorator_is_removed_there(kind):
    witness = Witness()
    decorated = kind.make(lambda: 5, CallPyBack([witness]))
    with pytest.raises(ConfigurationError, match="is not registered on"):
        handle(decorated).remove_observer(witness)
    kind.call(decorated)
    assert witness.told == TOLD


@pytest.mark.parametrize("on_decorator", [True, False], ids=["on the decorator", "on the function"])
def test_the_same_observer_twice_is_refused(on_decorator):
    witness = Witness()
    decorated = CallPyBack([witness] if on_decorator else [])(lambda: 5)
    if not on_decorator:
        handle(decorated).add_observer(witness)
    with pytest.raises(ConfigurationError, match="registered here already"):
        handle(decorated).add_observer(witness)
    decorated()
    assert witness.told == TOLD


def test_an_equal_observer_is_another_observer():
    class Equal(Witness):
        def __eq__(self, other):
            return True

        __hash__ = None

    first, second = Equal(), Equal()
    decorated = CallPyBack([first, second])(lambda: 5)
    decorated()
    assert first.told == second.told == TOLD


@pytest.mark.parametrize("act", ["add", "remove self", "remove other", "pause", "hook"])
def test_observers_may_change_the_observers_while_they_are_told(kind, act):
    class Acting(Witness):
        def update(self, context):
            super().update(context)
            if context.state is ExecutionState.POST_SUCCESS and len(self.contexts) == 2:
                acts[act]()

    added, other, acting, hooked = Witness(), Witness(priority=-1), Acting(), []
    decorated = kind.make(lambda: 5, CallPyBack())
    own = handle(decorated)
    acts = {
        "add": lambda: own.add_observer(added),
        "remove self": lambda: own.remove_observer(acting),
        "remove other": lambda: own.remove_observer(other),
        "pause": own.pause,
        "hook": lambda: own.on_completion(lambda: hooked.append(1)),
    }
    own.add_observer(acting)
    own.add_observer(other)
    assert [kind.call(decorated), kind.call(decorated)] == [5, 5]
    expected = {
        "add": (TOLD * 2, TOLD * 2, TOLD, []),
        "remove self": (TOLD[:2], TOLD * 2, [], []),
        "remove other": (TOLD * 2, TOLD[:1], [], []),
        "pause": (TOLD, TOLD, [], []),
        "hook": (TOLD * 2, TOLD * 2, [], [1]),
    }
    assert (acting.told, other.told, added.told, hooked) == expected[act]


def test_a_paused_function_runs_unobserved(kind):
    witness = Witness()
    decorated = kind.make(lambda: 5, CallPyBack([witness]))
    handle(decorated).pause()
    assert kind.call(decorated) == 5
    assert witness.told == []
    handle(decorated).resume()
    assert kind.call(decorated) == 5
    assert witness.told == TOLD


def test_a_function_is_paused_inside_a_with(kind):
    witness = Witness()
    decorated = kind.make(lambda: 5, CallPyBack([witness]))
    with handle(decorated).paused():
        kind.call(decorated)
        with handle(decorated).paused():
            kind.call(decorated)
        kind.call(decorated)
    assert witness.told == []
    kind.call(decorated)
    assert witness.told == TOLD


def test_a_function_paused_before_stays_paused_after_a_with(kind):
    witness = Witness()
    decorated = kind.make(lambda: 5, CallPyBack([witness]))
    handle(decorated).pause()
    with handle(decorated).paused():
        pass
    kind.call(decorated)
    assert witness.told == []


def test_an_exception_ends_the_pause():
    witness = Witness()
    decorated = CallPyBack([witness])(lambda: 5)
    with pytest.raises(KeyError), handle(decorated).paused():
        raise KeyError
    decorated()
    assert witness.told == TOLD


def test_pausing_one_function_leaves_the_others(kind):
    witness = Witness()
    decorator = CallPyBack([witness])
    first, second = kind.make(lambda: 1, decorator), kind.make(lambda: 2, decorator)
    with handle(first).paused():
        kind.call(first)
        kind.call(second)
    assert witness.told == TOLD


def test_error_handling_and_nothing_else_stays_while_paused():
    def refuse(context):
        raise StopProcessing("answer")

    decorator = CallPyBack(default_return=5)
    decorated = decorator(lambda fail: 1 / 0 if fail else 6)
    handle(decorated).on_call(refuse)
    with handle(decorated).paused():
        assert (decorated(True), decorated(False)) == (5, 6)
    assert decorated(False) == "answer"


def test_a_call_under_way_when_paused_ends_as_it_began():
    witness = Witness()
    decorated = CallPyBack([witness])(lambda: (yield from "ab"))
    generator = decorated()
    next(generator)
    with handle(decorated).paused():
        assert list(generator) == ["b"]
    assert witness.told == TOLD


def test_observers_added_while_paused_are_told_afterwards(kind):
    witness = Witness()
    decorated = kind.make(lambda: 5, CallPyBack())
    with handle(decorated).paused():
        handle(decorated).add_observer(witness)
        kind.call(decorated)
    assert witness.told == []
    kind.call(decorated)
    assert witness.told == TOLD


HOOKS = {
    "on_call": ["PRE_EXECUTION"],
    "on_success": ["POST_SUCCESS"],
    "on_failure": [],
    "on_completion": ["COMPLETED"],
    "on_error": [],
}
FAILING = {
    "on_call": ["PRE_EXECUTION"],
    "on_success": [],
    "on_failure": ["POST_FAILURE"],
    "on_completion": ["ERROR"],
    "on_error": ["ERROR"],
}


@pytest.mark.parametrize("name", HOOKS)
def test_hooks_are_told_their_states(kind, name):
    def body(fail):
        if fail:
            raise KeyError

    seen = []
    decorated = kind.make(body, CallPyBack(exception_classes=(ValueError,)), "fail")
    getattr(decorated, name)(lambda state: seen.append(state.name))
    kind.call(decorated, False)
    assert seen == HOOKS[name]
    seen.clear()
    kind.ended(decorated, True)
    assert seen == FAILING[name]


@pytest.mark.parametrize("name", HOOKS)
def test_hooks_give_the_callback_back(kind, name):
    decorated = kind.make(lambda: 5, CallPyBack())
    hook = getattr(decorated, name)

    @hook
    def bare(context):
        return context

    @hook()
    def called():
        return None

    @hook(priority=5, name="named")
    def with_options(ctx):
        return ctx

    for callback in (bare, called, with_options):
        assert callback.__name__ in ("bare", "called", "with_options")
    assert called() is None
    assert [(observer.name.rpartition(".")[2], observer.priority) for observer in handle(decorated).observers] == [
        ("named", 5),
        ("bare", 0),
        ("called", 0),
    ]


def test_hooks_keep_priority_and_order():
    order = []
    decorated = CallPyBack()(lambda: 5)
    decorated.on_success(lambda: order.append("first"))
    decorated.on_success(lambda: order.append("second"))
    decorated.on_success(lambda: order.append("high"), priority=1)
    decorated.on_success(lambda: order.append("low"), priority=-1)
    decorated()
    assert order == ["high", "first", "second", "low"]


def test_a_hook_may_be_removed_by_name():
    seen = []
    decorated = CallPyBack()(lambda: 5)
    decorated.on_success(lambda: seen.append(1), name="noting")
    decorated()
    handle(decorated).remove_observer("noting")
    decorated()
    assert seen == [1]


def test_a_hook_with_an_invalid_parameter_is_refused():
    decorated = CallPyBack()(lambda: 5)
    with pytest.raises(ConfigurationError, match=r"Invalid callback parameter: 'valeu'.*did you mean 'value'"):
        decorated.on_success(lambda valeu: None)
    assert handle(decorated).observers == ()


def test_the_same_callback_may_be_hooked_twice():
    seen = []

    def note(state):
        seen.append(state.name)

    decorated = CallPyBack()(lambda: 5)
    decorated.on_call(note)
    decorated.on_completion(note)
    decorated()
    assert seen == ["PRE_EXECUTION", "COMPLETED"]


def test_hooks_belong_to_one_function():
    decorator, seen = CallPyBack(), []
    first, second = decorator(lambda: 1), decorator(lambda: 2)
    first.on_success(seen.append)
    second()
    assert seen == []
    first()
    assert seen[0].result.value == 1


def test_repr_of_a_hook_names_its_states_and_function():
    decorated = CallPyBack()(lambda: 5)
    text = repr(decorated.on_failure)
    assert "POST_FAILURE" in text
    assert "lambda" in text


class Page:
    """An object with a method that is called back."""

    def __init__(self, seen):
        self.seen = seen

    def note(self, value):
        self.seen.append(value)


def test_a_weak_method_is_called_while_its_object_lives(kind):
    seen = []
    page = Page(seen)
    decorated = kind.make(lambda: 5, CallPyBack())
    decorated.on_success(page.note, weak=True)
    kind.call(decorated)
    reference = weakref.ref(page)
    del page
    assert reference() is None
    assert kind.call(decorated) == 5
    assert len(seen) == 1
    assert handle(decorated).observers == ()


def test_a_method_is_held_strongly_otherwise():  # M10
    seen = []
    decorated = CallPyBack()(lambda: 5)
    decorated.on_success(Page(seen).note)
    decorated()
    assert seen == [5]


class Watcher(Witness):
    """An observer that counts in a list of somebody else."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def update(self, context):
        self.seen.append(context.state.name)


@pytest.mark.parametrize("on_decorator", [True, False], ids=["on the decorator", "on the function"])
def test_a_weak_observer_is_told_while_it_lives(kind, on_decorator):
    seen, watcher = [], None
    decorator = CallPyBack()
    decorated = kind.make(lambda: 5, decorator)
    watcher = Watcher(seen)
    (decorator if on_decorator else handle(decorated)).add_observer(watcher, weak=True)
    kind.call(decorated)
    assert seen == TOLD
    del watcher
    assert kind.call(decorated) == 5
    assert seen == TOLD
    assert decorator.observers == handle(decorated).observers == ()
    assert handle(decorated).health == {}


def test_a_weak_observer_that_dies_while_a_call_runs_is_told_no_more():
    seen, held = [], []
    held.append(Watcher(seen))
    decorator = CallPyBack()
    decorator.add_observer(held[0], weak=True)

    def body():
        held.clear()
        return 5

    assert decorator(body)() == 5
    assert seen == ["PRE_EXECUTION"]


def test_a_weak_observer_can_be_removed():
    watcher = Watcher([])
    decorator = CallPyBack()
    decorator.add_observer(watcher, weak=True)
    decorator.remove_observer(watcher)
    decorator(lambda: 5)()
    assert watcher.seen == []


def test_health_lists_the_observers_of_the_function_and_of_the_decorator():
    decorated = CallPyBack([Witness(name="shared")])(lambda: 5)
    handle(decorated).add_observer(Witness(name="own"))
    assert list(handle(decorated).health) == ["shared", "own"]
    assert all(health.failures == 0 for health in handle(decorated).health.values())


def test_options_are_handed_to_configure():
    class Configurable(BaseObserver):
        threshold = 1

        def update(self, context): ...

    observer = Configurable()
    handle(CallPyBack()(lambda: 5)).add_observer(observer, options={"threshold": 7})
    assert observer.threshold == 7


def test_calls_made_by_observers_are_counted_as_unobserved(kind):
    decorated = kind.make(lambda: 5, CallPyBack([Witness()]))
    calling = CallPyBack([on_completion(lambda: kind.call(decorated))])(lambda: 6)
    calling()
    calling()
    assert handle(decorated).unobserved == 2


def test_many_observers_added_one_by_one_are_all_told(kind):
    decorated = kind.make(lambda: 5, CallPyBack())
    observers = [Witness(name=f"number {number}") for number in range(40)]
    for observer in observers:
        handle(decorated).add_observer(observer)
    kind.call(decorated)
    assert all(observer.told == TOLD for observer in observers)
    for observer in observers[::2]:
        handle(decorated).remove_observer(observer)
    kind.call(decorated)
    assert [len(observer.told) for observer in observers] == [3, 6] * 20
