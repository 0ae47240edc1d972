"""One state for each function, found by any of its names, and one for all that are too many."""

from __future__ import annotations

import threading

from callpyback import FunctionSignature
from callpyback.observers.parts.by_function import OVERFLOW, ByFunction


def signature(qualname, module="shop"):
    return FunctionSignature(qualname.rpartition(".")[2], qualname=qualname, module=module)


def known(*signatures, max_functions=100):
    states = ByFunction(lambda name: [name.full_name], max_functions)
    for one in signatures:
        states.of(one)
    return states


def test_a_function_has_one_state():
    states = known()
    assert states.of(signature("pay")) is states.of(signature("pay"))
    assert states.of(signature("pay")) is not states.of(signature("pay", "bank"))
    assert len(states) == 2


def test_functions_go_by_the_shortest_name_that_tells_them_apart():
    states = known(signature("A.run"), signature("B.run"), signature("pay"), signature("f", "x"), signature("f", "y"))
    assert list(states.named()) == ["A.run", "B.run", "pay", "x.f", "y.f"]


def test_a_function_is_found_by_each_of_its_names():
    states = known(signature("A.run"), signature("B.run"), signature("pay"))
    assert list(states.named("run")) == ["A.run", "B.run"]
    assert list(states.named("A.run")) == list(states.named("shop.A.run")) == ["A.run"]
    assert list(states.named("pay")) == list(states.named("shop.pay")) == ["pay"]
    assert states.named("nobody") == {}


def test_names_that_can_not_be_told_apart_hide_no_state():
    states = known(signature("b.c", "a"), signature("c", "a.b"))
    assert len(states.named()) == 2


def test_too_many_functions_share_a_state():
    states = known(*(signature(f"f{n}") for n in range(10)), max_functions=3)
    assert list(states.named()) == ["f0", "f1", "f2", OVERFLOW]
    assert states.of(signature("new")) is states.of(signature("newer"))
    assert states.of(signature("f1")) == ["shop.f1"]


def test_names_are_one_line():
    assert list(known(signature("a\nb")).named()) == ["a\\nb"]


def test_threads_that_come_at_once_get_one_state():
    states, found, gate = known(), [], threading.Barrier(8)

    def look():
        gate.wait()
        found.append(states.of(signature("pay")))

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(state) for state in found}) == 1


def test_a_copy_has_copies_of_the_states():
    states = known(signature("pay"))
    twin = states.copied(list)
    twin.of(signature("pay")).append("more")
    twin.of(signature("look"))
    assert (list(states), list(twin)) == ([["shop.pay"]], [["shop.pay", "more"], ["shop.look"]])
    states.clear()
    assert len(states) == 0
