"""EventBus: many threads, forks, copies and pickles; exact, without a hang, bounded in memory."""

from __future__ import annotations

import copy
import functools
import gc
import multiprocessing
import pickle
import subprocess
import sys
import textwrap
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import cloudpickle
import pytest

from callpyback import BaseObserver, Event, EventBus, get_event_bus

SEEN = []


def note(event):
    SEEN.append(event.name)


class Noting(BaseObserver):
    def __init__(self):
        self.names = []

    def on_event(self, event):
        self.names.append(event.name)


def together(*functions):
    """Run functions in threads that begin at the same time; return what they returned."""
    barrier = threading.Barrier(len(functions))

    def run(function):
        barrier.wait()
        return function()

    with ThreadPoolExecutor(len(functions)) as pool:
        return list(pool.map(run, functions))


@pytest.fixture
def often():
    """Threads that take turns as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("often")
class TestThreads:
    def test_every_emission_of_every_thread_is_told(self):
        bus, told = EventBus(history=10), []
        bus.register(told.append)
        together(*[lambda: [bus.emit("x") for _ in range(2000)]] * 8)
        assert (len(told), len(bus.history)) == (16_000, 10)

    def test_event_that_many_threads_emit_at_once_is_processed_once(self):
        bus, told = EventBus(deduplicate=1000), []
        bus.register(told.append)
        events = [Event("x") for _ in range(300)]
        together(*[lambda: [bus.emit(event) for event in events]] * 8)
        assert sorted(map(id, told)) == sorted(map(id, events))
        assert bus.duplicates == 7 * 300

    def test_handlers_come_and_go_while_events_are_told(self):
        bus, errors = EventBus(), []
        steady, told = [], []
        bus.register(steady.append, "steady")

        def churn(number):
            for _ in range(200):
                seen = set()

                def come(event, seen=seen):
                    if event.uuid in seen:
                        errors.append("told twice")
                    seen.add(event.uuid)

                bus.register(come, f"come{number}", requires="steady")
                told.append(bus.emit("x"))
                if told[-1].uuid not in seen:
                    errors.append("not told of what came after its registration")
                bus.unregister(come)
                before = len(seen)
                bus.emit("x")
                if len(seen) > before + 3:  # another thread may be about to call it
                    errors.append("told after it was removed")

        together(*[functools.partial(churn, number) for number in range(4)])
        assert errors == []
        assert len(steady) == 4 * 200 * 2
        assert list(bus.health) == ["steady"]

    def test_removed_handler_is_not_called_again_by_the_thread_that_removed_it(self):
        bus, late = EventBus(), []

        def remove(number):
            for _ in range(300):
                removed = []

                def handler(event, removed=removed, number=number):
                    if removed and event.data.get("by") == number:
                        late.append(number)

                bus.register(handler, f"handler{number}")
                bus.unregister(handler)
                removed.append(True)
                bus.emit("x", by=number)

        together(*[functools.partial(remove, number) for number in range(4)])
        assert late == []

    def test_same_name_asked_for_by_many_threads_is_one_bus(self):
        for number in range(30):
            get = functools.partial(get_event_bus, f"threads.{number}.below")
            buses = together(*[get] * 4)
            assert len(set(map(id, buses))) == 1

    def test_failures_are_counted_for_whom_they_happened(self):
        bus = EventBus(max_observer_failures=10**9)

        @bus.register(when=lambda event: event.data["bad"])
        def fails(event):
            raise ValueError

        bus.register(lambda event: None, "works")
        together(*[lambda: [bus.emit("x", bad=number % 2 == 0) for number in range(500)]] * 4)
        assert bus.health["works"].failures == 0
        assert 0 < bus.health["fails"].failures <= 1000

    def test_weak_handlers_may_go_at_any_time(self):
        bus, told = EventBus(), []

        class Listener:
            def heard(self, event):
                told.append(event)

        def come_and_go():
            for _ in range(200):
                listener = Listener()
                bus.register(listener.heard, weak=True)
                bus.emit("x")
                del listener
                bus.emit("x")

        together(*[come_and_go] * 4)
        gc.collect()
        assert len(told) >= 800
        assert bus.health == {}


class TestProcesses:
    @pytest.mark.skipif(not hasattr(multiprocessing, "get_context") or sys.platform == "win32", reason="no fork")
    def test_forked_child_uses_every_bus_while_threads_hammer_them(self):
        program = """
            import os, sys, threading, warnings
            warnings.simplefilter("ignore")
            from callpyback import EventBus
            from callpyback.events.registry import get_event_bus
            bus = get_event_bus("forked", deduplicate=100, history=5)
            stop = threading.Event()

            def hammer(number):
                while not stop.is_set():
                    handler = lambda event: None
                    bus.register(handler, f"handler{number}")
                    bus.child("below").emit("x")
                    bus.unregister(handler)
                    get_event_bus(f"forked.{number}")

            threads = [threading.Thread(target=hammer, args=(n,), daemon=True) for n in range(4)]
            for thread in threads: thread.start()
            for _ in range(40):
                pid = os.fork()
                if pid == 0:
                    told = []
                    bus.register(told.append, "in the child")
                    bus.emit("x"); bus.emit("x"); get_event_bus("forked.new").emit("x")
                    os._exit(0 if len(told) == 3 else 1)
                assert os.waitpid(pid, 0)[1] == 0
            stop.set()
            print("done")
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=100, check=False
        )
        assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr

    def test_finalizer_that_emits_inside_a_change_does_not_hang(self):
        program = """
            import gc
            from callpyback import Event, EventBus

            bus, told = EventBus(deduplicate=50), []
            bus.register(told.append)

            class Farewell:
                def __init__(self):
                    self.circle = self
                def __del__(self):
                    bus.emit("farewell")
                    bus.register(lambda event: None)

            gc.set_threshold(3, 2, 2)
            for _ in range(300):
                Farewell()
                bus.register(lambda event: None)
                bus.emit("x")
                bus.child("below")
            gc.collect()
            print(sum(event.name == "farewell" for event in told))
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.stdout, done.returncode) == ("300\n", 0), done.stderr


class TestCopies:
    @pytest.mark.parametrize(
        "copied",
        [
            copy.copy,
            copy.deepcopy,
            lambda bus: pickle.loads(pickle.dumps(bus)),
            lambda bus: pickle.loads(cloudpickle.dumps(bus)),
        ],
        ids=["copy", "deepcopy", "pickle", "cloudpickle"],
    )
    def test_copy_has_the_handlers_and_options_and_remembers_nothing(self, copied):
        top = EventBus("top", history=5, errors="raise")
        bus = top.child("below", history=3)
        bus.register_observer(Noting(), "noting", requires="note")
        bus.register(note, match="x*")
        SEEN.clear()
        bus.emit("x")
        copy_of_it = copied(bus)
        assert (copy_of_it.name, copy_of_it.history, len(bus.history)) == ("top.below", [], 1)
        assert [*copy_of_it.health] == ["noting", "note"]
        copy_of_it.emit("x2")
        copy_of_it.emit("y")
        assert SEEN == ["x", "x2"]
        assert [event.name for event in copy_of_it.history] == ["x2", "y"]
        copy_of_it.unregister("note")
        assert list(bus.health) == ["noting", "note"]

    def test_handlers_of_a_lambda_travel_by_cloudpickle(self):
        bus, got = EventBus("shop"), []
        bus.register(lambda bus, event: event.ctxt.append(bus.name))
        pickle.loads(cloudpickle.dumps(bus)).emit(Event("x", ctxt=got))
        assert got == ["shop"]

    def test_bus_of_the_registry_is_found_by_its_name(self):
        bus = get_event_bus("copies").child("below")
        bus.register(lambda event: None, "not in the pickle")
        assert pickle.loads(pickle.dumps(bus)) is copy.deepcopy(bus) is bus

    def test_weakly_held_handlers_stay_behind(self):
        bus, noting = EventBus(), Noting()
        bus.register_observer(noting, weak=True)
        assert pickle.loads(pickle.dumps(bus)).health == {}


class TestMemory:
    def test_bus_that_nobody_holds_is_collected(self):
        bus = EventBus("gone", history=5, deduplicate=5)
        bus.register(lambda bus, event: None)
        bus.child("below").emit("x")
        bus.broadcast_sent.connect(print)
        seen = weakref.ref(bus)
        del bus
        gc.collect()
        assert seen() is None

    def test_failures_keep_no_frames_alive(self):
        class Local:
            pass

        bus, seen = EventBus(), []

        @bus.register
        def fails(event):
            local = Local()
            seen.append(weakref.ref(local))
            raise ValueError

        bus.emit("x")
        gc.collect()
        assert seen[0]() is None

    def test_error_that_was_raised_is_not_kept_by_the_bus(self):
        bus = EventBus(errors="raise")

        class Error(Exception):
            pass

        @bus.register
        def fails(event):
            raise Error

        try:
            bus.emit("x")
        except Error as error:
            seen = weakref.ref(error)
        gc.collect()
        assert seen() is None

    def test_removed_handlers_are_let_go(self):
        bus, noting = EventBus(), Noting()
        bus.register_observer(noting)
        bus.emit("x")
        bus.remove_observer(noting)
        seen = weakref.ref(noting)
        del noting
        gc.collect()
        assert seen() is None

    def test_thousands_of_handlers_come_and_go(self):
        bus, told = EventBus(), []
        handlers = [lambda event: told.append(event) for _ in range(5000)]
        for handler in handlers:
            bus.register(handler)
        bus.emit("x")
        assert len(told) == 5000
        for handler in handlers:
            bus.unregister(handler)
        bus.emit("x")
        assert len(told) == 5000
