"""`DebugObserver`: a line for each beginning, notice and end, nested and bounded, whatever the stream does."""

from __future__ import annotations

import asyncio
import copy
import io
import logging
import pickle
import sys
import threading

import pytest

from callpyback import (
    CallPyBack,
    CallVetoed,
    ConfigurationError,
    ExecutionState,
    FunctionSignature,
    MockTimeSource,
    Outcome,
    Retry,
    StopProcessing,
    handle,
    on_call,
)
from callpyback.core.current_call import current_call
from callpyback.events.bus import EventBus
from callpyback.events.event import Event
from callpyback.observers.debug import DebugObserver
from callpyback.testing import build_context

S = ExecutionState
PAY = FunctionSignature("pay", qualname="Shop.pay", module="shop")


def lines_of(*contexts, **options):
    """Return the lines that these contexts make."""
    stream = io.StringIO()
    observer = DebugObserver(stream, **options)
    for context in contexts:
        observer.update(context)
    return stream.getvalue().splitlines()


class Traced:
    """Decorates functions whose trace is in `lines`; the name of this module is left out."""

    def __init__(self, *observers, **options):
        self.stream, self.clock = io.StringIO(), MockTimeSource()
        self.decorate = CallPyBack([DebugObserver(self.stream), *observers], time_source=self.clock, **options)

    def __call__(self, function):
        function.__module__, function.__qualname__ = "m", function.__name__
        return self.decorate(function)

    @property
    def lines(self):
        return self.stream.getvalue().splitlines()


def test_a_call_is_two_lines():
    assert lines_of(
        build_context(PAY, state=S.PRE_EXECUTION, arguments={"amount": 30, "card": "visa"}),
        build_context(PAY, value="paid", execution_time=0.0123),
    ) == ["-> shop.Shop.pay(amount=30, card='visa')", "<- shop.Shop.pay = 'paid'  [12.3 ms]"]


def test_every_kind_of_function_is_traced(kind):
    stream = io.StringIO()
    function = kind.make(lambda n: 1 // n, CallPyBack([DebugObserver(stream)], time_source=MockTimeSource()))
    kind.ended(function, 1)
    kind.ended(function, 0)
    lines = [line.partition("function")[2] for line in stream.getvalue().splitlines()]
    value = kind.shown(1)
    items = ", 2 items" if kind.is_generator else ""
    failed = ", 1 items" if kind.is_generator else ""
    assert lines == [
        "(args=(1,))",
        f" = {value}{items}  [0 s]",
        "(args=(0,))",
        f" raised ZeroDivisionError: integer division or modulo by zero{failed}  [0 s]",
    ]


def test_calls_inside_calls_are_indented():
    traced = Traced()

    @traced
    def inner(n):
        return n

    @traced
    def outer():
        return inner(1) + inner(2)

    @traced
    def top():
        return outer()

    top()
    assert traced.lines == [
        "-> m.top()",
        "|  -> m.outer()",
        "|  |  -> m.inner(n=1)",
        "|  |  <- m.inner = 1  [0 s]",
        "|  |  -> m.inner(n=2)",
        "|  |  <- m.inner = 2  [0 s]",
        "|  <- m.outer = 3  [0 s]",
        "<- m.top = 3  [0 s]",
    ]


def test_a_deep_recursion_stays_on_the_page():
    traced = Traced()

    @traced
    def down(n):
        return down(n - 1) if n else 0

    down(30)
    assert "|  " * 20 + "(30) -> m.down(n=0)" in traced.lines
    assert max(map(len, traced.lines)) < 100


@pytest.mark.parametrize(
    ("context", "line"),
    [
        (build_context(PAY, exception=ValueError("no")), "<- shop.Shop.pay raised ValueError: no  [0 s]"),
        (
            build_context(PAY, exception=ValueError("no"), returned=5),
            "<- shop.Shop.pay raised ValueError: no; given 5  [0 s]",
        ),
        (
            build_context(PAY, exception=ValueError("no"), outcome=Outcome.HANDLED, returned=None),
            "<- shop.Shop.pay raised ValueError: no; given None  [0 s]",
        ),
        (build_context(PAY, returned=5), "<- shop.Shop.pay answered; given 5  [0 s]"),
        (build_context(PAY, state=S.ERROR, exception=CallVetoed("x")), "<- shop.Shop.pay vetoed: CallVetoed: x  [0 s]"),
        (
            build_context(PAY, exception=TimeoutError("late"), outcome=Outcome.TIMED_OUT),
            "<- shop.Shop.pay timed out: TimeoutError: late  [0 s]",
        ),
        (
            build_context(PAY, exception=asyncio.CancelledError("why")),
            "<- shop.Shop.pay cancelled: CancelledError: why  [0 s]",
        ),
        (
            build_context(PAY, exception=GeneratorExit(), items=3),
            "<- shop.Shop.pay abandoned: GeneratorExit, 3 items  [0 s]",
        ),
        (build_context(PAY, state=S.ERROR, exception=SystemExit(1)), "<- shop.Shop.pay aborted: SystemExit: 1  [0 s]"),
        (
            build_context(PAY, exception=ValueError("no"), local_variables={"total": 3}),
            "<- shop.Shop.pay raised ValueError: no, {total=3}  [0 s]",
        ),
    ],
    ids=range(10),
)
def test_each_outcome_has_its_words(context, line):
    assert lines_of(context) == [line]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "0 s"),
        (2.5e-7, "0.25 us"),
        (4e-5, "40 us"),
        (0.5, "500 ms"),
        (1.0, "1 s"),
        (75.3, "75.3 s"),
        (float("nan"), "? s"),
    ],
)
def test_durations_have_a_unit_that_fits(seconds, shown):
    assert lines_of(build_context(PAY, execution_time=seconds)) == [f"<- shop.Shop.pay = None  [{shown}]"]


def test_who_decided_is_named():
    traced = Traced(on_call(lambda: (_ for _ in ()).throw(StopProcessing(7)), name="oracle"))
    traced(lambda: 1)()
    assert traced.lines == ["-> m.<lambda>()", "<- m.<lambda> answered; given 7 by oracle  [0 s]"]


def test_retries_are_shown():
    traced = Traced(retry=Retry(attempts=3, wait=2, on=OSError))
    errors = [OSError("first")]

    @traced
    def fetch():
        if errors:
            raise errors.pop()
        return "value"

    fetch()
    assert traced.lines == [
        "-> m.fetch()",
        ".. m.fetch attempt 1 raised OSError: first; again in 2 s",
        "<- m.fetch = 'value', attempt 2  [0 s]",
    ]


def test_progress_is_shown():
    traced = Traced()

    @traced
    def load():
        current_call().progress(3, 12)
        current_call().progress("half\n")

    load()
    assert traced.lines[1:3] == [".. m.load is at 3 of 12", r".. m.load is at 'half\n'"]


def test_threads_and_tasks_are_told_apart():
    traced = Traced()
    work = traced(lambda: None)
    thread = threading.Thread(target=work, name="worker\n1")
    thread.start()
    thread.join()

    async def main():
        work()

    asyncio.run(main())
    first, task = traced.lines[0], traced.lines[2]
    assert first == r"[worker\n1] -> m.<lambda>()"
    assert task.startswith("[Task-")
    assert task.endswith("] -> m.<lambda>()")


class Broken:
    def __repr__(self):
        raise SystemExit


def test_a_line_is_a_line_and_bounded():
    hostile = "a\nb\x1b[31m\r\u2028"
    many = {f"a{n}": "x" * 10**6 for n in range(100)} | {hostile: hostile, "broken": Broken()}
    lines = lines_of(
        build_context(FunctionSignature(hostile), state=S.PRE_EXECUTION, arguments=many),
        build_context(PAY, state=S.PRE_EXECUTION, arguments={hostile: hostile, "broken": Broken()}),
        build_context(PAY, exception=ValueError(hostile * 1000), local_variables=many),
        build_context(PAY, value=hostile),
    )
    assert len(lines) == 4
    assert all(line.isprintable() and len(line) <= 4000 for line in lines)
    assert lines[0].endswith(", ...)")
    assert "broken=<unrepresentable Broken: SystemExit>" in lines[1]


def test_secrets_are_hidden_unless_they_are_asked_for():
    contexts = [
        build_context(PAY, state=S.PRE_EXECUTION, arguments={"password": "tulip one", "card": {"pin": 1234}, "n": 7}),
        build_context(
            PAY, exception=ValueError("no route to postgres://ann:tulip@db"), local_variables={"token": "tulip"}
        ),
    ]
    masked = lines_of(*contexts)
    assert "tulip" not in "".join(masked)
    assert "1234" not in masked[0]
    assert masked[0].startswith("-> shop.Shop.pay(password=***REDACTED***")
    assert "n=7" in masked[0]
    assert "tulip" in lines_of(*contexts, mask=False)[0]


def test_arguments_and_results_may_be_left_out():
    contexts = [
        build_context(PAY, state=S.PRE_EXECUTION, arguments={"pin": Broken()}),
        build_context(PAY, value=Broken(), local_variables={"pin": Broken()}),
        build_context(PAY, returned=Broken()),
    ]
    assert lines_of(*contexts, arguments=False, results=False) == [
        "-> shop.Shop.pay",
        "<- shop.Shop.pay returned  [0 s]",
        "<- shop.Shop.pay answered; given  [0 s]",
    ]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("context", "colour"),
    [
        (build_context(PAY), "\x1b[32m"),
        (build_context(PAY, exception=ValueError()), "\x1b[31m"),
        (build_context(PAY, exception=ValueError(), returned=1), "\x1b[33m"),
        (build_context(PAY, state=S.PRE_EXECUTION), ""),
    ],
    ids=["success", "failure", "handled", "beginning"],
)
def test_ends_are_coloured_on_a_terminal_on_request(context, colour, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)

    def written(stream, color):
        DebugObserver(stream, color=color).update(context)
        return stream.getvalue()

    coloured = written(Terminal(), color=True)
    assert coloured.startswith(colour)
    assert "\x1b" not in written(Terminal(), color=False) + written(io.StringIO(), color=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in written(Terminal(), color=True)


class TestStreams:
    def test_stderr_is_looked_up_when_a_line_is_written(self, monkeypatch):
        observer, stream = DebugObserver(), io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        observer.update(build_context(PAY))
        assert stream.getvalue().startswith("<- shop.Shop.pay")

    def test_a_program_without_stderr_is_left_alone(self, monkeypatch):
        monkeypatch.setattr(sys, "stderr", None)
        DebugObserver().update(build_context(PAY))

    def test_a_broken_stream_is_counted_and_logged_once(self, caplog):
        stream = io.StringIO()
        stream.close()
        observer = DebugObserver(stream, name="trace")
        function = CallPyBack([observer])(lambda: 1)
        for _ in range(10):
            assert function() == 1
        assert observer.get_metrics() == {"written": 0, "failed": 20}
        assert handle(function).health["trace"].failures == 0
        (record,) = caplog.records
        assert record.getMessage().startswith("observer trace could not write: ValueError: I/O operation on closed")

    def test_characters_that_the_stream_lacks_are_escaped(self):
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
        observer = DebugObserver(stream)
        observer.update(build_context(PAY, value="für"))
        assert raw.getvalue() == rb"<- shop.Shop.pay = 'f\xfcr'  [0 s]" + b"\n"
        assert observer.get_metrics() == {"written": 1, "failed": 0}

    def test_a_line_is_one_write(self):
        class Counting(io.StringIO):
            writes = 0

            def write(self, text):
                self.writes += 1
                return super().write(text)

        stream = Counting()
        DebugObserver(stream).update(build_context(PAY))
        assert stream.writes == 1

    def test_reset_starts_the_counts_anew(self):
        observer = DebugObserver(io.StringIO())
        observer.update(build_context(PAY))
        observer.reset()
        assert observer.get_metrics() == {"written": 0, "failed": 0}


class TestLoggers:
    def test_a_standard_logger_gets_lines_at_debug(self, caplog):
        caplog.set_level(logging.DEBUG, "shop")
        DebugObserver(logger=logging.getLogger("shop")).update(build_context(PAY, value="100%s"))
        (record,) = caplog.records
        assert (record.levelname, record.getMessage()) == ("DEBUG", "<- shop.Shop.pay = '100%s'  [0 s]")

    def test_where_it_is_not_enabled_nothing_is_looked_at(self):
        logger = logging.getLogger("shop.quiet")
        logger.setLevel(logging.INFO)
        observer = DebugObserver(logger=logger)
        observer.update(build_context(PAY, value=Broken()))
        assert observer.get_metrics()["written"] == 0

    def test_anything_with_debug_will_do(self):
        class Own:
            debug = [].append

        observer = DebugObserver(logger=Own())
        observer.update(build_context(PAY))
        assert Own.debug.__self__ == ["<- shop.Shop.pay = None  [0 s]"]


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("stream", 3),
        ("stream", io.StringIO),
        ("stream", logging.getLogger()),
        ("logger", 3),
        ("logger", logging.Logger),
        ("arguments", 1),
        ("results", None),
        ("mask", "yes"),
        ("color", "always"),
        ("max_length", 0),
    ],
    ids=range(10),
)
def test_other_values_are_refused_by_name(parameter, value):
    with pytest.raises(ConfigurationError, match=f"{parameter}="):
        DebugObserver(**{parameter: value})


def test_a_stream_and_a_logger_are_one_too_many():
    with pytest.raises(ConfigurationError, match="one of stream= and logger="):
        DebugObserver(sys.stdout, logger=logging.getLogger())


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_a_copy_leaves_the_stream_behind(again, capsys):
    observer = DebugObserver(io.StringIO(), arguments=False, priority=3, name="mine")
    observer.update(build_context(PAY))
    twin = again(observer)
    twin.update(build_context(PAY, state=S.PRE_EXECUTION, arguments={"a": 1}))
    assert capsys.readouterr().err == "-> shop.Shop.pay\n"
    assert (twin.priority, twin.name, twin.get_metrics()["written"]) == (3, "mine", 2)
    assert observer.get_metrics()["written"] == 1


def test_a_stream_that_calls_an_observed_function_makes_no_loop():
    class Calling(io.StringIO):
        def write(self, text):
            function()
            return super().write(text)

    stream = Calling()
    function = CallPyBack([DebugObserver(stream)])(lambda: 1)
    assert function() == 1
    assert len(stream.getvalue().splitlines()) == 2


def test_an_event_of_a_bus_is_a_line():
    stream, bus = io.StringIO(), EventBus("traced")
    bus.register_observer(DebugObserver(stream))
    bus.emit(Event("order.paid", order_id=7, token="tulip"))
    bus.emit(Event("a\nb"))
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("** order.paid(order_id=7, token=***REDACTED***")
    assert lines[1] == r"** a\nb()"
    assert len(lines) == 2
