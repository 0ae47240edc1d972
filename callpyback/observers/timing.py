"""Slow calls: the newest of them, as text and numbers, and a warning for each."""

from __future__ import annotations

import logging
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from callpyback.core.configuration import checked_clocks, checked_count, checked_seconds, checked_switch
from callpyback.core.functions import full_name
from callpyback.core.safe_repr import safe_arguments, safe_repr
from callpyback.core.state_machine import TERMINAL_STATES, Outcome
from callpyback.observers.base import BaseObserver
from callpyback.observers.parts.tally import Tally

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext
    from callpyback.core.functions import FunctionSignature
    from callpyback.protocols import End, TimeSource

_logger: Final = logging.getLogger("callpyback")


class SlowExecution(NamedTuple):
    """One slow call. It holds no object of the call, so it keeps nothing alive."""

    function: str
    """The function, as `module.qualname`."""
    execution_time: float
    """Seconds the body ran."""
    timestamp: float
    """The wall clock about when the call began, in seconds since the epoch; nan if the clock failed."""
    outcome: Outcome
    """How the call ended."""
    arguments: dict[str, str] | None
    """The arguments by name, as bounded text; None unless they were asked for."""


class TimingObserver(BaseObserver):
    """Keeps the newest slow calls, and warns of each through the logger `callpyback`.

    Slow is a body that ran longer than the threshold, however the call ended. A call that is not slow costs one
    comparison, unless arguments are asked for: then every call makes a context.

    Args:
        threshold: Seconds; slow is strictly more.
        max_slow: How many slow calls are kept.
        arguments: Whether to keep the arguments of slow calls, as bounded text. They may be secret, and their
            `__repr__` runs when a call was slow.
        time_source: Where timestamps come from; the system's clock by default.
        priority: Higher is told earlier.
        name: How it is shown.

    Raises:
        ConfigurationError: A parameter is none of these.

    Example:
        >>> from callpyback import CallPyBack, MockTimeSource, TimingObserver
        >>> clock, timing = MockTimeSource(), TimingObserver(threshold=1.0)
        >>> @CallPyBack(observers=[timing], time_source=clock)
        ... def work(seconds):
        ...     clock.advance(seconds)
        >>> for seconds in (0.5, 3.0, 1.0):
        ...     work(seconds)
        >>> [slow.execution_time for slow in timing.get_slow_executions()]
        [3.0]
    """

    states = TERMINAL_STATES

    def __init__(
        self,
        threshold: float = 1.0,
        *,
        max_slow: int = 100,
        arguments: bool = False,
        time_source: TimeSource | None = None,
        priority: float = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(priority, name)
        self.threshold = threshold
        self._with_arguments = checked_switch("arguments", arguments)
        self._now, _ = checked_clocks(time_source)
        self._slow: deque[SlowExecution] = deque(maxlen=min(checked_count("max_slow", max_slow), sys.maxsize))
        self._slow_count = Tally()

    @property
    def threshold(self) -> float:
        """Seconds a body may run without being slow."""
        return self._threshold

    @threshold.setter
    def threshold(self, seconds: float) -> None:
        self._threshold = checked_seconds("threshold", seconds, zero=True)

    def set_threshold(self, seconds: float) -> None:
        """Set the threshold for all calls that end from now on.

        Raises:
            ConfigurationError: It is no finite number of seconds from 0 on.
        """
        self.threshold = seconds

    def bind(self, function_signature: FunctionSignature) -> tuple[None, End] | None:
        """Return how to be told of one function's calls without a context.

        None if arguments are asked for, which only a context has, or for a subclass with an `update` of its own.
        """
        if self._with_arguments or type(self).update is not TimingObserver.update:
            return None
        function = full_name(function_signature)

        def end(elapsed: float, _value: Any, _exception: BaseException | None, outcome: Outcome) -> None:
            if elapsed > self._threshold:  # never true of nan, a duration that could not be measured
                self._keep(SlowExecution(function, elapsed, self._now() - elapsed, outcome, None))

        return None, end

    def update(self, context: ExecutionContext) -> None:
        """Keep the call of a context that shows a terminal state, if it was slow."""
        elapsed, outcome = context.execution_time, context.outcome
        if outcome is None or elapsed is None or not elapsed > self._threshold:
            return
        arguments = safe_arguments(context.arguments) if self._with_arguments else None
        function = full_name(context.function_signature)
        self._keep(SlowExecution(function, elapsed, context.timestamp, outcome, arguments))

    def get_slow_executions(self) -> list[SlowExecution]:
        """Return the slow calls that are kept, in the order they ended: the newest is the last."""
        return list(self._slow)

    def get_metrics(self) -> dict[str, Any]:
        """Return the threshold, how many calls were slow, and how many of them are kept."""
        return {"threshold": self._threshold, "slow_count": self._slow_count.count, "kept": len(self._slow)}

    def reset(self) -> None:
        """Forget the slow calls and their count; the threshold stays."""
        self._slow.clear()
        self._slow_count = Tally()

    def _keep(self, slow: SlowExecution) -> None:
        next(self._slow_count)
        self._slow.append(slow)
        given = "" if slow.arguments is None else f" with {safe_repr(slow.arguments, 1000)}"
        _logger.warning(
            "slow call: %s took %.4g s, more than %g s%s", slow.function, slow.execution_time, self._threshold, given
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_slow": self._slow.copy(), "_slow_count": Tally(self._slow_count.count)}
