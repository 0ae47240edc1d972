"""The highest priority is told first, equal ones in the order of registration, at every state of every call."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callpyback import CallbackObserver, CallPyBack, ExecutionState, handle
from kinds import KINDS, Kind

every_kind = pytest.mark.parametrize("kind", KINDS, ids=str)

BODIES = {"returns": lambda: "value", "raises": lambda: 1 / 0}


class Told:
    """Notes its number with the state, in a list shared by all."""

    def __init__(self, number: int, priority: float, states, notes: list) -> None:
        self.number = number
        self.priority = priority
        self.states = states
        self.notes = notes

    def update(self, context) -> None:
        self.notes.append((context.state, self.number))


class ToldPlainly:
    """The same by plain values: at the beginning, and at the end, which is noted as COMPLETED."""

    def __init__(self, number: int, priority: float, notes: list) -> None:
        self.number = number
        self.priority = priority
        self.notes = notes

    def bind(self, function_signature):
        def begin() -> None:
            self.notes.append((ExecutionState.PRE_EXECUTION, self.number))

        return begin, lambda *_: self.notes.append((ExecutionState.COMPLETED, self.number))


def told_by_callback(number, priority, states, notes) -> CallbackObserver:
    return CallbackObserver(lambda state: notes.append((state, number)), states, priority=priority)


priorities = st.integers(-2, 2) | st.floats(-2, 2, allow_nan=False) | st.just(10**9)
some_states = st.frozensets(st.sampled_from(ExecutionState), min_size=1)
plans = st.lists(
    st.tuples(
        priorities,
        st.sampled_from(["update", "callback", "bound"]),
        some_states,
        st.sampled_from(["constructor", "decorator", "function"]),
    ),
    max_size=12,
)


def made(number: int, priority: float, sort: str, states, notes: list):
    if sort == "bound":
        return ToldPlainly(number, priority, notes)
    return (Told if sort == "update" else told_by_callback)(number, priority, states, notes)


def expected_order(state: ExecutionState, plan, numbers) -> list[int]:
    asked = [
        number
        for number in numbers
        if (
            state in (ExecutionState.PRE_EXECUTION, ExecutionState.COMPLETED)
            if plan[number][1] == "bound"
            else state in plan[number][2]
        )
    ]
    return sorted(asked, key=lambda number: -plan[number][0])  # a stable sort: ties stay as registered


def order_told(kind: Kind, function, notes: list) -> dict[ExecutionState, list[int]]:
    notes.clear()
    kind.ended(function)
    return {state: [number for told, number in notes if told is state] for state in ExecutionState}


@every_kind
@pytest.mark.parametrize("body", BODIES)
@settings(max_examples=40, deadline=None)
@given(plan=plans, data=st.data())
def test_the_highest_priority_is_told_first_and_ties_as_registered(kind, body, plan, data):
    notes = []
    observers = [made(number, *parts[:3], notes) for number, parts in enumerate(plan)]
    numbers = sorted(range(len(plan)), key=lambda number: plan[number][3] != "constructor")
    early = [number for number in numbers if plan[number][3] == "constructor"]
    decorator = CallPyBack([observers[number] for number in early])
    function = kind.make(BODIES[body], decorator)
    order_told(kind, function, notes)
    for number in numbers[len(early) :]:
        (decorator if plan[number][3] == "decorator" else handle(function)).add_observer(observers[number])
    assert_order(kind, function, plan, numbers, notes, body)

    leaving = data.draw(st.lists(st.sampled_from(numbers), unique=True) if numbers else st.just([]), label="leaving")
    for number in leaving:
        holder = handle(function) if plan[number][3] == "function" else decorator
        holder.remove_observer(observers[number])
    staying = [number for number in numbers if number not in leaving]
    assert_order(kind, function, plan, staying, notes, body)


def assert_order(kind, function, plan, numbers, notes, body) -> None:
    visited = {
        ExecutionState.INITIALIZED,
        ExecutionState.PRE_EXECUTION,
        ExecutionState.EXECUTING,
        ExecutionState.POST_SUCCESS if body == "returns" else ExecutionState.POST_FAILURE,
        ExecutionState.COMPLETED,
    }
    told = order_told(kind, function, notes)
    assert told == {state: expected_order(state, plan, numbers) if state in visited else [] for state in ExecutionState}
    moments = [list(ExecutionState).index(state) for state, _ in notes]
    assert moments == sorted(moments)
    assert len(handle(function).observers) == len(numbers)


@pytest.mark.parametrize("number", [8, 9, 40])
def test_any_number_of_equal_priorities_keeps_the_order_of_registration(kind, number):
    notes = []
    observers = [Told(at, 0, None, notes) for at in range(number)]
    function = kind.make(lambda: 1, CallPyBack(observers))
    told = order_told(kind, function, notes)
    assert told[ExecutionState.PRE_EXECUTION] == told[ExecutionState.COMPLETED] == list(range(number))
    assert handle(function).observers == tuple(observers)
