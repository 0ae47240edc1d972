"""An event told to 1, 10 and 1,000 handlers that do nothing, against a loop over them, beside other libraries.

Run by itself (`python -m benchmarks.events EVENTS`) it emits so many events and prints the memory they left.
"""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from benchmarks.measuring import Budget, called, seconds_per_call
from benchmarks.processes import printed_by_module
from benchmarks.resident_memory import resident_bytes
from benchmarks.table import Row, skipped
from callpyback import Event, EventBus, EventHook

TITLE = "Events"

COUNTS = (1, 10, 1000)
EVENTS = 1_000_000

Handler = Callable[[Any], Any]
Emit = Callable[[Any], Any]


@dataclass
class Paid(Event):
    number: int


def _handlers(count: int) -> list[Handler]:
    def handler(event: Any) -> None:
        pass

    # A copy for each: one that all of them called would be adapted to its one caller.
    return [type(handler)(handler.__code__.replace(), {}, f"handler{number}") for number in range(count)]


def _loop(handlers: list[Handler]) -> Emit:
    def emit(event: Any) -> None:
        for handler in handlers:
            handler(event)

    return emit


def _isolating_loop(handlers: list[Handler]) -> Emit:
    def emit(event: Any) -> None:
        for handler in handlers:
            try:
                handler(event)
            except Exception:
                logging.getLogger("benchmarks").exception("a handler failed")

    return emit


def _bus(handlers: list[Handler], **options: Any) -> EventBus:
    bus = EventBus(**options)
    for handler in handlers:
        bus.register(handler)
    return bus


def _by_name(handlers: list[Handler]) -> Emit:
    bus = _bus(handlers)
    return lambda _: bus.emit("paid", number=1)


def _ready_made(handlers: list[Handler]) -> Emit:
    bus, event = _bus(handlers), Event("paid")
    return lambda _: bus.emit(event)


def _raising(handlers: list[Handler]) -> Emit:
    bus = _bus(handlers, errors="raise")
    return lambda _: bus.emit("paid", number=1)


def _typed(handlers: list[Handler]) -> Emit:
    bus = _bus(handlers)
    return lambda number: bus.emit(Paid(number))


def _with_history(handlers: list[Handler]) -> Emit:
    bus = _bus(handlers, history=1000)
    return lambda _: bus.emit("paid", number=1)


def _without_duplicates(handlers: list[Handler]) -> Emit:
    bus = _bus(handlers, deduplicate=1000)
    return lambda _: bus.emit("paid", number=1)


def _from_below(handlers: list[Handler]) -> Emit:
    bus = _bus(handlers).child("below").child("bottom")
    return lambda _: bus.emit("paid", number=1)


def _among_many(handlers: list[Handler]) -> Emit:
    bus = _bus(handlers)
    for handler in _handlers(1000):
        bus.register(handler, match="other.*")
    return lambda _: bus.emit("paid", number=1)


def _by_predicate(handlers: list[Handler]) -> Emit:
    bus = EventBus()
    for handler in handlers:
        bus.register(handler, when=lambda event: event.data)
    return lambda _: bus.emit("paid", number=1)


def _hook(handlers: list[Handler]) -> Emit:
    hook: EventHook[int] = EventHook()
    for handler in handlers:
        hook.connect(handler)
    return hook.emit


OURS: dict[str, Callable[[list[Handler]], Emit]] = {
    "EventBus.emit(name, ...)": _by_name,
    "EventBus.emit(event)": _ready_made,
    "EventBus.emit, errors='raise'": _raising,
    "EventBus.emit, a dataclass made each time": _typed,
    "EventBus.emit, history=1000": _with_history,
    "EventBus.emit, deduplicate=1000": _without_duplicates,
    "EventBus.emit, two buses further down": _from_below,
    "EventBus.emit, 1,000 more hear other names": _among_many,
    "EventBus.emit, each with a predicate": _by_predicate,
    "EventHook.emit": _hook,
}


def _blinker(handlers: list[Handler]) -> Emit:
    from blinker import Signal  # noqa: PLC0415 - each only if it is installed

    signal = Signal()
    for handler in handlers:
        signal.connect(handler)
    return signal.send


def _pluggy(handlers: list[Handler]) -> Emit:
    import pluggy  # noqa: PLC0415

    class Spec:
        @pluggy.HookspecMarker("benchmarks")
        def heard(self, event): ...

    manager = pluggy.PluginManager("benchmarks")
    manager.add_hookspecs(Spec)
    for handler in handlers:
        manager.register(SimpleNamespace(heard=pluggy.HookimplMarker("benchmarks")(handler)))
    hook = manager.hook
    return lambda event: hook.heard(event=event)


def _psygnal(handlers: list[Handler]) -> Emit:
    from psygnal import SignalInstance  # noqa: PLC0415

    signal = SignalInstance((object,))
    for handler in handlers:
        signal.connect(handler)
    return signal.emit


def _pubsub(handlers: list[Handler]) -> Emit:
    from pubsub.core import IListenerExcHandler, Publisher  # noqa: PLC0415

    class Log(IListenerExcHandler):
        def __call__(self, *_args):
            logging.getLogger("benchmarks").error("a handler failed")

    publisher = Publisher()
    publisher.setListenerExcHandler(Log())
    for handler in handlers:
        publisher.subscribe(handler, "paid")
    return lambda event: publisher.sendMessage("paid", event=event)


ISOLATING = "PyPubSub, isolating"

OTHERS: dict[str, Callable[[list[Handler]], Emit]] = {
    ISOLATING: _pubsub,
    "psygnal, not isolating": _psygnal,
    "pluggy, not isolating": _pluggy,
    "blinker, not isolating": _blinker,
}


def rows(budget: Budget) -> list[Row]:
    """Return rows for each number of handlers, ours and the others', and one for the memory of many events."""
    return [row for count in COUNTS for row in _rows_of(count, budget)] + [_memory(budget)]


def _rows_of(count: int, budget: Budget) -> list[Row]:
    handlers = _handlers(count)  # held here: some libraries hold them weakly
    emits: dict[str, Emit] = {"loop": _loop(handlers), "isolating loop": _isolating_loop(handlers)}
    emits |= {name: make(handlers) for name, make in OURS.items()}
    missing = {}
    for name, make in OTHERS.items():
        try:
            emits[name] = make(handlers)
        except ImportError as error:
            missing[name] = f"not installed ({error}); install the extra `bench`"
    for emit in emits.values():
        emit(0)  # the first event finds the order
    seconds = seconds_per_call({name: called(emit) for name, emit in emits.items()}, budget)
    loop, ours = seconds.pop("loop"), seconds["EventBus.emit(name, ...)"]
    many = f"{count:,} handler{'s' if count > 1 else ''}"
    told = [
        Row(f"{many}: {name} / loop over them", taken / loop, seconds=taken)
        for name, taken in {"a loop with try around each": seconds.pop("isolating loop"), **seconds}.items()
    ]
    what = f"{many}: EventBus.emit(name, ...) / PyPubSub"
    compared = (
        skipped(what, missing[ISOLATING]) if ISOLATING in missing else Row(what, ours / seconds[ISOLATING], bar=1)
    )
    return [*told, *(skipped(f"{many}: {name}", reason) for name, reason in missing.items()), compared]


def _memory(budget: Budget) -> Row:
    events = budget.part(EVENTS)
    early, late = map(float, printed_by_module("benchmarks.events", str(events)).split())
    note = f"{early / 1e6:.1f} MB, then {late / 1e6:.1f} MB; each with another name, one handler in ten fails"
    what = f"EventBus with history and de-duplication: resident at {events:,} events, less at {events // 10:,}"
    return Row(what, max(late - early, 0.0) / 1e6, unit="MB", bar=5.0, note=note, is_difference=True)


def main() -> None:
    """Print the resident bytes after a tenth of the events, and after all of them."""
    events = int(sys.argv[1])
    logging.getLogger("callpyback").disabled = True
    bus = _bus(_handlers(8), history=1000, deduplicate=1000)
    bus.register(lambda event: [Event("returned", event.data)] if event.name != "returned" else None)
    bus.register(lambda event: event.data["nothing of that name"], match="paid.*")
    for first, last in ((0, events // 10), (events // 10, events)):
        for number in range(first, last):
            bus.emit(f"paid.{number}", number=number)
        gc.collect()
        print(resident_bytes(), end=" ")


if __name__ == "__main__":
    main()
