"""The bridge from python-statemachine: transitions with their old and new state."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import weakref

import pytest
from statemachine import State, StateChart, StateMachine
from statemachine.io import create_machine_class_from_definition

from callpyback import EventBus, EventHook, observes
from callpyback.events.bridges import bridge


class Door(StateMachine):
    closed = State("Closed", initial=True)
    opened = State("Open")
    locked = State("Locked", final=True)

    open = closed.to(opened)
    close = opened.to(closed)
    lock = closed.to(locked)
    knock = closed.to.itself(internal=True)


def changes_of(machine, seen):
    changes = bridge(machine)
    changes.connect(lambda old, new: seen.append((old.id, new.id)))
    return changes


def test_a_transition_tells_its_old_and_new_state():
    seen, door = [], Door()
    changes_of(door, seen)
    door.open()
    door.send("close")
    door.lock()
    assert seen == [("closed", "opened"), ("opened", "closed"), ("closed", "locked")]


def test_the_machine_is_in_its_new_state_when_it_is_told():
    seen, door = [], Door()
    bridge(door).connect(lambda old, new: seen.append((str(new), door.current_state_value)))
    door.open()
    assert seen == [("Open", "opened")]


def test_a_transition_to_the_same_state_is_told():
    seen, door = [], Door()
    changes_of(door, seen)
    door.knock()
    assert seen == [("closed", "closed")]


def test_a_transition_without_a_target_is_told_as_staying():
    counting = {"initial": True, "on": {"count": [{"target": None}], "stop": [{"target": "stopped"}]}}
    Counter = create_machine_class_from_definition("Counter", states={"counting": counting, "stopped": {"final": True}})
    seen, counter = [], Counter()
    changes_of(counter, seen)
    counter.send("count")
    assert seen == [("counting", "counting")]


def test_a_transition_that_is_not_allowed_is_not_told():
    seen, door = [], Door()
    changes_of(door, seen)
    with pytest.raises(door.TransitionNotAllowed):
        door.close()
    assert seen == []


def test_a_bus_tells_events_of_transitions():
    bus, events, door = EventBus("bus"), [], Door()
    bus.register(events.append)
    bridge(door, bus)
    bridge(door, bus, name="door.moved")
    door.open()
    data = {"machine": "Door", "event": "open", "old": "closed", "new": "opened"}
    assert [(event.name, event.data, event.ctxt) for event in events] == [
        ("state_machine.transition", data, door),
        ("door.moved", data, door),
    ]


@pytest.mark.parametrize("errors", ["isolate", "raise"])
@pytest.mark.parametrize("target", [EventHook, EventBus])
def test_an_error_of_ours_disturbs_neither_the_transition_nor_other_listeners(target, errors):
    seen, door, to = [], Door(), target("target", errors=errors)

    @observes(to)
    def breaking(*_):
        raise ValueError("broken")

    class Listener:
        def after_transition(self, event):
            seen.append(event)

    bridged = bridge(door, to)
    door.add_listener(Listener())
    door.open()
    assert door.opened.is_active
    assert seen == ["open"]
    assert bridged.health.failures == (errors == "raise")


def test_who_listens_may_send_events():
    seen, door = [], Door()
    changes = changes_of(door, seen)
    changes.connect(lambda old, new: door.close() if new.id == "opened" else None)
    door.open()
    assert seen == [("closed", "opened"), ("opened", "closed")]
    assert door.closed.is_active


def test_an_async_machine_tells_too():
    class Lamp(StateMachine):
        off = State(initial=True)
        on = State()
        switch = off.to(on) | on.to(off)

        async def on_switch(self):
            await asyncio.sleep(0)

    seen = []

    async def main():
        lamp = Lamp()
        changes_of(lamp, seen)
        await lamp.activate_initial_state()
        await lamp.switch()
        await lamp.switch()

    asyncio.run(main())
    assert seen[-2:] == [("off", "on"), ("on", "off")]


def test_nested_states_tell_too():
    class Player(StateChart):
        class active(State.Compound):
            playing = State(initial=True)
            paused = State()
            toggle = playing.to(paused) | paused.to(playing)

        stopped = State(final=True)
        stop = active.to(stopped)

    seen, player = [], Player()
    changes_of(player, seen)
    player.toggle()
    player.stop()
    assert seen == [("playing", "paused"), ("active", "stopped")]


def test_a_closed_bridge_tells_nothing_and_keeps_nothing():
    seen, door, hook = [], Door(), EventHook("hook")
    hook.connect(lambda old, new: seen.append(new.id))
    bridged = bridge(door, hook)
    other = changes_of(door, [])
    bridged.close()
    bridged.close()
    door.open()
    assert seen == []
    gone = weakref.ref(bridged)
    del bridged
    gc.collect()
    assert gone() is None
    assert not other.is_closed


def test_a_bridge_lives_as_long_as_its_machine_and_no_longer():
    seen, door = [], Door()
    gone = [weakref.ref(door), weakref.ref(changes_of(door, seen))]
    gc.collect()
    door.open()
    assert len(seen) == 1
    del door
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda machine: pickle.loads(pickle.dumps(machine))], ids=["deepcopy", "pickle"]
)
def test_a_copied_machine_has_no_bridge(copied):
    seen, door = [], Door()
    changes_of(door, seen)
    again = copied(door)
    again.open()
    assert seen == []
    assert door.closed.is_active
    door.open()
    assert seen == [("closed", "opened")]
