"""`RecentKeys`: a value for each of the most recently used keys, and no more of them."""

from __future__ import annotations

import copy
import os
import pickle
import threading

import pytest

from callpyback.observers.parts.bounded import RecentKeys
from watching import run_python


def test_a_key_keeps_its_value():
    keys = RecentKeys(3)
    assert keys.use("a", list) is keys.use("a", list)
    assert keys.use("b", list) is not keys.use("a", list)
    assert len(keys) == 2


def test_beyond_the_limit_the_one_used_longest_ago_goes():
    keys = RecentKeys(2)
    for key in "abac":
        keys.use(key, object)
    assert [key for key, _ in keys.items()] == ["a", "c"]
    assert keys.evicted == 1


def test_clear_forgets_everything():
    keys = RecentKeys(1)
    keys.use("a", object), keys.use("b", object)
    keys.clear()
    assert (len(keys), keys.evicted) == (0, 0)


def test_many_threads_share_one_value_a_key():
    keys, got = RecentKeys(10), []

    def work():
        got.extend(keys.use(number % 10, object) for number in range(1000))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, got))) == len(keys) == 10


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_a_copy_goes_its_own_way(again):
    keys = RecentKeys(2)
    keys.use("a", dict)
    twin = again(keys)
    twin.use("b", dict), twin.use("c", dict)
    assert [key for key, _ in keys.items()] == ["a"]
    assert ([key for key, _ in twin.items()], twin.evicted, twin.max_keys) == (["b", "c"], 1, 2)


def test_a_finalizer_may_come_here_again():
    keys = RecentKeys(1)

    class Finalized:
        def __del__(self):
            keys.use("from the finalizer", object)

    keys.use("a", Finalized)
    keys.use("b", object)  # evicts the first, while the lock is held
    assert len(keys) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_is_not_held_up_by_a_lock_of_its_parent():
    source = """
        import os, signal, threading
        from callpyback.observers.parts.bounded import RecentKeys
        from callpyback.observers.parts.folding import Folding
        keys, folding, held, over = RecentKeys(5), Folding(), threading.Event(), threading.Event()
        def hold():
            with keys.lock, folding:
                held.set()
                over.wait()
        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        import warnings
        warnings.simplefilter("ignore")
        child = os.fork()
        if not child:
            signal.alarm(20)
            keys.use("a", object)
            with folding:
                os._exit(0)
        print(os.waitpid(child, 0)[1])
        over.set()
        thread.join()
    """
    assert run_python(source) == "0"
