"""The fifteen examples the project started from do what their text says.

`seeds/*.txt` quotes them as they stand. They are run in order in one namespace, as they were written to be, with the
changes in `CHANGES` alone; `docs/seed-examples.md` explains each. What the text forgets to import is given to it, and
its `time` is a clock that stands still until a test moves it, so that nothing waits.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import gc
import http.server
import io
import json
import linecache
import logging
import random
import sqlite3
import statistics
import sys
import threading
import types
import unittest
from pathlib import Path

import pytest

from callpyback import (
    CallPyBack,
    CallVetoed,
    ExecutionContext,
    ExecutionState,
    MockTimeSource,
    StopProcessing,
)
from callpyback.testing import RecordingObserver, assert_healthy, build_context

SEEDS = Path(__file__).parent / "seeds"
DOCS = Path(__file__).parents[1] / "docs" / "seed-examples.md"

_BOTH_ENDS = "states=[ExecutionState.COMPLETED, ExecutionState.ERROR]"

CHANGES = {
    "03_rate_limit": ("raise Exception(f", "raise CallVetoed(f"),
    "04_cache": ("return cached_data['result']", "raise StopProcessing(cached_data['result'])"),
    "11_memory": ('name="MemoryEfficient")', f'name="MemoryEfficient", {_BOTH_ENDS})'),
    "12_optimised": ('name="Optimized")', f'name="Optimized", {_BOTH_ENDS})'),
    "15_unit_test": (
        "@patch('your_module.external_api_call')",
        "@patch.object(MyCustomObserver, '_process_execution')",
    ),
}
"""By example: what is replaced, and what by."""

allow_utcnow = pytest.mark.filterwarnings(r"ignore:datetime\.datetime\.utcnow\(\) is deprecated:DeprecationWarning")
allow_unclosed_database = pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")


class Examples:
    """The examples, run. Their names are attributes."""

    def __init__(self, changes=CHANGES):
        self.clock = MockTimeSource(1_700_000_000.0)
        self.slept: list[float] = []
        self.printed: dict[str, str] = {}
        self.decorators: list[CallPyBack] = []
        self._names = {
            "__name__": "seed_examples",
            "__builtins__": {**vars(builtins), "__import__": self._import},
            "CallPyBack": self._decorator,
            "CallVetoed": CallVetoed,
            "StopProcessing": StopProcessing,
            "random": random.Random(7),
        }
        for path in sorted(SEEDS.glob("*.txt")):
            # The profiled functions "work" by sleeping, so the clock that sleeping moves must time them too.
            timed = functools.partial(self._decorator, time_source=self.clock)
            self._names["CallPyBack"] = timed if path.stem == "06_profile" else self._decorator
            self._run(path, *changes.get(path.stem, ()))
        self._names["CallPyBack"] = self._decorator

    def __getattr__(self, name):
        try:
            return self._names[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def failures(self):
        """What observers raised, by the observer's name; isolation would hide it from a test."""
        healths = [known.health for made in self.decorators for known in made.registrations]
        return {health.name: health.last_error for health in healths if health.failures}

    def _run(self, path, old="", new=""):
        text = path.read_text(encoding="utf-8")
        if old:
            assert text.count(old) == 1
            text = text.replace(old, new)
        filename = f"<{path.stem}>"
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(text, filename, "exec", dont_inherit=True), self._names)
        self.printed[path.stem] = printed.getvalue()

    def _import(self, name, *args):
        if name != "time":
            return builtins.__import__(name, *args)
        stand_in = types.ModuleType("time")
        stand_in.time = self.clock.now
        stand_in.sleep = self._sleep
        return stand_in

    def _sleep(self, seconds):
        self.slept.append(seconds)
        self.clock.advance(seconds)

    def _decorator(self, **options):
        made = CallPyBack(**options)
        self.decorators.append(made)
        return made


@pytest.fixture
def examples():
    """The examples, and after the test the assertion that none of their observers has failed."""
    made = Examples()
    yield made
    assert made.failures == {}


@pytest.fixture
def body():
    """A function that counts its own calls: what a veto or an answer must not run."""

    def function(n=0):
        function.calls += 1
        return n * 2

    function.calls = 0
    return function


def fail(message="boom"):
    raise ValueError(message)


# 1: the base pattern


def test_1_the_base_pattern_processes_each_call_when_it_has_completed(examples, body):
    class Noting(examples.MyCustomObserver):
        def __init__(self):
            super().__init__("given")
            self.processed = []

        def _process_execution(self, context):
            self.processed.append(context)

    observer = Noting()
    observed = examples.CallPyBack(observers=[observer])(body)
    observed(21)

    assert (observer.priority, observer.name, observer.custom_param) == (50, "MyCustomObserver", "given")
    (context,) = observer.processed
    assert isinstance(context, ExecutionContext)
    assert (context.state, context.arguments, context.result.value) == (ExecutionState.COMPLETED, {"n": 21}, 42)


def test_1_an_observer_lives_from_its_registration_to_its_cleanup(examples, body):
    steps = []

    class Living(examples.MyCustomObserver):
        def configure(self, **options):
            steps.append(("configure", options))
            super().configure(**options)

        def validate(self):
            steps.append("validate")
            super().validate()

        def _process_execution(self, context):
            steps.append("process")

        def close(self):
            steps.append("close")

    observer = Living()
    decorator = examples.CallPyBack()
    decorator.add_observer(observer, options={"custom_param": "configured"})
    observed = decorator(body)
    observed()
    decorator.shutdown()
    observed()

    assert steps == [("configure", {"custom_param": "configured"}), "validate", "process", "close"]
    assert observer.custom_param == "configured"
    observer.reset()


def test_1_an_observer_without_states_is_told_the_five_states_of_the_drawing(examples, body):
    recorder = RecordingObserver()
    decorator = examples.CallPyBack(observers=[recorder], exception_classes=[KeyError])
    decorator(body)()
    with pytest.raises(ValueError, match="boom"):
        decorator(fail)()

    assert {state.name for state in recorder.told_states} == {
        "PRE_EXECUTION",
        "POST_SUCCESS",
        "POST_FAILURE",
        "COMPLETED",
        "ERROR",
    }


# 2: counter


def test_2_the_counter_prints_the_one_call_of_its_usage(examples):
    assert examples.printed["02_counter"] == (
        "{'calls': {'tracked_function': 1}, 'successes': {'tracked_function': 1}, 'failures': {}}\n"
    )


def test_2_the_counter_counts_successes_and_failures_by_function(examples, body):
    counter = examples.FunctionCounterObserver()
    decorator = examples.CallPyBack(observers=[counter])
    observed, failing = decorator(body), decorator(fail)
    for _ in range(3):
        observed()
    with pytest.raises(ValueError, match="boom"):
        failing()

    assert counter.get_stats() == {
        "calls": {"function": 3, "fail": 1},
        "successes": {"function": 3},
        "failures": {"fail": 1},
    }


# 3: rate limit


def test_3_the_sixth_call_in_a_minute_is_refused(examples):
    assert [examples.limited_function() for _ in range(5)] == ["allowed"] * 5

    with pytest.raises(CallVetoed, match="Rate limit exceeded for limited_function"):
        examples.limited_function()


def test_3_a_refused_call_does_not_run_the_body(examples, body):
    observed = examples.CallPyBack(observers=[examples.RateLimitObserver(max_calls_per_minute=1)])(body)
    observed()
    with pytest.raises(CallVetoed):
        observed()

    assert body.calls == 1


def test_3_calls_are_allowed_again_after_a_minute(examples):
    for _ in range(5):
        examples.limited_function()
    examples.clock.advance(60)

    assert examples.limited_function() == "allowed"


def test_3_each_function_has_its_own_limit(examples, body):
    decorator = examples.CallPyBack(observers=[examples.RateLimitObserver(max_calls_per_minute=1)])
    other = decorator(lambda: "allowed")
    decorator(body)()

    assert other() == "allowed"


def test_3_unchanged_the_limit_is_reported_and_stops_nothing():
    examples = Examples(changes={})
    answers = [examples.limited_function() for _ in range(6)]

    assert answers == ["allowed"] * 6
    assert examples.failures == {"RateLimit": "Exception: Rate limit exceeded for limited_function"}


def test_3_with_critical_in_place_of_the_veto_the_caller_gets_the_examples_own_exception():
    critical = {"03_rate_limit": ('name="RateLimit")', 'name="RateLimit", critical=True)')}
    examples = Examples(changes=critical)
    for _ in range(5):
        examples.limited_function()

    with pytest.raises(Exception, match="Rate limit exceeded for limited_function") as refused:
        examples.limited_function()
    assert type(refused.value) is Exception


# 4: cache


def test_4_a_cached_result_is_given_without_running_the_body(examples, body, capsys):
    observed = examples.CallPyBack(observers=[examples.CacheObserver()])(body)

    assert [observed(4), observed(4)] == [8, 8]
    assert body.calls == 1
    assert capsys.readouterr().out == "Cached result for function\nCache hit for function\n"


def test_4_other_arguments_are_another_item(examples, body):
    cache = examples.CacheObserver()
    observed = examples.CallPyBack(observers=[cache])(body)

    assert [observed(4), observed(5), observed(n=4)] == [8, 10, 8]
    assert body.calls == 2
    stats = cache.get_cache_stats()
    assert stats["cached_items"] == 2
    assert stats["cache_keys"] == list(cache.cache)


def test_4_an_expired_result_is_computed_anew(examples, body):
    observed = examples.CallPyBack(observers=[examples.CacheObserver(ttl_seconds=300)])(body)
    observed(4)
    examples.clock.advance(299)
    observed(4)
    assert body.calls == 1
    examples.clock.advance(1)
    observed(4)

    assert body.calls == 2


def test_4_a_failure_is_not_cached(examples):
    cache = examples.CacheObserver()
    failing = examples.CallPyBack(observers=[cache])(fail)
    with pytest.raises(ValueError, match="boom"):
        failing()

    assert cache.get_cache_stats() == {"cached_items": 0, "cache_keys": []}


def test_4_unchanged_a_hit_is_printed_and_the_body_runs_all_the_same(body, capsys):
    examples = Examples(changes={})
    observed = examples.CallPyBack(observers=[examples.CacheObserver()])(body)

    assert [observed(4), observed(4)] == [8, 8]
    assert "Cache hit for function" in capsys.readouterr().out
    assert body.calls == 2


# 5: security audit


def logged(caplog, prefix):
    """Return the JSON of the log records with this prefix."""
    texts = [record.getMessage() for record in caplog.records if record.name == "security_audit"]
    return [json.loads(text.removeprefix(prefix)) for text in texts if text.startswith(prefix)]


@allow_utcnow
def test_5_each_state_of_a_sensitive_call_is_an_audited_event(examples, caplog):
    caplog.set_level(logging.INFO, "security_audit")
    session = examples.login("ann", "right", source_ip="10.0.0.7")

    events = logged(caplog, "SECURITY_EVENT: ")
    assert session == {"user_id": "ann", "session_token": "abc123"}
    assert events == examples.security_observer.security_events
    assert [(event["state"], event["success"]) for event in events] == [
        ("PRE_EXECUTION", False),
        ("POST_SUCCESS", True),
        ("COMPLETED", True),
    ]
    assert all(event["function"] == "login" and event["source_ip"] == "10.0.0.7" for event in events)
    assert all(event["user"] == "unknown" and "error" not in event for event in events)


@allow_utcnow
def test_5_a_suspicious_failure_raises_one_alert_without_the_password(examples, caplog):
    caplog.set_level(logging.INFO, "security_audit")
    with pytest.raises(PermissionError, match="Authentication failed"):
        examples.login("admin", "wrong", "10.0.0.7" * 20)

    (alert,) = logged(caplog, "SECURITY_ALERT: ")
    assert (alert["function"], alert["error"], alert["severity"]) == ("login", "Authentication failed", "HIGH")
    assert alert["arguments"] == {
        "username": "admin",
        "password": "***REDACTED***",
        "source_ip": ("10.0.0.7" * 20)[:100],
    }
    errors = [(event["state"], event.get("error")) for event in logged(caplog, "SECURITY_EVENT: ")]
    assert errors == [
        ("PRE_EXECUTION", None),
        ("POST_FAILURE", "Authentication failed"),
        ("COMPLETED", "Authentication failed"),
    ]


@allow_utcnow
def test_5_calls_of_other_functions_are_audited_only_when_suspicious(examples, caplog):
    observer = examples.SecurityAuditObserver(sensitive_functions={"login"})
    failing = examples.CallPyBack(observers=[observer])(fail)
    for message in ("disk full", "SQL injection in 'name'"):
        with pytest.raises(ValueError, match=message):
            failing(message)

    assert observer.security_events == []
    assert [alert["error"] for alert in logged(caplog, "SECURITY_ALERT: ")] == ["SQL injection in 'name'"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="datetime.utcnow() is deprecated since 3.12")
def test_5_where_warnings_are_errors_the_old_clock_fails_the_observer_and_not_the_call():
    examples = Examples()
    session = examples.login("ann", "right", source_ip="10.0.0.7")

    assert session == {"user_id": "ann", "session_token": "abc123"}
    assert "utcnow() is deprecated" in examples.failures["SecurityAudit"]
    with pytest.raises(AssertionError, match="SecurityAudit on login: 3 times"):
        assert_healthy(examples.login)


# 6: profile


def test_6_the_report_is_that_of_the_hundred_and_fifty_queries(examples):
    slept_ms = [seconds * 1000 for seconds in examples.slept]
    report = examples.report

    assert len(slept_ms) == 150
    assert report["functions"] == {
        "database_query": {
            "total_calls": 150,
            "mean_time_ms": pytest.approx(statistics.mean(slept_ms), abs=0.001),
            "median_time_ms": pytest.approx(statistics.median(slept_ms), abs=0.001),
            "min_time_ms": pytest.approx(min(slept_ms), abs=0.001),
            "max_time_ms": pytest.approx(max(slept_ms), abs=0.001),
            "std_dev_ms": pytest.approx(statistics.stdev(slept_ms), abs=0.001),
            "p95_time_ms": pytest.approx(statistics.quantiles(slept_ms, n=20)[18], abs=0.001),
        }
    }
    assert examples.printed["06_profile"].endswith(json.dumps(report, indent=2) + "\n")


def test_6_each_query_over_the_threshold_is_alerted_once_there_are_ten_samples(examples):
    slow = [alert for alert in examples.report["recent_alerts"] if alert["type"] == "SLOW_EXECUTION"]

    assert len(slow) == sum(seconds > 0.2 for seconds in examples.slept[9:]) > 10
    assert all(alert["severity"] == "HIGH" and alert["function"] == "database_query" for alert in slow)
    assert slow[0]["arguments"]["query"].startswith("SELECT * FROM table_")
    assert examples.printed["06_profile"].count("PERFORMANCE ALERT: SLOW_EXECUTION") == len(slow)


def test_6_a_function_that_becomes_half_as_slow_again_is_reported(examples):
    profiler = examples.PerformanceProfileObserver(alert_threshold_ms=10_000)

    @examples.CallPyBack(observers=[profiler], time_source=examples.clock)
    def query(seconds):
        examples.clock.advance(seconds)

    for seconds in [0.1] * 90 + [0.2] * 9:
        query(seconds)
    assert profiler.alerts == []
    query(0.2)

    (alert,) = profiler.alerts
    assert (alert["type"], alert["severity"]) == ("PERFORMANCE_DEGRADATION", "MEDIUM")
    assert alert["message"] == "Recent avg: 200.0ms vs Historical: 100.0ms"


def test_6_alerts_older_than_an_hour_are_counted_and_not_shown(examples):
    alerts = examples.profiler.alerts
    examples.clock.advance(7200)

    report = examples.profiler.get_performance_report()
    assert (report["total_alerts"], report["recent_alerts"]) == (len(alerts), [])
    assert list(report["functions"]) == ["database_query"]
    assert examples.profiler.get_performance_report("unknown")["functions"] == {}


def test_6_failed_queries_are_not_profiled(examples):
    profiler = examples.PerformanceProfileObserver()
    failing = examples.CallPyBack(observers=[profiler])(fail)
    with pytest.raises(ValueError, match="boom"):
        failing()

    assert profiler.get_performance_report()["functions"] == {}


# 7: business metrics


@allow_utcnow
def test_7_metrics_are_taken_from_results_and_arguments_by_path(examples):
    order = examples.process_order("ann", [{"price": 20}, {"price": 22.5}], {"name": "post", "cost": 4})
    examples.process_order("bob", [{"price": 10}], {"cost": "free"})
    examples.user_signup("ann@example.org", referral_code="X")

    assert order["order_total"] == 42.5
    assert {name: dict(metrics) for name, metrics in examples.business_observer.metrics.items()} == {
        "process_order": {"revenue": 52.5, "items_sold": 3, "shipping_cost": 4},
        "user_signup": {"new_users": 1, "conversion_value": 10},
    }


@allow_utcnow
def test_7_the_summary_adds_up_what_happened(examples):
    for price in (20, 30):
        examples.process_order("ann", [{"price": price}], {"cost": 5})
    summary = examples.business_observer.get_business_summary()

    assert summary["recent_events"] == 6
    assert sum(day["revenue"] for day in summary["daily_trends"].values()) == 50
    assert summary["total_metrics"]["process_order"]["items_sold"] == 2
    assert summary["function_performance"] == {
        "process_order": {"total_calls": 6, "success_rate": 100.0, "total_business_value": 62.0}
    }


@allow_utcnow
def test_7_a_failed_order_earns_nothing_and_lowers_the_success_rate(examples):
    examples.process_order("ann", [{"price": 20}], {"cost": 5})
    with pytest.raises(KeyError):
        examples.process_order("bob", [{"no price": 20}], {"cost": 5})

    performance = examples.business_observer.get_business_summary()["function_performance"]["process_order"]
    assert performance["success_rate"] == 50.0
    assert examples.business_observer.metrics["process_order"]["revenue"] == 20


@allow_utcnow
def test_7_metrics_can_be_taken_from_captured_locals(examples):
    observer = examples.BusinessMetricsObserver({"function": {"fee": {"source": "variables", "path": ["fee"]}}})

    @examples.CallPyBack(observers=[observer], variable_names=["fee"])
    def function(price):
        fee = price * 0.1
        return price - fee

    function(50)

    assert observer.metrics["function"]["fee"] == 5.0


def test_7_functions_without_configuration_are_left_alone(examples, body):
    observed = examples.CallPyBack(observers=[examples.business_observer])(body)
    observed()

    assert examples.business_observer.metrics == {}


# 8: template


def test_8_the_template_extracts_processes_and_stores_each_completed_call(examples, body, capsys):
    observer = examples.DatabaseAnalyticsObserver("db://analytics")
    observed = examples.CallPyBack(observers=[observer], time_source=examples.clock)(body)
    observed()

    row = {"function_name": "function", "execution_time": 0.0, "success": True, "timestamp": examples.clock.now()}
    assert capsys.readouterr().out == f"Storing to database: {row}\n"


def test_8_each_step_of_the_template_can_be_overridden(examples):
    stored = []

    class Failures(examples.DatabaseAnalyticsObserver):
        def _should_process(self, context):
            return context.state == ExecutionState.POST_FAILURE

        def _process_data(self, data, context):
            return (data["function_name"], data["success"], str(context.result.exception))

        def _store_data(self, data):
            stored.append(data)

    failing = examples.CallPyBack(observers=[Failures("db://failures")])(fail)
    with pytest.raises(ValueError, match="boom"):
        failing()

    assert stored == [("fail", False, "boom")]


def test_8_the_bare_template_fails_alone(body):
    examples = Examples()
    observed = examples.CallPyBack(observers=[examples.BaseAnalyticsObserver()])(body)

    assert observed(4) == 8
    assert examples.failures == {"BaseAnalyticsObserver": "NotImplementedError"}


# 9: strategy


def test_9_the_same_observer_writes_json_or_csv_by_its_processor(examples, body):
    decorator = examples.CallPyBack(
        observers=[examples.json_observer, examples.csv_observer], time_source=examples.clock
    )
    decorator(body)()
    with pytest.raises(ValueError, match="boom"):
        decorator(fail)()

    now = examples.clock.now()
    assert [json.loads(line) for line in examples.json_observer.processed_data] == [
        {"timestamp": now, "function_name": "function", "success": True},
        {"timestamp": now, "function_name": "fail", "success": False},
    ]
    assert examples.csv_observer.processed_data == [f"{now},function,True", f"{now},fail,False"]


# 10: robust


def test_10_an_observer_that_catches_its_own_errors_logs_and_handles_them(examples, body, caplog):
    handled = []

    class Fragile(examples.RobustObserver):
        def _safe_processing(self, context):
            raise RuntimeError(f"at {context.state.name}")

        def _handle_error(self, error, context):
            handled.append((str(error), context.state))

    observed = examples.CallPyBack(observers=[Fragile()])(body)

    assert observed(4) == 8
    assert caplog.messages == [
        f"Observer Fragile failed: at {state}" for state in ("PRE_EXECUTION", "POST_SUCCESS", "COMPLETED")
    ]
    assert [state for _, state in handled] == [
        ExecutionState.PRE_EXECUTION,
        ExecutionState.POST_SUCCESS,
        ExecutionState.COMPLETED,
    ]


def test_10_as_it_stands_it_processes_nothing_and_logs_nothing(examples, body, caplog):
    observer = examples.RobustObserver()
    observed = examples.CallPyBack(observers=[observer])(body)

    assert observed(4) == 8
    assert observer.name == "RobustObserver"
    assert caplog.messages == []


# 11: memory


def test_11_only_the_newest_calls_are_kept_and_all_are_counted(examples, body):
    observer = examples.MemoryEfficientObserver(max_items=3)
    decorator = examples.CallPyBack(observers=[observer], time_source=examples.clock)
    observed, failing = decorator(body), decorator(fail)
    for _ in range(4):
        observed()
    with pytest.raises(ValueError, match="boom"):
        failing()

    now = examples.clock.now()
    assert list(observer.data) == [
        {"timestamp": now, "function": "function", "success": True},
        {"timestamp": now, "function": "function", "success": True},
        {"timestamp": now, "function": "fail", "success": False},
    ]
    assert dict(observer.counters) == {"function": 4, "fail": 1}


def test_11_a_call_that_ends_in_error_is_counted_too(examples):
    observer = examples.MemoryEfficientObserver()
    failing = examples.CallPyBack(observers=[observer], exception_classes=[KeyError])(fail)
    with pytest.raises(ValueError, match="boom"):
        failing()

    assert dict(observer.counters) == {"fail": 1}


def test_11_unchanged_every_state_counts_as_a_call(body):
    examples = Examples(changes={})
    observer = examples.MemoryEfficientObserver()
    examples.CallPyBack(observers=[observer])(body)()

    assert dict(observer.counters) == {"function": 3}
    assert [item["success"] for item in observer.data] == [False, True, True]


# 12: optimised


def batches_of(examples, body):
    """Return an observed function, and the batches its observer has processed."""
    batches = []
    observer = examples.OptimizedObserver()
    observer._process_batch = lambda batch: batches.append(list(batch))
    observed = examples.CallPyBack(observers=[observer], time_source=examples.clock)(body)
    return observed, batches


def test_12_a_batch_of_a_hundred_calls_is_processed_at_once(examples, body):
    observed, batches = batches_of(examples, body)
    for _ in range(99):
        observed()
    assert batches == []
    for _ in range(101):
        observed()

    assert batches == [[(examples.clock.now(), "function", True)] * 100] * 2


def test_12_a_smaller_batch_is_processed_after_thirty_seconds(examples, body):
    observed, batches = batches_of(examples, body)
    observed()
    examples.clock.advance(30)
    observed()
    assert batches == []
    examples.clock.advance(1)
    observed()
    observed()

    assert [len(batch) for batch in batches] == [3]


def test_12_unchanged_a_third_of_the_calls_fills_the_batch(body):
    examples = Examples(changes={})
    observed, batches = batches_of(examples, body)
    for _ in range(34):
        observed()

    assert [len(batch) for batch in batches] == [100]


# 13: database


@pytest.fixture
def database(tmp_path):
    """Where the rows go. The example leaves its connections to the collector: here, where the warning is allowed."""
    yield tmp_path / "function_audit.db"
    gc.collect()


@allow_unclosed_database
def test_13_each_completed_call_is_a_row(examples, body, database):
    observer = examples.DatabaseObserver(database)
    decorator = examples.CallPyBack(observers=[observer], time_source=examples.clock)
    decorator(body)(4)
    with pytest.raises(ValueError, match="disk full"):
        decorator(fail)("disk full")

    with contextlib.closing(sqlite3.connect(database)) as connection:
        rows = list(connection.execute("SELECT * FROM function_calls"))
    now = examples.clock.now()
    assert rows == [
        (1, now, "function", 1, 0.0, '{"n": 4}'),
        (2, now, "fail", 0, 0.0, '{"message": "disk full"}'),
    ]


@allow_unclosed_database
def test_13_a_second_observer_adds_to_the_same_table(examples, body, database):
    for _ in range(2):
        examples.CallPyBack(observers=[examples.DatabaseObserver(database)])(body)()

    with contextlib.closing(sqlite3.connect(database)) as connection:
        assert list(connection.execute("SELECT count(*) FROM function_calls")) == [(2,)]


# 14: webhook


class Webhooks(http.server.BaseHTTPRequestHandler):
    """Takes what is posted, and answers with the status the path asks for."""

    def do_POST(self):
        posted = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((dict(self.headers), json.loads(posted)))
        self.send_response(int(self.path.strip("/")))
        self.end_headers()

    def log_message(self, *args):
        """Say nothing on stderr."""


@pytest.fixture
def webhooks(monkeypatch):
    """A server on this machine; `received` has the headers and the JSON of each request."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Webhooks) as server:
        server.received = []
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_14_a_failure_is_posted_as_json_with_the_key(examples, webhooks):
    observer = examples.WebhookObserver(f"{webhooks.url}/200", api_key="k-1")
    failing = examples.CallPyBack(observers=[observer], time_source=examples.clock)(fail)
    with observer.session, pytest.raises(ValueError, match="disk full"):
        failing("disk full")

    ((headers, payload),) = webhooks.received
    assert headers["Authorization"] == "Bearer k-1"
    assert payload == {
        "alert_type": "function_failure",
        "function_name": "fail",
        "error_message": "disk full",
        "timestamp": examples.clock.now(),
        "arguments": {"message": "disk full"},
    }


def test_14_a_success_posts_nothing_and_no_key_is_no_header(examples, webhooks, body):
    observer = examples.WebhookObserver(f"{webhooks.url}/200")
    with observer.session:
        examples.CallPyBack(observers=[observer])(body)()

    assert webhooks.received == []
    assert "Authorization" not in observer.session.headers


def test_14_a_refused_post_is_logged_and_changes_nothing_for_the_caller(examples, webhooks, caplog):
    observer = examples.WebhookObserver(f"{webhooks.url}/503")
    failing = examples.CallPyBack(observers=[observer])(fail)
    with observer.session, pytest.raises(ValueError, match="boom"):
        failing()

    assert len(webhooks.received) == 1
    (message,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert message.startswith("Failed to send webhook: 503 Server Error")


# 15: unit test


def test_15_the_unit_tests_of_the_text_pass(examples):
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(examples.TestCustomObserver)
    outcome = unittest.TextTestRunner(stream=io.StringIO()).run(suite)

    assert outcome.testsRun == 3
    assert outcome.wasSuccessful(), outcome.failures + outcome.errors


def test_15_the_test_kit_says_the_same_without_a_mock(examples):
    processed = []
    observer = examples.MyCustomObserver()
    observer._process_execution = processed.append
    observer.update(build_context("test_function", state=ExecutionState.PRE_EXECUTION))
    observer.update(build_context("test_function"))

    assert [context.function_signature.name for context in processed] == ["test_function"]


def test_the_docs_show_each_change():
    shown = DOCS.read_text(encoding="utf-8").splitlines()
    for old, new in CHANGES.values():
        assert any(line.startswith("-") and old in line for line in shown)
        assert any(line.startswith("+") and new in line for line in shown)
