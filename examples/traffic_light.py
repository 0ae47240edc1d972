"""A state machine of python-statemachine whose transitions reach observers and a bus."""

import logging

from statemachine import State, StateMachine

from callpyback import Event, EventBus, observes
from callpyback.events.bridges import bridge

logging.getLogger("callpyback").addHandler(logging.NullHandler())


class TrafficLight(StateMachine):
    """Red, green, yellow."""

    green = State("GREEN")
    yellow = State("YELLOW")
    red = State("RED", initial=True)

    to_green = red.to(green)
    to_yellow = green.to(yellow)
    to_stop = yellow.to(red)


light = TrafficLight()
bus = EventBus("street")
bridge(light, bus)


@observes(bridge(light))
def report(old: State, new: State) -> None:
    """Report every change."""
    print(f"exited {old}, entered {new}")


@observes(bus, "state_machine.transition", when=lambda event: event.data["new"] == "yellow")
def brake(event: Event) -> None:
    """Brake when it gets yellow."""
    print(f"{event.data['machine']}, {event.data['event']}: brake!")


@observes(bus, name="fragile")
def fragile(_event: Event) -> None:
    """Fail, which neither the light nor the others notice."""
    raise RuntimeError("lamp broken")


light.to_green()
light.to_yellow()
light.to_stop()
print("now:", *light.configuration)
print("failures of the fragile one:", bus.health["fragile"].failures)
