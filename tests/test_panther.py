"""What PANTHER's guide to observers of events says its users can do, each ability under our names.

There, different events were dropped as duplicates, and priorities ignored; memory of processed events had no bound.
"""

from __future__ import annotations

import asyncio
import statistics
from collections import defaultdict
from dataclasses import dataclass

import pytest

from callpyback import BaseObserver, Event, EventBus, MockTimeSource, TypedObserver, get_event_bus, want


@dataclass
class TestEvent(Event):
    __test__ = False
    entity_id: str = ""


class TestStartedEvent(TestEvent):
    name = "test.started"


class TestCompletedEvent(TestEvent):
    event_type = "test.completed"


class PluginEvent(Event):
    pass


class MyCustomObserver(BaseObserver):
    """The guide's first example; the bus keeps what was processed already, so that the observer need not."""

    def __init__(self, config=None):
        self.config = config or {}
        self.processed_count = 0

    def is_interested(self, event_type: str) -> bool:
        return event_type.startswith("test.")

    def on_event(self, event):
        self.process_event(event)
        self.processed_count += 1

    def process_event(self, event): ...


@pytest.fixture
def event_manager():
    return EventBus(deduplicate=10_000)


def test_event_has_type_uuid_timestamp_and_its_own_fields():
    event = TestStartedEvent(entity_id="test-123")
    assert (event.event_type, event.entity_id) == ("test.started", "test-123")
    assert TestCompletedEvent("x").event_type == "test.completed"
    assert event.uuid != TestStartedEvent(entity_id="test-123").uuid
    assert event.timestamp > 0


def test_interest_filtering(event_manager):
    observer = MyCustomObserver()
    assert observer.is_interested("test.started")
    assert not observer.is_interested("metrics.collected")
    event_manager.register_observer(observer)
    event_manager.emit("metrics.collected")
    event_manager.emit("test.started")
    assert observer.processed_count == 1


def test_observer_registration_and_event_routing(event_manager):
    observer = MyCustomObserver()
    event_manager.register_observer(observer)
    event_manager.emit(TestStartedEvent(entity_id="integration-test"))
    assert observer.processed_count == 1


def test_multiple_observers(event_manager):
    observer1, observer2 = MyCustomObserver(), MyCustomObserver()
    event_manager.register_observer(observer1)
    event_manager.register_observer(observer2)
    event_manager.emit(TestStartedEvent(entity_id="multi-test"))
    assert (observer1.processed_count, observer2.processed_count) == (1, 1)


def test_duplicate_prevention(event_manager):
    observer = event_manager.register_observer(MyCustomObserver())
    event = TestStartedEvent(entity_id="test-123")
    event_manager.emit(event)
    event_manager.emit(event)
    assert (observer.processed_count, event_manager.duplicates) == (1, 1)


def test_different_events_with_equal_fields_are_no_duplicates(event_manager):
    observer = event_manager.register_observer(MyCustomObserver())
    for _ in range(3):
        event_manager.emit(TestStartedEvent(entity_id="test-123"))
    assert observer.processed_count == 3


def test_graceful_error_handling(event_manager):
    observer = MyCustomObserver()
    observer.process_event = lambda event: 1 / 0
    other = MyCustomObserver()
    event_manager.register_observer(observer)
    event_manager.register_observer(other)
    event_manager.emit(TestStartedEvent())
    assert (observer.processed_count, other.processed_count) == (0, 1)
    assert event_manager.health["MyCustomObserver"].last_error == "ZeroDivisionError: division by zero"


def test_typed_observer_gets_events_of_its_class_alone(event_manager):
    handled = []

    class MyTypedObserver(TypedObserver[TestEvent]):
        def on_event(self, event: TestEvent):
            match event.event_type:
                case "test.started":
                    handled.append("started")
                case "test.completed":
                    handled.append("completed")
                case _:
                    handled.append("unknown")

    event_manager.register_observer(MyTypedObserver())
    for event in (TestStartedEvent(), TestCompletedEvent(), TestEvent(), PluginEvent(), Event("test.started")):
        event_manager.emit(event)
    assert handled == ["started", "completed", "unknown"]


def test_plugin_observer_lists_the_events_it_supports(event_manager):
    handled = []

    class MyPluginObserver(BaseObserver):
        match = ("plugin.loaded", "plugin.started", "plugin.stopped", "plugin.error")

        def on_event(self, event):
            handled.append(event.name)

    event_manager.register_observer(MyPluginObserver())
    for name in ("plugin.loaded", "plugin.updated", "plugin.error"):
        event_manager.emit(name)
    assert handled == ["plugin.loaded", "plugin.error"]


def test_priorities_are_kept(event_manager):
    order = []
    for priority in (1, 3, 2):
        event_manager.register(lambda event, priority=priority: order.append(priority), priority=priority)
    event_manager.emit("test.started")
    assert order == [3, 2, 1]


def test_event_manager_of_the_process():
    assert get_event_bus() is get_event_bus()


def test_debug_observer_registration(event_manager):
    observer = MyCustomObserver()
    event_manager.register_observer(observer)
    assert event_manager.get_registered_observers() == [observer]
    explained = {name: event_manager.explain(name) for name in ("test.started", "metrics.collected")}
    assert [known.hears for known in explained["test.started"]] == [True]
    assert str(explained["metrics.collected"]) == (
        "'metrics.collected' on bus 'EventBus' is heard by nobody\n"
        "not by MyCustomObserver: it is not interested in 'metrics.collected'"
    )


def test_async_observer_with_a_queue_of_its_own(event_manager):
    class MyAsyncObserver(BaseObserver):
        def __init__(self):
            self.processed = []

        async def start_processing(self):
            self.queue = asyncio.Queue()
            self.processor_task = asyncio.create_task(self.process_events())

        async def stop_processing(self):
            self.processor_task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await self.processor_task

        async def on_event(self, event):
            await self.queue.put(event)

        async def process_events(self):
            while True:
                event = await self.queue.get()
                await asyncio.sleep(0)
                self.processed.append(event.uuid)
                self.queue.task_done()

    async def main():
        observer = MyAsyncObserver()
        event_manager.register_observer(observer)
        await observer.start_processing()
        event = await event_manager.aemit(TestStartedEvent(entity_id="async-test"))
        await observer.queue.join()
        assert observer.processed == [event.uuid]
        await observer.stop_processing()

    asyncio.run(main())


def test_optimized_observer_with_prefixes(event_manager):
    asked = []

    class OptimizedObserver(BaseObserver):
        def __init__(self, event_prefixes):
            self.event_prefixes = event_prefixes
            self.count = 0

        def is_interested(self, event_type: str) -> bool:
            asked.append(event_type)
            return any(event_type.startswith(prefix) for prefix in self.event_prefixes)

        def on_event(self, event):
            self.count += 1

    observer = event_manager.register_observer(OptimizedObserver({"test.", "plugin."}))
    for _ in range(50):
        event_manager.emit("test.started")
        event_manager.emit("metrics.collected")
    assert (observer.count, asked) == (50, ["test.started", "metrics.collected"])


def test_batching_observer():
    clock = MockTimeSource()
    batches = []

    class Batching(BaseObserver):
        def __init__(self, batch_size, flush_interval):
            self.batch_size, self.flush_interval = batch_size, flush_interval
            self.event_batch, self.last_flush = [], clock.now()

        def on_event(self, event):
            self.event_batch.append(event)
            if len(self.event_batch) >= self.batch_size or clock.now() - self.last_flush > self.flush_interval:
                self.close()

        def close(self):
            batches.append([event.name for event in self.event_batch])
            self.event_batch, self.last_flush = [], clock.now()

    with EventBus(time_source=clock) as bus:
        bus.register_observer(Batching(batch_size=2, flush_interval=5))
        for name in "abc":
            bus.emit(name)
        clock.advance(6)
        bus.emit("d")
        bus.emit("e")
    assert batches == [["a", "b"], ["c", "d"], ["e"]]


def test_memory_of_processed_events_is_bounded():
    bus = EventBus(deduplicate=100)
    observer = bus.register_observer(MyCustomObserver())
    for _ in range(10_000):
        bus.emit(TestStartedEvent())
    assert observer.processed_count == 10_000
    assert len(bus._channel._seen._uuids) == 100


def test_profiling_observer_by_a_handler_before_and_one_after():
    clock = MockTimeSource()
    bus = EventBus(time_source=clock)
    stats = {"processing_times": [], "events_by_type": defaultdict(int)}

    @bus.register(priority=100)
    def begin(event):
        event.shared.profile.begun = clock.now()

    @bus.register(priority=-100)
    def end(event):
        stats["processing_times"].append(clock.now() - event.shared.profile.begun)
        stats["events_by_type"][event.event_type] += 1

    bus.register(lambda event: clock.advance(event.data["seconds"]))
    for seconds in (1, 2, 6):
        bus.emit("test.started", seconds=seconds)
    times = stats["processing_times"]
    assert (statistics.mean(times), statistics.median(times), max(times)) == (3, 2, 6)
    assert stats["events_by_type"] == {"test.started": 3}


def test_want_says_the_same_as_is_interested(event_manager):
    got = []

    @event_manager.register
    @want("test.*")
    def handler(event):
        got.append(event.event_type)

    event_manager.emit("test.started")
    event_manager.emit("metrics.collected")
    assert got == ["test.started"]
