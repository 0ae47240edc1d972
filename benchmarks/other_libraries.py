"""What other libraries ask for a call, beside ours, in one run.

Nothing leaves the process: spans end in a provider without exporters, or in a transport that drops them. Each library
decorates the way its own documentation does; where that measures something else than the call, the row says so and
has no number.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import wrapt

from benchmarks.built_ins import stdlib_logger_off, the_three
from benchmarks.controls import KINDS, Kind
from benchmarks.measuring import Budget, Subject, in_batches, seconds_per_call
from benchmarks.table import Row, skipped
from callpyback import CallPyBack, MetricsObserver

TITLE = "Beside other libraries"

Decorator = Callable[[Any], Any]

_ONLY_MADE = "it would time the making of the {}, and not its run"


class Library(NamedTuple):
    """How one library decorates, and around what.

    `lacks` has the reason for each kind of callable that it cannot do.
    """

    decorate: Decorator
    lacks: dict[str, str] = {}  # noqa: RUF012 - never changed
    around: Callable[[], AbstractContextManager[Any]] = nullcontext
    in_batches: bool = False


def _lacking(*kinds: str) -> dict[str, str]:
    return {kind: _ONLY_MADE.format(kind) for kind in kinds}


def _prometheus() -> Library:
    from prometheus_client import CollectorRegistry, Histogram  # noqa: PLC0415 - each only if it is installed

    histogram = Histogram("calls", "Seconds a call took", registry=CollectorRegistry())
    return Library(histogram.time(), _lacking("coroutine", "generator"))


def _opentelemetry() -> Library:
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415

    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("benchmarks")
    return Library(tracer.start_as_current_span("call"), _lacking("generator"))


def _sentry() -> Library:
    import sentry_sdk  # noqa: PLC0415
    from sentry_sdk.transport import Transport  # noqa: PLC0415

    class Dropping(Transport):
        def capture_envelope(self, envelope: Any) -> None:
            """Drop it."""

    options: dict[str, Any] = {"transport": Dropping, "traces_sample_rate": 1.0, "default_integrations": False}
    sentry_sdk.init(dsn="https://nobody@localhost/1", auto_enabling_integrations=False, **options)

    @contextmanager
    def transaction() -> Iterator[None]:
        with sentry_sdk.start_transaction(name="benchmarks"):
            yield

    return Library(sentry_sdk.trace, _lacking("generator"), transaction)


def _logfire() -> Library:
    import logfire  # noqa: PLC0415

    configured = logfire.configure(local=True, send_to_logfire=False, console=False, metrics=False, scrubbing=False)
    return Library(functools.partial(_by_logfire, configured.instrument))


def _by_logfire(instrument: Any, function: Any) -> Any:
    return instrument("call", extract_args=False, allow_generator=True)(function)


def _loguru() -> Library:
    from loguru import logger  # noqa: PLC0415

    return Library(logger.catch(reraise=True))


def _autometrics() -> Library:
    from autometrics import autometrics, init  # noqa: PLC0415

    init(tracker="prometheus")
    return Library(autometrics, _lacking("generator"))


def _wrapt_wrapper() -> Library:
    def pass_on(wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
        return wrapped(*args, **kwargs)

    return Library(lambda function: wrapt.FunctionWrapper(function, pass_on), _lacking("coroutine", "generator"))


def _wrapt_decorator() -> Library:
    @wrapt.decorator
    def pass_on(wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
        return wrapped(*args, **kwargs)

    return Library(pass_on, _lacking("coroutine", "generator"))


OTHERS: dict[str, Callable[[], Library]] = {
    "wrapt.FunctionWrapper, doing nothing": _wrapt_wrapper,
    "wrapt.decorator, doing nothing": _wrapt_decorator,
    "loguru logger.catch": _loguru,
    "prometheus_client Histogram.time()": _prometheus,
    "autometrics": _autometrics,
    "Sentry span": _sentry,
    "OpenTelemetry SDK span": _opentelemetry,
    "logfire.instrument": _logfire,
}

OURS: dict[str, Callable[[], Library]] = {
    "CallPyBack: nothing attached": lambda: Library(CallPyBack()),
    "CallPyBack: MetricsObserver": lambda: Library(CallPyBack([MetricsObserver()]), in_batches=True),
    "CallPyBack: all three, logger off": lambda: Library(CallPyBack(the_three(stdlib_logger_off)), in_batches=True),
}


def rows(budget: Budget) -> list[Row]:
    """Return the rows of plain functions, of coroutines and of generators, and our ratio to prometheus_client."""
    libraries, missing = _prepared()
    table: list[Row] = []
    for name in ("function", "coroutine", "generator"):
        rows_of_kind, seconds = _rows_of(name, libraries, budget)
        table += rows_of_kind
        if name == "function":
            table.insert(0, _against_prometheus(seconds))
    return [*table, *(skipped(name, reason) for name, reason in missing.items())]


def _prepared() -> tuple[dict[str, Library], dict[str, str]]:
    """Return the libraries that are installed, and why the others are left out."""
    libraries, missing = {}, {}
    for name, prepare in {**OURS, **OTHERS}.items():
        try:
            libraries[name] = prepare()
        except ImportError as error:
            missing[name] = f"not installed ({error}); install the extra `bench`"
    return libraries, missing


def _rows_of(kind_name: str, libraries: dict[str, Library], budget: Budget) -> tuple[list[Row], dict[str, float]]:
    kind = KINDS[kind_name]
    subjects = {"timer": kind.driven(kind.timer(kind.body))}
    for name, library in libraries.items():
        if kind_name not in library.lacks:
            subjects[name] = _subject(kind, library)
    seconds = seconds_per_call(subjects, budget)
    table = []
    for name, library in libraries.items():
        what = f"{kind_name}: {name} / timer"
        if kind_name in library.lacks:
            table.append(skipped(what, library.lacks[kind_name]))
        else:
            table.append(Row(what, seconds[name] / seconds["timer"], seconds=seconds[name]))
    return table, seconds


def _subject(kind: Kind, library: Library) -> Subject:
    # A copy: what one library leaves on a function must not meet the next one.
    body = type(kind.body)(kind.body.__code__.replace(), kind.body.__globals__, kind.body.__name__)
    subject = replace(kind.driven(library.decorate(body)), around=library.around)
    return in_batches(subject) if library.in_batches else subject


def _against_prometheus(seconds: dict[str, float]) -> Row:
    what = "function: MetricsObserver / prometheus_client Histogram.time()"
    theirs = seconds.get("prometheus_client Histogram.time()")
    if theirs is None:
        return Row(what, None, bar=0.35, note="prometheus_client is not installed; install the extra `bench`")
    return Row(what, seconds["CallPyBack: MetricsObserver"] / theirs, bar=0.35)
