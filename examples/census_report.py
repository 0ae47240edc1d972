"""What the census shows: progress while it works, the tables at the end, and the two observers that feed them."""

from __future__ import annotations

import os
import re
import reprlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from callpyback import BaseObserver, ExecutionState, NullVariable

if TYPE_CHECKING:
    from census import Census

    from callpyback import ExecutionContext, FunctionSignature

try:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.padding import Padding
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table
    from rich.text import Text
except ImportError:
    sys.exit("This example draws its tables with rich: pip install '.[demo]', or let `make demo` do it.")

WIDTH = 100
SHOWN_PER_FUNCTION = 4
NO_TESTS = "\n  The broken ones are in Python's own test folder, and this Python comes without it."
ADDRESS = re.compile(r" object at 0x[0-9a-fA-F]+")

short = reprlib.Repr()
short.maxstring = short.maxother = 60

if hasattr(sys.stdout, "reconfigure"):
    sys.stdout.reconfigure(errors="replace")  # a terminal without Unicode gets question marks, not a traceback
console = Console(highlight=False)
if not console.is_terminal or console.width > WIDTH:
    console.width = WIDTH


class SlowestCalls(BaseObserver):
    """Keeps the slowest call of each function. The arguments are only computed for a call that is slower."""

    states = frozenset({ExecutionState.COMPLETED, ExecutionState.ERROR})

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, tuple[float, dict[str, str]]] = {}

    def update(self, context: ExecutionContext) -> None:
        """Keep the call if none was slower. Arguments are kept as text: the objects may be large."""
        name, seconds = context.function_signature.name, context.execution_time or 0.0
        if seconds > self.calls.get(name, (0.0, {}))[0]:
            self.calls[name] = seconds, {key: brief(value) for key, value in context.arguments.items()}


class Failure(NamedTuple):
    """One call that raised: the exception, and the local variables at that moment, as text."""

    function: str
    exception: str
    local_variables: dict[str, str]


class FailureLog(list[Failure]):
    """Every failure, in order. `note` is a callback: it names what it wants to be given."""

    def note(
        self, function_signature: FunctionSignature, exception: Exception, local_variables: dict[str, Any]
    ) -> None:
        """Keep one failure; a variable that had no value yet is left out."""
        had_value = {name: brief(value) for name, value in local_variables.items() if value is not NullVariable}
        message = ADDRESS.sub("", " ".join(str(exception).split()))
        self.append(Failure(function_signature.name, f"{type(exception).__name__}: {message}", had_value))


def brief(value: object) -> str:
    """Show a value in a few characters."""
    return str(value) if isinstance(value, Path) else ADDRESS.sub("", short.repr(value))


@contextmanager
def progress_display(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how far the census is: a bar on a terminal, a line a second elsewhere."""
    console.print(escape(title), soft_wrap=True)
    if console.is_terminal:
        columns = TextColumn("  reading"), BarColumn(), MofNCompleteColumn(), TextColumn("files"), TimeElapsedColumn()
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("", total=total)
            yield lambda done: bar.update(task, completed=done)
    else:
        yield _LinePerSecond(total)


class _LinePerSecond:
    def __init__(self, total: int) -> None:
        self._total = total
        self._next = time.monotonic() + 1

    def __call__(self, done: int) -> None:
        if time.monotonic() >= self._next or done == self._total:
            self._next = time.monotonic() + 1
            print(f"  {done:>6,} of {self._total:,} files", flush=True)


def show_report(
    *,
    census: Census,
    found: int,
    seconds: float,
    folder: Path,
    is_library: bool,
    function_stats: Mapping[str, Mapping[str, Any]],
    slowest: SlowestCalls,
    failures: FailureLog,
) -> None:
    """Show what is in the library, then what was seen of the calls that found out."""
    _show_census(census, found, seconds)
    if not any(stats["calls"] for stats in function_stats.values()):
        return
    prefix = f"{folder}{os.sep}"
    _show_calls(function_stats)
    _show_slowest({name: slowest.calls[name] for name in function_stats if name in slowest.calls}, prefix)
    _show_failures(failures, prefix)
    if not census.unreadable:
        has_tests = (folder / "test" / "tokenizedata").exists()
        note = NO_TESTS if is_library and not has_tests else ""
        console.print(f"  Each of the {census.files:,} files could be read, decoded and parsed.{note}")
    console.print("\nNext: docs/tutorial.md, 10 minutes from nothing to an observer of your own.")


def _show_census(census: Census, found: int, seconds: float) -> None:
    left = found - census.files
    _heading(f"{census.files:,} of {found:,} files in {seconds:.1f} s")
    if left:
        console.print(f"  smallest first; the {left:,} largest left out to end in time (--all reads them)")
    share = f"{census.documented / census.functions:.0%}" if census.functions else "none"
    length, name = census.longest
    console.print(
        f"  {census.lines:,} lines, {census.classes:,} classes, {census.functions:,} functions, {share} of them with "
        f"a docstring\n  {census.exported:,} names in __all__; the longest function: {escape(name)}, {length:,} lines"
    )


def _show_calls(function_stats: Mapping[str, Mapping[str, Any]]) -> None:
    _heading("What CallPyBack saw of the calls (times in ms)")
    table = Table(box=SIMPLE_HEAD, show_edge=False)
    for name in ("function", "calls", "failures", "p50", "p95", "p99", "slowest", "sum"):
        table.add_column(name, no_wrap=True, justify="left" if name in {"function", "failures"} else "right")
    for name, stats in function_stats.items():
        failed = "\n".join(f"[red]{n:,} {kind}[/]" for kind, n in stats["failures_by_type"].items())
        times = (stats[key] for key in ("p50", "p95", "p99", "max_time", "total_time"))
        table.add_row(name, f"{stats['calls']:,}", failed or "0", *map(_milliseconds, times))
    console.print(Padding(table, (0, 0, 0, 1), expand=False))


def _show_slowest(calls: Mapping[str, tuple[float, Mapping[str, str]]], prefix: str) -> None:
    _heading("The slowest call of each, with its arguments")
    for function, (seconds, arguments) in calls.items():
        _line(f"  {function:<13}{_milliseconds(seconds):>8} ms  ", _pairs(arguments, prefix))


def _show_failures(failures: FailureLog, prefix: str) -> None:
    _heading("The failures, with the local variables at that moment")
    for function in dict.fromkeys(failure.function for failure in failures):
        of_function = [failure for failure in failures if failure.function == function]
        for failure in of_function[:SHOWN_PER_FUNCTION]:
            _line(f"  {function:<13}", failure.exception.replace(prefix, ""), style="red")
            _line(" " * 15, _pairs(failure.local_variables, prefix))
        if len(of_function) > SHOWN_PER_FUNCTION:
            console.print(f"  {'':<13}and {len(of_function) - SHOWN_PER_FUNCTION} more")


def _heading(text: str) -> None:
    console.print(f"\n[bold]{text}[/]")


def _line(head: str, text: str, style: str = "") -> None:
    console.print(head, end="")
    console.print(Text(text, style=style), no_wrap=True, overflow="ellipsis", width=console.width - len(head))


def _pairs(shown: Mapping[str, str], prefix: str) -> str:
    return "  ".join(f"{name}={value}" for name, value in shown.items()).replace(prefix, "")


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return ""
    milliseconds = seconds * 1000
    digits = 3 if milliseconds < 0.1 else 2 if milliseconds < 10 else 0
    return f"{milliseconds:,.{digits}f}"
