"""`Folding`: one thread folds, nobody on the way waits, and a fold that interrupts a fold leaves it alone."""

from __future__ import annotations

import copy
import pickle
import threading

import pytest

from callpyback.observers.parts.folding import Folding


class Sum:
    def __init__(self, *waiting):
        self.waiting, self.total, self.meanwhile = list(waiting), 0, None

    def fold(self):
        if self.meanwhile is not None:
            self.meanwhile()
        while self.waiting:
            self.total += self.waiting.pop()


def test_an_attempt_folds_what_waits():
    folding, one, other = Folding(), Sum(1, 2), Sum(3)
    folding.attempt(one, other)
    assert (one.total, other.total) == (3, 3)


def test_an_attempt_does_not_wait_for_another_thread():
    folding, numbers = Folding(), Sum(1)
    with folding:
        thread = threading.Thread(target=folding.attempt, args=(numbers,))
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
    assert (numbers.waiting, numbers.total) == ([1], 0)


def test_a_fold_in_the_midst_of_a_fold_leaves_it_alone():
    folding, numbers = Folding(), Sum(1)
    numbers.meanwhile = lambda: folding.attempt(numbers)
    with folding:
        folding.fold(numbers)
    assert numbers.total == 1


def test_after_one_that_raised_the_next_folds():
    folding, numbers = Folding(), Sum(1)
    numbers.meanwhile = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        folding.attempt(numbers)
    numbers.meanwhile = None
    folding.attempt(numbers)
    assert numbers.total == 1


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_a_copy_is_a_fresh_one(again):
    folding, numbers = Folding(), Sum(1)
    with folding:
        thread = threading.Thread(target=again(folding).attempt, args=(numbers,))
        thread.start()
        thread.join(10)
    assert numbers.total == 1
