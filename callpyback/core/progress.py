"""How far a body has come: told to those who ask for it, in the body's thread."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from operator import length_hint
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from callpyback.core.call import Call, Noticed
from callpyback.core.dispatch import told
from callpyback.core.drivers import run
from callpyback.core.notices import ProgressNotice
from callpyback.core.reporting import report
from callpyback.core.state_machine import ExecutionState, Notice
from callpyback.core.telling import TELLING, is_inside_observer

T = TypeVar("T")

_KEPT: Final = frozenset({"failed", "probed"})


class Progress(Noticed):
    """A call as it is while its progress is told.

    Of all that telling does to a call, its own fields take what would steer it: nothing that an observer does here
    reaches the call, but that it failed.
    """

    __slots__ = ("interrupt", "state", "tags")

    closing = True  # the body can't await anybody: async observers are skipped, and counted

    if TYPE_CHECKING:
        state: ExecutionState
        interrupt: BaseException | None

    def __init__(self, call: Call, notice: ProgressNotice) -> None:
        super().__init__(call, notice)
        keep = object.__setattr__
        keep(self, "interrupt", None)
        keep(self, "tags", call.tags_at(ExecutionState.EXECUTING))

    def __setattr__(self, name: str, value: object) -> None:
        if name in _KEPT:
            setattr(self._call, name, value)
        elif name in Progress.__slots__:
            object.__setattr__(self, name, value)

    metadata_at = Call.metadata_at

    def tags_at(self, _: ExecutionState) -> dict[Any, Any]:
        """Return the tags of this moment."""
        return dict(self.tags)

    def veto(self, error: BaseException, by: str) -> None:
        """Do nothing: it is too late."""


def is_heard(call: Call) -> bool:
    """Return whether anybody hears of the progress of a call."""
    return bool(call.plan.listeners[Notice.PROGRESS])


def announce(call: Call, done: Any, total: Any) -> None:
    """Tell how far a call has come; not from inside an observer, which is not the body.

    Raises:
        KeyboardInterrupt: It came while an observer ran.
    """
    if TELLING and is_inside_observer():
        return
    interrupt: BaseException | None = None
    try:
        interrupt = _interrupt_of(Progress(call, ProgressNotice(done, total)))
    except Exception as fault:  # noqa: BLE001 - our own fault must not become the body's
        report(fault)
    if interrupt is not None:
        try:
            raise interrupt
        finally:
            del interrupt


def _interrupt_of(progress: Any) -> BaseException | None:
    """Tell of it, and return what interrupted an observer."""
    run(told(progress, Notice.PROGRESS))
    interrupt: BaseException | None = progress.interrupt
    return interrupt


def iterator_of(iterable: Any) -> Any:
    """Return the iterator of an iterable, the asynchronous one of what can't be iterated otherwise."""
    return iter(iterable) if hasattr(iterable, "__iter__") or not hasattr(iterable, "__aiter__") else aiter(iterable)


def tracked(items: Any, iterable: Any, total: Any, tell: Callable[[Any, Any], None]) -> Any:
    """Return an iterator over the items of one that tells how many are done."""
    total = _length_of(iterable) if total is None else total
    return _Tracked(items, total, tell) if hasattr(items, "__anext__") else _tracked(items, total, tell)


def _length_of(iterable: Any) -> int | None:
    try:
        length = length_hint(iterable, -1)
    except Exception:  # noqa: BLE001 - the loop can do without
        return None
    return None if length < 0 else length


def _tracked(items: Iterator[T], total: Any, tell: Callable[[Any, Any], None]) -> Iterator[T]:
    tell(0, total)
    for done, item in enumerate(items, 1):
        yield item
        tell(done, total)


class _Tracked(Generic[T]):
    """No async generator: one that is left half way has to be closed, which a `for` does not do."""

    def __init__(self, items: AsyncIterator[T], total: Any, tell: Callable[[Any, Any], None]) -> None:
        self._items = items
        self._total = total
        self._tell = tell
        self._done = 0

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        self._tell(self._done, self._total)
        item = await anext(self._items)
        self._done += 1
        return item

    async def aclose(self) -> None:
        """Close what is iterated, if it can be."""
        close = getattr(self._items, "aclose", None)
        if close is not None:
            await close()
