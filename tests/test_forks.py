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
