"""What observers share that pass calls on: they stand for the other one, and hand everything on."""

from __future__ import annotations

import asyncio
import copy
import pickle

import pytest

from callpyback import (
    BackgroundObserver,
    BaseObserver,
    CallPyBack,
    ConfigurationError,
    ExecutionState,
    MetricsObserver,
    Notice,
    RateLimitObserver,
    Subscription,
    TimingObserver,
    create_callback_observer,
    handle,
    on_call,
    on_failure,
    on_success,
    want,
)
from callpyback.events.bus import EventBus
from callpyback.events.event import Event
from callpyback.observers.deduplicate import DeduplicateObserver
from callpyback.observers.parts.relay import RelayObserver
from callpyback.observers.profiling import ProfilingObserver
from callpyback.observers.sampling import SamplingObserver
from callpyback.testing import build_context
from kinds import KINDS, Witness

S = ExecutionState
ASYNC_KINDS = [kind for kind in KINDS if kind.is_async]


class Everything(RelayObserver):
    def passes(self, context):
        return True


class Nothing(RelayObserver):
    def passes(self, context):
        return False


RELAYS = {
    "relay": Everything,
    "profiling": ProfilingObserver,
    "sampling": lambda observer, **options: SamplingObserver(observer, rate=1, **options),
    "deduplicate": lambda observer, **options: DeduplicateObserver(observer, lambda context: None, **options),
}


@pytest.fixture(params=RELAYS.values(), ids=RELAYS)
def relay(request):
    return request.param


class Sink(BaseObserver):
    def __init__(self, **options):
        super().__init__(**options)
        self.seen, self.done = [], []

    def update(self, context):
        self.seen.append(context)

    def reset(self):
        self.done.append("reset")

    def close(self):
        self.done.append("close")

    def flush(self, timeout=None):
        self.done.append(("flush", timeout))
        return timeout is None

    def get_metrics(self):
        return {"seen": len(self.seen)}


class AsyncSink(Sink):
    async def update(self, context):
        self.seen.append(context)


def test_a_base_class_is_no_relay_yet():
    with pytest.raises(NotImplementedError):
        RelayObserver(Sink()).update(build_context())


def test_the_other_one_is_told_what_it_would_be_told_without(kind, relay):
    direct, relayed = Witness(name="direct"), Witness(name="relayed")
    function = kind.make(lambda n: 1 // n, CallPyBack([direct, relay(relayed)]))
    kind.call(function, 1)
    kind.ended(function, 0)
    assert relayed.told == direct.told
    assert relayed.contexts == direct.contexts


@pytest.mark.parametrize(
    ("observer", "states"),
    [
        (on_success(print), {S.POST_SUCCESS}),
        (on_failure(print), {S.POST_FAILURE}),
        (MetricsObserver(), {S.COMPLETED, S.ERROR}),
        (Sink(states=S.ERROR), {S.ERROR}),
    ],
    ids=["on_success", "on_failure", "metrics", "own"],
)
def test_states_are_those_of_the_other_one(observer, states, relay):
    assert relay(observer).states == states


def test_states_of_a_plain_observer_stay_unnamed():
    assert SamplingObserver(Sink()).states is None
    assert SamplingObserver(Sink(), states=S.COMPLETED).states == {S.COMPLETED}


def test_name_priority_and_notices_are_those_of_the_other_one(relay):
    told = relay(create_callback_observer(print, Notice.RETRY, priority=7, name="mine"))
    assert (told.name, told.priority, told.notices, told.states) == ("mine", 7, {Notice.RETRY}, frozenset())
    other = relay(Sink(priority=7), priority=1, name="other")
    assert (other.name, other.priority) == ("other", 1)


def test_what_the_other_one_wants_to_hear_is_what_it_hears(relay):
    class Choosing(Sink):
        when = staticmethod(lambda context: context.state is S.COMPLETED)
        match = "wan*"

        @want(lambda context: context.arguments["n"] > 1)
        def update(self, context):
            super().update(context)

    sink = Choosing()
    watch = CallPyBack([relay(sink)])

    @watch
    def wanted(n):
        return n

    @watch
    def unwanted(n):
        return n

    for n in (1, 2):
        wanted(n)
        unwanted(n)
    assert [(context.state, context.arguments) for context in sink.seen] == [(S.COMPLETED, {"n": 2})]


def test_a_callback_gets_what_it_names(kind, relay):
    told = []
    function = kind.make(lambda n: n, CallPyBack([relay(on_call(lambda arguments: told.append(arguments)))]))
    kind.call(function, 4)
    assert told == [{"args": (4,)}]


@pytest.mark.parametrize("kind", ASYNC_KINDS, ids=str)
def test_an_async_one_is_awaited(kind, relay):
    sink, called = AsyncSink(), []

    async def note(value):
        called.append(value)

    function = kind.make(lambda: 1, CallPyBack([relay(sink), relay(on_success(note))]))
    kind.call(function)
    assert [context.state.name for context in sink.seen] == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]
    assert called == [kind.shown(1)]


def test_an_async_one_around_a_plain_function_is_refused(relay):
    with pytest.raises(ConfigurationError, match="is async"):
        CallPyBack([relay(AsyncSink())])(lambda: 1)


def test_an_async_one_that_is_not_passed_anything_is_not_told():
    kind, sink = ASYNC_KINDS[0], AsyncSink()
    kind.call(kind.make(lambda: 1, CallPyBack([Nothing(sink)])))
    assert sink.seen == []


def test_a_failure_of_the_other_one_is_counted_here(kind, relay):
    class Broken(Sink):
        def update(self, context):
            raise LookupError("broken")

    function = kind.make(lambda: 1, CallPyBack([relay(Broken(states=S.COMPLETED))]))
    assert kind.call(function) == 1
    health = handle(function).health["Broken"]
    assert (health.failures, health.last_error) == (1, "LookupError: broken")


class TestLifecycle:
    def test_reset_close_and_flush_reach_the_other_one(self, relay):
        sink = Sink()
        told = relay(sink)
        assert told.flush()
        assert not told.flush(0.5)
        told.reset()
        told.close()
        assert sink.done == [("flush", None), ("flush", 0.5), "reset", "close"]

    def test_shutdown_closes_it(self, relay):
        sink = Sink()
        watch = CallPyBack([relay(sink)])
        watch(lambda: 1)()
        watch.shutdown()
        assert sink.done == ["close"]

    def test_one_that_lacks_them_is_left_alone(self, relay):
        told = relay(Witness())
        told.reset()
        told.close()
        assert told.flush()

    @pytest.mark.parametrize("relay", list(RELAYS.values())[1:], ids=list(RELAYS)[1:])
    def test_its_metrics_are_part_of_these(self, relay):
        told = relay(Sink())
        told.update(build_context())
        assert told.get_metrics()["observer"] == {"seen": 1}
        assert "observer" not in relay(Witness()).get_metrics()

    def test_it_is_asked_whether_it_is_ready(self, relay):
        class Unready(Sink):
            def validate(self):
                raise ConfigurationError("not ready")

        with pytest.raises(ConfigurationError, match="not ready"):
            CallPyBack([relay(Unready())])

    def test_options_are_its_own(self, relay):
        timing = TimingObserver()
        CallPyBack([Subscription(relay(timing), options={"threshold": 5})])
        assert timing.threshold == 5
        with pytest.raises(ConfigurationError, match="has no option 'treshold'"):
            relay(timing).configure(treshold=5)

    def test_one_that_delivers_later_stays_one(self, relay):
        sink = Sink()
        background = BackgroundObserver(sink)
        function = CallPyBack([relay(background)])(lambda: 1)
        function()
        assert relay(background).delivers_later
        assert background.shutdown(10)
        assert len(sink.seen) == 3

    def test_it_may_be_told_in_the_background(self, relay):
        sink = Sink()
        background = BackgroundObserver(relay(sink))
        CallPyBack([background])(lambda: 1)()
        assert background.shutdown(10)
        assert [context.state.name for context in sink.seen] == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]


class Critical(Sink):
    critical = True


class Generating(Sink):
    def update(self, context):
        yield


@pytest.mark.parametrize("observer", [RateLimitObserver(5, 60), Critical()], ids=["guard", "critical"])
def test_what_decides_calls_is_refused(observer, relay):
    with pytest.raises(ConfigurationError, match="is a guard or critical: it decides calls"):
        relay(observer)


@pytest.mark.parametrize(
    ("observer", "message"),
    [
        (Sink, r"did you mean Sink\(\)"),
        (3, "lacks `update`"),
        (Generating(), "remove the `yield`"),
    ],
    ids=["class", "number", "generator"],
)
def test_what_is_no_observer_is_refused(observer, message, relay):
    with pytest.raises(ConfigurationError, match=message):
        relay(observer)


class Metered:  # at module level, to be pickled; without BaseObserver
    name = "metered"
    priority = 0

    def __init__(self):
        self.seen = 0

    def update(self, context):
        self.seen += 1


PICKLED = {
    "profiling": lambda: ProfilingObserver(Metered(), priority=3, name="mine"),
    "sampling": lambda: SamplingObserver(Metered(), rate=1, priority=3, name="mine"),
    "deduplicate": lambda: DeduplicateObserver(Metered(), priority=3, name="mine"),
}


@pytest.mark.parametrize("make", PICKLED.values(), ids=PICKLED)
@pytest.mark.parametrize("again", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["copy", "pickle"])
def test_a_copy_has_a_copy_of_the_other_one(make, again):
    original = make()
    original.update(build_context())
    twin = again(original)
    twin.update(build_context())
    assert (original.observer.seen, twin.observer.seen) == (1, 2)
    assert (twin.priority, twin.name) == (3, "mine")


def test_what_it_is_shown_as_names_both():
    assert repr(SamplingObserver(Sink(name="mine"))) == "<SamplingObserver of <Sink 'mine' priority=0>>"


class TestEvents:
    class Counting(BaseObserver):
        def __init__(self):
            super().__init__()
            self.seen = []

        def is_interested(self, event_type):
            return event_type.startswith("test.")

        def on_event(self, event):
            self.seen.append(event.name)

    def test_an_observer_of_events_is_told_them(self, relay):
        counting, bus = self.Counting(), EventBus("relays")
        bus.register_observer(relay(counting))
        for name in ("test.started", "metrics.collected", "test.completed"):
            bus.emit(Event(name))
        assert counting.seen == ["test.started", "test.completed"]

    def test_one_that_is_told_by_update_is_told_by_that(self, relay):
        bus, seen = EventBus("relays"), []

        class Plain:
            priority = 0
            name = "plain"
            update = staticmethod(seen.append)

        bus.register_observer(relay(Plain()))
        event = Event("order.paid")
        bus.emit(event)
        assert seen == [event]

    def test_an_async_one_is_awaited(self, relay):
        class Waiting(self.Counting):
            async def on_event(self, event):
                self.seen.append(event.name)

        waiting, bus = Waiting(), EventBus("relays")
        bus.register_observer(relay(waiting))
        asyncio.run(bus.aemit(Event("test.started")))
        assert waiting.seen == ["test.started"]

    def test_calls_are_nothing_for_it(self, relay):
        with pytest.raises(ConfigurationError, match=r"lacks `update`|hears of calls"):
            CallPyBack([relay(self.Counting())])

    def test_a_sample_is_drawn_of_them(self):
        counting, bus = self.Counting(), EventBus("relays")
        sampling = SamplingObserver(counting, rate=0, first=2)
        bus.register_observer(sampling)
        for _ in range(5):
            bus.emit(Event("test.started"))
        assert len(counting.seen) == 2
        assert sampling.get_metrics()["functions"] == {"test.started": {"seen": 5, "sampled": 2, "kept": 0}}

    def test_by_default_equal_events_are_those_of_one_uuid(self):
        counting, bus = self.Counting(), EventBus("relays")
        bus.register_observer(DeduplicateObserver(counting))
        event = Event("test.started")
        for one in (event, event, Event("test.started")):
            bus.emit(one)
        assert len(counting.seen) == 2

    def test_or_those_of_one_key(self):
        counting, bus = self.Counting(), EventBus("relays")
        bus.register_observer(DeduplicateObserver(counting, lambda event: event.data.get("id")))
        for number in (1, 1, 2, None, None):
            bus.emit(Event("test.started", id=number))
        assert len(counting.seen) == 4

    @pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
    def test_a_key_that_raises_lets_an_event_pass_and_counts(self, is_async):
        class Waiting(self.Counting):
            async def on_event(self, event):
                self.seen.append(event.name)

        counting = Waiting() if is_async else self.Counting()
        observer = DeduplicateObserver(counting, lambda event: event.data["id"])

        async def tell():
            returned = observer.on_event(Event("test.started"))
            if is_async:
                await returned

        with pytest.raises(KeyError):
            asyncio.run(tell())
        assert counting.seen == ["test.started"]

    def test_what_they_take_is_measured_by_their_names(self):
        profiler, bus = ProfilingObserver(self.Counting()), EventBus("relays")
        bus.register_observer(profiler)
        for name in ("test.started", "test.completed", "test.started", "other"):
            bus.emit(Event(name))
        report = profiler.get_performance_report()
        assert (report["total_events"], report["events_by_type"]) == (3, {"test.completed": 1, "test.started": 2})

    def test_names_without_end_are_measured_in_bounded_memory(self):
        profiler = ProfilingObserver(self.Counting())
        for number in range(3000):
            profiler.on_event(Event(f"test.{number}"))
        report = profiler.get_performance_report()
        assert report["total_events"] == 3000
        assert len(report["events_by_type"]) <= 1001
