"""Profiles: the seed's keys, a rolling window of each function, one alert an episode, bounded and exact."""

from __future__ import annotations

import copy
import gc
import json
import logging
import math
import pickle
import statistics
import threading
import tracemalloc
import weakref

import pytest

from callpyback import CallPyBack, ConfigurationError, FunctionSignature, MockTimeSource, Outcome
from callpyback.observers.performance_profile import PerformanceProfileObserver
from callpyback.testing import build_context
from kinds import drive

SIGNATURE = FunctionSignature("pay", qualname="Shop.pay", module="shop")


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.CRITICAL, "callpyback")


def profiled(*milliseconds, signature=SIGNATURE, **options):
    profiler = PerformanceProfileObserver(**{"time_source": MockTimeSource(10_000.0), **options})
    tell(profiler, *milliseconds, signature=signature)
    return profiler


def tell(profiler, *milliseconds, signature=SIGNATURE, outcome=Outcome.SUCCESS):
    _, end = profiler.bind(signature)
    for elapsed in milliseconds:
        end(elapsed / 1000, None, None, outcome)


def numbers(profiler, name="pay"):
    return profiler.get_performance_report(name)["functions"][name]


def types(profiler):
    return [alert["type"] for alert in profiler.alerts]


def test_a_report_has_the_seeds_keys_and_numbers():
    times = [float(n) for n in range(1, 41)]
    report = numbers(profiled(*times))
    assert report == {
        "total_calls": 40,
        "window_calls": 40,
        "mean_time_ms": pytest.approx(statistics.mean(times)),
        "median_time_ms": pytest.approx(statistics.median(times)),
        "min_time_ms": 1.0,
        "max_time_ms": 40.0,
        "std_dev_ms": pytest.approx(statistics.stdev(times)),
        "p50_time_ms": pytest.approx(20.5),
        "p90_time_ms": pytest.approx(statistics.quantiles(times, n=10)[8]),
        "p95_time_ms": pytest.approx(statistics.quantiles(times, n=20)[18]),
        "p99_time_ms": None,
    }


def test_no_call_and_one_call_are_no_error():
    assert profiled().get_performance_report() == {"functions": {}, "total_alerts": 0, "recent_alerts": []}
    report = numbers(profiled(5.0))
    assert (report["total_calls"], report["std_dev_ms"], report["median_time_ms"]) == (1, 0.0, 5.0)
    assert [report[f"p{percent}_time_ms"] for percent in (50, 90, 95, 99)] == [None] * 4


@pytest.mark.parametrize(("percent", "needed"), [(50, 2), (90, 10), (95, 20), (99, 100)])
def test_a_percentile_takes_so_many_calls_that_it_is_among_them(percent, needed):
    key = f"p{percent}_time_ms"
    assert numbers(profiled(*[1.0] * (needed - 1)))[key] is None
    assert numbers(profiled(*[1.0] * needed))[key] == pytest.approx(1.0)


def test_statistics_are_those_of_the_window_and_the_total_is_that_of_all_calls():
    report = numbers(profiled(*[500.0] * 95, *[1.0] * 5, window_size=5))
    assert (report["total_calls"], report["window_calls"], report["max_time_ms"]) == (100, 5, 1.0)


def test_functions_are_found_by_each_of_their_names():
    profiler = profiled(1.0)
    tell(profiler, 2.0, signature=FunctionSignature("look", module="shop"))
    for name in ("pay", "Shop.pay", "shop.Shop.pay"):
        assert list(profiler.get_performance_report(name)["functions"]) == ["pay"]
        assert list(profiler.get_performance_report(name=name)["functions"]) == ["pay"]
    assert list(profiler.get_performance_report()["functions"]) == ["pay", "look"]
    assert profiler.get_performance_report("nobody")["functions"] == {}
    with pytest.raises(ConfigurationError, match="func_name='pay' and name='look'"):
        profiler.get_performance_report("pay", name="look")


def test_two_methods_of_one_name_are_two_functions():
    profiler = profiled(1.0)
    tell(profiler, 2.0, signature=FunctionSignature("pay", qualname="Bank.pay", module="shop"))
    assert list(profiler.get_performance_report()["functions"]) == ["Shop.pay", "Bank.pay"]


def test_only_calls_that_returned_count_unless_failed_ones_are_asked_for():
    failed = (Outcome.FAILURE, Outcome.TIMED_OUT, Outcome.HANDLED)
    for failed_calls, expected in ((False, 1), (True, 4)):
        profiler = profiled(1.0, failed_calls=failed_calls)
        for outcome in Outcome:
            if outcome is not Outcome.SUCCESS:
                tell(profiler, 2.0, outcome=outcome)
        assert numbers(profiler)["total_calls"] == expected == 1 + len(failed) * failed_calls


def test_a_duration_that_is_unknown_is_counted_and_left_out():
    report = numbers(profiled(1.0, math.nan, 3.0))
    assert (report["total_calls"], report["window_calls"], report["mean_time_ms"]) == (3, 2, 2.0)


def test_a_slow_call_is_an_alert_with_the_seeds_keys():
    profiler = profiled(*[1.0] * 9, 600.0)
    assert profiler.alerts == [
        {
            "timestamp": 10_000.0,
            "function": "pay",
            "full_name": "shop.Shop.pay",
            "type": "SLOW_EXECUTION",
            "message": "Execution time: 600.0ms (threshold: 500.0ms)",
            "arguments": None,
            "severity": "HIGH",
            "repeats": 0,
            "last_timestamp": 10_000.0,
            "ongoing": True,
        }
    ]
    report = profiler.get_performance_report()
    assert (report["total_alerts"], report["recent_alerts"]) == (1, profiler.alerts)
    assert json.loads(json.dumps(report)) == report


def test_slow_is_strictly_more_than_the_threshold():
    assert profiled(*[500.0] * 20).alerts == []


def test_the_first_calls_are_given_time_to_warm_up():
    assert profiled(*[600.0] * 9).alerts == []
    assert types(profiled(*[600.0] * 10)) == ["SLOW_EXECUTION"]
    assert types(profiled(600.0, min_calls=1)) == ["SLOW_EXECUTION"]


def test_slow_calls_are_one_episode_until_ten_in_a_row_were_not():
    profiler = profiled(*[600.0] * 10, *[600.0, 1.0] * 5, *[1.0] * 8, 600.0)
    [alert] = profiler.alerts
    assert (alert["repeats"], alert["ongoing"]) == (6, True)
    tell(profiler, *[1.0] * 10)
    assert profiler.alerts[0]["ongoing"] is False
    tell(profiler, 600.0)
    assert [(alert["repeats"], alert["ongoing"]) for alert in profiler.alerts] == [(6, False), (0, True)]


def test_ten_calls_slower_than_the_ninety_before_are_an_alert():
    profiler = profiled(*[10.0] * 90, *[20.0] * 10)
    [alert] = profiler.alerts
    assert (alert["type"], alert["severity"]) == ("PERFORMANCE_DEGRADATION", "MEDIUM")
    assert alert["message"] == "Recent avg: 20.0ms vs Historical: 10.0ms"


def test_a_degradation_is_one_episode_and_what_stays_becomes_the_history():
    profiler = profiled(*[10.0] * 90, *[20.0] * 30)
    assert [(alert["repeats"], alert["ongoing"]) for alert in profiler.alerts] == [(2, True)]
    tell(profiler, *[20.0] * 100)
    assert [alert["ongoing"] for alert in profiler.alerts] == [False]
    tell(profiler, *[40.0] * 10)
    assert [alert["ongoing"] for alert in profiler.alerts] == [False, True]


def test_it_is_over_when_calls_are_fast_again():
    profiler = profiled(*[10.0] * 90, *[20.0] * 10, *[10.0] * 10)
    assert [alert["ongoing"] for alert in profiler.alerts] == [False]


def test_outliers_are_no_degradation():
    assert profiled(*([10.0] * 19 + [400.0]) * 20).alerts == []


def test_degradation_is_noticed_with_a_small_window_and_not_if_it_is_off():
    times = [*[10.0] * 90, *[20.0] * 10]
    assert types(profiled(*times, window_size=5)) == ["PERFORMANCE_DEGRADATION"]
    assert profiled(*times, degradation=None).alerts == []
    assert types(profiled(*[10.0] * 30, *[20.0] * 10, degradation=(10, 30, 1.5))) == ["PERFORMANCE_DEGRADATION"]


def test_on_alert_is_told_the_beginning_of_each_episode_and_may_read():
    told = []
    profiler = profiled(on_alert=lambda alert: told.append((alert["type"], len(profiler.alerts))), min_calls=1)
    tell(profiler, *[600.0] * 30)
    assert told == [("SLOW_EXECUTION", 1)]


def test_what_on_alert_raises_hurts_no_call():
    def fail(_):
        raise RuntimeError

    clock = MockTimeSource()
    profiler = PerformanceProfileObserver(1000, 10, on_alert=fail, min_calls=1)

    @CallPyBack(observers=[profiler], time_source=clock)
    def work():
        clock.advance(1.0)
        return "value"

    assert [work() for _ in range(20)] == ["value"] * 20
    assert profiler.get_metrics() == {"functions": 1, "total_alerts": 1, "kept_alerts": 1, "failed_callbacks": 1}


def test_alerts_are_logged_as_warnings_in_place_of_printing(caplog, capsys):
    caplog.set_level(logging.WARNING, "callpyback")
    profiled(600.0, min_calls=1)
    assert caplog.messages == ["SLOW_EXECUTION of shop.Shop.pay: Execution time: 600.0ms (threshold: 500.0ms)"]
    assert capsys.readouterr().out == ""


def test_alerts_are_bounded_and_all_are_counted():
    profiler = profiled(max_alerts=3, min_calls=1)
    for _ in range(10):
        tell(profiler, 600.0, *[1.0] * 10)
    report = profiler.get_performance_report()
    assert (report["total_alerts"], len(profiler.alerts), len(report["recent_alerts"])) == (10, 3, 3)


def test_recent_alerts_are_those_of_the_last_hour():
    clock = MockTimeSource(10_000.0)
    profiler = profiled(600.0, *[1.0] * 10, min_calls=1, time_source=clock)
    clock.advance(3601.0)
    tell(profiler, 600.0)
    report = profiler.get_performance_report()
    assert [alert["timestamp"] for alert in report["recent_alerts"]] == [13_601.0]
    assert report["total_alerts"] == 2


def test_a_failing_clock_leaves_the_timestamp_out():
    class Failing:
        def now(self):
            raise OSError

    profiler = profiled(600.0, min_calls=1, time_source=Failing())
    assert profiler.alerts[0]["timestamp"] is None
    assert json.dumps(profiler.get_performance_report())


def test_arguments_of_slow_calls_are_masked_text_when_asked_for():
    clock = MockTimeSource()
    profiler = PerformanceProfileObserver(arguments=True, min_calls=1, time_source=clock)
    assert profiler.bind(SIGNATURE) is None

    @CallPyBack(observers=[profiler], time_source=clock)
    def query(sql, password, seconds):
        clock.advance(seconds)

    query("SELECT 1", "tulip", 0.1)
    query("SELECT 2", "tulip", 3.0)
    [alert] = profiler.alerts
    assert alert["arguments"] == {"sql": "SELECT 2", "password": "***REDACTED***", "seconds": "3.0"}


def test_processor_time_is_measured_on_request():
    profiler = PerformanceProfileObserver(cpu_time=True)

    @CallPyBack(observers=[profiler])
    def work(n):
        return sum(range(n))

    work(10)
    work(300_000)
    report = profiler.get_performance_report("work")["functions"]["work"]
    assert 0 < report["mean_cpu_time_ms"] < report["max_cpu_time_ms"] < 10_000
    assert "mean_memory_bytes" not in report


def test_memory_is_measured_on_request():
    was_tracing = tracemalloc.is_tracing()
    profiler, kept = PerformanceProfileObserver(memory=True), []
    try:

        @CallPyBack(observers=[profiler])
        def work(n):
            kept.append(bytearray(n))

        work(1_000_000)
        work(1_000_000)
        report = profiler.get_performance_report()["functions"]["work"]
        assert 1_000_000 < report["mean_memory_bytes"] < 1_100_000
        tracemalloc.stop()
        work(1)
        assert numbers(profiler, "work")["total_calls"] == 3
    finally:
        tracemalloc.start() if was_tracing else tracemalloc.stop()


def test_what_is_measured_by_thread_is_left_out_of_coroutines():
    profiler = PerformanceProfileObserver(cpu_time=True)

    @CallPyBack(observers=[profiler])
    async def work():
        return 1

    assert drive(work()) == 1
    assert "mean_cpu_time_ms" not in numbers(profiler, "work")


def test_every_kind_of_function_is_profiled(kind):
    profiler = PerformanceProfileObserver()
    function = kind.make(lambda: "value", CallPyBack([profiler]))
    assert kind.call(function) == "value"
    assert numbers(profiler, "function")["total_calls"] == 1


def test_contexts_tell_the_same_as_plain_values():
    profiler = profiled(min_calls=1)
    profiler.update(build_context(SIGNATURE, execution_time=0.6))
    profiler.update(build_context(SIGNATURE, exception=ValueError(), execution_time=0.7))
    assert numbers(profiler)["total_calls"] == 1
    assert types(profiler) == ["SLOW_EXECUTION"]


def test_threads_lose_no_call_and_report_each_episode_once():
    told = []
    profiler = PerformanceProfileObserver(50, 500, on_alert=told.append, min_calls=1, degradation=None)

    def work():
        tell(profiler, *[1.0] * 5000)
        tell(profiler, *[600.0] * 500)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert numbers(profiler)["total_calls"] == 8 * 5500
    assert len(told) == profiler.get_performance_report()["total_alerts"]
    assert sum(alert["repeats"] + 1 for alert in profiler.alerts) == 8 * 500


def test_memory_is_bounded_for_any_number_of_functions():
    profiler = PerformanceProfileObserver(10, max_functions=3)
    for n in range(100):
        tell(profiler, 1.0, signature=FunctionSignature(f"f{n}", module="m"))
    functions = profiler.get_performance_report()["functions"]
    assert list(functions) == ["f0", "f1", "f2", "<overflow>"]
    assert sum(function["total_calls"] for function in functions.values()) == 100


class Thing:
    pass


@pytest.mark.parametrize("options", [{}, {"arguments": True, "min_calls": 1}, {"cpu_time": True}], ids=repr)
def test_nothing_of_a_call_is_kept_alive(options):
    clock = MockTimeSource()
    profiler = PerformanceProfileObserver(1, 1, **options)

    @CallPyBack(observers=[profiler], time_source=clock)
    def work(thing):
        clock.advance(1.0)
        return thing

    thing = Thing()
    alive = weakref.ref(thing)
    work(thing)
    del thing
    gc.collect()
    assert alive() is None


def test_the_threshold_can_be_changed():
    profiler = profiled(600.0, min_calls=1, alert_threshold_ms=1000)
    assert (profiler.alert_threshold, profiler.window_size, profiler.alerts) == (1.0, 1000, [])
    profiler.configure(alert_threshold=0.5)
    tell(profiler, 600.0)
    assert types(profiler) == ["SLOW_EXECUTION"]


def test_reset_forgets_calls_and_alerts():
    profiler = profiled(*[600.0] * 20)
    profiler.reset()
    assert profiler.get_performance_report() == {"functions": {}, "total_alerts": 0, "recent_alerts": []}
    tell(profiler, *[10.0] * 90, *[20.0] * 10)
    assert types(profiler) == ["PERFORMANCE_DEGRADATION"]


@pytest.mark.parametrize("again", [lambda o: pickle.loads(pickle.dumps(o)), copy.deepcopy, copy.copy])
def test_a_copy_has_the_numbers_and_goes_its_own_way(again):
    profiler = profiled(*[600.0] * 12)
    twin = again(profiler)
    twin.alert_threshold = 9.0
    tell(twin, 700.0)
    tell(profiler, 600.0)
    assert (numbers(profiler)["total_calls"], numbers(twin)["total_calls"]) == (13, 13)
    assert [profiler.alerts[0]["repeats"], twin.alerts[0]["repeats"]] == [3, 2]
    assert (profiler.alert_threshold, twin.name, twin.priority) == (0.5, "PerformanceProfile", 80)
    tell(twin, *[10_000.0] * 2)
    assert twin.alerts[0]["repeats"] == 4


def test_a_subclass_with_an_update_of_its_own_is_told_by_that():
    class Own(PerformanceProfileObserver):
        def update(self, context):
            seen.append(context.outcome)

    seen = []
    CallPyBack(observers=[Own()])(lambda: None)()
    assert seen == [Outcome.SUCCESS]


BAD = {
    "window_size": [0, -1, True, 2.5, "10", None],
    "alert_threshold_ms": [-1, math.nan, math.inf, "500", None, True],
    "max_alerts": [0, "3"],
    "min_calls": [0, None],
    "max_functions": [0],
    "on_alert": [3, lambda: None],
    "degradation": ["10", (0, 90, 1.5), 3],
    "arguments": [1],
    "memory": ["yes"],
    "cpu_time": [None],
    "failed_calls": [0],
    "time_source": [3],
    "priority": ["high", math.nan],
}


@pytest.mark.parametrize(
    ("parameter", "value"), [(p, v) for p, values in BAD.items() for v in values], ids=lambda v: ""
)
def test_other_values_are_refused(parameter, value):
    with pytest.raises(ConfigurationError, match=r"expected|took|takes"):
        PerformanceProfileObserver(**{parameter: value})
