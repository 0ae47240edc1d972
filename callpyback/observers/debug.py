"""A readable trace of calls while they run: one line for each beginning, retry and end, nested by depth."""

from __future__ import annotations

import logging
import os
import sys
import threading
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TextIO

from callpyback.core.configuration import checked_count, checked_switch, looking_at, refuse
from callpyback.core.functions import full_name
from callpyback.core.masking import MASKING
from callpyback.core.notices import ProgressNotice
from callpyback.core.reporting import Interval, log
from callpyback.core.safe_repr import one_line, safe_repr, safe_text
from callpyback.core.state_machine import TERMINAL_STATES, ExecutionState, Notice, Outcome
from callpyback.core.time_sources import SYSTEM
from callpyback.observers.base import BaseObserver
from callpyback.observers.parts.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Mapping

    from callpyback.core.context import ExecutionContext
    from callpyback.events.event import Event

_INDENT: Final = "|  "
_MAX_INDENTS: Final = 20
_MAX_ARGUMENTS: Final = 20
_MAX_NAME: Final = 40
_LINE_LENGTH: Final = 4000
_RED, _GREEN, _YELLOW, _DIM, _PLAIN = "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[2m", "\x1b[0m"
_COLOURS: Final = {
    Outcome.SUCCESS: _GREEN,
    Outcome.SUPPLIED: _GREEN,
    Outcome.HANDLED: _YELLOW,
    Outcome.VETOED: _YELLOW,
    Outcome.CANCELLED: _YELLOW,
    Outcome.ABANDONED: _YELLOW,
}
_ENDS: Final = {
    Outcome.FAILURE: "raised",
    Outcome.HANDLED: "raised",
    Outcome.VETOED: "vetoed:",
    Outcome.TIMED_OUT: "timed out:",
    Outcome.CANCELLED: "cancelled:",
    Outcome.ABANDONED: "abandoned:",
    Outcome.ABORTED: "aborted:",
}
_UNITS: Final = ((1.0, "s", 1.0), (1e-3, "ms", 1e3), (0.0, "us", 1e6))


class DebugObserver(BaseObserver):
    r"""Writes a line when a call begins, when its body is to run again, when it says how far it is, and when it ends.

    Calls inside calls are indented. On an event bus it writes a line for each event. Lines of other threads than the
    main one, and of tasks, begin with their names in brackets. Arguments, results, locals that were captured and
    exceptions are shown as bounded text; a line break in any of them is shown as `\n`, so a line is a line. What goes
    by a secret name or looks like a secret is hidden (see `Masking`).

    Meant for looking at a program, not for production: each call costs the making of two lines and the writing of them.
    A line is written by one call of `write`, so that the lines of threads do not mix. What the stream raises is
    counted, and logged at most once a minute; a character that it can't encode is written as an escape.

    A copy or pickle of the observer writes to stderr if this one has a stream of its own: streams stay where they are.

    Args:
        stream: Where to write; by default `sys.stderr`, as it is at the time.
        logger: Write to a logger in place of the stream, at level DEBUG: one of the standard library, or anything with
            `debug(text)`. Where a standard one is not enabled, nothing is made.
        arguments: Whether to show arguments.
        results: Whether to show results and captured locals.
        mask: Whether to hide secrets.
        color: Whether to colour the ends of calls, if the stream is a terminal and `NO_COLOR` is not set.
        max_length: The greatest length of each value shown, in characters.
        priority: Higher is told earlier.
        name: How it is shown.

    Raises:
        ConfigurationError: A parameter is none of these, or both a stream and a logger are given.

    Example:
        >>> import sys
        >>> from callpyback import CallPyBack, MockTimeSource
        >>> clock = MockTimeSource()
        >>> trace = CallPyBack(observers=[DebugObserver(sys.stdout)], time_source=clock)
        >>> @trace
        ... def pay(amount):
        ...     clock.advance(0.012)
        ...     return "paid"
        >>> pay(30)
        -> callpyback.observers.debug.pay(amount=30)
        <- callpyback.observers.debug.pay = 'paid'  [12 ms]
        'paid'
    """

    states = TERMINAL_STATES | {ExecutionState.PRE_EXECUTION}
    notices = frozenset(Notice)
    traces_calls = True

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        logger: Any = None,
        arguments: bool = True,
        results: bool = True,
        mask: bool = True,
        color: bool = False,
        max_length: int = 80,
        priority: float = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(priority, name)
        self._stream = _checked_stream(stream)
        self._logger = _checked_logger(logger)
        if stream is not None and logger is not None:
            refuse("logger", logger, "one of stream= and logger=; leave one of them out")
        self._shows_arguments = checked_switch("arguments", arguments)
        self._shows_results = checked_switch("results", results)
        self._masks = checked_switch("mask", mask)
        self._color = checked_switch("color", color)
        self._max_length = checked_count("max_length", max_length)
        self._written, self._failed = Tally(), Tally()
        self._reports = Interval()

    def update(self, context: ExecutionContext) -> None:
        """Write a line about a beginning, a notice or an end."""
        if not self._is_enabled():
            return
        depth = context.depth
        if context.state is ExecutionState.PRE_EXECUTION:
            self._write(depth, f"-> {full_name(context.function_signature)}{self._arguments_of(context)}", "")
        elif context.notice is not None:
            self._write(depth, f".. {full_name(context.function_signature)} {self._notice_of(context)}", _YELLOW)
        elif context.outcome is not None:
            colour = _COLOURS.get(context.outcome, _RED)
            self._write(depth, f"<- {full_name(context.function_signature)}{self._end_of(context)}", colour)

    def _is_enabled(self) -> bool:
        logger = self._logger
        return not isinstance(logger, logging.Logger | logging.LoggerAdapter) or logger.isEnabledFor(logging.DEBUG)

    def on_event(self, event: Event) -> None:
        """Write a line about an event of a bus."""
        if self._is_enabled():
            data = f"({self._shown(event.data)})" if self._shows_arguments else ""
            self._write(0, f"** {one_line(event.name)}{data}", "")

    def get_metrics(self) -> dict[str, Any]:
        """Return how many lines were written, and how many could not be."""
        return {"written": self._written.count, "failed": self._failed.count}

    def reset(self) -> None:
        """Start the counts anew."""
        self._written, self._failed = Tally(), Tally()

    def _arguments_of(self, context: ExecutionContext) -> str:
        return f"({self._shown(context.arguments)})" if self._shows_arguments else ""

    def _shown(self, values: Mapping[str, Any]) -> str:
        shown = [
            f"{one_line(name)}={safe_repr(v, self._max_length)}" for name, v in islice(values.items(), _MAX_ARGUMENTS)
        ]
        return ", ".join([*shown, "..."] if len(values) > _MAX_ARGUMENTS else shown)

    def _notice_of(self, context: ExecutionContext) -> str:
        notice: Any = context.notice
        if isinstance(notice, ProgressNotice):
            total = "" if notice.total is None else f" of {safe_repr(notice.total, self._max_length)}"
            return f"is at {safe_repr(notice.done, self._max_length)}{total}"
        error = safe_text(notice.exception, self._max_length)
        return f"attempt {notice.attempt} raised {error}; again in {_duration(notice.wait)}"

    def _end_of(self, context: ExecutionContext) -> str:
        parts = [self._result_of(context)]
        if context.returned is not None or context.outcome is Outcome.HANDLED:
            by = "" if context.decided_by is None else f" by {one_line(context.decided_by, _MAX_NAME)}"
            given = f" {safe_repr(context.returned, self._max_length)}" if self._shows_results else ""
            parts.append(f"; given{given}{by}")
        elif context.decided_by is not None:
            parts.append(f"; by {one_line(context.decided_by, _MAX_NAME)}")
        if context.items is not None:
            parts.append(f", {context.items} items")
        if context.attempt > 1:
            parts.append(f", attempt {context.attempt}")
        if self._shows_results and context.local_variables:
            parts.append(f", {{{self._shown(context.local_variables)}}}")
        return f"{''.join(parts)}  [{_duration(context.execution_time)}]"

    def _result_of(self, context: ExecutionContext) -> str:
        result, outcome = context.result, context.outcome
        if result is not None and result.exception is not None and outcome is not None:
            return f" {_ENDS.get(outcome, 'raised')} {safe_text(result.exception, self._max_length)}"
        if not self._shows_results or result is None or outcome is Outcome.SUPPLIED:
            return " answered" if outcome is Outcome.SUPPLIED else " returned"
        return f" = {safe_repr(result.value, self._max_length)}"

    def _write(self, depth: int, text: str, colour: str) -> None:
        deeper = f"({depth}) " if depth > _MAX_INDENTS else ""
        line = one_line(f"{_speaker()}{_INDENT * min(depth, _MAX_INDENTS)}{deeper}{text}", _LINE_LENGTH)
        line = MASKING.text(line) if self._masks else line
        try:
            self._send(line, colour)
        except Exception as error:  # noqa: BLE001 - the stream is the user's
            next(self._failed)
            if self._reports.begins(SYSTEM.monotonic()):
                log(
                    logging.WARNING,
                    "observer %s could not write: %s%s",
                    self.name,
                    safe_text(error),
                    self._reports.held_back(),
                )
        else:
            next(self._written)

    def _send(self, line: str, colour: str) -> None:
        if self._logger is not None:
            if isinstance(self._logger, logging.Logger | logging.LoggerAdapter):
                self._logger.debug("%s", line)
            else:
                self._logger.debug(line)
            return
        stream: Any = sys.stderr if self._stream is None else self._stream
        if stream is None:  # a program without a console
            return
        if colour and self._color and not os.environ.get("NO_COLOR") and stream.isatty():
            line = f"{colour}{line}{_PLAIN}"
        try:
            stream.write(f"{line}\n")
        except UnicodeEncodeError:
            stream.write(f"{line.encode('ascii', 'backslashreplace').decode('ascii')}\n")

    def __getstate__(self) -> dict[str, Any]:
        counts = {"_written": Tally(self._written.count), "_failed": Tally(self._failed.count)}
        return {**self.__dict__, **counts, "_stream": None, "_reports": Interval()}


def _speaker() -> str:
    """Return the name of the thread or task, with a space; nothing in the main thread outside tasks."""
    asyncio: Any = sys.modules.get("asyncio")
    thread = threading.current_thread()
    names = [] if thread is threading.main_thread() else [thread.name]
    if asyncio is not None:
        try:
            task = asyncio.current_task()
        except RuntimeError:
            task = None
        if task is not None:
            names.append(task.get_name())
    return f"[{'/'.join(one_line(name, _MAX_NAME) for name in names)}] " if names else ""


def _duration(seconds: float | None) -> str:
    if seconds is None or not seconds >= 0:
        return "? s"
    if seconds == 0:
        return "0 s"
    unit, factor = next((name, factor) for least, name, factor in _UNITS if seconds >= least)
    return f"{seconds * factor:.3g} {unit}"


def _checked_stream(stream: Any) -> Any:
    with looking_at("stream", stream):
        if isinstance(stream, logging.Logger | logging.LoggerAdapter):
            refuse("stream", stream, "something to write text to; a logger goes into logger=")
        if stream is not None and (isinstance(stream, type) or not callable(getattr(stream, "write", None))):
            refuse("stream", stream, "something to write text to, such as sys.stderr or an open text file")
        return stream


def _checked_logger(logger: Any) -> Any:
    with looking_at("logger", logger):
        if logger is not None and (isinstance(logger, type) or not callable(getattr(logger, "debug", None))):
            refuse("logger", logger, 'a logger, such as logging.getLogger("shop")')
        return logger
