"""Progress bars of the calls that say how far they are, drawn by rich."""

from __future__ import annotations

import contextlib
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.configuration import checked_clocks, checked_count, checked_seconds, checked_switch, refuse
from callpyback.core.forks import reset_after_fork
from callpyback.core.notices import ProgressNotice
from callpyback.core.safe_repr import one_line
from callpyback.core.state_machine import TERMINAL_STATES, Notice, Outcome
from callpyback.errors import ConfigurationError
from callpyback.observers.base import BaseObserver

if TYPE_CHECKING:
    from rich.console import Console

    from callpyback.core.context import ExecutionContext

_MAX_LABEL: Final = 60
_INDENT: Final = "  "
_REMEMBERED: Final = 1000
"""So many calls whose bars have ended are known, lest a thread that tells of one late begins another bar."""

_FAILED: Final = {
    Outcome.FAILURE: "failed",
    Outcome.HANDLED: "failed, and handled",
    Outcome.TIMED_OUT: "timed out",
    Outcome.CANCELLED: "cancelled",
    Outcome.ABANDONED: "abandoned",
    Outcome.ABORTED: "aborted",
}


class _Bar:
    """The bar of one call.

    Attributes:
        task: What rich knows it by.
        path: The numbers of the bars around it and its own, by which bars are put in order.
        done: How much is done.
        total: Of how much; None if nobody knows.
        drawn_at: When it was drawn last.
    """

    __slots__ = ("done", "drawn_at", "path", "task", "total")

    def __init__(self, task: Any, path: tuple[int, ...]) -> None:
        self.task = task
        self.path = path
        self.done = 0.0
        self.total: float | None = None
        self.drawn_at = float("nan")


class ProgressObserver(BaseObserver):
    """Draws a progress bar for each call that tells how far it is, by `current_call().track(...)` or `.progress(...)`.

    A bar appears with the first thing that is told, and ends with its call; without a total it shows that something
    happens. Below the bar of a call come those of the calls it makes. A bar that has ended leaves a line, with what
    became of the call if it failed. The display is there while there are bars; what the program prints meanwhile goes
    above them. Where the console is no terminal, there is no display, and only the lines are printed.

    Any number of threads and tasks may run at once. A bar is drawn anew at most `refresh_per_second` times a second, so
    a body that tells of every item is not slowed down by drawing; the rest of the time telling costs a few
    microseconds. A child that is forked draws nothing, since it can't share the screen.

    Needs rich: `pip install callpyback[progress]`.

    Args:
        console: A `rich.console.Console`; by default rich's own, on stdout.
        transient: Leave nothing on the screen when a bar has ended.
        description: What stands in front of a bar: a text, or a function of the context that returns one. By default
            the qualified name of the function.
        max_bars: So many bars are there at most; calls beyond have none until one ends.
        refresh_per_second: How often the display is drawn, in times per second.
        time_source: Where the elapsed times come from.
        priority: Higher is told earlier.
        name: How it is shown in logs.

    Raises:
        ConfigurationError: A parameter is none of these, or rich is not installed.

    Example:
        >>> import sys
        >>> from rich.console import Console
        >>> from callpyback import CallPyBack, MockTimeSource, current_call
        >>> bars = ProgressObserver(Console(file=sys.stdout, width=60), time_source=MockTimeSource())
        >>> @CallPyBack(observers=[bars])
        ... def bake(cakes):
        ...     return [cake.upper() for cake in current_call().track(cakes)]
        >>> bake(["apple", "plum"])
        bake ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2/2 0:00:00
        ['APPLE', 'PLUM']
    """

    hears_calls_alone = True

    states = TERMINAL_STATES
    notices = frozenset({Notice.PROGRESS})
    traces_calls = True

    def __init__(
        self,
        console: Console | None = None,
        *,
        transient: bool = False,
        description: str | Callable[[ExecutionContext], str] | None = None,
        max_bars: int = 20,
        refresh_per_second: float = 10,
        time_source: Any = None,
        priority: float = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(priority, name)
        given: Any = description
        if not (given is None or isinstance(given, str) or callable(given)):
            refuse("description", given, "a text, or a function that takes the context and returns a text")
        self._console = _checked_console(console)
        self._transient = checked_switch("transient", transient)
        self._description = description
        self._max_bars = checked_count("max_bars", max_bars)
        self._interval = 1.0 / checked_seconds("refresh_per_second", refresh_per_second)
        self._clock = checked_clocks(time_source)[1]
        self._renew()
        reset_after_fork(self)

    def _renew(self) -> None:
        self._lock = threading.RLock()
        self._bars: dict[str, _Bar] = {}
        self._begun = 0
        self._ended: deque[str] = deque(maxlen=_REMEMBERED)
        self._display: Any = None
        self._streams: Any = None
        self._is_forked = False

    def reset_after_fork(self) -> None:
        """Draw nothing in a forked child: rich's locks may be held there, and the screen belongs to the parent."""
        streams = self._streams
        self._renew()
        self._is_forked = True
        if streams is not None:
            sys.stdout, sys.stderr = streams

    def update(self, context: ExecutionContext) -> None:
        """Begin, move or end the bar of a call."""
        if self._is_forked or sys.is_finalizing():
            return
        if context.notice.__class__ is ProgressNotice:
            self._move(context, context.notice)
        elif self._bars and context.outcome is not None:
            self._end(context)

    def _move(self, context: ExecutionContext, notice: Any) -> None:
        bar = self._bars.get(context.call_id)
        if bar is None:
            bar = self._begin(context)
            if bar is None:
                return
        bar.done, bar.total = _number(notice.done, bar.done), _number(notice.total, None)
        now = self._clock()
        is_due = not now - bar.drawn_at < self._interval or bar.done == bar.total
        # The body does not wait for another thread that draws: what is left out here is drawn next time, or at the end.
        if is_due and self._lock.acquire(blocking=False):
            try:
                bar.drawn_at = now
                if context.call_id in self._bars:
                    self._display.update(bar.task, completed=bar.done, total=bar.total)
            finally:
                self._lock.release()

    def _begin(self, context: ExecutionContext) -> _Bar | None:
        label = self._label_of(context)
        with self._lock:
            call_id = context.call_id
            if len(self._bars) >= self._max_bars or call_id in self._ended:
                return None
            display = self._opened() if self._display is None else self._display
            self._begun += 1
            around = self._bars.get(context.parent_call_id or "")
            path = (*(() if around is None else around.path), self._begun)
            label = _encodable(_INDENT * (len(path) - 1) + label, display.console)
            task = display.add_task(label, total=None, path=path, outcome="")
            bar = self._bars[call_id] = _Bar(task, path)
            return bar

    def _label_of(self, context: ExecutionContext) -> str:
        description = self._description
        if description is None:
            description = context.function_signature.qualname.rpartition("<locals>.")[2]
        elif callable(description):
            description = description(context)
        return one_line(str(description))[:_MAX_LABEL]

    def _end(self, context: ExecutionContext) -> None:
        with self._lock:
            bar = self._bars.pop(context.call_id, None)
            if bar is None:
                return
            self._ended.append(context.call_id)
            try:
                self._draw_end(bar, context)
            finally:
                if not self._bars:
                    self._close()

    def _draw_end(self, bar: _Bar, context: ExecutionContext) -> None:
        outcome: Any = context.outcome
        failed = _FAILED.get(outcome, "")
        if failed and context.result is not None and isinstance(context.result.exception, Exception):
            failed = f"{failed}: {type(context.result.exception).__name__}"
        total = bar.done if bar.total is None and not failed else bar.total
        display = self._display
        display.update(bar.task, completed=bar.done, total=total, outcome=failed)
        task = next(known for known in display.tasks if known.id == bar.task)
        line = display.make_tasks_table([task])
        display.remove_task(bar.task)
        if display.live.is_started:
            display.refresh()
        if not self._transient:
            display.console.print(line)

    def _opened(self) -> Any:
        """Start the display with its first bar; where another one has the console, only lines are printed."""
        from rich.errors import LiveError  # noqa: PLC0415

        self._display = display = _display(self._console, 1.0 / self._interval, self._clock)
        if display.console.is_terminal:
            self._streams = (sys.stdout, sys.stderr)
            # A program that ends half way gets its cursor back.
            self._at_exit = weakref.finalize(self, display.stop)
            with contextlib.suppress(LiveError):
                display.start()
        return display

    def _close(self) -> None:
        display, self._display, self._streams = self._display, None, None
        if display is not None and display.console.is_terminal:
            self._at_exit.detach()
            display.stop()

    def close(self) -> None:
        """Take all bars away; calls that tell of progress afterwards have new ones."""
        with self._lock:
            self._bars.clear()
            self._close()

    def __getstate__(self) -> dict[str, Any]:
        mine = ("_lock", "_bars", "_begun", "_ended", "_display", "_streams", "_is_forked", "_console", "_at_exit")
        return {name: value for name, value in self.__dict__.items() if name not in mine}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._console = None  # a console stays in its process
        self._renew()
        reset_after_fork(self)


def _checked_console(console: Any) -> Any:
    try:
        from rich.console import Console  # noqa: PLC0415 - an extra
    except ImportError as error:
        message = "ProgressObserver draws with rich, which is not installed; pip install callpyback[progress]"
        raise ConfigurationError(message) from error
    if not (console is None or isinstance(console, Console)):
        refuse("console", console, "a rich.console.Console, or None for stdout")
    return console


def _display(console: Any, refresh_per_second: float, clock: Callable[[], float]) -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    class Elapsed(TimeElapsedColumn):
        """Followed by what became of a call that failed."""

        def render(self, task: Any) -> Any:
            text = super().render(task)
            return text.append(f" {task.fields['outcome']}", "red") if task.fields["outcome"] else text

    class Bars(Progress):
        """Puts the bars of calls below the bar of the call that makes them."""

        def get_renderables(self) -> Any:
            yield self.make_tasks_table(sorted(self.tasks, key=lambda task: task.fields["path"]))

    return Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Elapsed(),
        console=console,
        transient=True,  # lines are printed as bars end
        refresh_per_second=refresh_per_second,
        get_time=clock,
    )


def _encodable(text: str, console: Any) -> str:
    return text.encode(console.encoding, "replace").decode(console.encoding)


def _number(value: Any, otherwise: Any) -> Any:
    """Return a number that can be drawn: the body may tell anything."""
    try:
        number = float(value)
    except Exception:  # noqa: BLE001 - any value of the user's
        return otherwise
    return number if 0.0 <= number <= sys.float_info.max else otherwise
