"""An audit of sensitive functions, and alerts for errors that are a matter of security."""

from __future__ import annotations

import json
import logging
import sys
from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.configuration import checked_clocks, checked_count, looking_at, refuse
from callpyback.core.functions import full_name
from callpyback.core.interest import Want, matches, names_of
from callpyback.core.masking import MASK, Masking
from callpyback.core.reporting import Interval, log
from callpyback.core.safe_repr import one_line, safe_repr, safe_text, type_name
from callpyback.core.state_machine import TERMINAL_STATES, ExecutionState, Outcome
from callpyback.core.time_sources import SYSTEM
from callpyback.core.timestamps import utc_text
from callpyback.observers.base import BaseObserver
from callpyback.observers.parts.alert_log import HIGH, AlertLog, OnAlert
from callpyback.observers.parts.suspicion import PATTERNS, Pattern, Suspicion
from callpyback.observers.parts.tally import Tally

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext
    from callpyback.core.functions import FunctionSignature
    from callpyback.protocols import TimeSource

AUDIT_LOG: Final = "security_audit"

_UNKNOWN: Final = "unknown"
_MAX_FUNCTIONS: Final = 10_000
_USERS: Final = ("user_id", "user", "username")
_FAILED: Final = (ExecutionState.POST_FAILURE, ExecutionState.ERROR)


class SecurityAuditObserver(BaseObserver):
    """Writes an event for each call of a sensitive function, and an alert for each error that looks like an attack.

    Both are lines of the audit log: `SECURITY_EVENT: {...}` at INFO and `SECURITY_ALERT: {...}` at WARNING, with one
    line of JSON each, whatever is in names, arguments and messages. The newest are kept as `security_events` and
    `alerts`.

    An **event** is written when a call has ended, however it ended, once for each call: `timestamp` (ISO 8601, UTC),
    `function` (the bare name), `full_name`, `user` (of the arguments `user_id`, `user` or `username`, else "unknown"),
    `action` and `source_ip` (of the arguments of these names), `success`, `state` ("COMPLETED" or "ERROR"), `outcome`,
    and if it failed `error` and `error_type`.

    An **alert** is written when a body failed, or a guard refused the call, with an error of one of the classes
    `alert_on`, or with one of the `patterns` as whole words in its type or message: `timestamp`, `function`,
    `full_name`, `error`, `error_type`, `reason`, `arguments`, `severity` ("HIGH"). Sensitive or not, all functions
    that are observed are watched for these. A body that is retried is one alert for each attempt.

    Arguments are bounded text. What goes by a secret name, such as `password` or `x-api-key`, is replaced by
    `***REDACTED***`, in arguments at any depth and in the text of errors; see `Masking`. A secret that a message shows
    without its name is hidden if it was an argument with a secret name. User, action and source are shown.

    Functions that are not sensitive cost nothing until they fail. Where a line can't be written, that is reported on
    the logger `callpyback`, and the call goes on; with `critical=True` the caller gets the error.

    Args:
        audit_logger: A logger; by default the logger `security_audit` of the standard library.
        sensitive_functions: Names: bare, qualified, `module.qualname`, or patterns such as "shop.admin.*".
        patterns: Phrases, or compiled regular expressions; see `Suspicion`.
        alert_on: Exception classes.
        masked_keys: Names of further secrets.
        max_events: How many events, and how many alerts, are kept.
        on_alert: Called with each alert, in the thread of the call. What it raises is logged and goes no further.
        critical: Let the caller have the error if a line of a sensitive call, or an alert, can't be written.
        time_source: Where timestamps come from; the system's clock by default.
        priority: Higher is told earlier.
        name: How it is shown.

    Raises:
        ConfigurationError: A parameter is none of these.

    Example:
        >>> from callpyback import CallPyBack
        >>> audit = SecurityAuditObserver(sensitive_functions={"login"})
        >>> @CallPyBack(observers=[audit])
        ... def login(username, password, source_ip):
        ...     raise PermissionError(f"{password} is not the password of {username}")
        >>> try:
        ...     login("ann", "tulip", "192.0.2.1")
        ... except PermissionError:
        ...     pass
        >>> [alert] = audit.alerts
        >>> alert["error"], alert["arguments"]["password"]
        ('***REDACTED*** is not the password of ann', '***REDACTED***')
        >>> [event] = audit.security_events
        >>> event["user"], event["source_ip"], event["success"]
        ('ann', '192.0.2.1', False)
    """

    hears_calls_alone = True

    def __init__(
        self,
        audit_logger: Any = None,
        sensitive_functions: Iterable[str] | None = None,
        *,
        patterns: Iterable[Pattern] = PATTERNS,
        alert_on: Any = (PermissionError,),
        masked_keys: Iterable[str] = (),
        max_events: int = 1000,
        on_alert: OnAlert | None = None,
        critical: bool = False,
        time_source: TimeSource | None = None,
        priority: float = 999,
        name: str | None = "SecurityAudit",
    ) -> None:
        super().__init__(priority, name, critical=critical)
        self._logger = _checked_logger(audit_logger)
        self._sensitive = _checked_functions(sensitive_functions)
        self._known: dict[tuple[str, str], bool] = {}
        self._suspicion = Suspicion(alert_on, patterns)
        self._masking = Masking(masked_keys)
        self._now, _ = checked_clocks(time_source)
        self._events: deque[dict[str, Any]] = deque(maxlen=min(checked_count("max_events", max_events), sys.maxsize))
        self._log = AlertLog(max_events, on_alert)
        self._written = Tally()
        self._failed_writes = Tally()
        self._interval = Interval()
        failures = Want((), _FAILED, ())
        sensitive = Want(tuple(self._sensitive), tuple(TERMINAL_STATES), ())
        self.wants = (sensitive, failures) if self._sensitive else (failures,)

    @property
    def audit_logger(self) -> Any:
        """Where events and alerts are written."""
        return self._logger

    @property
    def sensitive_functions(self) -> frozenset[str]:
        """The names and patterns of sensitive functions."""
        return self._sensitive

    @property
    def security_events(self) -> list[dict[str, Any]]:
        """Copies of the newest events, the newest last."""
        return [dict(event) for event in tuple(self._events)]

    @property
    def alerts(self) -> list[dict[str, Any]]:
        """Copies of the newest alerts, the newest last."""
        return self._log.kept()

    def update(self, context: ExecutionContext) -> None:
        """Look at a failure, and write down the end of a call of a sensitive function."""
        is_refused = context.state is ExecutionState.ERROR and context.outcome is Outcome.VETOED
        if context.state is ExecutionState.POST_FAILURE or is_refused:
            self._look_at(context)
        if context.state in TERMINAL_STATES and self.is_sensitive(context.function_signature):
            event = self._event_of(context)
            self._events.append(event)
            next(self._written)
            self._write("SECURITY_EVENT", event, is_alert=False)

    def is_sensitive(self, function_signature: FunctionSignature) -> bool:
        """Return whether a function is among the sensitive ones."""
        key = (function_signature.module, function_signature.qualname)
        known = self._known.get(key)
        if known is None:
            known = matches(self._sensitive, names_of(function_signature))
            if len(self._known) < _MAX_FUNCTIONS:
                self._known[key] = known
        return known

    def get_metrics(self) -> dict[str, Any]:
        """Return how many events and alerts there were, how many are kept, and how often writing or telling failed."""
        return {
            "events": self._written.count,
            "alerts": self._log.total,
            "kept_events": len(self._events),
            "kept_alerts": len(self._log.kept()),
            "failed_writes": self._failed_writes.count,
            "failed_callbacks": self._log.failed_callbacks,
        }

    def reset(self) -> None:
        """Forget events, alerts and counts; the audit log stays as it is."""
        self._events.clear()
        self._log.clear()
        self._written, self._failed_writes = Tally(), Tally()

    def _look_at(self, context: ExecutionContext) -> None:
        error = None if context.result is None else context.result.exception
        reason = None if error is None else self._suspicion.reason(error)
        if error is None or reason is None:
            return
        arguments = context.arguments
        alert = {
            "timestamp": utc_text(self._now()),
            "function": one_line(context.function_signature.name),
            "full_name": full_name(context.function_signature),
            **self._error_of(error, arguments),
            "reason": reason,
            "arguments": self._masking.arguments(arguments),
            "severity": HIGH,
        }
        self._log.report(alert, None)
        self._write("SECURITY_ALERT", alert, is_alert=True)

    def _event_of(self, context: ExecutionContext) -> dict[str, Any]:
        arguments, outcome = context.arguments, context.outcome
        event = {
            "timestamp": utc_text(self._now()),
            "function": one_line(context.function_signature.name),
            "full_name": full_name(context.function_signature),
            "user": self._first_of(arguments, _USERS),
            "action": self._first_of(arguments, ("action",)),
            "source_ip": self._first_of(arguments, ("source_ip",)),
            "success": context.is_successful,
            "state": context.state.name,
            "outcome": None if outcome is None else outcome.value,
        }
        error = None if context.result is None else context.result.exception
        return event if error is None else {**event, **self._error_of(error, arguments)}

    def _error_of(self, error: BaseException, arguments: dict[str, Any]) -> dict[str, str]:
        name = one_line(type_name(error))
        return {"error": self._masking.exception(error, arguments).removeprefix(f"{name}: "), "error_type": name}

    def _first_of(self, arguments: dict[str, Any], names: tuple[str, ...]) -> Any:
        name = next((name for name in names if arguments.get(name) is not None), None)
        if name is None:
            return _UNKNOWN
        if self._masking.is_secret(name):
            return MASK
        shown = self._masking.plain(arguments[name])
        return safe_repr(shown) if isinstance(shown, dict | list) else shown

    def _write(self, kind: str, record: dict[str, Any], *, is_alert: bool) -> None:
        logger, level = self._logger, logging.WARNING if is_alert else logging.INFO
        try:
            if isinstance(logger, logging.Logger) and not logger.isEnabledFor(level):
                return
            line = f"{kind}: {json.dumps(record)}"
            (logger.warning if is_alert else logger.info)(line)
        except Exception as error:
            next(self._failed_writes)
            if self.critical:
                raise
            if self._interval.begins(SYSTEM.monotonic()):
                held_back = self._interval.held_back()
                log(logging.ERROR, "the audit log can't be written: %s%s", safe_text(error), held_back)

    def __getstate__(self) -> dict[str, Any]:
        own = {"_events": self._events.copy(), "_log": self._log.copied({}), "_interval": Interval()}
        counts = {"_written": Tally(self._written.count), "_failed_writes": Tally(self._failed_writes.count)}
        return {**self.__dict__, **own, **counts}


def _checked_logger(logger: Any) -> Any:
    if logger is None:
        return logging.getLogger(AUDIT_LOG)
    with looking_at("audit_logger", logger):
        has_methods = all(callable(getattr(logger, name, None)) for name in ("info", "warning"))
        if isinstance(logger, type) or not has_methods:
            refuse("audit_logger", logger, 'a logger, such as logging.getLogger("security_audit")')
        return logger


def _checked_functions(functions: Any) -> frozenset[str]:
    expected = 'names or patterns of functions, such as sensitive_functions={"login", "shop.admin.*"}'
    with looking_at("sensitive_functions", functions):
        if functions is None:
            return frozenset()
        if isinstance(functions, str | bytes) or not isinstance(functions, Iterable):
            refuse("sensitive_functions", functions, expected)
        listed = list(islice(functions, _MAX_FUNCTIONS + 1))
        if len(listed) > _MAX_FUNCTIONS:
            refuse("sensitive_functions", functions, f"at most {_MAX_FUNCTIONS} of them; a pattern stands for many")
        for function in listed:
            if not isinstance(function, str) or not function:
                refuse("sensitive_functions", functions, f"{expected}; {safe_repr(function)} is none")
        return frozenset(map(str, listed))
