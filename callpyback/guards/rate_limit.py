"""Refuses calls that come too often: a moving window, exact under threads and tasks."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.configuration import checked_count, checked_seconds, refuse
from callpyback.core.forks import reset_after_fork
from callpyback.core.functions import full_name
from callpyback.core.safe_repr import safe_repr
from callpyback.errors import RateLimitExceeded
from callpyback.guards.base import KeyedGuard
from callpyback.guards.keyed import KeyedStates, shown_key
from callpyback.guards.moving_window import MovingWindow
from callpyback.observers.parts.tally import Tally

if TYPE_CHECKING:
    from callpyback.core.functions import FunctionSignature
    from callpyback.observers.parts.keys import Key

_MINUTE: Final = 60.0


class _LimitedFunction:
    """The limit on one function."""

    def __init__(self, observer: RateLimitObserver, function: str, clock: Callable[[], float]) -> None:
        self._limit = observer.max_calls, observer.period
        self._function = function
        self._clock = clock
        self._admitted = Tally()
        self._refused = Tally()
        self._start()
        reset_after_fork(self)

    def _start(self) -> None:
        self._window = self._new_window()

    def _new_window(self) -> MovingWindow:
        return MovingWindow(*self._limit, self._clock)

    def _windows(self) -> list[MovingWindow]:
        return [self._window]

    def admit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:  # noqa: ARG002 - a guard is handed them
        """Admit a call or refuse it."""
        wait = self._window.take()
        if wait is not None:
            raise self._refusal(wait)
        next(self._admitted)

    def _refusal(self, wait: float, where: str = "") -> RateLimitExceeded:
        next(self._refused)
        max_calls, period = self._limit
        calls = "1 call" if max_calls == 1 else f"{max_calls} calls"
        message = f"{self._function} is limited to {calls} in {period:g} s{where}; try again in {wait:.3g} s"
        return RateLimitExceeded(message, retry_after=wait)

    def get_metrics(self) -> dict[str, Any]:
        """Return how many calls were admitted, and how many refused."""
        return {"admitted": self._admitted.count, "refused": self._refused.count}

    def reset(self) -> None:
        """Forget what was used, and the counts."""
        self._admitted, self._refused = Tally(), Tally()
        self._start()

    def reset_after_fork(self) -> None:
        """Take back what threads of the parent had in hand: the calls they were about to admit are not made here."""
        for window in self._windows():
            window.count_unused()


class _LimitedByKey(_LimitedFunction):
    """The limits on one function, one for each key."""

    def __init__(
        self,
        observer: RateLimitObserver,
        function: str,
        clock: Callable[[], float],
        key_of: Callable[[tuple[Any, ...], dict[str, Any]], Hashable],
    ) -> None:
        self._key_of = key_of
        self._max_keys = observer.max_keys
        super().__init__(observer, function, clock)

    def _start(self) -> None:
        self._keyed = KeyedStates(
            self._new_window,
            is_idle=MovingWindow.is_idle,
            max_keys=self._max_keys,
            name=f"rate limit of {self._function}",
            split=MovingWindow.split,
        )

    def _windows(self) -> list[MovingWindow]:
        return self._keyed.states()

    def admit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Admit a call or refuse it."""
        key = self._key_of(args, kwargs)
        wait = self._take(key)
        if wait is not None:
            raise self._refusal(wait, f" for each key, and this one is {shown_key(key)}")
        next(self._admitted)

    def _take(self, key: Hashable) -> float | None:
        # In a frame of its own: the traceback of a refusal must not keep a window that is forgotten alive.
        window = self._keyed.of(key)
        wait = window.take()
        if wait is None:
            self._keyed.keep(key, window)
        return wait

    def get_metrics(self) -> dict[str, Any]:
        """Return how many calls were admitted and refused, and how many keys are known now."""
        return {**super().get_metrics(), "keys": len(self._keyed), "shares": self._keyed.shared is not None}


class RateLimitObserver(KeyedGuard):
    """Admits at most so many calls of a function, or of each of its keys, in any period; refuses the others.

    The window moves: whichever period you look at, it holds no more than `max_calls` admitted calls, also across the
    full minute and with any number of threads and tasks. The caller of a refused call gets `RateLimitExceeded`, with
    the seconds until a call is admitted again as `retry_after`. Refused calls use nothing up. A call that is admitted
    here counts, also if a guard of lower priority then refuses or answers it; the calls a function makes to itself
    count like others.

    Each decorated function has its own limit. With `key` each key has, and what is remembered of a key is forgotten
    once all its calls are a period old. When more than `max_keys` keys were used within a period, further ones share
    one limit, which a warning in the log tells.

    Time is the decorator's monotonic clock: steps of the wall clock change nothing. If that clock goes back, calls
    count as made now; if it fails, the guard does, so the call goes on, uncounted, unless `critical` is set. A failing
    `key` is a failing guard too, and so is a key that can't be hashed.

    What was used stays used in a forked child, which from then on counts by itself. A pickled observer starts anew.

    The library `limits` is not used underneath: a hit takes it 4 us, more than ten times what this guard takes, and its
    window goes by the wall clock. The class `MovingWindow` is the place for a limit that several processes share.

    Args:
        max_calls: The greatest number of calls in a period; 60 if it is not given.
        period: The length of the window in seconds.
        key: Gives the key of a call from its `arguments`, such as `lambda arguments: arguments["user"]`.
        max_calls_per_minute: In place of `max_calls`, with a period of 60 seconds.
        max_keys: How many keys of a function are told apart.
        priority: Higher is asked earlier.
        name: How it is shown.
        critical: Refuse the call if the guard itself fails.

    Raises:
        ConfigurationError: A parameter is none of these, or two of them contradict each other.

    Example:
        >>> from callpyback import CallPyBack, MockTimeSource
        >>> from callpyback.errors import RateLimitExceeded
        >>> from callpyback.guards.rate_limit import RateLimitObserver
        >>> clock = MockTimeSource()
        >>> @CallPyBack(observers=[RateLimitObserver(max_calls=2, period=10.0)], time_source=clock)
        ... def ask():
        ...     return "an answer"
        >>> ask(), ask()
        ('an answer', 'an answer')
        >>> clock.advance(4.0)
        >>> try:
        ...     ask()
        ... except RateLimitExceeded as refused:
        ...     refused.retry_after
        6.0
        >>> clock.advance(6.0)
        >>> ask()
        'an answer'
    """

    name = "RateLimit"

    def __init__(
        self,
        max_calls: int | None = None,
        period: float = _MINUTE,
        key: Key | None = None,
        *,
        max_calls_per_minute: int | None = None,
        max_keys: int = 10_000,
        priority: float = 100,
        name: str | None = None,
        critical: bool = False,
    ) -> None:
        super().__init__(key=key, max_keys=max_keys, priority=priority, name=name, critical=critical)
        self._max_calls = _checked_calls(max_calls, max_calls_per_minute)
        self._period = checked_seconds("period", period)
        if max_calls_per_minute is not None and self._period != _MINUTE:
            refuse("period", period, "60 with max_calls_per_minute; give max_calls in its place for another period")

    @property
    def max_calls(self) -> int:
        """The greatest number of calls in a period."""
        return self._max_calls

    @property
    def period(self) -> float:
        """The length of the window in seconds."""
        return self._period

    def guarding(self, function_signature: FunctionSignature, clock: Callable[[], float]) -> _LimitedFunction:
        """Return the limit on one function."""
        function = full_name(function_signature)
        if self.key is None:
            return _LimitedFunction(self, function, clock)
        return _LimitedByKey(self, function, clock, self.keyed_by(function_signature))

    def get_metrics(self) -> dict[str, Any]:
        """Return the counts, as of now.

        `admitted` and `refused` are the sums over `functions`, which has the same for each function that still
        exists; with `key` also `keys`, the number of keys that are remembered, and `shares`, whether keys had to share
        a limit.
        """
        metrics = super().get_metrics()
        functions = metrics["functions"].values()
        return {name: sum(counts[name] for counts in functions) for name in ("admitted", "refused")} | metrics

    def reset(self) -> None:
        """Start anew: what was used is free again, and the counts are 0."""
        for limited in tuple(self._guarded):
            if isinstance(limited, _LimitedFunction):
                limited.reset()


def _checked_calls(max_calls: Any, max_calls_per_minute: Any) -> int:
    if max_calls_per_minute is None:
        return 60 if max_calls is None else checked_count("max_calls", max_calls)
    if max_calls is not None:
        refuse(
            "max_calls_per_minute", max_calls_per_minute, f"it or max_calls, which is {safe_repr(max_calls)}, not both"
        )
    return checked_count("max_calls_per_minute", max_calls_per_minute)
