"""What people of PANTHER, Observatory and EvProc find here, where no other test shows it.

The tables in docs/coming-from refer to these tests, and to those of the modules.
"""

from __future__ import annotations

import asyncio
import cProfile
import gc
import io
import logging
import pstats
import threading
from dataclasses import dataclass
from unittest.mock import Mock

import psutil
import pytest

from callpyback import (
    BackgroundObserver,
    BaseObserver,
    BatchingObserver,
    CallPyBack,
    DebugObserver,
    Event,
    EventBus,
    ExecutionState,
    MockTimeSource,
    ProfilingObserver,
    current_call,
    observes,
    on_completion,
    remove_global_observer,
    want,
)
from callpyback.config import load_observers, register_observer_type, unregister_observer_type


@dataclass
class TestStarted(Event):
    __test__ = False
    name = "test.started"
    entity_id: str = ""


class Counting(BaseObserver):
    def __init__(self, config=None):
        self.config = config or {}
        self.seen = []

    def on_event(self, event):
        self.seen.append(event.name)


@pytest.fixture
def bus():
    return EventBus("manager", deduplicate=1000)


# PANTHER


def test_observers_from_a_file_hear_the_events_of_a_bus(bus, tmp_path):
    path = tmp_path / "observers.yaml"
    path.write_text(
        "observers:\n"
        "  - type: my_custom\n"
        "    enabled: true\n"
        "    config:\n"
        '      output_format: "json"\n'
        '    match: ["test.*", "experiment.*"]\n',
        encoding="utf-8",
    )
    register_observer_type("my_custom", Counting, {"enabled": bool, "output_format": str})
    try:
        (observer,) = load_observers(path)
    finally:
        unregister_observer_type("my_custom")
    bus.register_observer(observer)
    for name in ("test.started", "metrics.collected", "experiment.ended"):
        bus.emit(name)
    (registered,) = bus.get_registered_observers()
    assert registered.config == {"enabled": True, "output_format": "json"}
    assert registered.seen == ["test.started", "experiment.ended"]


def test_an_observer_may_keep_the_uuids_of_what_it_has_processed_itself():
    class Remembering(BaseObserver):
        def __init__(self):
            self.processed_events_uuids = []

        def on_event(self, event):
            if event.uuid not in self.processed_events_uuids:
                self.processed_events_uuids.append(event.uuid)

    plain, event = EventBus(), TestStarted("one")
    observer = plain.register_observer(Remembering())
    for one in (event, event, TestStarted("one")):
        plain.emit(one)
    assert len(observer.processed_events_uuids) == 2


def test_an_event_whose_handler_failed_counts_as_processed(bus):
    observer = Mock(side_effect=[ValueError("first"), None])
    bus.register(observer, "failing")
    event = TestStarted("one")
    bus.emit(event)
    bus.emit(event)
    assert (observer.call_count, bus.health["failing"].failures, bus.duplicates) == (1, 1, 1)


def test_each_event_of_a_plugin_can_have_a_handler_of_its_own(bus):
    done = []
    bus.register(lambda event: done.append(("loaded", event.data["plugin"])), "loaded", events="plugin.loaded")
    bus.register(lambda event: done.append(("error", event.data["plugin"])), "error", events="plugin.error")
    for name in ("plugin.loaded", "plugin.stopped", "plugin.error"):
        bus.emit(name, plugin="quic")
    assert done == [("loaded", "quic"), ("error", "quic")]


def test_events_are_handled_in_batches(bus):
    batches = []

    def process_batch(events):
        batches.append([event.name for event in events])

    with bus:
        bus.register_observer(BatchingObserver(process_batch, batch_size=2, flush_interval=3600))
        for name in "abc":
            bus.emit(name)
    assert batches == [["a", "b"], ["c"]]


def test_a_batch_whose_processing_fails_is_counted(bus):
    def process_batch(events):
        raise OSError("the disk is full")

    observer = bus.register_observer(BatchingObserver(process_batch, batch_size=2, flush_interval=3600))
    for name in "ab":
        bus.emit(name)
    assert observer.flush(10)
    assert observer.get_metrics()["ledger"]["failed"] == 2
    bus.close()


def test_events_emitted_outside_an_event_loop_are_processed_in_the_background(bus):
    threads = []

    class Slow(BaseObserver):
        def on_event(self, event):
            threads.append(threading.current_thread())

    with bus:
        bus.register_observer(BackgroundObserver(Slow()))
        bus.emit(TestStarted("one"))
    assert len(threads) == 1
    assert threads != [threading.current_thread()]


def test_a_coroutine_test_needs_no_plug_in(bus):
    done = []

    @bus.register
    async def process(event):
        await asyncio.sleep(0)
        done.append(event.entity_id)

    asyncio.run(bus.aemit(TestStarted("async-test")))
    assert done == ["async-test"]


def test_a_debug_observer_writes_to_a_logger(bus, caplog):
    bus.register_observer(DebugObserver(logger=logging.getLogger("observers")))
    with caplog.at_level(logging.DEBUG, logger="observers"):
        bus.emit(TestStarted("test-123"))
    assert caplog.messages == ["** test.started(entity_id='test-123')"]


def test_the_performance_report_has_the_keys_of_panther(bus):
    clock = MockTimeSource()

    class Slow(Counting):
        def on_event(self, event):
            clock.advance(event.data["seconds"])
            if event.name == "error.occurred":
                raise ValueError(event.name)

    profiler = bus.register_observer(ProfilingObserver(Slow(), time_source=clock))
    for name, seconds in [("test.started", 1), ("test.started", 1), ("metrics.collected", 1), ("error.occurred", 5)]:
        bus.emit(name, seconds=seconds)
    report = profiler.get_performance_report()
    assert {key: report[key] for key in report if key not in ("observers", "total_processing_time")} == {
        "total_events": 4,
        "avg_processing_time": 2.0,
        "median_processing_time": 1.0,
        "max_processing_time": 5.0,
        "error_rate": 0.25,
        "events_by_type": {"test.started": 2, "metrics.collected": 1, "error.occurred": 1},
    }


def test_observers_in_memory_can_be_counted_and_go_when_they_are_removed(bus):
    class Counted(Counting):
        pass

    def alive():
        gc.collect()
        return sum(type(known) is Counted for known in gc.get_objects())

    for _ in range(3):
        bus.register_observer(Counted())
    bus.emit("x")
    assert alive() == 3
    bus.close()
    assert alive() == 0
    assert psutil.Process().memory_info().rss > 0


def test_profilers_of_python_see_the_handlers(bus):
    def slow_handler(event):
        sum(range(100))

    bus.register(slow_handler)
    profile, shown = cProfile.Profile(), io.StringIO()
    profile.runcall(bus.emit, "x")
    pstats.Stats(profile, stream=shown).sort_stats("cumulative").print_stats(20)
    assert "slow_handler" in shown.getvalue()


def test_cleanup_is_what_close_does(bus):
    class Managed(Counting):
        def close(self):
            self.seen.clear()

    observer = Managed()
    with bus:
        bus.register_observer(observer)
        bus.emit("x")
        assert observer.seen == ["x"]
    assert observer.seen == []
    assert bus.get_registered_observers() == []


# Observatory


def test_a_logger_may_be_one_of_many_who_listen(bus, caplog):
    counting = bus.register_observer(Counting())
    bus.register(lambda event: logging.getLogger("shop").info(event.name), "log")
    with caplog.at_level(logging.INFO, logger="shop"):
        bus.emit("hello world!")
    assert caplog.messages == counting.seen == ["hello world!"]


def test_a_call_knows_of_the_elevated_call_around_it():
    seen = []

    def note(function_signature, depth, metadata):
        seen.append((function_signature.name, depth, metadata.get("elevated", False)))

    watch = CallPyBack(observers=[on_completion(note)])

    @watch
    def child():
        pass

    @CallPyBack(observers=[on_completion(note)], metadata={"elevated": True})
    def parent():
        child()

    parent()
    assert seen == [("child", 1, False), ("parent", 0, True)]


def test_context_is_added_in_the_body_and_seen_at_each_later_stage():
    seen = []

    @CallPyBack(observers=[on_completion(lambda tags: seen.append(("end", tags)))], metadata={"project": "fair"})
    def load(asset_name):
        current_call()["asset"] = asset_name

    load.on_call(lambda metadata: seen.append(("begin", metadata)))
    load.on_success(lambda metadata: seen.append(("success", metadata)))
    load("rock")
    assert seen == [
        ("begin", {"project": "fair"}),
        ("success", {"project": "fair", "asset": "rock"}),
        ("end", {"asset": "rock"}),
    ]


@pytest.fixture
def told():
    """Return what is told of the calls of a function that fails and of one that succeeds, wherever they are made."""

    def told(state):
        seen = []

        @observes(state, name="category")
        def note(context):
            seen.append(context.function_signature.name)

        @CallPyBack()
        def good():
            return "done"

        @CallPyBack(default_return=None)
        def bad():
            raise ValueError("broken")

        good()
        bad()
        return seen

    yield told
    remove_global_observer("category")


def test_completed_of_observatory_is_post_success(told):
    assert told(ExecutionState.POST_SUCCESS) == ["good"]


def test_crashed_of_observatory_is_post_failure(told):
    assert told(ExecutionState.POST_FAILURE) == ["bad"]


# EvProc


def test_handlers_that_come_later_find_their_place_between_those_there_are():
    bus, done = EventBus(), []
    bus.register(lambda event: done.append("prepare"), "prepare")
    bus.register(lambda event: done.append("run"), "run", requires="prepare")
    bus.process("ev")
    bus.register(lambda event: done.append("auxiliary"), "auxiliary", requires="prepare", required_by="run")
    bus.process("ev")
    assert done == ["prepare", "run", "prepare", "auxiliary", "run"]


def test_names_filters_and_both_together():
    bus, got = EventBus(), []

    @bus.register
    @want("ev1")
    def by_name(event):
        got.append(("name", event.name))

    @bus.register
    @want(lambda event: event.data["n"] > 1)
    def by_filter(event):
        got.append(("filter", event.name))

    @bus.register
    @want("ev1", lambda event: event.data["n"] > 1)
    def by_both(event):
        got.append(("both", event.name))

    bus.process("ev1", n=1)
    bus.process("ev2", n=2)
    bus.process("ev1", n=2)
    assert got == [("name", "ev1"), ("filter", "ev2"), ("name", "ev1"), ("filter", "ev1"), ("both", "ev1")]


def test_a_handler_without_want_gets_every_event():
    bus, got = EventBus(), []
    bus.register(lambda proc, ev: got.append(ev.name), "all")
    for name in ("ev1", "ev2"):
        bus.process(name)
    assert got == ["ev1", "ev2"]
