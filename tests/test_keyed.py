"""One state for each key, whatever is forgotten meanwhile, and never more than so many."""

from __future__ import annotations

import gc
import logging
import sys
import weakref

import pytest

from callpyback.guards.keyed import KeyedStates
from test_concurrency import hurried, in_threads

__all__ = ["hurried"]


class State:
    """Idle while nothing was added to it."""

    def __init__(self, added=()):
        self.added = list(added)


def keyed(max_keys=100, is_idle=lambda state: not state.added, **options):
    return KeyedStates(State, is_idle=is_idle, max_keys=max_keys, name="states", **options)


def use(states, key, thing=1):
    state = states.of(key)
    state.added.append(thing)
    states.keep(key, state)
    return state


def test_each_key_has_a_state_of_its_own():
    states = keyed()
    assert use(states, "a") is states.of("a")
    assert states.of("b") is not states.of("a")
    assert states.of("a").added == [1]


def test_equal_keys_share_a_state():
    states = keyed()
    assert use(states, 1) is states.of(True) is states.of(1.0)


def test_a_state_that_compares_or_counts_as_empty_is_a_state():
    class Empty(State):
        def __len__(self):
            return 0

    states = KeyedStates(Empty, is_idle=lambda state: not state.added, max_keys=5, name="states")
    first = use(states, "a")
    assert states.of("a") is first
    states.states().clear()
    assert len(states) == 1


def test_idle_states_are_forgotten_when_others_are_made():
    states = keyed()
    for number in range(1000):
        states.of(number)
    assert len(states) <= 2


def test_a_state_that_matters_is_never_forgotten():
    states = keyed(max_keys=10)
    mattering = [use(states, number) for number in range(5)]
    for number in range(1000):
        states.of(("idle", number))
    assert [states.of(number) for number in range(5)] == mattering
    assert len(states) <= 10


def test_a_forgotten_state_that_somebody_has_in_hand_is_found_again():
    states = keyed()
    in_hand = states.of("a")
    for number in range(20):
        states.of(number)
    assert in_hand not in states.states()
    assert states.of("a") is in_hand
    assert in_hand in states.states()


def test_a_forgotten_state_that_is_used_after_all_is_kept():
    states = keyed()
    in_hand = states.of("a")
    for number in range(20):
        states.of(number)
    in_hand.added.append(1)
    states.keep("a", in_hand)
    del in_hand
    gc.collect()
    assert states.of("a").added == [1]


def test_a_state_that_is_used_while_it_is_being_forgotten_stays():
    looks = []

    def is_idle(state):
        looks.append(state)
        if len(looks) == 2:  # a thread that had it in hand used it between the first look and the second
            state.added.append(1)
        return not state.added

    states = keyed(is_idle=is_idle)
    states.of("a")
    states.of("b")
    assert len(looks) == 2
    assert states.of("a").added == [1]
    assert len(states) == 2


def test_what_is_forgotten_goes_at_once():
    states = keyed()
    forgotten = weakref.ref(states.of("a"))
    gc.disable()
    try:
        states.of("b")
        assert forgotten() is None
    finally:
        gc.enable()


def test_keys_that_find_no_room_share_one_state():
    states = keyed(max_keys=3)
    own = [use(states, number) for number in range(3)]
    assert states.shared is None
    assert use(states, 3) is states.of(4) is states.shared
    assert states.shared not in own
    assert len(states) == 3
    assert states.states() == [*own, states.shared]


def test_a_shared_state_is_nobodys_own():
    states = keyed(max_keys=1)
    first = use(states, 0)
    shared = use(states, 1)
    first.added.clear()
    assert states.of(1) is not shared
    states.keep(1, shared)
    assert states.of(1) is not shared


def test_a_key_that_shared_starts_with_what_it_may_have_done_there():
    states = keyed(max_keys=1, split=lambda shared: State(shared.added))
    first = use(states, 0)
    use(states, 1, "something")
    first.added.clear()
    assert states.of(1).added == ["something"]


def test_a_key_starts_anew_when_the_shared_state_is_idle():
    states = keyed(max_keys=1, split=lambda shared: pytest.fail("there is nothing to split"))
    first = use(states, 0)
    use(states, 1).added.clear()
    first.added.clear()
    assert states.of(2).added == []


def test_sharing_is_told_once(caplog):
    states = keyed(max_keys=1)
    with caplog.at_level(logging.WARNING, "callpyback"):
        for number in range(5):
            use(states, number)
    [record] = caplog.records
    assert record.getMessage() == (
        "states: more than 1 keys are in use at once, and further ones share one state; raise max_keys"
    )


def test_a_key_that_cannot_be_hashed_is_refused():
    with pytest.raises(TypeError, match="unhashable"):
        keyed().of([])


def test_a_key_that_cannot_be_hashed_any_more_stops_nobody_else():
    class Odd:
        hashed = True

        def __hash__(self):
            if not self.hashed:
                raise RuntimeError
            return 1

    states, odd = keyed(), Odd()
    states.of(odd)
    odd.hashed = False
    for number in range(100):
        states.of(number)
    assert len(states) < 10


@pytest.mark.usefixtures("hurried")
def test_no_use_is_lost_while_threads_make_and_forget_the_same_keys():
    states, keys, rounds = keyed(), 12, 400

    def work(number):
        for turn in range(rounds):
            key = (number + turn) % keys
            state = states.of(key)
            state.added.append(None)
            states.keep(key, state)
            states.of((number, turn))  # makes room by forgetting others

    in_threads(work, 8)
    assert sum(len(states.of(key).added) for key in range(keys)) == 8 * rounds
    assert len(states) <= keys + 9


@pytest.mark.usefixtures("hurried")
def test_threads_that_ask_for_a_new_key_at_once_get_the_same_state():
    states = keyed()
    for turn in range(200):
        found = in_threads(lambda _, key=turn: states.of(key), 4)
        assert len(set(map(id, found))) == 1


def test_it_holds_no_more_than_it_must():
    states = keyed(max_keys=1000)
    for number in range(1000):
        use(states, number)
    for state in states.states():
        state.added.clear()
    for number in range(2000):
        states.of(-number - 1)
    assert len(states) < 100
    assert sys.getsizeof(states._order) < 10_000
