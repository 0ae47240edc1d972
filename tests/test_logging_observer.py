"""One record for each call, to structlog or the standard library, with stable names and keys."""

from __future__ import annotations

import io
import json
import logging
import math
import pickle
import subprocess
import sys
from unittest import mock

import pytest
import structlog
from structlog.testing import capture_logs

import callpyback.observers.logging as module
from callpyback import (
    CallPyBack,
    ConfigurationError,
    ExecutionContext,
    ExecutionFailure,
    ExecutionResult,
    ExecutionState,
    FunctionSignature,
    LoggingObserver,
    MockTimeSource,
    Outcome,
    observers,
)

SIGNATURE = FunctionSignature("pay", qualname="Shop.pay", module="shop")
EVENTS = {
    Outcome.SUCCESS: ("info", "call.succeeded"),
    Outcome.FAILURE: ("error", "call.failed"),
    Outcome.HANDLED: ("warning", "call.handled"),
    Outcome.SUPPLIED: ("info", "call.supplied"),
    Outcome.VETOED: ("warning", "call.vetoed"),
    Outcome.TIMED_OUT: ("error", "call.timed_out"),
    Outcome.CANCELLED: ("info", "call.cancelled"),
    Outcome.ABANDONED: ("info", "call.abandoned"),
    Outcome.ABORTED: ("error", "call.aborted"),
}


@pytest.fixture(autouse=True)
def structlog_as_it_was():
    yield
    structlog.reset_defaults()


@pytest.fixture
def shop(caplog):
    caplog.set_level(logging.DEBUG, "shop")
    return logging.getLogger("shop")


def ending(observer):
    return observer.bind(SIGNATURE)[1]


def records(caplog):
    return [(record.levelname.lower(), record.getMessage()) for record in caplog.records if record.name == "shop"]


def context_of(state=ExecutionState.COMPLETED, result=None, **arguments):
    return ExecutionContext(state=state, function_signature=SIGNATURE, arguments=arguments, result=result)


@pytest.mark.parametrize("outcome", Outcome)
def test_each_outcome_has_its_event_and_level(outcome):
    with capture_logs() as logs:
        ending(LoggingObserver())(0.25, 1, None, outcome)
    level, event = EVENTS[outcome]
    assert logs == [
        {
            "event": event,
            "log_level": level,
            "function": "shop.Shop.pay",
            "outcome": outcome.value,
            "execution_time": 0.25,
        }
    ]


def test_an_exception_is_told_by_type_and_one_line_of_text():
    with capture_logs() as logs:
        ending(LoggingObserver())(0.25, None, ValueError("a\nb" + "x" * 1000), Outcome.FAILURE)
    assert logs[0]["exception_type"] == "ValueError"
    assert logs[0]["exception_text"].startswith(r"ValueError: a\nbxxx")
    assert len(logs[0]["exception_text"]) == 200


def test_an_unknown_duration_is_none():
    with capture_logs() as logs:
        ending(LoggingObserver())(math.nan, None, None, Outcome.SUCCESS)
    assert logs[0]["execution_time"] is None


def test_a_standard_logger_gets_a_line_and_the_keys(caplog, shop):
    ending(LoggingObserver(shop))(0.25, None, ValueError('say "no"\nnow'), Outcome.FAILURE)
    head = "call.failed function=shop.Shop.pay outcome=failure execution_time=0.25 exception_type=ValueError"
    assert records(caplog) == [("error", head + r' exception_text="ValueError: say \"no\"\nnow"')]
    (record,) = caplog.records
    assert (record.event, record.function, record.outcome) == ("call.failed", "shop.Shop.pay", "failure")
    assert (record.execution_time, record.exception_type) == (0.25, "ValueError")


def test_a_percent_sign_is_no_format(caplog, shop):
    ending(LoggingObserver(shop))(0.25, None, ValueError("100 %s %d"), Outcome.FAILURE)
    assert 'exception_text="ValueError: 100 %s %d"' in records(caplog)[0][1]


def test_an_adapter_is_a_standard_logger(caplog, shop):
    ending(LoggingObserver(logging.LoggerAdapter(shop, {"a": 1})))(0.25, None, None, Outcome.SUCCESS)
    assert records(caplog) == [("info", "call.succeeded function=shop.Shop.pay outcome=success execution_time=0.25")]


def test_a_name_of_two_lines_is_one_line(caplog, shop):
    _, end = LoggingObserver(shop).bind(FunctionSignature("f", qualname="f\ng", module="m"))
    end(0.25, None, None, Outcome.SUCCESS)
    assert r"function=m.f\ng " in records(caplog)[0][1]


def test_arguments_come_only_on_request_and_bounded(caplog, shop):
    class Broken:
        def __repr__(self):
            raise RuntimeError

    observer = LoggingObserver(shop, arguments=True)
    assert observer.bind(SIGNATURE) is None
    observer.update(context_of(result=ExecutionResult(1, 0.25), n=1, text="a\nb", broken=Broken()))
    (record,) = caplog.records
    assert record.arguments == {"n": "1", "text": r"'a\nb'", "broken": "<unrepresentable Broken: RuntimeError>"}
    assert (
        r"""arguments="(n=1, text='a\nb', broken=<unrepresentable Broken: RuntimeError>)" call_id="""
        in record.getMessage()
    )
    caplog.clear()
    LoggingObserver(shop).update(context_of(result=ExecutionResult(1, 0.25), n=1))
    (record,) = caplog.records
    assert not hasattr(record, "arguments")


def test_arguments_are_not_looked_at_where_the_level_is_off(shop):
    class Secret:
        def __repr__(self):
            raise AssertionError

    shop.setLevel(logging.CRITICAL)
    context = mock.Mock(
        spec_set=["notice", "outcome", "state"], notice=None, outcome=Outcome.SUCCESS, state=ExecutionState.COMPLETED
    )
    LoggingObserver(shop, arguments=True).update(context)


def test_only_terminal_states_of_a_context_are_logged():
    observer = LoggingObserver()
    with capture_logs() as logs:
        observer.update(context_of(ExecutionState.PRE_EXECUTION))
        observer.update(context_of(ExecutionState.POST_SUCCESS, ExecutionResult(1, 0.5)))
        observer.update(context_of(ExecutionState.ERROR, ExecutionFailure(KeyError("k"), execution_time=0.5)))
    assert [(log["event"], log["exception_text"]) for log in logs] == [("call.failed", "KeyError: 'k'")]


def test_the_beginning_is_logged_on_request():
    for arguments in (False, True):

        @CallPyBack(observers=[LoggingObserver(started=True, log_level="DEBUG", arguments=arguments)])
        def f(x):
            pass

        with capture_logs() as logs:
            f(1)
        assert [(log["event"], log["log_level"]) for log in logs] == [
            ("call.started", "debug"),
            ("call.succeeded", "debug"),
        ]
        assert ["arguments" in log for log in logs] == [arguments, arguments]
    assert LoggingObserver().bind(SIGNATURE)[0] is None


def test_both_records_of_a_call_share_its_id():
    @CallPyBack(observers=[LoggingObserver(started=True, arguments=True)])
    def f():
        pass

    with capture_logs() as logs:
        f()
        f()
    ids = [log["call_id"] for log in logs]
    assert ids[0] == ids[1] != ids[2] == ids[3]


@pytest.mark.parametrize(
    ("log_level", "failure_level", "quiet", "between", "loud"),
    [
        ("INFO", None, 20, 30, 40),
        ("debug", None, 10, 30, 40),
        (logging.ERROR, None, 40, 40, 40),
        ("CRITICAL", None, 50, 50, 50),
        ("DEBUG", "INFO", 10, 20, 20),
        (25, 35, 25, 30, 35),
        ("ERROR", "INFO", 40, 40, 20),
    ],
)
def test_levels(caplog, shop, log_level, failure_level, quiet, between, loud):
    end = ending(LoggingObserver(shop, log_level, failure_level=failure_level))
    for outcome in (Outcome.SUCCESS, Outcome.HANDLED, Outcome.FAILURE):
        end(0.1, None, None, outcome)
    assert [record.levelno for record in caplog.records] == [quiet, between, loud]


def test_levels_may_be_changed_later(caplog, shop):
    observer = LoggingObserver(shop)
    end = ending(observer)
    observer.configure(log_level="WARNING", failure_level="CRITICAL")
    end(0.1, None, None, Outcome.SUCCESS)
    end(0.1, None, None, Outcome.FAILURE)
    assert [record.levelno for record in caplog.records] == [30, 50]
    assert (observer.log_level, observer.failure_level) == (30, 50)


@pytest.mark.parametrize("level", ["LOUD", "", -1, True, None, 1.5, []])
def test_what_is_no_level_is_refused(level):
    with pytest.raises(ConfigurationError, match="log_level="):
        LoggingObserver(log_level=level)
    if level is not None:
        with pytest.raises(ConfigurationError, match="failure_level="):
            LoggingObserver(failure_level=level)


def test_the_nearest_level_is_named():
    with pytest.raises(ConfigurationError, match="did you mean 'WARNING'"):
        LoggingObserver(log_level="warnin")


class Hostile:
    def __getattr__(self, name):
        raise RuntimeError


@pytest.mark.parametrize("make", [lambda: "shop", lambda: 3, lambda: print, lambda: logging.Logger, Hostile])
def test_what_is_no_logger_is_refused(make):
    with pytest.raises(
        ConfigurationError, match=r"logger=.*(a structlog or standard logger|looking at it raised RuntimeError)"
    ):
        LoggingObserver(make())


@pytest.mark.parametrize("parameter", ["arguments", "started"])
def test_switches_are_true_or_false(parameter):
    with pytest.raises(ConfigurationError, match=f"{parameter}='yes'"):
        LoggingObserver(**{parameter: "yes"})


def test_a_disabled_standard_logger_is_asked_and_nothing_else_happens(caplog, shop):
    end = ending(LoggingObserver(shop))
    shop.setLevel(logging.ERROR)
    error = mock.Mock(spec=ValueError)
    end(0.1, None, error, Outcome.HANDLED)
    assert error.mock_calls == []
    assert caplog.records == []
    shop.setLevel(logging.INFO)
    end(0.1, None, None, Outcome.SUCCESS)
    assert [record.levelno for record in caplog.records] == [logging.INFO]


def configured(output, level):
    structlog.configure(
        processors=[structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(output),
    )


@pytest.mark.parametrize("way", ["its own object", "the public way"])
def test_structlogs_level_is_followed_when_it_is_configured_anew(way, monkeypatch):
    if way == "the public way":
        monkeypatch.delattr("structlog._config._CONFIG")
        held = module._configuration()
        monkeypatch.undo()
        monkeypatch.setattr(module, "_CONFIGURATION", held)
        assert isinstance(held, module._PublicConfiguration)
    output = io.StringIO()
    end = ending(LoggingObserver())
    for level in (logging.ERROR, logging.INFO, logging.ERROR):
        configured(output, level)
        end(0.1, None, None, Outcome.SUCCESS)
        end(0.1, None, None, Outcome.FAILURE)
    events = [json.loads(line)["event"] for line in output.getvalue().splitlines()]
    assert events == ["call.failed", "call.succeeded", "call.failed", "call.failed"]


@pytest.mark.skipif(
    not hasattr(structlog.make_filtering_bound_logger(0), "is_enabled_for"), reason="structlog before 25.1 cannot tell"
)
def test_a_disabled_structlog_logger_is_not_called():
    output = io.StringIO()
    configured(output, logging.CRITICAL)
    written = []
    observer = LoggingObserver()
    observer._sink.write = lambda *args: written.append(args)
    ending(observer)(0.1, None, None, Outcome.FAILURE)
    assert written == []


def test_structlog_around_the_standard_library_follows_its_levels(caplog, shop):
    structlog.configure(
        processors=[structlog.stdlib.render_to_log_kwargs],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    end = ending(LoggingObserver(structlog.get_logger("shop")))
    for level in (logging.ERROR, logging.INFO):
        shop.setLevel(level)
        end(0.1, None, None, Outcome.SUCCESS)
    assert [(record.getMessage(), record.function) for record in caplog.records] == [
        ("call.succeeded", "shop.Shop.pay")
    ]


@pytest.mark.parametrize("level", [5, 15, 25, 35, 45, 99])
def test_a_level_between_the_standard_ones_takes_the_method_below(level):
    methods = {5: "debug", 15: "debug", 25: "info", 35: "warning", 45: "error", 99: "critical"}
    with capture_logs() as logs:
        ending(LoggingObserver(log_level=level))(0.1, None, None, Outcome.SUCCESS)
    assert [log["log_level"] for log in logs] == [methods[level]]


def test_a_generic_structlog_logger_which_cannot_tell_its_level_gets_one_record_a_call():
    structlog.configure(wrapper_class=structlog.BoundLogger)
    with capture_logs() as logs:
        ending(LoggingObserver())(0.1, None, None, Outcome.SUCCESS)
    assert [log["event"] for log in logs] == ["call.succeeded"]


def test_what_is_bound_to_a_logger_is_in_its_records():
    with capture_logs() as logs:
        ending(LoggingObserver(structlog.get_logger(tenant="a")))(0.1, None, None, Outcome.SUCCESS)
        ending(LoggingObserver(structlog.get_logger().bind(tenant="b")))(0.1, None, None, Outcome.SUCCESS)
    assert [log["tenant"] for log in logs] == ["a", "b"]


def test_any_object_with_the_methods_is_a_logger():
    logger = mock.Mock()
    ending(LoggingObserver(logger))(0.1, None, None, Outcome.SUCCESS)
    logger.info.assert_called_once_with(
        "call.succeeded", function="shop.Shop.pay", outcome="success", execution_time=0.1
    )


def test_structlogs_configuration_is_left_as_it_is():
    before = structlog.get_config()
    ending(LoggingObserver())
    assert structlog.get_config() == before
    assert not structlog.is_configured()


def test_structlogs_own_console_writes_one_line():
    output = io.StringIO()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(output))
    ending(LoggingObserver())(0.1, None, ValueError("a\nb"), Outcome.FAILURE)
    assert output.getvalue().count("\n") == 1


@pytest.mark.parametrize("logger", [None, logging.getLogger("shop")], ids=["structlog", "standard"])
def test_it_survives_pickling(logger, caplog, shop):
    observer = LoggingObserver(logger, "DEBUG", failure_level="WARNING", priority=3, name="mine")
    twin = pickle.loads(pickle.dumps(observer))
    assert (twin.log_level, twin.failure_level, twin.priority, twin.name) == (10, 30, 3, "mine")
    with capture_logs() as logs:
        ending(twin)(0.1, None, None, Outcome.FAILURE)
    seen = [log["log_level"] for log in logs] if logger is None else [level for level, _ in records(caplog)]
    assert seen == ["warning"]


def test_structlog_is_imported_only_for_those_who_log():
    script = """
import sys
import callpyback.observers
from callpyback import MetricsObserver, TimingObserver, on_call
assert "structlog" not in sys.modules
assert callpyback.observers.LoggingObserver.__name__ == "LoggingObserver"
assert "structlog" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    with pytest.raises(AttributeError, match="LogingObserver"):
        observers.LogingObserver  # noqa: B018


def test_a_subclass_with_an_update_of_its_own_is_told_by_that():
    class Own(LoggingObserver):
        def update(self, context):
            seen.append(context.state)

    seen = []

    @CallPyBack(observers=[Own()])
    def f():
        pass

    f()
    assert seen == [ExecutionState.COMPLETED]


def test_a_logging_handler_that_calls_the_observed_function_returns(shop):
    calls = []

    @CallPyBack(observers=[LoggingObserver(shop)])
    def f():
        calls.append(1)

    class Calling(logging.Handler):
        def emit(self, record):
            f()

    handler = Calling()
    shop.addHandler(handler)
    try:
        f()
    finally:
        shop.removeHandler(handler)
    assert len(calls) == 2


class Again:
    def next_wait(self, error, attempt, elapsed):
        return 0.25 if attempt < 2 else None


@pytest.mark.parametrize("arguments", [False, True], ids=["bound", "context"])
def test_a_retry_is_logged_as_a_warning_with_its_attempt_and_wait(caplog, arguments):
    @CallPyBack(
        [LoggingObserver(logging.getLogger("shop"), arguments=arguments)], retry=Again(), time_source=MockTimeSource()
    )
    def pay():
        raise ConnectionError("reset")

    with caplog.at_level(logging.INFO), pytest.raises(ConnectionError):
        pay()
    retry, end = caplog.records
    assert (retry.levelname, retry.event, retry.attempt, retry.wait) == ("WARNING", "call.retrying", 1, 0.25)
    assert (retry.exception_type, retry.exception_text) == ("ConnectionError", "ConnectionError: reset")
    assert end.event == "call.failed"
