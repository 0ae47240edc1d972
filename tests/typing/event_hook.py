"""User code that type checkers read; nobody runs it. What a hook emits is checked where it is emitted and connected.

Each `# type: ignore` is a misuse that must be flagged: unused ones are errors here.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true, reportUnusedFunction=false
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, assert_type

from callpyback import CallPyBack, EventHook, ExecutionContext, ExecutionState, ObserverHealth, handle, observes

# Stand-alone hooks

said: EventHook[str, int] = EventHook()
said.emit("hello", 5)
said.emit("hello")  # type: ignore[call-arg]
said.emit("hello", "5")  # type: ignore[arg-type]
said.emit("hello", 5, 5)  # type: ignore[call-arg]

happened = EventHook()
happened.emit()
happened.emit(5)  # type: ignore[call-arg]

anything: EventHook[...] = EventHook("anything", errors="raise", max_observer_failures=3)
anything.emit(5, "5", more=True)

nothing: EventHook[[]] = EventHook()
nothing.emit()

EventHook[str]().emit("hello")
EventHook(errors="ignore")  # type: ignore[arg-type]


# Connecting


def greet(name: str, number: int) -> float:
    return 1.0


def greet_with_default(name: str, number: int, polite: bool = True) -> None: ...


def greet_any(*given: object) -> None: ...


def greet_too_short(name: str) -> None: ...


def greet_wrongly(name: str, number: str) -> None: ...


async def greet_later(name: str, number: int) -> bytes:
    return b""


assert_type(said.connect(greet), Callable[[str, int], float])
said.connect(greet, priority=5, name="greet", weak=False)
said.connect(greet_with_default)
said.connect(greet_any)
said.connect(greet_later)
said.connect(print)
said.connect(lambda name, number: name * number)
said.connect(greet_too_short)  # type: ignore[arg-type]
said.connect(greet_wrongly)  # type: ignore[arg-type]
said.connect(5)  # type: ignore[call-overload]
happened.connect(greet)  # type: ignore[arg-type]
said.disconnect(greet)
said.disconnect("greet")
said.enable(greet)


@said.connect
def as_decorator(name: str, number: int) -> list[int]:
    return [number]


@said.connect(priority=5)
def as_decorator_with_options(name: str, number: int) -> list[int]:
    return [number]


@said.connect  # type: ignore[arg-type]
def as_wrong_decorator(name: bytes, number: int) -> None: ...


assert_type(as_decorator("", 1), list[int])
assert_type(as_decorator_with_options("", 1), list[int])
assert_type(said.connected, tuple[Callable[..., Any], ...])
assert_type(said.health, dict[str, ObserverHealth])
assert_type(len(said), int)
assert_type(greet in said, bool)
with said.paused():
    said.emit("hello", 5)


async def awaiting() -> None:
    assert_type(await said.aemit("hello", 5), None)
    await said.aemit("hello")  # type: ignore[call-arg]


# Keywords


@EventHook.like
def turned(degrees: float, *, slowly: bool = False) -> None: ...


turned.emit(5.0)
turned.emit(5.0, slowly=True)
turned.emit(degrees=5.0)
turned.emit(5.0, quickly=True)  # type: ignore[call-arg]
turned.emit("5")  # type: ignore[arg-type]


@turned.connect
def note_turn(degrees: float, *, slowly: bool = False) -> None: ...


# Hooks of instances


class Telescope:
    moved: EventHook[int] = EventHook()
    aliens_detected = EventHook()

    def __init__(self) -> None:
        self.moved.connect(self.follow, weak=True)
        self.aliens_detected.connect(self.follow)  # type: ignore[arg-type]

    def follow(self, position: int) -> None: ...


telescope = Telescope()
assert_type(telescope.moved, EventHook[int])
assert_type(Telescope.moved, EventHook[int])
telescope.moved.emit(5)
telescope.moved.emit("5")  # type: ignore[arg-type]
telescope.aliens_detected.emit()
telescope.aliens_detected.emit(5)  # type: ignore[call-arg]
telescope.moved = 5  # type: ignore[assignment]


@dataclass
class Point:
    changed: ClassVar[EventHook[int]] = EventHook()
    x: int = 0


Point(x=5).changed.emit(5)
Point(x=5).changed.emit("5")  # type: ignore[arg-type]


# Observing


@observes(telescope.moved)
def show(position: int) -> complex:
    return 1j


@observes(telescope.moved, priority=5, name="shown")
async def show_later(position: int) -> complex:
    return 1j


@observes(telescope.moved)  # type: ignore[arg-type]
def show_wrongly(position: str) -> None: ...


@observes(telescope.moved)  # type: ignore[arg-type]
def show_too_much(position: int, more: int) -> None: ...


assert_type(show(5), complex)


@CallPyBack()
def double(n: int) -> int:
    return 2 * n


@observes(double, ExecutionState.POST_SUCCESS)
def note(arguments: dict[str, Any], value: int) -> str:
    return str(value)


@observes(handle(double).on_failure, priority=5)
def alert(exception: BaseException) -> None: ...


@observes(ExecutionState.COMPLETED, ExecutionState.ERROR, name="everywhere", match="shop.*")
def note_everything(context: ExecutionContext) -> None: ...


assert_type(note({}, 5), str)
note(5)  # type: ignore[call-arg, arg-type]
