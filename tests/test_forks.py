"""Locks are made anew in a forked child; nothing there logs, waits or raises (C23)."""

from __future__ import annotations

import gc
import os
import threading
import weakref

import pytest

from callpyback.core import forks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")


class Locked:
    __hash__ = None  # as an observer that is a dataclass

    def __init__(self) -> None:
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        self.lock = threading.Lock()


@pytest.fixture(autouse=True)
def only_what_the_test_registers(monkeypatch):
    monkeypatch.setattr(forks, "_registered", {})
    monkeypatch.setattr(forks, "failed_resets", 0)
    monkeypatch.setattr(forks, "_preparing", {})
    monkeypatch.setattr(forks, "failed_preparations", 0)


def in_child(answer) -> str:
    """Return `str(answer())` as a forked child sees it, without letting it run any of pytest."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, str(answer()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text


def test_a_lock_held_at_the_fork_is_free_in_the_child():
    target = Locked()
    forks.reset_after_fork(target)
    with target.lock:
        assert in_child(lambda: target.lock.acquire(blocking=False)) == "True"
        assert target.lock.locked()


def test_without_registration_the_child_would_find_it_held():
    target = Locked()
    with target.lock:
        assert in_child(lambda: target.lock.acquire(blocking=False)) == "False"


def test_another_method_may_be_named():
    class Numbered:
        generation = 0

        def renew(self) -> None:
            self.generation += 1

    target = Numbered()
    forks.reset_after_fork(target, "renew")
    forks.reset_after_fork(target, "renew")
    assert in_child(lambda: target.generation) == "1"
    assert target.generation == 0


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, KeyboardInterrupt])
def test_a_reset_that_raises_is_counted_and_the_others_still_happen(error, capfd):
    class Broken:
        def reset_after_fork(self) -> None:
            raise error

    broken, sound = Broken(), Locked()
    forks.reset_after_fork(broken)
    forks.reset_after_fork(sound)
    with sound.lock:
        seen = in_child(lambda: (forks.failed_resets, sound.lock.acquire(blocking=False)))
    assert seen == "(1, True)"
    assert forks.failed_resets == 0
    assert capfd.readouterr() == ("", "")


def test_an_object_is_held_weakly_and_its_entry_goes_with_it():
    target = Locked()
    reference = weakref.ref(target)
    forks.reset_after_fork(target)
    assert len(forks._registered) == 1
    del target
    gc.collect()
    assert reference() is None
    assert forks._registered == {}


def test_what_cannot_be_held_weakly_is_refused_at_once():
    with pytest.raises(TypeError):
        forks.reset_after_fork(1)


class Connected:
    """Has something open that no child is to inherit."""

    def __init__(self):
        self.lock, self.is_open = threading.Lock(), True
        self.told = []

    def before_fork(self):
        assert self.lock.acquire(timeout=10)
        self.is_open = False
        self.told.append("before")
        return self.go_on

    def go_on(self):
        self.told.append("after")
        self.lock.release()


def test_what_is_open_is_closed_before_the_fork_and_only_the_parent_goes_on():
    target = Connected()
    forks.before_fork(target)
    assert in_child(lambda: (target.is_open, target.lock.locked(), target.told)) == "(False, True, ['before'])"
    assert target.told == ["before", "after"]
    assert not target.lock.locked()


def test_whoever_has_nothing_to_go_on_with_is_asked_all_the_same():
    asked = []
    target = Connected()
    target.prepare = lambda: asked.append(1)
    forks.before_fork(target, "prepare")
    in_child(lambda: None)
    assert asked == [1]


def test_a_preparation_that_raises_is_counted_and_keeps_nobody_from_theirs():
    first, failing, last = Connected(), Connected(), Connected()

    def fail():
        raise SystemExit

    failing.before_fork = fail
    last.go_on = fail
    for target in (first, failing, last):
        forks.before_fork(target)
    assert in_child(lambda: forks.failed_preparations) == "1"
    assert forks.failed_preparations == 2
    assert first.told == ["before", "after"]


def test_a_target_of_preparations_is_held_weakly():
    target = Connected()
    forks.before_fork(target)
    gone = weakref.ref(target)
    del target
    gc.collect()
    assert gone() is None
    assert forks._preparing == {}


def test_threads_that_fork_at_once_each_release_what_they_prepared():
    target = Connected()
    forks.before_fork(target)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(in_child(lambda: target.is_open))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == ["False"] * 4
    assert target.told == ["before", "after"] * 4
    assert not target.lock.locked()
    assert forks._releases == {}
