"""`Tally`: an exact count without a lock."""

from __future__ import annotations

import copy
import pickle
import threading

import pytest

from callpyback.observers.parts.tally import Tally


def test_it_counts_what_many_threads_count():
    tally = Tally()

    def work():
        for _ in range(20_000):
            next(tally)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally.count == 160_000


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_a_copy_goes_on_from_the_count(again):
    tally = Tally(5)
    next(tally)
    twin = again(tally)
    next(twin)
    assert (tally.count, twin.count, repr(twin)) == (6, 7, "Tally(7)")
