"""EventHook: who is called, in which order, by which hook; isolated, without leaking anything."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import gc
import inspect
import logging
import multiprocessing
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import types
import weakref
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar
from unittest.mock import AsyncMock, MagicMock, Mock, call

import cloudpickle
import pytest

from callpyback import CallPyBack, ConfigurationError, EventHook, MockTimeSource, observes

AT_MODULE_LEVEL: EventHook[int] = EventHook("at module level")


class Telescope:
    moved: EventHook[int] = EventHook()
    aliens_detected = EventHook()

    def __init__(self):
        self.seen = []

    def follow(self, position):
        self.seen.append(position)


@pytest.fixture
def hook():
    return EventHook("hook")


@pytest.fixture
def warnings_of(caplog):
    caplog.set_level(logging.WARNING, "callpyback")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "callpyback"]


def breaking(*_args, **_kwargs):
    raise ValueError("broken")


def noting(seen, mark):
    """Return a callback of its own that notes a mark."""
    return lambda *_args, **_kwargs: seen.append(mark)


# Calling


def test_every_callback_gets_what_is_emitted(hook):
    callbacks = [Mock(), MagicMock(), Mock()]
    for callback in callbacks:
        hook.connect(callback)
    assert hook.emit(1, "two", three=3) is None
    assert [callback.mock_calls for callback in callbacks] == [[call(1, "two", three=3)]] * 3


def test_a_hook_without_callbacks_does_nothing(hook):
    hook.emit(1)
    assert len(hook) == 0
    assert hook.connected == ()
    assert hook.health == {}


@pytest.mark.parametrize("names", [("self",), ("hook", "args", "kwargs"), ("callback", "error", "problem")])
def test_no_keyword_is_taken(hook, names):
    if "self" in names and "self" in inspect.signature(EventHook.emit).parameters:
        names = ("instance",)  # a bound method has taken its own
    got = []
    hook.connect(lambda **given: got.append(given))
    hook.emit(**dict.fromkeys(names, 1))
    assert got == [dict.fromkeys(names, 1)]


def test_higher_priorities_are_called_earlier_and_equal_ones_in_the_order_of_connecting(hook):
    seen = []
    for mark, priority in (("a", 0), ("b", 5), ("c", -1.5), ("d", 5), ("e", 0)):
        hook.connect(noting(seen, mark), priority=priority)
    hook.emit()
    assert seen == ["b", "d", "a", "e", "c"]


def test_connect_gives_the_callback_back_and_is_a_decorator_too(hook):
    def plain(): ...

    assert hook.connect(plain) is plain

    @hook.connect
    def bare(): ...

    @hook.connect(priority=5, name="first")
    def with_options(): ...

    assert isinstance(bare, types.FunctionType)
    assert hook.connected == (with_options, plain, bare)
    assert "first" in hook


def test_what_a_callback_returns_is_dropped(hook):
    hook.connect(lambda: 5)
    assert hook.emit() is None


def test_a_hook_can_be_connected_to_a_hook(hook):
    seen, other = [], EventHook("other")
    other.connect(seen.append)
    hook.connect(other.emit)
    hook.emit(1)
    hook.disconnect(other.emit)
    hook.emit(2)
    assert seen == [1]


def test_calls_that_callbacks_make_are_observed(hook):
    seen = []

    @CallPyBack()
    def observed():
        return 5

    observed.on_success(lambda value: seen.append(value))
    hook.connect(observed)
    hook.emit()
    assert seen == [5]


# Connecting


def test_a_callback_is_connected_once(hook):
    def callback(): ...

    hook.connect(callback)
    with pytest.raises(ConfigurationError, match=r"callback .*is connected to <EventHook hook: 1 connected> already"):
        hook.connect(callback)
    assert len(hook) == 1


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(lambda: Telescope().follow, id="method"),
        pytest.param(lambda: [].append, id="builtin method"),
        pytest.param(lambda: Telescope.__call__, id="method wrapper"),
        pytest.param(lambda: dict.fromkeys, id="builtin classmethod"),
    ],
)
def test_a_method_is_the_same_each_time_it_is_read(hook, method):
    first = method()
    again = getattr(first.__self__, first.__name__)
    assert first is not again
    hook.connect(first)
    assert again in hook
    with pytest.raises(ConfigurationError, match="already"):
        hook.connect(again)
    hook.disconnect(again)
    assert len(hook) == 0


def test_methods_of_equal_objects_are_told_apart(hook):
    @dataclass
    class Screen:
        shown: list[Any] = field(default_factory=list)

        def show(self, value):
            self.shown.append(value)

    one, other = Screen(), Screen()
    assert one.show == one.show
    assert one == other
    hook.connect(one.show)
    assert other.show not in hook
    hook.connect(other.show)
    hook.disconnect(one.show)
    hook.emit(5)
    assert (one.shown, other.shown) == ([], [5])


def test_callbacks_may_be_unhashable_and_compare_as_they_like(hook):
    class Odd:
        __hash__ = None

        def __eq__(self, other):
            raise RuntimeError("not to be compared")

        def __bool__(self):
            raise RuntimeError("not to be asked")

        def __call__(self, value):
            seen.append(value)

    seen, one, other = [], Odd(), Odd()
    hook.connect(one)
    assert other not in hook
    hook.connect(other)
    hook.disconnect(one)
    hook.emit(5)
    assert seen == [5]


def test_names_are_apart(hook):
    hook.connect(lambda: 1)
    hook.connect(lambda: 2)
    hook.connect(print, name="printer")
    prefix = "test_names_are_apart.<locals>.<lambda>"
    assert list(hook.health) == [prefix, f"{prefix}#2", "printer"]


def test_a_name_that_was_asked_for_must_be_free(hook):
    hook.connect(print, name="printer")
    with pytest.raises(ConfigurationError, match=r"name='printer': a callback connected to .* is called that"):
        hook.connect(breaking, name="printer")
    assert hook.connected == (print,)
    hook.disconnect("printer")
    hook.connect(breaking, name="printer")
    assert hook.connected == (breaking,)


@pytest.mark.parametrize("by", ["itself", "name"])
def test_disconnecting_is_exact(hook, by):
    seen = []
    one, two = noting(seen, 1), noting(seen, 2)
    hook.connect(one, name="one")
    hook.connect(two, name="two")
    hook.disconnect(one if by == "itself" else "one")
    hook.emit()
    assert seen == [2]
    assert one not in hook
    assert "one" not in hook
    assert two in hook
    assert "two" in hook
    assert len(hook) == 1


def test_disconnecting_what_is_not_connected_names_what_is(hook):
    hook.connect(print, name="printer")
    with pytest.raises(ConfigurationError, match=r"'prinetr' is not connected.*did you mean 'printer'.*: printer"):
        hook.disconnect("prinetr")
    with pytest.raises(ConfigurationError, match="is not connected"):
        hook.disconnect(breaking)


def test_clear_disconnects_everything(hook):
    seen = []
    for mark in range(3):
        hook.connect(noting(seen, mark))
    hook.clear()
    hook.emit()
    assert (seen, len(hook), hook.connected) == ([], 0, ())
    assert hook


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"callback": 5}, r"callback=5 \(int\): expected something to call"),
        ({"callback": "print"}, "callback='print'"),
        ({"callback": print, "priority": "high"}, "priority='high'"),
        ({"callback": print, "priority": float("nan")}, "priority=nan"),
        ({"callback": print, "name": 5}, r"name=5 \(int\): expected a text"),
        ({"callback": print, "name": ""}, "name=''"),
        ({"callback": print, "weak": 1}, r"weak=1 \(int\): expected True or False"),
        ({"callback": breaking, "weak": True}, "weak=True the method of an object"),
        ({"callback": [].append, "weak": True}, "weak=True the method of an object"),
    ],
)
def test_misuse_of_connect_fails_at_once(hook, parameters, message):
    with pytest.raises(ConfigurationError, match=message):
        hook.connect(**parameters)
    assert len(hook) == 0


def test_a_generator_function_is_refused_because_calling_it_runs_nothing(hook):
    def generator():
        yield

    with pytest.raises(ConfigurationError, match="remove the `yield`"):
        hook.connect(generator)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"name": 5}, "name=5"),
        ({"errors": "ignore"}, 'errors=\'ignore\'.*"isolate" or "raise"'),
        ({"max_observer_failures": 0}, "max_observer_failures=0"),
        ({"time_source": object()}, "time_source=<object"),
    ],
)
def test_misuse_of_a_hook_fails_at_once(parameters, message):
    with pytest.raises(ConfigurationError, match=message):
        EventHook(**parameters)


# Errors


def test_an_error_stops_neither_the_emitter_nor_the_others(hook, warnings_of):
    seen = []
    hook.connect(noting(seen, "before"))
    hook.connect(breaking)
    hook.connect(noting(seen, "after"))
    hook.emit()
    assert seen == ["before", "after"]
    assert hook.health["breaking"].failures == 1
    assert warnings_of() == ["observer breaking failed at emit of hook: ValueError: broken"]


@pytest.mark.parametrize("error", [SystemExit(5), GeneratorExit(), asyncio.CancelledError(), RecursionError("own")])
def test_errors_that_are_no_exceptions_stop_nobody_either(hook, error):
    def failing():
        raise error

    seen = []
    hook.connect(failing)
    hook.connect(noting(seen, "after"))
    hook.emit()
    assert seen == ["after"]
    assert hook.health[failing.__qualname__].last_error.startswith(type(error).__name__)


@pytest.mark.parametrize("errors", ["isolate", "raise"])
def test_ctrl_c_belongs_to_the_program(errors):
    hook, seen = EventHook(errors=errors), []

    @hook.connect
    def interrupted():
        raise KeyboardInterrupt

    hook.connect(noting(seen, "after"))
    with pytest.raises(KeyboardInterrupt):
        hook.emit()
    assert seen == []
    assert hook.health[interrupted.__qualname__].failures == 0


def test_errors_are_logged_once_a_minute(warnings_of):
    clock = MockTimeSource()
    hook = EventHook("hook", max_observer_failures=1000, time_source=clock)
    hook.connect(breaking)
    for _ in range(7):
        hook.emit()
        clock.advance(10)
    assert warnings_of() == [
        "observer breaking failed at emit of hook: ValueError: broken",
        "observer breaking failed at emit of hook: ValueError: broken (5 more since the last report)",
    ]


def test_a_callback_that_keeps_failing_is_paused_and_tried_again(warnings_of):
    clock, calls = MockTimeSource(), []
    hook = EventHook("hook", max_observer_failures=3, time_source=clock)

    @hook.connect(name="shaky")
    def shaky():
        calls.append(clock.now())
        if clock.now() < 60:
            raise ValueError

    for _ in range(5):
        hook.emit()
    assert len(calls) == 3
    assert hook.health["shaky"].paused
    assert "observer shaky is paused after failing in 3 calls in a row" in warnings_of()
    clock.advance(30)
    for _ in range(3):
        hook.emit()
    assert len(calls) == 4  # tried once, in vain
    clock.advance(30)
    for _ in range(3):
        hook.emit()
    assert len(calls) == 7
    assert (hook.health["shaky"].paused, hook.health["shaky"].failures_in_a_row) == (False, 0)
    assert hook.health["shaky"].failures == 4


def test_a_success_ends_a_row_of_failures():
    answers = iter([ValueError, None, ValueError, None, ValueError, None])
    hook = EventHook(max_observer_failures=2)

    @hook.connect(name="shaky")
    def shaky():
        if (error := next(answers)) is not None:
            raise error

    for _ in range(6):
        hook.emit()
    assert (hook.health["shaky"].failures, hook.health["shaky"].paused) == (3, False)


def test_a_paused_callback_can_be_enabled_or_disconnected():
    hook, seen = EventHook(max_observer_failures=1), []

    @hook.connect(name="shaky")
    def shaky():
        seen.append(1)
        raise ValueError

    hook.emit()
    hook.emit()
    assert len(seen) == 1
    hook.enable(shaky)
    hook.emit()
    assert len(seen) == 2
    hook.disconnect("shaky")
    hook.emit()
    assert len(seen) == 2
    with pytest.raises(ConfigurationError, match="not connected"):
        hook.enable("shaky")


def test_a_clock_that_fails_leaves_a_paused_callback_paused():
    class Broken:
        def now(self):
            raise OSError

    hook, calls = EventHook(max_observer_failures=1, time_source=Broken()), []
    hook.connect(lambda: calls.append(1) or breaking())
    for _ in range(3):
        hook.emit()
    assert len(calls) == 1


def test_a_hostile_error_hurts_nobody(hook):
    class Hostile(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    def failing():
        raise Hostile

    seen = []
    hook.connect(failing)
    hook.connect(noting(seen, "after"))
    hook.emit()
    assert seen == ["after"]


def test_on_request_the_first_error_is_raised_once_everybody_was_told():
    hook, seen = EventHook(errors="raise"), []
    first, second = ValueError("first"), ValueError("second")

    def raising(error):
        seen.append(error)
        raise error

    hook.connect(functools.partial(raising, first))
    hook.connect(functools.partial(raising, second))
    hook.connect(noting(seen, "after"))
    for _ in range(10):
        with pytest.raises(ValueError, match="first") as raised:
            hook.emit()
        assert raised.value is first
    assert seen == [first, second, "after"] * 10  # nobody is paused
    assert [health.failures for health in hook.health.values()] == [10, 10, 0]


def test_an_error_that_was_raised_keeps_nothing_alive():
    class Value: ...

    hook, gone = EventHook(errors="raise"), Value()
    alive = weakref.ref(gone)
    hook.connect(breaking)
    gc.disable()
    try:
        with contextlib.suppress(ValueError):
            hook.emit(gone)
        del gone
        assert alive() is None
    finally:
        gc.enable()


def test_callbacks_that_emit_without_end_end():
    hook, calls = EventHook("hook"), []

    def again():
        calls.append(1)
        hook.emit()

    def also_again():
        calls.append(1)
        hook.emit()

    hook.connect(again)
    hook.connect(also_again)
    hook.emit()
    assert len(calls) < 4 * sys.getrecursionlimit()
    assert [health.failures for health in hook.health.values()] == [1, 1]


def test_hooks_that_emit_each_other_without_end_end():
    one, other, calls = EventHook("one"), EventHook("other"), []
    for hook, next_hook in ((one, other), (other, one)):
        for _ in range(2):
            hook.connect(lambda next_hook=next_hook: calls.append(1) or next_hook.emit())
    one.emit()
    assert len(calls) < 4 * sys.getrecursionlimit()


# Changes while emitting


def test_what_is_connected_while_emitting_is_told_from_the_next_emission_on(hook):
    seen = []

    @hook.connect
    def connecting():
        if "late" not in hook:
            hook.connect(noting(seen, "late"), name="late", priority=5)

    hook.emit()
    assert seen == []
    hook.emit()
    assert seen == ["late"]


def test_what_is_disconnected_while_emitting_is_told_no_more(hook):
    seen = []

    @hook.connect
    def disconnecting():
        for name in ("self", "later"):
            hook.disconnect(name)

    hook.disconnect(disconnecting)
    hook.connect(disconnecting, name="self")
    hook.connect(noting(seen, "later"), name="later")
    hook.connect(noting(seen, "last"), name="last")
    hook.emit()
    assert seen == ["last"]
    assert list(hook.health) == ["last"]


def test_a_callback_may_clear_the_hook_and_emit_it(hook):
    seen = []
    hook.connect(lambda value: (hook.clear(), hook.emit(value), seen.append(value)))
    hook.connect(lambda value: seen.append("never"))
    hook.emit(5)
    assert seen == [5]


def test_an_emission_inside_an_emission_is_complete_before_the_outer_goes_on(hook):
    seen = []

    @hook.connect
    def first(n):
        seen.append(("first", n))
        if n:
            hook.emit(n - 1)

    hook.connect(lambda n: seen.append(("second", n)))
    hook.emit(1)
    assert seen == [("first", 1), ("first", 0), ("second", 0), ("second", 1)]


def test_paused_tells_nobody(hook):
    seen = []
    hook.connect(seen.append)
    with hook.paused():
        hook.emit(1)
        with hook.paused():
            hook.emit(2)
        hook.emit(3)
    hook.emit(4)
    with pytest.raises(OSError), hook.paused():
        raise OSError
    hook.emit(5)
    assert seen == [4, 5]


def test_connecting_while_paused_counts_afterwards(hook):
    seen = []
    with hook.paused():
        hook.connect(seen.append)
        hook.emit(1)
    hook.emit(2)
    assert seen == [2]


# Threads and processes


def test_threads_that_connect_and_disconnect_disturb_no_emission(hook):
    """C02, C03."""
    rounds, problems, counted = 400, [], [0]
    hook.connect(lambda: counted.__setitem__(0, counted[0] + 1), name="always")

    def churn(number):
        try:
            for n in range(rounds):
                calls = []
                callback = functools.partial(calls.append, n)
                hook.connect(lambda callback=callback: callback(), name=f"{number}/{n}", priority=n % 3)
                hook.emit()
                hook.disconnect(f"{number}/{n}")
                before = len(calls)
                if not before:
                    problems.append("was not called by its own thread")
                if "always" not in hook:
                    problems.append("always is gone")
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=churn, args=(number,)) for number in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert problems == []
    assert list(hook.health) == ["always"]
    assert counted[0] > rounds


def test_of_threads_that_ask_for_the_hook_of_an_instance_all_get_the_same():
    barrier = threading.Barrier(8)
    found = []

    def ask(telescope):
        barrier.wait()
        found.append(telescope.moved)

    for _ in range(20):
        telescope = Telescope()
        threads = [threading.Thread(target=ask, args=(telescope,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(map(id, found))) == 1
        found.clear()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_emits_connects_and_makes_hooks():
    """C20: forked while other threads make hooks, connect and emit."""
    program = """
        import os, threading
        from callpyback import EventHook

        class Telescope:
            moved = EventHook()

        shared, stop = Telescope(), threading.Event()

        def hammer():
            while not stop.is_set():
                telescope = Telescope()
                telescope.moved.connect(len)
                telescope.moved.emit("")
                callback = lambda _: None
                shared.moved.connect(callback)
                shared.moved.emit("")
                shared.moved.disconnect(callback)

        for _ in range(3):
            threading.Thread(target=hammer, daemon=True).start()
        for _ in range(30):
            child = os.fork()
            if child == 0:
                seen = []
                telescope = Telescope()
                telescope.moved.connect(seen.append)
                telescope.moved.emit(5)
                shared.moved.clear()
                shared.moved.connect(seen.append)
                shared.moved.emit(6)
                os._exit(0 if seen == [5, 6] else 1)
            _, status = os.waitpid(child, 0)
            assert status == 0, status
        stop.set()
        print("ok")
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert (done.stdout, done.stderr) == ("ok\n", "")


# Weak callbacks


def test_a_bound_method_keeps_its_object_unless_it_is_weak(hook):
    """M10."""
    strong, weak = Telescope(), Telescope()
    alive = [weakref.ref(strong), weakref.ref(weak)]
    hook.connect(strong.follow)
    hook.connect(weak.follow, weak=True)
    hook.emit(5)
    assert strong.seen == weak.seen == [5]
    del strong, weak
    assert [reference() is None for reference in alive] == [False, True]
    assert len(hook) == 1
    hook.emit(6)
    assert hook.connected[0].__self__.seen == [5, 6]


def test_a_weak_callback_can_be_found_and_disconnected(hook):
    telescope = Telescope()
    hook.connect(telescope.follow, weak=True)
    assert telescope.follow in hook
    assert hook.connected == (telescope.follow,)
    hook.disconnect(telescope.follow)
    hook.emit(5)
    assert telescope.seen == []
    del telescope
    assert len(hook) == 0


def test_a_weak_callback_that_goes_while_emitting_is_skipped(hook):
    telescopes, seen = [Telescope()], []
    hook.connect(lambda _: telescopes.clear(), priority=5)
    hook.connect(telescopes[0].follow, weak=True)
    hook.connect(seen.append)
    hook.emit(5)
    assert seen == [5]
    assert len(hook) == 2
    assert all(health.failures == 0 for health in hook.health.values())


def test_a_hook_that_goes_takes_no_notice_of_weak_callbacks_that_outlive_it():
    telescope, hook = Telescope(), EventHook()
    hook.connect(telescope.follow, weak=True)
    gone = weakref.ref(hook)
    del hook
    gc.collect()
    assert gone() is None
    del telescope


# Hooks of instances


def test_each_instance_has_a_hook_of_its_own():
    one, other = Telescope(), Telescope()
    one.moved.connect(one.follow)
    other.moved.connect(other.follow)
    one.moved.emit(5)
    assert (one.seen, other.seen) == ([5], [])
    assert one.moved is one.moved
    assert one.moved is not other.moved
    assert one.moved is not one.aliens_detected


def test_the_class_gives_the_hook_itself():
    assert isinstance(Telescope.moved, EventHook)
    assert Telescope.moved is Telescope.__dict__["moved"]
    assert repr(Telescope.moved) == "<EventHook Telescope.moved: 0 connected>"
    assert Telescope().moved.name == "Telescope.moved"


def test_callbacks_of_the_class_hear_what_any_instance_emits_in_one_order():
    class Dish:
        moved = EventHook()

    seen = []
    one, other = Dish(), Dish()
    one.moved.emit()  # before anybody is there
    one.moved.connect(noting(seen, "one"))
    Dish.moved.connect(noting(seen, "class"))
    Dish.moved.connect(noting(seen, "class first"), priority=5)
    one.moved.emit()
    other.moved.emit()
    assert seen == ["class first", "one", "class", "class first", "class"]
    seen.clear()
    with one.moved.paused():
        one.moved.emit()
    assert seen == []
    with Dish.moved.paused():
        one.moved.emit()
    assert seen == ["one"]
    seen.clear()
    Dish.moved.emit()
    assert seen == ["class first", "class"]
    Dish.moved.clear()
    seen.clear()
    one.moved.emit()
    assert seen == ["one"]


def test_an_inherited_hook_is_one_an_instance_and_heard_on_the_class_that_has_it():
    class Radio(Telescope):
        tuned = EventHook()

        @property
        def name(self):
            return "radio"

    class Optical(Telescope):
        moved = EventHook()

    seen = []
    radio, optical = Radio(), Optical()
    try:
        Telescope.moved.connect(seen.append)
        assert Radio.moved is Telescope.moved
        assert Optical.moved is not Telescope.moved
        radio.moved.emit("radio")
        optical.moved.emit("optical")
    finally:
        Telescope.moved.clear()
    radio.moved.connect(seen.append)
    radio.tuned.emit("tuned")
    radio.moved.emit("again")
    assert seen == ["radio", "again"]


def test_an_instance_goes_with_its_hook_and_what_is_connected_to_it():
    """Observatory's own example, which leaked the instance there."""
    telescope = Telescope()
    telescope.moved.connect(telescope.follow)
    telescope.moved.connect(lambda _, self=telescope: self)
    telescope.moved.emit(5)
    gone = [weakref.ref(telescope), weakref.ref(telescope.moved)]
    del telescope
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


def test_an_instance_goes_at_once_if_its_own_methods_are_connected_weakly():
    telescope = Telescope()
    telescope.moved.connect(telescope.follow, weak=True)
    telescope.moved.emit(5)
    gone = weakref.ref(telescope)
    gc.disable()
    try:
        del telescope
        assert gone() is None
    finally:
        gc.enable()


def test_the_hook_of_an_instance_outlives_it():
    telescope = Telescope()
    seen, hook = [], telescope.moved
    hook.connect(seen.append)
    del telescope
    gc.collect()
    hook.emit(5)
    assert seen == [5]


def test_instances_may_be_unhashable_and_compare_as_they_like():
    class Odd:
        moved = EventHook()
        __hash__ = None

        def __eq__(self, other):
            raise RuntimeError("not to be compared")

        def __bool__(self):
            raise RuntimeError("not to be asked")

    one, other, seen = Odd(), Odd(), []
    one.moved.connect(seen.append)
    other.moved.emit(1)
    one.moved.emit(2)
    assert seen == [2]


@pytest.mark.parametrize("slots", [("_moved_hook",), ("_moved_hook", "__weakref__"), ("__dict__",)])
def test_a_class_with_slots_needs_a_place_for_the_hook(slots):
    class Slotted:
        __slots__ = ("_seen", *slots)
        moved = EventHook()

    one, other = Slotted(), Slotted()
    one._seen, other._seen = [], []
    one.moved.connect(one._seen.append)
    one.moved.connect(lambda _, one=one: one)
    other.moved.connect(other._seen.append)
    one.moved.emit(5)
    assert (one._seen, other._seen) == ([5], [])
    assert one.moved is one.moved
    again = copy.copy(one)
    again.moved.emit(6)
    assert one._seen == [5]


def test_a_class_with_slots_and_no_place_is_told_what_to_add():
    class Slotted:
        __slots__ = ()
        moved = EventHook()

    with pytest.raises(ConfigurationError, match="no place in instances of Slotted: add the slot '_moved_hook' to its"):
        Slotted().moved.emit()


def test_a_hook_on_a_metaclass_has_no_place_and_says_so():
    class Meta(type):
        moved = EventHook()

    class Host(metaclass=Meta): ...

    with pytest.raises(ConfigurationError, match="no place in instances of Meta"):
        Host.moved.emit()


@pytest.mark.parametrize("options", [{}, {"frozen": True}, {"order": True}, {"eq": False}, {"kw_only": True}])
def test_a_dataclass_may_have_hooks(options):
    @dataclass(**options)
    class Point:
        moved: ClassVar[EventHook[int]] = EventHook()
        x: int = 0

    one, other, seen = Point(), Point(), []
    one.moved.connect(seen.append)
    other.moved.emit(1)
    one.moved.emit(2)
    assert seen == [2]
    assert asdict(one) == {"x": 0}
    if options.get("eq") is not False:
        assert one == other
    assert repr(one).endswith("Point(x=0)")


def test_a_dataclass_with_slots_may_have_hooks():
    @dataclass(slots=True, frozen=True)
    class Point:
        moved: ClassVar[EventHook[int]] = EventHook()
        _moved_hook: Any = field(init=False, repr=False, compare=False, hash=False)
        x: int = 0

    one, other, seen = Point(), Point(), []
    one.moved.connect(seen.append)
    other.moved.emit(1)
    one.moved.emit(2)
    assert seen == [2]
    assert one == other


def test_a_hook_that_a_dataclass_takes_for_a_field_is_one_an_instance_all_the_same():
    @dataclass
    class Point:
        moved: EventHook[int] = EventHook()  # noqa: RUF009 - not a ClassVar
        x: int = 0

    one, other, seen = Point(x=1), Point(x=2), []
    one.moved.connect(seen.append)
    other.moved.emit(1)
    one.moved.emit(2)
    assert seen == [2]


def test_a_hook_cannot_be_replaced():
    telescope, seen = Telescope(), []
    telescope.moved.connect(seen.append)
    other = EventHook()
    other.connect(print)
    for given in (5, other, Telescope().moved):
        with pytest.raises(AttributeError, match=r"the hook Telescope\.moved can't be replaced; connect callbacks"):
            telescope.moved = given
    telescope.moved.emit(5)
    assert seen == [5]


def test_a_hook_has_one_name():
    hook = EventHook()

    class One:
        moved = hook

    with pytest.raises((ConfigurationError, RuntimeError)) as raised:  # wrapped before Python 3.12
        type("Other", (), {"turned": hook})
    error = raised.value if isinstance(raised.value, ConfigurationError) else raised.value.__cause__
    assert "is 'moved' already, and can't be 'turned' too" in str(error)


def test_a_class_may_be_given_a_hook_later():
    class Dish: ...

    Dish.moved = EventHook()
    one, other, seen = Dish(), Dish(), []
    one.moved.connect(seen.append)
    other.moved.emit(1)
    one.moved.emit(2)
    assert seen == [2]
    assert Dish.moved.name.endswith("Dish.moved")


def test_settings_of_the_class_hold_for_its_instances():
    class Dish:
        moved = EventHook("dish moved", errors="raise")

    dish = Dish()
    dish.moved.connect(breaking)
    with pytest.raises(ValueError, match="broken"):
        dish.moved.emit()
    assert dish.moved.name == "dish moved"


# Copies


def test_a_copy_of_an_instance_has_a_hook_of_its_own():
    telescope = Telescope()
    telescope.moved.connect(telescope.follow)
    for copied in (copy.copy(telescope), copy.deepcopy(telescope), pickle.loads(pickle.dumps(telescope))):
        assert len(copied.moved) == 0
        assert copied.moved is copied.moved
        copied.moved.emit(5)
        copied.moved.connect(copied.seen.append)
        assert len(telescope.moved) == 1
    telescope.moved.emit(6)
    assert telescope.seen == [6]


@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        lambda hook: pickle.loads(pickle.dumps(hook)),
        lambda h: cloudpickle.loads(cloudpickle.dumps(h)),
    ],
    ids=["copy", "deepcopy", "pickle", "cloudpickle"],
)
def test_a_copied_hook_has_its_settings_and_nothing_connected(copied):
    hook = EventHook("hook", errors="raise", max_observer_failures=7, time_source=MockTimeSource())
    hook.connect(lambda: breaking())
    again = copied(hook)
    assert (again.name, len(again)) == ("hook", 0)
    again.emit()
    again.connect(breaking)
    with pytest.raises(ValueError, match="broken"):
        again.emit()
    assert len(hook) == 1


def test_an_object_that_restores_itself_attribute_by_attribute_can_be_copied():
    class Restored(Telescope):
        def __setstate__(self, state):
            for name, value in state.items():
                setattr(self, name, value)

    telescope = Restored()
    telescope.moved.connect(telescope.follow)
    again = copy.deepcopy(telescope)
    assert len(again.moved) == 0


def _emit_in_a_child(connection):
    seen = []
    AT_MODULE_LEVEL.connect(seen.append)
    AT_MODULE_LEVEL.emit(5)
    connection.send((seen, len(AT_MODULE_LEVEL)))


def test_a_spawned_process_has_a_hook_of_its_own():
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    AT_MODULE_LEVEL.connect(print)
    try:
        process = context.Process(target=_emit_in_a_child, args=(theirs,))
        process.start()
        assert ours.recv() == ([5], 1)
        process.join()
    finally:
        AT_MODULE_LEVEL.clear()


# Async


def test_aemit_awaits_async_callbacks_one_after_the_other_in_order(hook):
    seen = []

    @hook.connect
    async def slow(value):
        seen.append(("begin", value))
        await asyncio.sleep(0)
        seen.append(("end", value))

    hook.connect(lambda value: seen.append(("plain", value)))
    first = AsyncMock()
    hook.connect(first, priority=5)
    asyncio.run(hook.aemit(5))
    first.assert_awaited_once_with(5)
    assert seen == [("begin", 5), ("end", 5), ("plain", 5)]


def test_aemit_awaits_whatever_is_awaitable(hook):
    seen = []

    async def later(value):
        seen.append(value)

    hook.connect(functools.partial(later, 1))
    hook.connect(lambda: later(2))
    asyncio.run(hook.aemit())
    assert seen == [1, 2]


def test_aemit_runs_in_the_callers_task(hook):
    tasks = []

    async def main():
        @hook.connect
        async def note():
            tasks.append(asyncio.current_task())

        await hook.aemit()
        tasks.append(asyncio.current_task())

    asyncio.run(main())
    assert tasks[0] is tasks[1]


def test_aemit_isolates_errors_and_pauses(hook, warnings_of):
    seen = []

    @hook.connect(name="failing")
    async def failing():
        await asyncio.sleep(0)
        raise ValueError("broken")

    hook.connect(noting(seen, "after"))

    async def main():
        for _ in range(7):
            await hook.aemit()

    asyncio.run(main())
    assert seen == ["after"] * 7
    assert (hook.health["failing"].failures, hook.health["failing"].paused) == (5, True)
    assert warnings_of()[0] == "observer failing failed at emit of hook: ValueError: broken"


def test_aemit_raises_on_request():
    hook, seen = EventHook(errors="raise"), []
    hook.connect(breaking)
    hook.connect(noting(seen, "after"))
    with pytest.raises(ValueError, match="broken"):
        asyncio.run(hook.aemit())
    assert seen == ["after"]


def test_a_cancellation_of_the_task_passes(hook):
    seen = []

    async def main():
        started = asyncio.Event()

        @hook.connect(name="waiting")
        async def waiting():
            started.set()
            await asyncio.sleep(60)

        hook.connect(noting(seen, "after"))
        task = asyncio.create_task(hook.aemit())
        await started.wait()
        task.cancel("why")
        with pytest.raises(asyncio.CancelledError, match="why"):
            await task
        assert task.cancelled()

    asyncio.run(main())
    assert seen == []
    assert hook.health["waiting"].failures == 0


def test_a_callbacks_own_cancelled_error_is_its_failure(hook):
    seen = []

    @hook.connect(name="failing")
    async def failing():
        raise asyncio.CancelledError

    hook.connect(noting(seen, "after"))
    asyncio.run(hook.aemit())
    assert seen == ["after"]
    assert hook.health["failing"].failures == 1


def test_closing_the_coroutine_ends_it(hook):
    @hook.connect(name="waiting")
    async def waiting():
        await Suspended()

    emission = hook.aemit()
    emission.send(None)
    emission.close()
    assert hook.health["waiting"].failures == 0


class Suspended:
    def __await__(self):
        yield


def test_emit_skips_async_callbacks_and_says_so(hook, warnings_of):
    seen = []

    @hook.connect(name="later")
    async def later():
        seen.append("later")

    hook.connect(noting(seen, "plain"))
    for _ in range(7):
        hook.emit()
    assert seen == ["plain"] * 7
    health = hook.health["later"]
    assert (health.skipped, health.failures, health.paused) == (7, 0, False)
    assert len(warnings_of()) == 1
    assert "callback 'later' is async, and emit() can't await it: use `await hook.aemit(...)`" in warnings_of()[0]
    asyncio.run(hook.aemit())
    assert seen[-2:] == ["later", "plain"]


def test_emit_raises_on_request_for_async_callbacks():
    hook = EventHook(errors="raise")
    hook.connect(AsyncMock())
    with pytest.raises(TypeError, match="use `await hook"):
        hook.emit()


def test_weak_async_callbacks(hook):
    class Screen:
        async def show(self, value):
            seen.append(value)

    seen, screen = [], Screen()
    hook.connect(screen.show, weak=True, name="show")
    hook.emit(1)
    assert hook.health["show"].skipped == 1
    asyncio.run(hook.aemit(2))
    del screen
    asyncio.run(hook.aemit(3))
    assert seen == [2]


# Typing at run time, and size


def test_annotations_may_be_evaluated():
    for parameters in (str, (str, int), [], [str], ...):
        assert EventHook[parameters]
    made = EventHook[str, int]("made")
    assert made.name == "made"


def test_like_takes_the_name_of_the_function():
    @EventHook.like
    def moved(x: int, *, slowly: bool = False) -> None: ...

    seen = []
    moved.connect(lambda x, *, slowly=False: seen.append((x, slowly)))
    moved.emit(1, slowly=True)
    assert seen == [(1, True)]
    assert moved.name.endswith("moved")
    with pytest.raises(ConfigurationError, match="function=5"):
        EventHook.like(5)


def test_thousands_of_callbacks_are_connected_and_disconnected_in_no_time(hook):
    callbacks = [functools.partial(int, n) for n in range(5000)]
    for callback in callbacks:
        hook.connect(callback)
    hook.emit()
    for callback in reversed(callbacks):
        hook.disconnect(callback)
    assert len(hook) == 0


def test_nothing_is_kept_of_what_was_emitted_and_disconnected():
    class Value: ...

    hook, value = EventHook(), Value()

    def callback(_):
        raise ValueError

    gone = [weakref.ref(value), weakref.ref(callback)]
    hook.connect(callback)
    hook.emit(value)
    hook.disconnect(callback)
    del value, callback
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


def test_observes_connects(hook):
    @observes(hook, priority=5, name="first")
    def callback(): ...

    assert hook.connected == (callback,)
    assert "first" in hook
