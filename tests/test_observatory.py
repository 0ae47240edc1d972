"""Everything Observatory's README shows, under our names: one test an example, in its order, and its known faults.

The mapping table of the docs refers to these tests. Its logger example and its remarks on events in general show no
ability of Observatory.
"""

# ruff: noqa: T201 - the examples print
from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from psygnal import evented
from psygnal.containers import EventedDict, EventedList
from reaktiv import Computed, Signal
from statemachine import State, StateMachine

from callpyback import (
    CallPyBack,
    EventBus,
    EventHook,
    ExecutionContext,
    ExecutionState,
    Outcome,
    add_global_observer,
    current_call,
    handle,
    observes,
    on_call,
    on_completion,
    on_progress,
    on_success,
    remove_global_observer,
)
from callpyback.events.bridges import bridge
from callpyback.events.registry import get_event_bus


def printed(capsys):
    return capsys.readouterr().out.splitlines()


# EventHooks


def test_event_hook_standalone(capsys):
    def say_hello(x: str) -> None:
        print(f"hello {x}")

    an_event_hook: EventHook[str] = EventHook()
    an_event_hook.connect(say_hello)
    an_event_hook.emit("events")
    assert printed(capsys) == ["hello events"]


class Coordinates(NamedTuple):
    right_ascension: float
    declination: float


class SpaceTelescope:
    coords_received: EventHook[Coordinates] = EventHook()
    aliens_detected = EventHook()  # takes no arguments

    def __init__(self) -> None:
        self.pointed_at: Coordinates | None = None
        self.coords_received.connect(self.rotate_to_coords)
        self.aliens_detected.connect(everybody_panic)

    def rotate_to_coords(self, coords: Coordinates) -> None:
        self.pointed_at = coords


def everybody_panic() -> None:
    print("Aaaah!")


def test_event_hook_in_a_class(capsys):
    def say_hello() -> None:
        print("Welcome to Earth!")

    telescope, other = SpaceTelescope(), SpaceTelescope()
    telescope.aliens_detected.connect(say_hello)
    telescope.aliens_detected.emit()
    assert printed(capsys) == ["Aaaah!", "Welcome to Earth!"]
    other.aliens_detected.emit()
    assert printed(capsys) == ["Aaaah!"]
    telescope.coords_received.emit(Coordinates(5.5, -5.4))
    assert (telescope.pointed_at, other.pointed_at) == (Coordinates(5.5, -5.4), None)


def test_observes_an_event_hook(capsys):
    telescope = SpaceTelescope()

    @observes(telescope.aliens_detected)
    def say_hello() -> None:
        print("Welcome to Earth!")

    class Greeter:
        @staticmethod
        @observes(telescope.aliens_detected)
        def say_hello_too() -> None:
            print("Welcome to Earth, too!")

    telescope.aliens_detected.emit()
    assert printed(capsys) == ["Aaaah!", "Welcome to Earth!", "Welcome to Earth, too!"]


def test_type_hinting():
    """Type checkers read it in tests/typing/event_hook.py; keyword arguments are checked too, by `EventHook.like`."""
    an_event_hook: EventHook[str, int] = EventHook()
    seen = []

    @observes(an_event_hook)
    def an_observer(name: str, number: int) -> None:
        seen.append((name, number))

    an_event_hook.emit("one", 1)

    @EventHook.like
    def with_keywords(name: str, *, number: int) -> None: ...

    with_keywords.connect(an_observer)
    with_keywords.emit("two", number=2)
    assert seen == [("one", 1), ("two", 2)]


# Events


def test_event_decorator(capsys):
    def start(context: ExecutionContext) -> None:
        print("hello!")

    def stop(context: ExecutionContext) -> None:
        print("goodbye!")

    @CallPyBack()
    def function_one() -> str:
        print("in function_one")
        return "done"

    function_one.on_call(start)
    function_one.on_success(stop)
    assert function_one() == "done"
    assert printed(capsys) == ["hello!", "in function_one", "goodbye!"]


def test_class_event_and_static_event():
    seen = []
    watch = CallPyBack(observers=[on_success(lambda value: seen.append(value))])

    class Tool:
        @watch
        @classmethod
        def of_the_class(cls) -> str:
            return cls.__name__

        @watch
        @staticmethod
        def static() -> str:
            return "static"

        @watch
        def of_the_instance(self) -> str:
            return "instance"

    tool = Tool()
    assert (Tool.of_the_class(), tool.static(), tool.of_the_instance()) == ("Tool", "static", "instance")
    assert seen == ["Tool", "static", "instance"]


def test_hooks_of_an_event():
    """about_to_run, completed, crashed, exited and progress_updated."""
    seen = []

    @CallPyBack()
    def work(answer: Any) -> Any:
        current_call().progress(1, 2)
        if isinstance(answer, Exception):
            raise answer
        return answer

    work.on_call(lambda: seen.append("about to run"))
    work.on_success(lambda value: seen.append(("completed", value)))
    work.on_failure(lambda exception: seen.append(("crashed", str(exception))))
    work.on_completion(lambda: seen.append("exited"))
    work.on_progress(lambda done, total: seen.append(("progress", done, total)))
    assert work(5) == 5
    with pytest.raises(ValueError, match="broken"):
        work(ValueError("broken"))
    assert seen == [
        "about to run",
        ("progress", 1, 2),
        ("completed", 5),
        "exited",
        "about to run",
        ("progress", 1, 2),
        ("crashed", "broken"),
        "exited",
    ]


def test_event_data():
    """Each field of EventData, in its order there."""
    contexts = []

    @CallPyBack(metadata={"project": "SuperProject", "elevated": True, "description": "Divides."})
    def divide(a: int, b: int = 1, **options: str) -> float:
        """Divide one number by another."""
        current_call().tag(numerator=a)
        return a / b

    divide.on_completion(lambda context: contexts.append(context))
    divide(6, b=3, unit="m")
    with pytest.raises(ZeroDivisionError):
        divide(6, 0)
    good, bad = contexts
    assert handle(divide).signature is good.function_signature  # event
    assert good.function_signature.name == "divide"  # name
    assert handle(divide).wrapper is divide  # action, by the handle: a context keeps no function alive
    assert good.arguments == {"a": 6, "b": 3, "unit": "m"}  # args and kwargs
    assert good.metadata["project"] == "SuperProject"  # extra
    assert good.metadata["elevated"] is True  # elevated
    assert good.metadata["description"] == "Divides."  # description
    assert (good.is_failed, bad.is_failed) == (False, True)  # crashed
    assert (bad.result.exception_type.__name__, str(bad.result.exception)) == ("ZeroDivisionError", "division by zero")
    assert "return a / b" in bad.result.traceback_info  # exc_trace
    assert good.tags == {"numerator": 6}  # tags
    assert good.result.value == 2.0  # result
    assert (good.state, good.outcome) == (ExecutionState.COMPLETED, Outcome.SUCCESS)  # status


class Task:
    def __init__(self) -> None:
        self.is_done = False

    def do_it(self) -> None:
        self.is_done = True


def test_tracking_progress():
    shown = []

    @CallPyBack()
    def automate_tasks(tasks: Sequence[Task]) -> int:
        for task in current_call().track(tasks):
            task.do_it()
        return len(tasks)

    def update_progress_bar(done: int, total: int | None) -> None:
        shown.append((done, total))

    automate_tasks.on_progress(update_progress_bar)
    tasks = [Task(), Task(), Task()]
    assert automate_tasks(tasks) == 3
    assert all(task.is_done for task in tasks)
    assert shown[-1] == (3, 3)
    assert [done for done, _ in shown] == sorted(done for done, _ in shown)
    assert {total for _, total in shown} == {3}


def test_tracking_progress_of_what_has_no_length_and_by_hand():
    shown = []

    @CallPyBack(observers=[on_progress(lambda done, total: shown.append((done, total)))])
    def count() -> None:
        for _ in current_call().track(letter for letter in "ab"):
            pass
        current_call().progress(7, 10)

    count()
    assert (2, None) in shown
    assert shown[-1] == (7, 10)


# Adding context to events


def test_extra():
    seen = []

    @CallPyBack(metadata={"project": "SuperProject"}, observers=[on_call(lambda metadata: seen.append(metadata))])
    def my_event() -> None: ...

    my_event()
    my_event()
    assert seen == [{"project": "SuperProject"}] * 2


def test_tags():
    """Each belongs to one call, under recursion, threads and tasks too."""
    seen = []

    @CallPyBack(
        metadata={"project": "SuperProject"},
        observers=[
            on_completion(lambda arguments, metadata: seen.append((arguments["asset_name"], metadata["asset"])))
        ],
    )
    def my_event(asset_name: str) -> None:
        call = current_call()
        call["asset"] = asset_name
        if len(asset_name) < 4:
            my_event(asset_name + "'")

    my_event("a")
    threads = [threading.Thread(target=my_event, args=(name,)) for name in "bcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 16
    assert all(given == tagged for given, tagged in seen)


def test_tags_of_tasks():
    seen = []

    @CallPyBack(observers=[on_completion(lambda arguments, tags: seen.append((arguments["name"], tags["name"])))])
    async def load(name: str) -> None:
        current_call().tag(name=name)
        await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(load(name) for name in "abc"))

    asyncio.run(main())
    assert sorted(seen) == [("a", "a"), ("b", "b"), ("c", "c")]


def test_elevated():
    """No built-in use of it there; what an event is to mean is metadata, which filters can ask for."""
    seen = []

    @observes(ExecutionState.COMPLETED, name="elevated", when=lambda context: context.metadata.get("elevated", False))
    def on_elevated(function_signature) -> None:
        seen.append(function_signature.name)

    @CallPyBack(metadata={"elevated": True})
    def elevated() -> None: ...

    @CallPyBack()
    def ordinary() -> None: ...

    try:
        elevated()
        ordinary()
    finally:
        remove_global_observer("elevated")
    assert seen == ["elevated"]


# Observing event categories


def test_observes_a_category_of_events():
    seen = []

    @CallPyBack()
    def event_one() -> None: ...

    @observes(ExecutionState.COMPLETED, name="on_any_event_completed")
    def on_any_event_completed(context: ExecutionContext) -> None:
        seen.append(context.function_signature.name)

    try:

        @CallPyBack()
        def event_two() -> None: ...

        event_one()
        event_two()
    finally:
        remove_global_observer("on_any_event_completed")
    event_one()
    assert seen == ["event_one", "event_two"]


def test_add_global_event_callback():
    seen = []
    observer = on_success(lambda function_signature: seen.append(function_signature.name))

    @CallPyBack()
    def event_one() -> None: ...

    add_global_observer(observer)
    try:
        event_one()
    finally:
        remove_global_observer(observer)
    event_one()
    assert seen == ["event_one"]


# Observable types


def test_observable_attr(capsys):
    @evented
    @dataclass
    class X:
        attr: int = 5

    x = X()

    @observes(bridge(x.events.attr))
    def print_it(new_value: int, old_value: int) -> None:
        print(f"new value is {new_value}")

    x.attr = 10
    assert printed(capsys) == ["new value is 10"]
    assert x.attr == 10


def test_observable_list(capsys):
    x = EventedList([1, 2])

    @observes(bridge(x.events.inserted))
    def correction(index: int, value: int) -> None:
        if value == 5:
            print("three, sir!")

    x.append(5)
    assert printed(capsys) == ["three, sir!"]
    assert x == [1, 2, 5]


def test_observable_dict(capsys):
    x = EventedDict({"one": 1})

    @observes(bridge(x.events.added))
    def note(key: str, value: int) -> None:
        print(f"{key} is {value}")

    x["two"] = 2
    x["one"] = 3
    assert printed(capsys) == ["two is 2"]


def test_observable_types_reach_buses_too():
    bus, seen = EventBus("data"), []
    x = EventedList([1, 2])
    bridge(x, bus, name="numbers")

    @observes(bus, "numbers.inserted")
    def note(event) -> None:
        seen.append(event.data["args"])

    x.append(5)
    assert seen == [(2, 5)]


# Publish/Subscribe


def test_brokers_are_buses_in_a_hierarchy():
    top_level_bus = get_event_bus("observatory")
    child_bus = top_level_bus.child("middle")
    grandchild_bus = child_bus.child("bottom")
    assert get_event_bus("observatory") is top_level_bus
    assert top_level_bus.child("middle") is child_bus
    assert child_bus.child("bottom") is grandchild_bus


def test_broadcast():
    """A subscriber needs no publisher, and a publisher no subscriber; what is below is heard above."""
    top = get_event_bus("observatory_broadcast")
    child = top.child("middle")
    child.broadcast("to nobody")
    seen = []

    def subscriber_function(*args: Any, **kwargs: Any) -> None:
        seen.append((args, kwargs))

    top.broadcast_sent.connect(subscriber_function)
    top.broadcast("positional arg", keyword_arg=None)
    child.broadcast("from below")
    assert seen == [(("positional arg",), {"keyword_arg": None}), (("from below",), {})]


def test_publish_and_subscribe_events_by_name():
    bus, seen = get_event_bus("observatory_events").child("shop"), []

    @observes(bus, "order.*")
    def book(event) -> None:
        seen.append((event.name, event.data))

    bus.emit("order.paid", order_id=7)
    bus.emit("mail.sent")
    assert seen == [("order.paid", {"order_id": 7})]


def test_event_thread_safety():
    """Not a single lock around everything: no emission waits, and none is lost."""
    hook, calls = EventHook(), [itertools.count() for _ in range(3)]
    for counter in calls:
        hook.connect(lambda counter=counter: next(counter))

    def emit() -> None:
        for n in range(200):
            callback = lambda n=n: n  # noqa: E731
            hook.connect(callback)
            hook.emit()
            hook.disconnect(callback)

    threads = [threading.Thread(target=emit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [next(counter) for counter in calls] == [1600] * 3
    assert len(hook) == 3


# State machine


class TrafficLight(StateMachine):
    green = State("GREEN")
    yellow = State("YELLOW")
    red = State("RED", initial=True)

    to_green = red.to(green)
    to_yellow = green.to(yellow)
    to_stop = yellow.to(red)


def test_state_machine(capsys):
    traffic_light = TrafficLight()
    print(*traffic_light.configuration)
    traffic_light.to_green()
    print(*traffic_light.configuration)
    traffic_light.to_yellow()
    print(*traffic_light.configuration)
    assert printed(capsys) == ["RED", "GREEN", "YELLOW"]


def test_state_machine_events(capsys):
    traffic_light = TrafficLight()

    @observes(bridge(traffic_light))
    def report_state_changed(old_state: State, new_state: State) -> None:
        print(f"Exited {old_state}")
        print(f"Entered {new_state}")

    traffic_light.to_green()
    assert printed(capsys) == ["Exited RED", "Entered GREEN"]


def test_individual_states_and_triggers():
    traffic_light, bus, seen = TrafficLight(), EventBus("lights"), []
    bridge(traffic_light, bus, name="light.changed")

    @observes(bus, "light.changed", when=lambda event: event.data["new"] == "yellow")
    def on_yellow(event) -> None:
        seen.append("entered yellow")

    @observes(bus, "light.changed", when=lambda event: event.data["old"] == "yellow")
    def on_yellow_left(event) -> None:
        seen.append("exited yellow")

    @observes(bus, "light.changed", when=lambda event: event.data["event"] == "to_green")
    def on_to_green(event) -> None:
        seen.append("to_green was fired")

    traffic_light.to_green()
    traffic_light.to_yellow()
    traffic_light.to_stop()
    assert seen == ["to_green was fired", "entered yellow", "exited yellow"]


# State graph


def graph():
    value_one: Signal[int] = Signal(3)
    value_two: Signal[str] = Signal("hello")
    computed: list[int] = []

    @Computed
    def multiplied() -> str:
        computed.append(1)
        return value_one() * value_two()

    return value_one, value_two, multiplied, computed


def test_state_graph_computes_when_asked_and_keeps_what_it_computed(capsys):
    value_one, _, multiplied, computed = graph()
    assert computed == []
    print(multiplied())
    multiplied()
    assert printed(capsys) == ["hellohellohello"]
    assert len(computed) == 1
    value_one.set(1)
    assert len(computed) == 1
    assert multiplied() == "hello"


def test_state_graph_from_a_function():
    value_one, value_two = Signal(3), Signal("hello")

    def multiply() -> str:
        return value_one() * value_two()

    multiplied = Computed(multiply)
    assert multiplied() == "hellohellohello"


def test_observing_state_graph_changes():
    """Values tell when they were changed; derived ones when something upstream was, and they come out different."""
    value_one, value_two, multiplied, _ = graph()
    seen = []

    @observes(bridge(value_one))
    def value_updated(old: int, new: int) -> None:
        seen.append(("value_one", old, new))

    @observes(bridge(multiplied))
    def derived_updated(old: str, new: str) -> None:
        seen.append(("multiplied", old, new))

    value_one.set(3)
    value_two.set("hello")
    assert seen == []
    value_one.set(2)
    assert sorted(seen) == [("multiplied", "hellohellohello", "hellohello"), ("value_one", 3, 2)]
    seen.clear()
    value_two.set("")
    value_one.set(5)
    assert seen == [("multiplied", "hellohello", ""), ("value_one", 2, 5)]


# What was wrong there


def test_the_functions_return_value_is_not_discarded():
    @CallPyBack(observers=[on_completion(lambda context: "something else")])
    def add(a: int, b: int) -> int:
        return a + b

    assert add(2, 3) == 5


def test_an_observers_error_does_not_abort_the_call(capsys):
    def breaking(*args: Any) -> None:
        raise RuntimeError("broken")

    @CallPyBack()
    def work() -> str:
        print("works")
        return "done"

    work.on_call(lambda context: breaking())
    work.on_success(lambda context: breaking())
    hook = EventHook()
    hook.connect(breaking)
    hook.connect(lambda: print("told"))
    assert work() == "done"
    hook.emit()
    assert printed(capsys) == ["works", "told"]


def test_instances_are_not_leaked():
    telescope = SpaceTelescope()
    telescope.coords_received.emit(Coordinates(1, 2))
    telescope.aliens_detected.connect(lambda telescope=telescope: telescope)
    gone = [weakref.ref(telescope), weakref.ref(telescope.coords_received)]
    del telescope
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


def test_methods_that_are_events_do_not_leak_instances():
    class Tool:
        @CallPyBack()
        def work(self) -> Tool:
            return self

    tool = Tool()
    tool.work.on_success(lambda value: None)
    tool.work()
    gone = weakref.ref(tool)
    del tool
    gc.collect()
    assert gone() is None
