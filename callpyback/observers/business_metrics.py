"""What calls are worth: numbers taken from results, arguments and variables, added up by function, metric and day."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.configuration import checked_clocks, checked_count, checked_seconds
from callpyback.core.interest import matches, names_of
from callpyback.core.state_machine import TERMINAL_STATES, Outcome
from callpyback.core.timestamps import utc_text
from callpyback.observers.base import BaseObserver
from callpyback.observers.parts.business_totals import DAY, FunctionTotals, Trends
from callpyback.observers.parts.by_function import ByFunction
from callpyback.observers.parts.folding import Folding
from callpyback.observers.parts.metric_values import Metric, checked_config
from callpyback.observers.parts.sums import CompensatedSum
from callpyback.observers.parts.tally import Tally

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext
    from callpyback.core.functions import FunctionSignature
    from callpyback.protocols import End, TimeSource

_SUCCEEDED: Final = frozenset({Outcome.SUCCESS, Outcome.SUPPLIED})
_FAILED: Final = frozenset({Outcome.FAILURE, Outcome.TIMED_OUT, Outcome.HANDLED})
_BATCH: Final = 64
_MAX_KNOWN: Final = 10_000

Metrics = dict[str, Metric]


class Asked:
    """What is to be found in the calls of one function: the metrics of those that succeed, and of those that fail."""

    __slots__ = ("of_failure", "of_success", "sources")

    def __init__(self, metrics: Metrics) -> None:
        self.of_success = [(name, metric) for name, metric in metrics.items() if metric.counts(success=True)]
        self.of_failure = [(name, metric) for name, metric in metrics.items() if metric.counts(success=False)]
        self.sources = frozenset(metric.source for metric in metrics.values())


class BusinessMetricsObserver(BaseObserver):
    """Adds up business numbers: revenue, items sold, new users.

    The configuration says for each function, by its bare name, its qualified name, `module.qualname` or a pattern such
    as "shop.orders.*", which metrics its calls have; where a function fits several, names go before patterns. For each
    metric it says:

    * `source`: "result" (the default), "arguments" or "variables" (locals that `variable_names=` captures);
    * `path`: the way from there to the number: keys of mappings, names of attributes, indexes of sequences, as a list
      or as one text with dots; empty for the source itself;
    * `default`: what a call counts where there is no number, 0 unless it is given; None for nothing;
    * `when`: "success" (the default), "failure" or "always": which calls count. A call succeeds when its caller got
      the body's value or one that a guard supplied; a handled error is a failure. Calls that were vetoed, cancelled,
      abandoned or aborted do not count.

    True counts as 1. Numbers that are not finite are left out, and counted as `ignored_values`. Sums are exact to the
    last digits, however many calls, and of as many threads as there are; nothing of a call is kept but its numbers.
    Functions without metrics cost nothing, those with metrics from results alone need no context.

    Args:
        metrics_config: For each function its metrics; see above.
        max_events: How many of the newest events, one for each metric of a call, are kept.
        window: Seconds that `recent_events` and `recent_metrics` look back; they see steps of a sixtieth of that.
        max_days: Of how many days, in UTC, there are trends.
        max_functions: How many functions are told apart; the others share `"<overflow>"`.
        time_source: Where timestamps come from; the system's clock by default.
        priority: Higher is told earlier.
        name: How it is shown.

    Raises:
        ConfigurationError: A parameter, or something in the configuration, is none of these.

    Example:
        >>> from callpyback import CallPyBack
        >>> business = BusinessMetricsObserver({
        ...     "process_order": {
        ...         "revenue": {"source": "result", "path": ["order", "total"]},
        ...         "orders": {"default": 1},
        ...     },
        ... })
        >>> @CallPyBack(observers=[business])
        ... def process_order(prices):
        ...     return {"order": {"total": sum(prices)}}
        >>> _ = process_order([10, 5]), process_order([7.5])
        >>> summary = business.get_business_summary()
        >>> summary["total_metrics"]
        {'process_order': {'revenue': 22.5, 'orders': 2.0}}
        >>> summary["function_performance"]["process_order"]["success_rate"]
        100.0
    """

    states = TERMINAL_STATES

    def __init__(
        self,
        metrics_config: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None,
        *,
        max_events: int = 1000,
        window: float = 3600.0,
        max_days: int = 31,
        max_functions: int = 2000,
        time_source: TimeSource | None = None,
        priority: float = 70,
        name: str | None = "BusinessMetrics",
    ) -> None:
        super().__init__(priority, name)
        self._config = checked_config(metrics_config)
        self.match: Any = tuple(self._config) or _nothing
        self._now, _ = checked_clocks(time_source)
        self._trends = Trends(
            max_events=checked_count("max_events", max_events),
            window=checked_seconds("window", window),
            max_days=checked_count("max_days", max_days),
        )
        self._functions = ByFunction(FunctionTotals, checked_count("max_functions", max_functions))
        self._known: dict[tuple[str, str], Asked] = {}
        self._ignored = Tally()
        self._folding = Folding()

    @property
    def metrics_config(self) -> dict[str, dict[str, dict[str, Any]]]:
        """The configuration, with its defaults filled in."""
        return {
            function: {
                name: {"source": m.source, "path": list(m.path), "default": m.default, "when": m.when}
                for name, m in metrics.items()
            }
            for function, metrics in self._config.items()
        }

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """The totals by function and metric."""
        with self._folding:
            self._folding.fold(self._trends)
            return self._totals()

    @property
    def events(self) -> list[dict[str, Any]]:
        """The newest events, the newest last: `timestamp` (ISO 8601, UTC), `function`, `metric`, `value`, `success`."""
        with self._folding:
            self._folding.fold(self._trends)
            kept = list(self._trends.events)
        return [
            {"timestamp": utc_text(at), "function": function, "metric": metric, "value": value, "success": success}
            for at, function, metric, value, success in kept
        ]

    def bind(self, function_signature: FunctionSignature) -> tuple[None, End | None] | None:
        """Return how to be told of one function's calls without a context.

        None if a metric is taken from arguments or variables, or for a subclass with an `update` of its own.
        """
        if type(self).update is not BusinessMetricsObserver.update:
            return None
        asked = self._asked_of(function_signature)
        if not asked.sources:
            return None, None
        if asked.sources != {"result"}:
            return None
        function, count = self._functions.of(function_signature), self._count

        def end(_elapsed: float, value: Any, _exception: BaseException | None, outcome: Outcome) -> None:
            count(function, asked, outcome, {"result": value})

        return None, end

    def update(self, context: ExecutionContext) -> None:
        """Count the call of a context that shows a terminal state."""
        outcome = context.outcome
        if outcome is None:
            return
        asked = self._asked_of(context.function_signature)
        if not asked.sources:
            return
        readable: dict[str, Any] = {}
        for source in asked.sources:
            if source == "result":
                readable[source] = None if context.result is None else context.result.value
            else:
                readable[source] = context.arguments if source == "arguments" else context.local_variables
        self._count(self._functions.of(context.function_signature), asked, outcome, readable)

    def get_business_summary(self) -> dict[str, Any]:
        """Return the numbers so far, as plain dictionaries.

        `total_metrics` has the totals by function and metric; `recent_events` is the number of events in the window,
        `recent_metrics` what they add up to by metric; `daily_trends` has the totals by day ("2025-01-31", in UTC) and
        metric; `function_performance` has for each function `total_calls`, `success_rate` (percent) and
        `total_business_value`, the sum of all metrics of the calls that succeeded. `ignored_values` counts the numbers
        that were not finite.

        Functions go by their bare name while only one has it, else by their qualified or full name.
        """
        with self._folding:
            self._folding.fold(self._trends)
            trends = self._trends
            trends.recent.expire(self._now())
            recent_metrics: dict[str, float] = {}
            for recent in trends.recent:
                for metric, value in recent.metrics.items():
                    recent_metrics[metric] = recent_metrics.get(metric, 0.0) + value
            return {
                "total_metrics": self._totals(),
                "recent_events": sum(recent.events for recent in trends.recent),
                "recent_metrics": recent_metrics,
                "daily_trends": {
                    utc_text(day * DAY)[:10]: {metric: total.value for metric, total in trends.days[day].items()}
                    for day in sorted(trends.days)
                },
                "function_performance": {
                    shown: {
                        "total_calls": function.calls,
                        "success_rate": function.successes / function.calls * 100,
                        "total_business_value": function.value.value,
                    }
                    for shown, function in self._functions.named().items()
                    if function.calls
                },
                "ignored_values": self._ignored.count,
            }

    def get_metrics(self) -> dict[str, Any]:
        """Return what `get_business_summary` does."""
        return self.get_business_summary()

    def reset(self) -> None:
        """Forget all numbers."""
        with self._folding:
            self._trends.clear()
            for function in self._functions:
                function.calls = function.successes = 0
                function.value = CompensatedSum()
                function.metrics = {}
            self._ignored = Tally()

    def _totals(self) -> dict[str, dict[str, float]]:
        return {
            shown: {metric: total.value for metric, total in function.metrics.items()}
            for shown, function in self._functions.named().items()
            if function.metrics
        }

    def _asked_of(self, signature: FunctionSignature) -> Asked:
        key = (signature.module, signature.qualname)
        known = self._known.get(key)
        if known is None:
            known = Asked(self._fitting(names_of(signature)))
            if len(self._known) < _MAX_KNOWN:
                self._known[key] = known
        return known

    def _fitting(self, names: Sequence[str]) -> Metrics:
        fitting = [key for key in self._config if matches((key,), names)]
        # Patterns first, so that what is said of a name replaces what is said of many.
        fitting.sort(key=lambda key: (key in names, key == names[0]))
        return {metric: found for key in fitting for metric, found in self._config[key].items()}

    def _count(self, function: FunctionTotals, asked: Asked, outcome: Outcome, readable: dict[str, Any]) -> None:
        success = outcome in _SUCCEEDED
        if not success and outcome not in _FAILED:
            return
        values = []
        for name, metric in asked.of_success if success else asked.of_failure:
            value = metric.value_in(readable[metric.source])
            if value is None:
                continue
            if math.isfinite(value):
                values.append((name, value))
            else:
                next(self._ignored)
        waiting = self._trends.waiting
        waiting.append((function, self._now(), success, values))
        if len(waiting) >= _BATCH:
            self._folding.attempt(self._trends)

    def __getstate__(self) -> dict[str, Any]:
        with self._folding:
            self._folding.fold(self._trends)
            trends = self._trends.copied()
            functions = self._functions.copied(copy.deepcopy)
        own = {"_trends": trends, "_functions": functions, "_ignored": Tally(self._ignored.count)}
        return {**self.__dict__, **own, "_folding": Folding()}


def _nothing(_: FunctionSignature) -> bool:
    return False
