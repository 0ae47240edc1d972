"""User code that type checkers read: what a bus gives back is what it was given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_type

from callpyback import (
    CallEvents,
    CallPyBack,
    Event,
    EventBus,
    TypedObserver,
    get_event_bus,
    required_by,
    requires,
    want,
)


@dataclass
class OrderPaid(Event):
    name = "order.paid"
    order_id: int


class Ledger(TypedObserver[OrderPaid]):
    def on_event(self, event: OrderPaid) -> Event | None:
        return Event("ledger.full", total=event.order_id) if event.order_id > 7 else None


bus = EventBus("shop", history=5, errors="raise", deduplicate=10)
assert_type(get_event_bus("shop").child("orders"), EventBus)


@bus.register
def plain(event: Event) -> None:
    assert_type(event.uuid, str)
    assert_type(event.timestamp, float)
    event.shared.tests.args = (1, 2)


@bus.register(match="order.*", events=OrderPaid, priority=3, requires="plain", weak=False)
@want("order.*", OrderPaid, lambda event: event.order_id > 3)
@requires("plain")
@required_by("other")
def chosen(bus: EventBus, event: OrderPaid) -> list[Event]:
    return [event]


async def slow(event: Event) -> None:
    assert_type(await bus.aemit(OrderPaid(7)), OrderPaid)
    await bus.aprocess("order.paid", order_id=7)


plain(Event("order.paid", {"order_id": 7}, ctxt=bus, total=3))
bus.register(slow)
assert_type(chosen(bus, OrderPaid(7)), list[Event])
assert_type(bus.register_observer(Ledger(), priority=5), Ledger)
assert_type(bus.emit(OrderPaid(7)), OrderPaid)
assert_type(bus.emit("order.paid", order_id=7), Event)
assert_type(bus.history, list[Event])
watch = CallPyBack(observers=[CallEvents(bus)])

bus.emit(OrderPaid(7), order_id=7)  # type: ignore[call-overload]
bus.emit(7)  # type: ignore[call-overload]
bus.register(plain, prioriti=5)  # type: ignore[call-overload]
EventBus(errors="ignore")  # type: ignore[arg-type]


class Wrong(TypedObserver[OrderPaid]):
    def on_event(self, event: int) -> None: ...  # type: ignore[override]
