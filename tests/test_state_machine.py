"""The table of states, as data and as a walk over it. (That calls follow it: `properties/test_state_machine.py`.)"""

from __future__ import annotations

import copy
import itertools
import pickle

import pytest

from callpyback import ExecutionState, Outcome, StateMachine, StateTransitionError
from callpyback.core.state_machine import ENDED_STATES, PLAIN_STATES, TERMINAL_STATES, TRANSITIONS

# DESIGN's table, written out once more: what the code says must not change unnoticed.
TABLE = {
    ("INITIALIZED", "PRE_EXECUTION"),
    ("PRE_EXECUTION", "EXECUTING"),
    ("PRE_EXECUTION", "COMPLETED"),
    ("PRE_EXECUTION", "ERROR"),
    ("EXECUTING", "POST_SUCCESS"),
    ("EXECUTING", "POST_FAILURE"),
    ("EXECUTING", "COMPLETED"),
    ("EXECUTING", "ERROR"),
    ("POST_SUCCESS", "COMPLETED"),
    ("POST_FAILURE", "COMPLETED"),
    ("POST_FAILURE", "EXECUTING"),
    ("POST_FAILURE", "ERROR"),
    ("POST_SUCCESS", "ERROR"),
}
PATHS = {
    "INITIALIZED": [],
    "PRE_EXECUTION": ["PRE_EXECUTION"],
    "EXECUTING": ["PRE_EXECUTION", "EXECUTING"],
    "POST_SUCCESS": ["PRE_EXECUTION", "EXECUTING", "POST_SUCCESS"],
    "POST_FAILURE": ["PRE_EXECUTION", "EXECUTING", "POST_FAILURE"],
    "COMPLETED": ["PRE_EXECUTION", "COMPLETED"],
    "ERROR": ["PRE_EXECUTION", "ERROR"],
}


def machine_at(name):
    machine = StateMachine()
    for step in PATHS[name]:
        machine.transition_to(ExecutionState[step])
    return machine


def test_the_table_has_the_steps_of_the_design_and_no_others():
    assert {(start.name, end.name) for start, ends in TRANSITIONS.items() for end in ends} == TABLE
    assert set(TRANSITIONS) == set(ExecutionState)


def test_the_table_is_read_only():
    with pytest.raises(TypeError):
        TRANSITIONS[ExecutionState.ERROR] = frozenset()


@pytest.mark.parametrize(("start", "end"), list(itertools.product(PATHS, PATHS)))
def test_a_machine_takes_the_steps_of_the_table_and_no_others(start, end):
    machine, state = machine_at(start), ExecutionState[end]
    assert machine.can_transition_to(state) == ((start, end) in TABLE)
    history = machine.state_history
    if (start, end) in TABLE:
        machine.transition_to(state)
        assert machine.current_state is state
        assert machine.state_history == (*history, state)
    else:
        with pytest.raises(StateTransitionError, match=f"cannot go from {start} to"):
            machine.transition_to(state)
        assert machine.state_history == history


@pytest.mark.parametrize("state", [None, "COMPLETED", 5], ids=repr)
def test_what_is_no_state_is_no_step(state):
    with pytest.raises(StateTransitionError, match="possible steps: PRE_EXECUTION"):
        StateMachine().transition_to(state)


def test_a_refusal_lists_the_possible_steps():
    with pytest.raises(StateTransitionError, match=r"possible steps: COMPLETED, ERROR, EXECUTING$"):
        machine_at("PRE_EXECUTION").transition_to(ExecutionState.INITIALIZED)
    with pytest.raises(StateTransitionError, match="none: it is terminal"):
        machine_at("ERROR").transition_to(ExecutionState.COMPLETED)


def test_a_machine_begins_initialized():
    machine = StateMachine()
    assert machine.current_state is ExecutionState.INITIALIZED
    assert machine.state_history == (ExecutionState.INITIALIZED,)
    assert repr(machine) == "<StateMachine at INITIALIZED>"


@pytest.mark.parametrize("name", PATHS)
def test_completed_and_error_are_terminal(name):
    is_terminal = name in ("COMPLETED", "ERROR")
    assert machine_at(name).is_terminal == is_terminal
    assert ExecutionState[name].is_terminal == is_terminal
    assert (ExecutionState[name] in TERMINAL_STATES) == is_terminal


def test_plain_observers_are_told_all_but_initialized_and_executing():
    assert set(ExecutionState) - PLAIN_STATES == {ExecutionState.INITIALIZED, ExecutionState.EXECUTING}


def test_results_are_shown_once_the_body_is_over():
    assert {state.name for state in ENDED_STATES} == {"POST_SUCCESS", "POST_FAILURE", "COMPLETED", "ERROR"}


def test_the_history_is_a_copy_of_its_own():
    machine = StateMachine()
    before = machine.state_history
    machine.transition_to(ExecutionState.PRE_EXECUTION)
    assert before == (ExecutionState.INITIALIZED,)


@pytest.mark.parametrize("enumeration", [ExecutionState, Outcome])
def test_members_are_single_and_hash_by_identity(enumeration):
    for member in enumeration:
        assert copy.deepcopy(member) is pickle.loads(pickle.dumps(member)) is enumeration(member.value) is member
        assert {member: 1}[member] == 1


def test_a_copy_of_a_machine_goes_its_own_way():
    machine = machine_at("EXECUTING")
    for other in (copy.deepcopy(machine), pickle.loads(pickle.dumps(machine))):
        other.transition_to(ExecutionState.POST_SUCCESS)
        assert machine.current_state is ExecutionState.EXECUTING


def test_the_outcomes_are_those_of_the_design():
    assert [outcome.name for outcome in Outcome] == [
        "SUCCESS",
        "FAILURE",
        "HANDLED",
        "SUPPLIED",
        "VETOED",
        "TIMED_OUT",
        "CANCELLED",
        "ABANDONED",
        "ABORTED",
    ]
