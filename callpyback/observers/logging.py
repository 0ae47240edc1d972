"""A log record for every call: by structlog, or by a logger of the standard library."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import structlog

from callpyback.core.configuration import checked_switch, looking_at, refuse
from callpyback.core.functions import full_name
from callpyback.core.notices import RetryNotice
from callpyback.core.safe_repr import safe_arguments, safe_text, type_name
from callpyback.core.state_machine import TERMINAL_STATES, ExecutionState, Notice, Outcome
from callpyback.errors import nearest
from callpyback.observers.base import BaseObserver

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext
    from callpyback.core.functions import FunctionSignature
    from callpyback.protocols import Begin, End

STARTED: Final = "call.started"
RETRYING: Final = "call.retrying"
EVENTS: Final = {
    Outcome.SUCCESS: "call.succeeded",
    Outcome.FAILURE: "call.failed",
    Outcome.HANDLED: "call.handled",
    Outcome.SUPPLIED: "call.supplied",
    Outcome.VETOED: "call.vetoed",
    Outcome.TIMED_OUT: "call.timed_out",
    Outcome.CANCELLED: "call.cancelled",
    Outcome.ABANDONED: "call.abandoned",
    Outcome.ABORTED: "call.aborted",
}
"""The name of the event for each outcome. Names and keys of events are part of the public interface."""

# None stands for the beginning of a call.
_QUIET: Final = (None, Outcome.SUCCESS, Outcome.SUPPLIED, Outcome.CANCELLED, Outcome.ABANDONED)
_LOUD: Final = (Outcome.FAILURE, Outcome.TIMED_OUT, Outcome.ABORTED)
_BETWEEN: Final = (Outcome.HANDLED, Outcome.VETOED)
_METHODS: Final = {
    logging.CRITICAL: "critical",
    logging.ERROR: "error",
    logging.WARNING: "warning",
    logging.INFO: "info",
}


class LoggingObserver(BaseObserver):
    """Logs the end of every call and every retry, failures louder than successes.

    The events are `call.succeeded`, `call.failed`, `call.handled`, `call.supplied`, `call.vetoed`, `call.timed_out`,
    `call.cancelled`, `call.abandoned` and `call.aborted`, on request `call.started`; and `call.retrying` when a body
    that failed is to run again, with the keys `attempt` and `wait` (seconds). Their keys are `function`
    (`module.qualname`), `outcome`, `execution_time` (seconds, None if unknown), and if there was an exception
    `exception_type` and `exception_text`, one bounded line. With `arguments=True` there are also `arguments`, each as
    bounded text, and the `call_id`; every call then makes a context, and the `__repr__` of its arguments runs if the
    level is enabled.

    A structlog logger gets the event and the keys. A logger of the standard library gets one line of text,
    `event key=value ...`, and the same as attributes of the record (`extra`). Where the level is not enabled, a call
    costs that check and nothing else; changes of the level and of structlog's configuration take effect at once.

    Args:
        logger: A structlog logger, a `logging.Logger` or a `logging.LoggerAdapter`; by default
            `structlog.get_logger("callpyback")`. Structlog's configuration is left as it is.
        log_level: The level of calls that ended well, as a number or a name; also of cancelled and abandoned ones.
        failure_level: The level of failed, timed-out and aborted calls; ERROR by default, or `log_level` if that is
            higher. Handled and vetoed calls and retries are logged as warnings, if that is between the two levels.
        arguments: Whether to log arguments. They may be secret.
        started: Whether to log the beginning of each call too, at `log_level`.
        priority: Higher is told earlier.
        name: How it is shown.

    Raises:
        ConfigurationError: A parameter is none of these.

    Example:
        >>> import logging, sys
        >>> from callpyback import CallPyBack, LoggingObserver
        >>> logger = logging.getLogger("shop")
        >>> logger.addHandler(logging.StreamHandler(sys.stdout))
        >>> @CallPyBack(observers=[LoggingObserver(logger)])
        ... def pay(amount):
        ...     raise ValueError("card declined")
        >>> try:
        ...     pay(10)
        ... except ValueError:
        ...     pass  # doctest: +ELLIPSIS
        call.failed function=...pay outcome=failure execution_time=... exception_type=ValueError ...
    """

    notices = frozenset({Notice.RETRY})

    def __init__(
        self,
        logger: Any = None,
        log_level: int | str = logging.INFO,
        *,
        failure_level: int | str | None = None,
        arguments: bool = False,
        started: bool = False,
        priority: float = 0,
        name: str | None = None,
    ) -> None:
        self._started = checked_switch("started", started)
        states = TERMINAL_STATES | {ExecutionState.PRE_EXECUTION} if started else TERMINAL_STATES
        super().__init__(priority, name, states=states)
        self._with_arguments = checked_switch("arguments", arguments)
        self._failure_level = None if failure_level is None else _checked_level("failure_level", failure_level)
        self._log_level = _checked_level("log_level", log_level)
        self._levels: dict[Outcome | None, int] = {}
        self._logger = logger
        self._sink = _sink_for(logger)
        self._settle_levels()

    @property
    def log_level(self) -> int:
        """The level of calls that ended well."""
        return self._log_level

    @log_level.setter
    def log_level(self, level: int | str) -> None:
        self._log_level = _checked_level("log_level", level)
        self._settle_levels()

    @property
    def failure_level(self) -> int:
        """The level of calls that failed."""
        return max(logging.ERROR, self._log_level) if self._failure_level is None else self._failure_level

    @failure_level.setter
    def failure_level(self, level: int | str) -> None:
        self._failure_level = _checked_level("failure_level", level)
        self._settle_levels()

    def bind(self, function_signature: FunctionSignature) -> tuple[Begin | None, End] | None:
        """Return how to be told of one function's calls without a context.

        None if arguments are asked for, which only a context has, or for a subclass with an `update` of its own.
        """
        if self._with_arguments or type(self).update is not LoggingObserver.update:
            return None
        function, levels = full_name(function_signature), self._levels
        is_enabled, write = self._sink.is_enabled, self._sink.write

        def begin() -> None:
            if is_enabled(levels[None]):
                write(levels[None], STARTED, {"function": function})

        def end(elapsed: float, _value: Any, exception: BaseException | None, outcome: Outcome) -> None:
            level = levels[outcome]
            if is_enabled(level):
                write(level, EVENTS[outcome], _fields(function, outcome, elapsed, exception))

        return begin if self._started else None, end

    def update(self, context: ExecutionContext) -> None:
        """Log the call of a context that shows a terminal state, a retry, and on request the beginning."""
        notice = context.notice
        if notice is not None:
            if isinstance(notice, RetryNotice):
                self._log_retry(context, notice)
            return
        outcome = context.outcome
        begins = self._started and context.state is ExecutionState.PRE_EXECUTION
        if not begins and outcome is None:
            return
        level = self._levels[outcome]
        if not self._sink.is_enabled(level):
            return
        fields: dict[str, Any] = {"function": full_name(context.function_signature)}
        if outcome is not None:
            exception = None if context.result is None else context.result.exception
            fields = _fields(fields["function"], outcome, context.execution_time, exception)
        if self._with_arguments:
            fields["arguments"] = safe_arguments(context.arguments)
        fields["call_id"] = context.call_id
        self._sink.write(level, STARTED if outcome is None else EVENTS[outcome], fields)

    def _log_retry(self, context: ExecutionContext, notice: RetryNotice) -> None:
        level = self._levels[Outcome.HANDLED]
        if self._sink.is_enabled(level):
            fields = {
                "function": full_name(context.function_signature),
                "attempt": notice.attempt,
                "wait": notice.wait,
                "exception_type": type_name(notice.exception),
                "exception_text": safe_text(notice.exception),
            }
            self._sink.write(level, RETRYING, fields)

    def _settle_levels(self) -> None:
        """Set the level of each outcome, and of the beginning, in the one dictionary that bound functions read."""
        quiet, loud = self._log_level, self.failure_level
        between = max(quiet, min(logging.WARNING, loud))
        for outcomes, level in ((_QUIET, quiet), (_BETWEEN, between), (_LOUD, loud)):
            self._levels.update(dict.fromkeys(outcomes, self._sink.own_level(level)))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_sink"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._sink = _sink_for(self._logger)


class _StandardLogger:
    """Writes to a logger of the standard library."""

    def __init__(self, logger: logging.Logger | logging.LoggerAdapter[Any]) -> None:
        self._logger = logger
        self.is_enabled = logger.isEnabledFor

    def own_level(self, level: int) -> int:
        return level

    def write(self, level: int, event: str, fields: dict[str, Any]) -> None:
        text = " ".join(f"{key}={_in_text(value)}" for key, value in fields.items())
        self._logger.log(level, "%s %s", event, text, extra={"event": event, **fields})


class _PublicConfiguration:
    """Structlog's configuration, read as documented: a dictionary made anew each time."""

    @property
    def default_wrapper_class(self) -> object:
        return structlog.get_config()["wrapper_class"]

    @property
    def logger_factory(self) -> object:
        return structlog.get_config()["logger_factory"]


def _configuration() -> Any:
    """Return what holds structlog's configuration: its own object if it is as expected, which is far faster to ask."""
    held = getattr(sys.modules.get("structlog._config"), "_CONFIG", None)
    known = all(hasattr(held, name) for name in ("default_wrapper_class", "logger_factory"))
    return held if known else _PublicConfiguration()


_CONFIGURATION: Final = _configuration()


class _Structlog:
    """Writes to a structlog logger, or to anything that has its methods.

    Structlog has no one way to ask whether a level is enabled. Its loggers are proxies that make a bound logger, as
    configured at the time, for each record: too slow to ask each time. So one bound logger is kept to ask, until the
    configuration is another; those of structlog 25.1 and later and those around the standard library can tell. Where
    nothing tells, every record is handed over, and structlog drops what is too quiet.
    """

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._wrapper_class: object = None
        self._logger_factory: object = None
        self._enabled: Callable[[int], bool] | None = None

    def is_enabled(self, level: int) -> bool:
        config = _CONFIGURATION
        if config.default_wrapper_class is not self._wrapper_class or config.logger_factory is not self._logger_factory:
            self._wrapper_class, self._logger_factory = config.default_wrapper_class, config.logger_factory
            self._enabled = _level_check_of(self._logger)
        enabled = self._enabled
        return enabled is None or enabled(level)

    def own_level(self, level: int) -> int:
        """Return the standard level that is not above this one: structlog has methods for these and for no others."""
        return next((standard for standard in _METHODS if level >= standard), logging.DEBUG)

    def write(self, level: int, event: str, fields: dict[str, Any]) -> None:
        getattr(self._logger, _METHODS.get(level, "debug"))(event, **fields)


def _level_check_of(logger: Any) -> Callable[[int], bool] | None:
    # Looked up on classes: structlog's generic bound logger turns every unknown attribute into a record to write.
    for candidate in (logger, logger.bind() if hasattr(type(logger), "bind") else logger):
        for name in ("is_enabled_for", "isEnabledFor"):
            if hasattr(type(candidate), name):
                check: Callable[[int], bool] = getattr(candidate, name)
                return check
    return None


def _sink_for(logger: Any) -> _StandardLogger | _Structlog:
    if logger is None:
        return _Structlog(structlog.get_logger("callpyback"))
    with looking_at("logger", logger):
        if isinstance(logger, logging.Logger | logging.LoggerAdapter):
            return _StandardLogger(logger)
        has_methods = all(callable(getattr(logger, name, None)) for name in _METHODS.values())
        if isinstance(logger, type) or not has_methods:
            refuse("logger", logger, 'a structlog or standard logger, such as logging.getLogger("shop")')
        return _Structlog(logger)


def _checked_level(parameter: str, level: Any) -> int:
    known = logging.getLevelNamesMapping()
    with looking_at(parameter, level):
        if isinstance(level, str):
            if level.upper() not in known:
                refuse(parameter, level, f"one of {', '.join(known)}{nearest(level.upper(), known)}")
            return known[level.upper()]
        if not isinstance(level, int) or isinstance(level, bool) or level < 0:
            refuse(parameter, level, 'a level, such as logging.INFO or "INFO"')
        return level


def _fields(function: str, outcome: Outcome, elapsed: float | None, exception: BaseException | None) -> dict[str, Any]:
    known = elapsed is not None and math.isfinite(elapsed)
    fields = {"function": function, "outcome": outcome.value, "execution_time": elapsed if known else None}
    if exception is not None:
        fields["exception_type"] = type_name(exception)
        # Not "exception": structlog takes that for a traceback, and prints it on lines of its own.
        fields["exception_text"] = safe_text(exception)
    return fields


def _in_text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    if isinstance(value, dict):
        text = f"({', '.join(f'{name}={shown}' for name, shown in value.items())})"
    if not text or set(text) & set(' ="'):
        text = '"' + text.replace('"', '\\"') + '"'
    return text
