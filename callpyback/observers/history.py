"""The newest calls: their contexts as they are, or as text that keeps nothing alive."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from callpyback.core.configuration import checked_count, checked_switch, looking_at, refuse
from callpyback.core.functions import full_name
from callpyback.core.interest import checked_match, checked_when, matches, names_of
from callpyback.core.safe_repr import safe_arguments, safe_repr, safe_text
from callpyback.core.state_machine import TERMINAL_STATES, ExecutionState, Outcome
from callpyback.observers.base import BaseObserver
from callpyback.observers.parts.tally import Tally

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext
    from callpyback.observers.base import States

    Outcomes = Outcome | Iterable[Outcome]

_MAX_OUTCOMES: Final = 100  # far more than there are
_QUIET: Final = (Outcome.CANCELLED, Outcome.ABANDONED)


class CallRecord(NamedTuple):
    """What a context showed, as text and numbers. It holds no object of the call, so it keeps nothing alive."""

    module: str
    qualname: str
    name: str
    """The bare name of the function."""
    state: ExecutionState
    outcome: Outcome | None
    """How the call ended; None before the terminal state."""
    call_id: str
    timestamp: float
    """The wall clock when the call began, in seconds since the epoch; nan if the clock failed."""
    execution_time: float | None
    """Seconds the body ran; None before it ended."""
    arguments: dict[str, str]
    """By name, as bounded text; so are the local variables and the metadata."""
    value: str | None
    """What the body gave, as bounded text; None if it gave nothing yet, or raised."""
    exception: str | None
    """`TypeName: message` in one bounded line; None if there was none."""
    local_variables: dict[str, str]
    metadata: dict[str, str]

    @property
    def function(self) -> str:
        """The function, as `module.qualname`, in one line."""
        return full_name(self)  # type: ignore[arg-type]  # it has the names of a signature

    @property
    def is_failed(self) -> bool:
        """Whether there was an exception, other than that of a cancelled or abandoned call."""
        return self.exception is not None and self.outcome not in _QUIET


class HistoryObserver(BaseObserver):
    """Keeps the newest contexts, in the order they were told; any number of threads may be told of, and may read.

    By default one context for each call, its last. Contexts hold the live values of their calls: arguments, results,
    exceptions (without frames) and locals stay alive while they are kept, and are shown as they are when they are
    read, not as they were. With `text=True` bounded text is kept instead, which keeps nothing alive and shows what
    was; every call then pays for the `__repr__` of its arguments and value. Both may hold secrets.

    Copies and pickles carry the text with them, and start without contexts.

    Args:
        maxlen: The greatest number of contexts, or records, that are kept.
        text: Keep each context as a `CallRecord`, in place of the context.
        states: The state or states that are kept; by default the two terminal ones.
        priority: Higher is told earlier.
        name: How it is shown.

    Raises:
        ConfigurationError: A parameter is none of these.

    Example:
        >>> from callpyback import CallPyBack
        >>> history = HistoryObserver(maxlen=100)
        >>> @CallPyBack(observers=[history], default_return=None)
        ... def number(text):
        ...     return int(text)
        >>> for text in ("1", "x", "3"):
        ...     _ = number(text)
        >>> [context.arguments["text"] for context in history]
        ['1', 'x', '3']
        >>> history.last().result.value, [context.outcome.name for context in history.failures()]
        (3, ['HANDLED'])
    """

    states = TERMINAL_STATES

    def __init__(
        self,
        maxlen: int = 1000,
        *,
        text: bool = False,
        states: States | None = None,
        priority: float = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(priority, name, states=states)
        self._as_text = checked_switch("text", text)
        self._kept: deque[Any] = deque(maxlen=min(checked_count("maxlen", maxlen), sys.maxsize))
        self._told = Tally()

    def update(self, context: ExecutionContext) -> None:
        """Keep a context, or what it shows."""
        self._kept.append(_record_of(context) if self._as_text else context)
        next(self._told)

    @property
    def maxlen(self) -> int:
        """The greatest number that is kept."""
        return self._kept.maxlen or 0

    def last(self) -> Any:
        """Return the newest context, or record; None while there is none."""
        kept = self._snapshot()
        return kept[-1] if kept else None

    def newest(self, number: int) -> list[Any]:
        """Return the newest ones, at most so many; the newest is the last."""
        return self._snapshot()[-checked_count("number", number) :]

    def find(
        self,
        match: str | Iterable[str] | None = None,
        *,
        outcome: Outcomes | None = None,
        when: Callable[[Any], Any] | Iterable[Callable[[Any], Any]] | None = None,
    ) -> list[Any]:
        """Return the contexts, or records, of which all that is given holds, the newest last.

        Args:
            match: A pattern such as "shop.orders.*", or several, matched against `module.qualname`, the qualified
                name and the bare name of the function.
            outcome: An outcome, or several.
            when: Called with each; whether it is to be returned. Or several, all of which must say so.

        Raises:
            ConfigurationError: A parameter is none of these.

        Example:
            >>> from callpyback.testing import build_context
            >>> history = HistoryObserver()
            >>> history.update(build_context("pay", arguments={"amount": 30}))
            >>> history.update(build_context("refund"))
            >>> [context.arguments for context in history.find("pa*")]
            [{'amount': 30}]
        """
        patterns, outcomes, predicates = _checked_patterns(match), _checked_outcomes(outcome), checked_when(when)
        return [
            kept
            for kept in self._snapshot()
            if (patterns is None or matches(patterns, _names_of(kept)))
            and (outcomes is None or kept.outcome in outcomes)
            and all(predicate(kept) for predicate in predicates)
        ]

    def failures(self) -> list[Any]:
        """Return those that show an exception, the newest last; handled, timed-out and vetoed calls are among them."""
        return [kept for kept in self._snapshot() if kept.is_failed]

    def clear(self) -> None:
        """Forget what is kept; the count in `get_metrics` goes on."""
        self._kept.clear()

    def reset(self) -> None:
        """Forget what is kept, and the count."""
        self.clear()
        self._told = Tally()

    def get_metrics(self) -> dict[str, Any]:
        """Return how many contexts were told, how many are kept, and how many could be."""
        return {"told": self._told.count, "kept": len(self._kept), "maxlen": self.maxlen}

    def _snapshot(self) -> list[Any]:
        return list(self._kept)  # one step in C: nothing is told in its midst

    def __iter__(self) -> Iterator[Any]:
        """Go through what is kept at this moment, the newest last."""
        return iter(self._snapshot())

    def __len__(self) -> int:
        return len(self._kept)

    def __bool__(self) -> bool:
        return True  # an observer, not its contents

    def __getstate__(self) -> dict[str, Any]:
        carried = self._kept.copy() if self._as_text else deque[Any](maxlen=self._kept.maxlen)
        return {**self.__dict__, "_kept": carried, "_told": Tally(self._told.count)}


def _record_of(context: ExecutionContext) -> CallRecord:
    result = context.result
    exception = None if result is None else result.exception
    signature = context.function_signature
    return CallRecord(  # by position, which costs half of what keywords do
        signature.module,
        signature.qualname,
        signature.name,
        context.state,
        context.outcome,
        context.call_id,
        context.timestamp,
        context.execution_time,
        safe_arguments(context.arguments),
        None if result is None or exception is not None else safe_repr(result.value),
        None if exception is None else safe_text(exception),
        safe_arguments(context.local_variables),
        safe_arguments(context.metadata),
    )


def _names_of(kept: Any) -> tuple[str, str, str]:
    if isinstance(kept, CallRecord):
        return kept.function, kept.qualname, kept.name
    return names_of(kept.function_signature)


def _checked_patterns(match: Any) -> tuple[str, ...] | None:
    patterns = checked_match(match)
    if callable(patterns):
        refuse("match", match, 'a pattern of names, such as "shop.orders.*"; a predicate goes into when=')
    return patterns


def _checked_outcomes(outcome: Any) -> frozenset[Outcome] | None:
    with looking_at("outcome", outcome):
        if outcome is None:
            return None
        is_several = isinstance(outcome, Iterable) and not isinstance(outcome, str | bytes)
        given: list[Any] = list(islice(outcome, _MAX_OUTCOMES)) if is_several else [outcome]
        for one in given:
            if not isinstance(one, Outcome):
                refuse("outcome", outcome, f"some of Outcome.{', '.join(known.name for known in Outcome)}")
        return frozenset(given)
