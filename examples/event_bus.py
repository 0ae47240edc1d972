"""Events that are not calls: a bus, typed events, patterns, events returned by handlers, a bus below another one."""

from dataclasses import dataclass

from callpyback import CallEvents, CallPyBack, Event, EventBus, StopProcessing, TypedObserver

bus = EventBus("shop", history=3)


@dataclass
class OrderPaid(Event):
    """A class of events: what is to be known about each are its fields."""

    name = "order.paid"
    order_id: int
    total: float


class Ledger(TypedObserver[OrderPaid]):
    """Hears of this class alone."""

    def __init__(self) -> None:
        self.total = 0.0

    def on_event(self, event: OrderPaid) -> Event | None:
        """Add up; what is returned is an event that comes of this one, processed after it."""
        self.total += event.total
        return Event("ledger.full", total=self.total) if self.total > 100 else None


@bus.register(match="order.*", priority=10)
def authorize(event: Event) -> None:
    """Come first, and stop everything with an answer: `process` returns it."""
    if event.data["total"] < 0:
        raise StopProcessing("refused")


@bus.register(events="ledger.full")
def carry_over(event: Event) -> None:
    """Handle what another handler returned."""
    print("  the page is full:", event.data["total"])


@bus.register(priority=-10)
def show(event: Event) -> None:
    """Hear everything, last."""
    print(f"  {event.name} {event.data if event.name.startswith('order') else ''}".rstrip())


ledger = bus.register_observer(Ledger())

print("Two orders:")
for order in (OrderPaid(1, 60.0), OrderPaid(2, 50.0)):
    bus.emit(order)
print("One that is refused:", bus.process(OrderPaid(3, -1.0)))
print("An event by its name, on a bus below:")
bus.child("warehouse").emit("order.sent", order_id=1, total=60.0)
print("Remembered:", [event.name for event in bus.history])

print("Calls are events too:")
calls = bus.child("calls")


@CallPyBack(observers=[CallEvents(calls)])
def pack(order_id: int) -> str:
    """Do something worth observing."""
    return f"order {order_id} is packed"


print(f"  {pack(1)}")
print(bus.explain("order.lost"))
