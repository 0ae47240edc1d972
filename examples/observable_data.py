"""Bridges: a list, an attribute and a computed value tell a bus what changes in them."""

from dataclasses import dataclass

from psygnal import evented
from psygnal.containers import EventedList
from reaktiv import Computed, Signal

from callpyback import Event, EventBus, observes
from callpyback.events.bridges import bridge


@evented
@dataclass
class Customer:
    """Somebody who buys."""

    name: str
    discount: int = 0


cart: EventedList[str] = EventedList()
customer = Customer("ann")
price, count = Signal(30), Signal(1)


@Computed
def total() -> int:
    """Compute what is to be paid."""
    return price() * count()


bus = EventBus("shop")
bridge(cart.events.inserted, bus, name="cart.filled")
bridge(customer.events.discount, bus, name="customer.discount")
bridge(total, bus, name="total.changed")


@observes(bus, "cart.filled")
def added(event: Event) -> None:
    """Count what is in the cart."""
    index, what = event.data["args"]
    print(f"{index + 1}: {what}")
    count.set(len(cart))


@observes(bus, "*.discount")
def discounted(event: Event) -> None:
    """Let the customer know."""
    new, old = event.data["args"]
    print(f"discount of {event.ctxt.name}: {old} -> {new} %")


@observes(bus, "total.changed")
def recomputed(event: Event) -> None:
    """Show what is to be paid."""
    print(f"total: {event.data['old']} -> {event.data['new']}")


cart.append("apples")
cart.append("pears")
customer.discount = 5
price.set(15)
price.set(15)
with bridge(price) as changes:
    changes.connect(lambda old, new: print(f"price: {old} -> {new}"))
    price.set(20)
