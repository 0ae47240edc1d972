"""The call that a body is running in: what it may say of it, and how far it has come."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from callpyback.core.call_ids import new_call_id
from callpyback.core.forks import reset_after_fork
from callpyback.core.progress import announce, is_heard, iterator_of, tracked
from callpyback.core.safe_repr import safe_repr

if TYPE_CHECKING:
    from callpyback.core.call import Call
    from callpyback.core.functions import FunctionSignature

T = TypeVar("T")

_NO_TAGS: Final[Mapping[Any, Any]] = MappingProxyType({})


class CurrentCall:
    """The observed call that the running code belongs to, as `current_call()` gives it.

    Whatever is said of it reaches the observers of this call, and nobody else; it changes nothing for the caller.
    Outside any observed call there is one that accepts everything and does nothing, so a body need not ask whether it
    is observed. So does one that has ended, for a task that goes on for longer. It is false then, and true while the
    body runs. Any thread may use it; what several of them tag is all there.

    Observers read the tags as `context.tags`, and in `context.metadata` on top of the decorator's. They are no place
    for what the body itself computes with: when nobody observes, they are gone.

    Example:
        >>> from callpyback import CallPyBack, current_call, on_completion, on_progress
        >>> told = [on_completion(lambda tags: print(tags)), on_progress(lambda done, total: print(done, "of", total))]
        >>> @CallPyBack(observers=told)
        ... def publish(assets):
        ...     call = current_call()
        ...     call["first"] = assets[0]
        ...     return [asset.upper() for asset in call.track(assets)]
        >>> publish(["rock", "tree"])
        0 of 2
        1 of 2
        2 of 2
        {'first': 'rock'}
        ['ROCK', 'TREE']
    """

    # Filled in by the wrapper. Apart from the record of the call, because child tasks keep it as long as they live:
    # it lets go of the record, and of the tags, when the body ends.
    __slots__ = ("_call", "_call_id", "_depth", "_tags")

    if TYPE_CHECKING:
        _call: Call | None
        _call_id: str | None
        _depth: int
        _tags: dict[Any, Any] | None

    def __setitem__(self, name: Any, value: Any) -> None:
        """Tag this call."""
        tags = self._tags
        if tags is not None:
            tags[name] = value
        elif self._call is not None:
            # No lock: CPython changes threads at calls and backward jumps, and there is none up to the store.
            self._tags = {name: value}

    def __getitem__(self, name: Any) -> Any:
        """Return a tag; None where there is no running call that could have any."""
        return None if self._call is None else self.tags[name]

    def __contains__(self, name: object) -> bool:
        return name in self.tags

    def __iter__(self) -> Iterator[Any]:
        return iter(tuple(self.tags))

    def __bool__(self) -> bool:
        """Whether this is a running call."""
        return self._call is not None

    def tag(self, /, **tags: Any) -> None:
        """Tag this call: with a name that it has already, in place of the value.

        Observers that are told when the body has ended see all tags; at a notice, those so far.
        """
        known = self._tags
        if known is not None:
            known.update(tags)
        elif self._call is not None:
            self._tags = tags

    @property
    def tags(self) -> Mapping[Any, Any]:
        """The tags so far, those of earlier attempts included; read-only."""
        tags = self._tags
        return _NO_TAGS if tags is None else MappingProxyType(tags)

    @overload
    def track(self, iterable: Iterable[T], total: float | None = None) -> Iterator[T]: ...
    @overload
    def track(self, iterable: AsyncIterable[T], total: float | None = None) -> AsyncIterator[T]: ...
    def track(self, iterable: Any, total: float | None = None) -> Any:
        """Return an iterator over the same items that tells how many are done.

        An item is done when the next one is asked for. Nobody is told more than once an item, and first of all that
        none is done. Where nobody listens to progress, this is the iterable's own iterator and costs nothing an item.

        Args:
            iterable: Any iterable, for `for`; or an asynchronous one, for `async for`.
            total: How many items there are; by default its length, if it has one.
        """
        call = self._call
        items = iterator_of(iterable)
        if call is None or not is_heard(call):
            return items
        return tracked(items, iterable, total, self.progress)

    def progress(self, done: float, total: float | None = None) -> None:
        """Tell how far this call has come.

        Those who asked for `Notice.PROGRESS` are told at once, in this thread. Async observers can't be awaited from
        here, so they are skipped, and counted. Nothing an observer does changes the call: the failure of a critical
        one is counted only.

        Args:
            done: How much is done.
            total: How much there is to do; None if nobody knows.

        Raises:
            KeyboardInterrupt: It came while an observer ran.
        """
        call = self._call
        if call is not None and is_heard(call):
            announce(call, done, total)

    @property
    def call_id(self) -> str | None:
        """The `call_id` of the contexts of this call, after its end too; None outside any call."""
        if self._call_id is None and self._depth >= 0:
            with _naming.lock:
                if self._call_id is None:
                    self._call_id = new_call_id()
        return self._call_id

    @property
    def parent_call_id(self) -> str | None:
        """The id of the observed call around this one; None if there is none, or this one has ended."""
        return None if self._call is None else self._call.parent_call_id

    @property
    def depth(self) -> int:
        """How many observed calls are around this one."""
        return max(self._depth, 0)

    @property
    def function_signature(self) -> FunctionSignature | None:
        """What was called; None if no call is running."""
        return None if self._call is None else self._call.plan.target.signature

    @property
    def attempt(self) -> int:
        """Which run of the body this is: 1, unless a retry came before."""
        return 1 if self._call is None else self._call.attempt

    def again(self, call_id: str) -> CurrentCall:
        """Return the place of the next attempt."""
        place = CurrentCall()
        place._call = place._tags = None
        place._call_id, place._depth = call_id, self._depth
        return place

    def __reduce__(self) -> tuple[Any, ...]:
        return _nothing, ()  # elsewhere it is no call

    def __repr__(self) -> str:
        if self._call is None:
            return "<no current call>" if self._depth < 0 else "<ended call>"
        tags = f" with {safe_repr(dict(self.tags))}" if self.tags else ""
        return f"<current call of {self._call.plan.target.signature.qualname}{tags}>"


class _Naming:
    """A lock for the rare case that two threads are the first to ask for the id of a call at once."""

    def __init__(self) -> None:
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        self.lock = threading.RLock()


_naming: Final = _Naming()
reset_after_fork(_naming)


NOTHING: Final = CurrentCall()
"""The current call where there is none."""

NOTHING._call = NOTHING._call_id = NOTHING._tags = None  # noqa: SLF001
NOTHING._depth = -1  # noqa: SLF001


def _nothing() -> CurrentCall:
    return NOTHING


class _Innermost:
    """The innermost call of this thread or task, as a context variable that pickles by name."""

    def __init__(self) -> None:
        variable: ContextVar[CurrentCall] = ContextVar("callpyback_current_call", default=NOTHING)
        self.get, self.set = variable.get, variable.set

    def __reduce__(self) -> str:
        return "CURRENT"


CURRENT: Final = _Innermost()
