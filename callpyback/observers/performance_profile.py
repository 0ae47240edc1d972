"""Where the time goes: statistics over a rolling window of each function, and alerts for slow calls."""

from __future__ import annotations

import copy
import time
import tracemalloc
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.configuration import checked_clocks, checked_count, checked_seconds, checked_switch
from callpyback.core.functions import FunctionKind
from callpyback.core.masking import MASKING
from callpyback.core.state_machine import TERMINAL_STATES, ExecutionState, Outcome
from callpyback.core.time_sources import UNKNOWN
from callpyback.errors import ConfigurationError
from callpyback.observers.base import BaseObserver
from callpyback.observers.parts.alert_log import Alert, AlertLog, OnAlert
from callpyback.observers.parts.by_function import ByFunction
from callpyback.observers.parts.degradation import Degradation, checked_degradation
from callpyback.observers.parts.folding import Folding
from callpyback.observers.parts.profile_windows import Profile, Rules

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext
    from callpyback.core.functions import FunctionSignature
    from callpyback.protocols import End, TimeSource

_HOUR: Final = 3600.0
_BATCH: Final = 100  # durations that wait to be folded where nothing is compared
_CALM: Final = 10
_RETURNED: Final = frozenset({Outcome.SUCCESS})
_FAILED: Final = frozenset({Outcome.FAILURE, Outcome.TIMED_OUT, Outcome.HANDLED})


class PerformanceProfileObserver(BaseObserver):
    """Keeps the newest durations of each function, and alerts when calls are slow or have become slower.

    A call that ends appends its duration to a list; every few calls one of them moves these into the window. The
    statistics are computed when they are read. Nothing of a call is kept but its duration.

    There are two alerts. `SLOW_EXECUTION`: a call took longer than the threshold. `PERFORMANCE_DEGRADATION`: the newest
    10 calls were slower than the 90 before them, looked at every 10 calls; see `Degradation`. Of an episode only the
    beginning is reported, and what follows is counted in the alert's `repeats`: slow calls are one episode until 10
    calls in a row were not slow; a degradation is over when half of the difference is gone, or when the slower calls
    have become the history. Alerts are kept, logged as warnings on the logger `callpyback`, and handed to `on_alert`.

    An alert is a dictionary: `timestamp` (seconds since the epoch; None if the clock failed), `function` (the bare
    name), `full_name`, `type`, `message`, `arguments`, `severity` ("HIGH" for slow calls, "MEDIUM" for degradation),
    `repeats`, `last_timestamp`, `ongoing`.

    Args:
        window_size: Of how many calls of a function the durations are kept.
        alert_threshold_ms: Slow is more than so many milliseconds.
        on_alert: Called with each new alert, in the thread of the call. What it raises is logged and goes no further.
        max_alerts: How many alerts are kept.
        degradation: A `Degradation`, or its `(recent, history, factor)`; None for no such alerts.
        min_calls: So many calls of a function come before it can be reported as slow, that one included: the first
            ones are often slow for reasons of their own.
        failed_calls: Whether calls that failed count as well; otherwise only those that returned.
        arguments: Whether alerts of slow calls show the arguments, as bounded text, what goes by a secret name hidden.
            Every call then makes a context. Otherwise they are None.
        memory: Whether to measure how many bytes more are allocated when a call has ended than when it began, by
            `tracemalloc`, which is started for that and makes every allocation of the program slower. It counts what
            the whole process allocates, so it tells most where one thing runs at a time.
        cpu_time: Whether to measure the processor time of the thread. Both are measured for plain functions, in whose
            thread nothing else runs meanwhile; a body that `max_execution_time` has run in another thread is not seen.
        max_functions: How many functions are told apart; the others share `"<overflow>"`.
        time_source: Where timestamps come from; the system's clock by default.
        priority: Higher is told earlier.
        name: How it is shown.

    Raises:
        ConfigurationError: A parameter is none of these.

    Example:
        >>> from callpyback import CallPyBack, MockTimeSource
        >>> clock, profiler = MockTimeSource(), PerformanceProfileObserver(alert_threshold_ms=200, min_calls=1)
        >>> @CallPyBack(observers=[profiler], time_source=clock)
        ... def database_query(seconds):
        ...     clock.advance(seconds)
        >>> for seconds in (0.125, 0.125, 0.5):
        ...     database_query(seconds)
        >>> report = profiler.get_performance_report("database_query")["functions"]["database_query"]
        >>> report["total_calls"], report["mean_time_ms"], report["max_time_ms"]
        (3, 250.0, 500.0)
        >>> [alert["message"] for alert in profiler.alerts]
        ['Execution time: 500.0ms (threshold: 200.0ms)']
    """

    states = TERMINAL_STATES

    def __init__(
        self,
        window_size: int = 1000,
        alert_threshold_ms: float = 500,
        *,
        on_alert: OnAlert | None = None,
        max_alerts: int = 1000,
        degradation: Degradation | tuple[float, ...] | None = (10, 90, 1.5),
        min_calls: int = 10,
        failed_calls: bool = False,
        arguments: bool = False,
        memory: bool = False,
        cpu_time: bool = False,
        max_functions: int = 2000,
        time_source: TimeSource | None = None,
        priority: float = 80,
        name: str | None = "PerformanceProfile",
    ) -> None:
        self._memory = checked_switch("memory", memory)
        self._cpu_time = checked_switch("cpu_time", cpu_time)
        measures = self._memory or self._cpu_time
        super().__init__(priority, name, states=TERMINAL_STATES | {ExecutionState.PRE_EXECUTION} if measures else None)
        self._with_arguments = checked_switch("arguments", arguments)
        self._counted = _RETURNED | _FAILED if checked_switch("failed_calls", failed_calls) else _RETURNED
        self._rules = Rules(
            window_size=checked_count("window_size", window_size),
            threshold=checked_seconds("alert_threshold_ms", alert_threshold_ms, zero=True) / 1000,
            min_calls=checked_count("min_calls", min_calls),
            calm=_CALM,
            degradation=checked_degradation(degradation),
            now=checked_clocks(time_source)[0],
        )
        self._log = AlertLog(max_alerts, on_alert)
        max_functions = checked_count("max_functions", max_functions)
        self._profiles = ByFunction(partial(Profile, rules=self._rules), max_functions)
        self._folding = Folding()
        if self._memory and not tracemalloc.is_tracing():
            tracemalloc.start()

    @property
    def window_size(self) -> int:
        """Of how many calls of a function the durations are kept."""
        return self._rules.window_size

    @property
    def alert_threshold(self) -> float:
        """Seconds above which a call is slow."""
        return self._rules.threshold

    @alert_threshold.setter
    def alert_threshold(self, seconds: float) -> None:
        self._rules.threshold = checked_seconds("alert_threshold", seconds, zero=True)

    @property
    def alerts(self) -> list[Alert]:
        """Copies of the alerts that are kept, the newest last."""
        self._settle(*self._profiles)
        return self._log.kept()

    def bind(self, function_signature: FunctionSignature) -> tuple[None, End] | None:
        """Return how to be told of one function's calls without a context.

        None if arguments, memory or processor time are asked for, or for a subclass with an `update` of its own.
        """
        is_own = type(self).update is not PerformanceProfileObserver.update
        if self._with_arguments or self._memory or self._cpu_time or is_own:
            return None
        return None, self._end_of(self._profiles.of(function_signature))

    def update(self, context: ExecutionContext) -> None:
        """Take the call of a context that shows a terminal state; begin to measure at PRE_EXECUTION, if asked to."""
        if context.state is ExecutionState.PRE_EXECUTION:
            if context.function_signature.kind is FunctionKind.FUNCTION:
                context.slot["began"] = self._measured()
            return
        if context.outcome not in self._counted or context.outcome is None:
            return
        profile = self._profiles.of(context.function_signature)
        began = context.slot.get("began") if self._memory or self._cpu_time else None
        if began is not None:
            self._keep_measured(profile, began)
        elapsed = UNKNOWN if context.execution_time is None else context.execution_time
        if self._with_arguments and elapsed > self._rules.threshold:
            profile.given.append((elapsed, MASKING.arguments(context.arguments)))
        self._end_of(profile)(elapsed, None, None, context.outcome)

    def get_performance_report(self, func_name: str | None = None, *, name: str | None = None) -> dict[str, Any]:
        """Return the statistics of all functions, or of those of one name.

        `functions` has for each function, by its bare name while only one has it, else by the qualified or the full
        name: `total_calls`; `window_calls`, how many of them the following is about; and in milliseconds
        `mean_time_ms`, `median_time_ms`, `min_time_ms`, `max_time_ms`, `std_dev_ms`, `p50_time_ms`, `p90_time_ms`,
        `p95_time_ms` and `p99_time_ms`, each percentile None while there are too few calls for it (for the 95th less
        than 20). With `cpu_time=True` also `mean_cpu_time_ms` and `max_cpu_time_ms`, with `memory=True`
        `mean_memory_bytes` and `max_memory_bytes`. A function without a measured call is left out.

        `total_alerts` counts all alerts, of all functions; `recent_alerts` are those of the last hour that are kept.

        Args:
            func_name: A bare, qualified or full name; None for all functions.
            name: The same.

        Raises:
            ConfigurationError: Two different names are given.
        """
        if func_name is not None and name is not None and func_name != name:
            message = f"func_name={func_name!r} and name={name!r} mean the same: give one of them"
            raise ConfigurationError(message)
        profiles = self._profiles.named(func_name or name)
        self._settle(*self._profiles)
        with self._folding:
            reports = {shown: profile.report() for shown, profile in profiles.items()}
        return {
            "functions": {shown: report for shown, report in reports.items() if report},
            "total_alerts": self._log.total,
            "recent_alerts": self._log.since(self._rules.now() - _HOUR),
        }

    def get_metrics(self) -> dict[str, Any]:
        """Return how many functions and alerts there are, and how often `on_alert` failed."""
        self._settle(*self._profiles)
        return {
            "functions": len(self._profiles),
            "total_alerts": self._log.total,
            "kept_alerts": len(self._log.kept()),
            "failed_callbacks": self._log.failed_callbacks,
        }

    def reset(self) -> None:
        """Forget durations and alerts."""
        self._settle(*self._profiles)
        with self._folding:
            for profile in self._profiles:
                profile.clear()
            self._log.clear()

    def _end_of(self, profile: Profile) -> End:
        waiting, rules, counted, settle = profile.waiting, self._rules, self._counted, self._settle
        note, returned = waiting.append, Outcome.SUCCESS
        batch = _BATCH if rules.degradation is None else rules.degradation.recent

        def end(elapsed: float, _value: Any, _exception: BaseException | None, outcome: Outcome) -> None:
            if outcome is returned or outcome in counted:
                note(elapsed)
                if elapsed > rules.threshold:
                    profile.is_urgent = True
                elif len(waiting) < batch and not profile.is_slow:
                    return
                settle(profile)

        return end

    def _settle(self, *profiles: Profile) -> None:
        """Fold what waits, and report what comes of it when the lock is free again: `on_alert` may do anything."""
        self._folding.attempt(*profiles)
        for profile in profiles:
            if profile.is_urgent:  # another thread folded when it came, or it came while this one did
                self._folding.attempt(profile)
            while profile.news:
                try:
                    alert = profile.news.popleft()
                except IndexError:  # another thread reports it
                    break
                self._log.report(alert, f"{alert['type']} of {alert['full_name']}: {alert['message']}")

    def _measured(self) -> tuple[float, int | None]:
        allocated = tracemalloc.get_traced_memory()[0] if self._memory and tracemalloc.is_tracing() else None
        return time.thread_time() if self._cpu_time else UNKNOWN, allocated

    def _keep_measured(self, profile: Profile, began: tuple[float, int | None]) -> None:
        cpu_time, allocated = self._measured()
        if self._cpu_time:
            profile.cpu_times.append(max(cpu_time - began[0], 0.0))
        if allocated is not None and began[1] is not None:
            profile.memory.append(allocated - began[1])

    def __getstate__(self) -> dict[str, Any]:
        with self._folding:
            self._folding.fold(*self._profiles)
            rules, memo = copy.copy(self._rules), dict[int, Any]()
            log = self._log.copied(memo)
            profiles = self._profiles.copied(lambda known: known.copied(rules, memo), partial(Profile, rules=rules))
        return {**self.__dict__, "_rules": rules, "_log": log, "_profiles": profiles, "_folding": Folding()}
