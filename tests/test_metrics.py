"""Counts exact under threads, forks and signals; durations in bounded memory; one series a function."""

from __future__ import annotations

import copy
import gc
import json
import math
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import weakref

import cloudpickle
import pytest

from callpyback import (
    CallPyBack,
    ConfigurationError,
    ExecutionContext,
    ExecutionFailure,
    ExecutionResult,
    ExecutionState,
    FunctionSignature,
    MetricsObserver,
    Outcome,
)
from callpyback.observers.parts import by_function
from callpyback.observers.parts import series as series_module

COUNTS = ("successes", "failures", "handled", "vetoed", "supplied", "cancelled", "abandoned", "aborted")


def signature(qualname="f", module="m"):
    return FunctionSignature(qualname.rpartition(".")[2], qualname=qualname, module=module)


def ending(metrics, qualname="f", module="m"):
    return metrics.bind(signature(qualname, module))[1]


def succeed(end, *elapsed):
    for seconds in elapsed:
        end(seconds, None, None, Outcome.SUCCESS)


def fail(end, *errors, elapsed=0.1, outcome=Outcome.FAILURE):
    for error in errors:
        end(elapsed, None, error, outcome)


def stats(metrics, name="f"):
    return metrics.get_metrics()["function_stats"][name]


def test_every_outcome_is_counted_apart_and_calls_are_their_sum():
    metrics = MetricsObserver()
    end = ending(metrics)
    for number, outcome in enumerate(Outcome, start=1):
        for _ in range(number):
            end(0.5, None, ValueError(), outcome)
    counters = metrics.get_metrics()["counters"]
    numbers = {outcome: number for number, outcome in enumerate(Outcome, start=1)}
    assert counters == {
        "calls": 45,
        "successes": numbers[Outcome.SUCCESS],
        "failures": numbers[Outcome.FAILURE] + numbers[Outcome.TIMED_OUT],
        "handled": numbers[Outcome.HANDLED],
        "vetoed": numbers[Outcome.VETOED],
        "supplied": numbers[Outcome.SUPPLIED],
        "cancelled": numbers[Outcome.CANCELLED],
        "abandoned": numbers[Outcome.ABANDONED],
        "aborted": numbers[Outcome.ABORTED],
        "timed_out": numbers[Outcome.TIMED_OUT],
        "retries": 0,
    }
    assert counters["calls"] == sum(counters[name] for name in COUNTS)
    assert {name: stats(metrics)[name] for name in counters} == counters


def test_the_whole_answer():
    metrics = MetricsObserver()
    end = ending(metrics, "checkout")
    succeed(end, 0.1, 0.2, 0.3)
    fail(end, ValueError("x"), elapsed=0.4)
    zero = dict.fromkeys(
        ("handled", "vetoed", "supplied", "cancelled", "abandoned", "aborted", "timed_out", "retries"), 0
    )
    counts = {"calls": 4, "successes": 3, "failures": 1, **zero}
    assert metrics.get_metrics() == {
        "counters": counts,
        "average_execution_time": pytest.approx(0.25),
        "total_executions": 3,
        "total_calls": 4,
        "function_stats": {
            "checkout": {
                **counts,
                "failures_by_type": {"ValueError": 1},
                "total_time": pytest.approx(1.0),
                "average_time": pytest.approx(0.25),
                "min_time": 0.1,
                "max_time": 0.4,
                "p50": pytest.approx(0.2, rel=0.01),
                "p95": pytest.approx(0.3, rel=0.01),
                "p99": pytest.approx(0.3, rel=0.01),
            }
        },
    }
    json.dumps(metrics.get_metrics())


class Again:
    """Tries as often as it is told to, at once."""

    def __init__(self, attempts):
        self.attempts = attempts

    def next_wait(self, error, attempt, elapsed):
        return 0.0 if attempt < self.attempts else None


def test_a_call_that_is_retried_counts_once_and_its_retries_beside_it():
    metrics, other = MetricsObserver(), MetricsObserver()

    @CallPyBack([metrics], retry=Again(3), default_return=None)
    def failing():
        raise ValueError

    failing()
    failing()
    other.merge(metrics)
    for numbers in (metrics.get_metrics()["counters"], other.get_metrics()["counters"]):
        assert (numbers["calls"], numbers["handled"], numbers["retries"]) == (2, 2, 4)
    metrics.reset()
    assert metrics.get_metrics()["counters"]["retries"] == 0


def test_without_a_sample_times_are_none_and_nothing_divides_by_zero():
    metrics = MetricsObserver()
    assert metrics.get_metrics()["average_execution_time"] is None
    ending(metrics)
    none = {name: stats(metrics)[name] for name in ("average_time", "min_time", "max_time", "p50", "p95", "p99")}
    assert none == dict.fromkeys(none)
    assert (stats(metrics)["calls"], stats(metrics)["total_time"]) == (0, 0.0)


def test_one_sample_of_no_duration():
    metrics = MetricsObserver()
    succeed(ending(metrics), 0.0)
    assert (stats(metrics)["average_time"], stats(metrics)["p99"]) == (0.0, 0.0)


def test_a_call_of_unknown_duration_is_counted_and_its_time_is_not():
    metrics = MetricsObserver()
    end = ending(metrics)
    succeed(end, math.nan, 2.0, math.nan)
    fail(end, ValueError(), elapsed=math.nan)
    assert (stats(metrics)["calls"], stats(metrics)["total_time"], stats(metrics)["p50"]) == (4, 2.0, 2.0)


@pytest.mark.parametrize("outcome", [Outcome.VETOED, Outcome.SUPPLIED])
def test_a_call_whose_body_never_ran_has_no_duration(outcome):
    metrics = MetricsObserver()
    ending(metrics)(0.0, None, None, outcome)
    assert (stats(metrics)["calls"], stats(metrics)["min_time"]) == (1, None)


def test_failures_are_counted_by_type_and_groups_by_their_leaves():
    metrics = MetricsObserver()
    group = ExceptionGroup("two", [ValueError(), ExceptionGroup("inner", [KeyError(), ValueError()])])
    fail(ending(metrics), ValueError(), group, OSError())
    assert stats(metrics)["failures"] == 3
    assert stats(metrics)["failures_by_type"] == {"ValueError": 3, "KeyError": 1, "OSError": 1}


def test_types_of_what_is_no_failure_are_not_counted():
    metrics = MetricsObserver()
    end = ending(metrics)
    for outcome in (Outcome.HANDLED, Outcome.ABORTED, Outcome.VETOED, Outcome.CANCELLED):
        fail(end, ValueError(), outcome=outcome)
    fail(end, TimeoutError(), outcome=Outcome.TIMED_OUT)
    assert stats(metrics)["failures_by_type"] == {"TimeoutError": 1}


def test_types_made_as_the_program_runs_stay_bounded():
    metrics = MetricsObserver()
    end = ending(metrics)
    fail(end, *(type(f"Error{n}", (Exception,), {})() for n in range(500)))
    by_type = stats(metrics)["failures_by_type"]
    assert len(by_type) == 101
    assert sum(by_type.values()) == 500
    assert by_type[series_module.OTHER_TYPES] == 400


def test_a_huge_group_is_not_walked_to_its_end():
    metrics = MetricsObserver()
    fail(ending(metrics), ExceptionGroup("many", [ValueError()] * 5000))
    assert stats(metrics)["failures_by_type"] == {"ValueError": 1000}


def names_of(*functions):
    metrics = MetricsObserver()
    for qualname, owner in functions:
        succeed(ending(metrics, qualname, owner), 0.1)
    return set(metrics.get_metrics()["function_stats"])


@pytest.mark.parametrize(
    ("functions", "names"),
    [
        ([("checkout", "shop")], {"checkout"}),
        ([("Cart.checkout", "shop")], {"checkout"}),
        ([("A.run", "m"), ("B.run", "m")], {"A.run", "B.run"}),
        ([("run", "m"), ("A.run", "m")], {"run", "A.run"}),
        ([("run", "m"), ("run", "n")], {"m.run", "n.run"}),
        ([("run", "m"), ("run", "n"), ("A.run", "m")], {"m.run", "n.run", "A.run"}),
        ([("b.run", "a"), ("run", "a.b"), ("b.run", "x"), ("run", "y")], {"a.b.run", "a.b:run", "x.b.run", "y.run"}),
        ([("f.<locals>.<lambda>", "m"), ("g.<locals>.<lambda>", "m")], {"f.<locals>.<lambda>", "g.<locals>.<lambda>"}),
    ],
)
def test_each_function_goes_by_the_shortest_name_that_is_its_own(functions, names):
    assert names_of(*functions) == names


def test_two_methods_of_one_name_are_two_series_and_two_closures_of_one_factory_are_one():
    metrics = MetricsObserver()
    watched = CallPyBack(observers=[metrics])

    class A:
        @watched
        def run(self):
            pass

    class B:
        @watched
        def run(self):
            pass

    def make():
        @watched
        def closure():
            pass

        return closure

    A().run()
    B().run()
    B().run()
    make()()
    make()()
    calls = {name: numbers["calls"] for name, numbers in metrics.get_metrics()["function_stats"].items()}
    prefix = "test_two_methods_of_one_name_are_two_series_and_two_closures_of_one_factory_are_one.<locals>"
    assert calls == {f"{prefix}.A.run": 1, f"{prefix}.B.run": 2, "closure": 2}


def test_functions_beyond_the_limit_share_one_series_and_totals_stay_right():
    metrics = MetricsObserver(max_series=3)
    for number in range(10_000):
        succeed(ending(metrics, f"f{number}"), 0.1)
    succeed(ending(metrics, "f1"), 0.1)
    answer = metrics.get_metrics()
    calls = {name: numbers["calls"] for name, numbers in answer["function_stats"].items()}
    assert calls == {"f0": 1, "f1": 2, "f2": 1, by_function.OVERFLOW: 9997}
    assert answer["total_calls"] == 10_001


def test_samples_are_folded_on_the_way_so_nothing_grows():
    metrics = MetricsObserver(in_progress=True)
    begin, end = metrics.bind(signature())
    for _ in range(50_000):
        begin()
        succeed(end, 0.1)
    for _ in range(5000):
        begin()
        fail(end, ValueError())
    (series,) = metrics._series
    assert len(series.fresh) < 4096
    assert len(series.others) < 1024
    assert len(series.started) < 4096
    assert stats(metrics)["calls"] == 55_000


def test_nothing_of_a_call_is_kept():
    class Precious(ValueError):
        pass

    metrics = MetricsObserver()
    error = Precious()
    reference = weakref.ref(error)
    fail(ending(metrics), error)
    del error
    gc.collect()
    assert reference() is None
    assert stats(metrics)["failures_by_type"] == {"Precious": 1}


def in_threads(number, work):
    barrier = threading.Barrier(number)

    def run():
        barrier.wait()
        work()

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_counts_are_exact_under_threads_while_others_read():
    metrics = MetricsObserver(in_progress=True)
    begin, end = metrics.bind(signature())
    error, done, seen = ValueError(), threading.Event(), []

    def work():
        for number in range(100_000):
            begin()
            if number % 10:
                end(0.001, None, None, Outcome.SUCCESS)
            else:
                end(0.001, None, error, Outcome.FAILURE)

    def read():
        while not done.is_set():
            answer = metrics.get_metrics()
            seen.append((answer["total_calls"], answer["in_progress"]))

    reader = threading.Thread(target=read)
    reader.start()
    in_threads(8, work)
    done.set()
    reader.join()
    answer = stats(metrics)
    assert (answer["calls"], answer["successes"], answer["failures"]) == (800_000, 720_000, 80_000)
    assert answer["failures_by_type"] == {"ValueError": 80_000}
    assert answer["total_time"] == pytest.approx(800.0)
    assert answer["in_progress"] == 0
    totals = [total for total, _ in seen]
    assert totals == sorted(totals)
    assert all(running >= 0 for _, running in seen)


def test_resetting_under_load_loses_no_call_in_progress():
    metrics = MetricsObserver(in_progress=True)
    begin, end = metrics.bind(signature())

    def work():
        for number in range(5000):
            begin()
            succeed(end, 0.1)
            if number % 1000 == 0:
                metrics.reset_metrics()

    begin()
    in_threads(4, work)
    assert metrics.get_metrics()["in_progress"] == 1
    metrics.reset()
    answer = metrics.get_metrics()
    assert (answer["total_calls"], answer["in_progress"], answer["function_stats"]["f"]["in_progress"]) == (0, 1, 1)
    succeed(end, 0.1)
    assert metrics.get_metrics()["in_progress"] == 0


def test_progress_is_watched_only_when_asked_for():
    begin, _ = MetricsObserver().bind(signature())
    assert begin is None
    assert "in_progress" not in MetricsObserver().get_metrics()


def test_a_call_never_waits_for_a_reader():
    metrics = MetricsObserver()
    end = ending(metrics)
    finished = threading.Event()

    def work():
        succeed(end, *[0.1] * 10_000)
        finished.set()

    with metrics._folding:
        thread = threading.Thread(target=work)
        thread.start()
        assert finished.wait(timeout=60)
    thread.join()
    assert stats(metrics)["calls"] == 10_000


class Reentrant(float):
    """A duration that, while it is being folded, reads and calls: as `__del__` or a signal handler might."""

    __slots__ = ()
    again = None

    def __lt__(self, other):
        type(self).again()
        return float(self) < float(other)


def test_reading_and_calling_in_the_midst_of_a_fold_neither_hangs_nor_miscounts():
    metrics = MetricsObserver()
    end = ending(metrics)
    inner = []

    def again():
        Reentrant.again = lambda: None
        succeed(end, *[0.1] * 5000)
        inner.append(metrics.get_metrics()["total_calls"])

    Reentrant.again = again
    succeed(end, Reentrant(0.2), Reentrant(0.3))
    assert stats(metrics)["calls"] == 2
    assert len(inner) == 1
    assert stats(metrics)["calls"] == 5002


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
def test_a_fork_in_the_middle_of_a_fold_leaves_the_child_able_to_count():
    metrics = MetricsObserver()
    end = ending(metrics)
    succeed(end, 0.1)
    read, write = os.pipe()
    held, release = threading.Event(), threading.Event()

    def hold():
        with metrics._folding:
            metrics._folding._is_folding = True
            held.set()
            release.wait(60)
            metrics._folding._is_folding = False

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    child = os.fork()
    if child == 0:
        try:
            succeed(end, *[0.1] * 9)
            os.write(write, str(metrics.get_metrics()["total_calls"]).encode())
        finally:
            os._exit(0)
    release.set()
    thread.join()
    os.close(write)
    with os.fdopen(read) as pipe:
        assert pipe.read() == "10"
    os.waitpid(child, 0)
    assert stats(metrics)["calls"] == 1


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this platform has no interval timer")
def test_a_signal_handler_that_calls_and_reads_does_not_hang():
    script = """
import signal
from callpyback import FunctionSignature, MetricsObserver, Outcome
metrics = MetricsObserver()
_, end = metrics.bind(FunctionSignature("f"))
handled = 0
def handler(*_):
    global handled
    handled += 1
    end(0.1, None, None, Outcome.SUCCESS)
    metrics.get_metrics()
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
calls = 0
while handled < 200:
    end(0.1, None, None, Outcome.SUCCESS)
    calls += 1
    if calls % 100 == 0:
        metrics.get_metrics()
signal.setitimer(signal.ITIMER_REAL, 0)
print(metrics.get_metrics()["total_calls"] == calls + handled)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert (done.stdout.strip(), done.stderr) == ("True", "")


def filled():
    metrics = MetricsObserver(3, "mine", in_progress=True, max_series=7)
    begin, end = metrics.bind(signature("A.run"))
    begin()
    succeed(end, 0.1, 0.2)
    fail(end, ValueError())
    return metrics


@pytest.mark.parametrize(
    "again",
    [
        lambda o: pickle.loads(pickle.dumps(o)),
        lambda o: cloudpickle.loads(cloudpickle.dumps(o)),
        copy.copy,
        copy.deepcopy,
    ],
    ids=["pickle", "cloudpickle", "copy", "deepcopy"],
)
def test_a_copy_has_the_numbers_and_goes_its_own_way(again):
    metrics = filled()
    twin = again(metrics)
    assert twin.get_metrics() == metrics.get_metrics()
    assert (twin.priority, twin.name) == (3, "mine")
    succeed(ending(twin, "A.run"), 0.1)
    assert (stats(twin, "run")["calls"], stats(metrics, "run")["calls"]) == (4, 3)
    assert twin._folding is not metrics._folding


def counted_elsewhere(number):
    metrics = MetricsObserver()
    succeed(ending(metrics), *[0.1] * number)
    return metrics


def test_numbers_of_spawned_processes_are_merged():
    total = MetricsObserver()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for metrics in pool.map(counted_elsewhere, [10, 20]):
            total.merge(metrics)
    assert (stats(total)["calls"], stats(total)["total_time"]) == (30, pytest.approx(3.0))


def test_merging_adds_function_by_function_and_leaves_the_other_as_it_is():
    one, two = MetricsObserver(), MetricsObserver()
    succeed(ending(one, "f"), 0.1)
    succeed(ending(two, "f"), 0.3)
    fail(ending(two, "g"), KeyError())
    before = two.get_metrics()
    one.merge(two)
    assert two.get_metrics() == before
    assert (stats(one, "f")["calls"], stats(one, "f")["max_time"]) == (2, 0.3)
    assert stats(one, "g")["failures_by_type"] == {"KeyError": 1}
    one.merge(one)
    assert one.get_metrics()["total_calls"] == 6


def test_merging_never_exceeds_the_limit_of_series():
    one, two = MetricsObserver(max_series=1), MetricsObserver()
    succeed(ending(one, "f"), 0.1)
    for name in ("f", "g", "h"):
        succeed(ending(two, name), 0.1)
    one.merge(two)
    calls = {name: numbers["calls"] for name, numbers in one.get_metrics()["function_stats"].items()}
    assert calls == {"f": 2, by_function.OVERFLOW: 2}


def test_a_quantile_by_name():
    metrics = MetricsObserver()
    succeed(ending(metrics, "checkout"), *(n / 1000 for n in range(1, 1001)))
    ending(metrics, "idle")
    assert metrics.quantile("checkout", 0.9) == pytest.approx(0.9, rel=0.011)
    assert metrics.quantile("idle", 0.9) is None
    with pytest.raises(KeyError, match="did you mean 'checkout'"):
        metrics.quantile("chekout", 0.5)
    with pytest.raises(ConfigurationError, match="q=95"):
        metrics.quantile("checkout", 95)


def test_a_context_counts_like_plain_values():
    by_context, by_values = MetricsObserver(in_progress=True), MetricsObserver(in_progress=True)
    error = ValueError("x")
    fields = {"function_signature": signature(), "timestamp": 0.0}
    for state, result in (
        (ExecutionState.PRE_EXECUTION, None),
        (ExecutionState.POST_SUCCESS, ExecutionResult(1, 0.5)),
        (ExecutionState.COMPLETED, ExecutionResult(1, 0.5)),
        (ExecutionState.COMPLETED, ExecutionFailure(error, execution_time=0.25)),
        (ExecutionState.ERROR, ExecutionFailure(error, execution_time=0.25)),
    ):
        by_context.update(ExecutionContext(state=state, result=result, **fields))
    begin, end = by_values.bind(signature())
    for _ in range(3):
        begin()
    succeed(end, 0.5)
    fail(end, error, error, elapsed=0.25)
    assert by_context.get_metrics() == by_values.get_metrics()


def test_a_subclass_with_an_update_of_its_own_is_told_by_that():
    class Loud(MetricsObserver):
        def update(self, context):
            seen.append(context.outcome)
            super().update(context)

    seen, metrics = [], Loud()

    @CallPyBack(observers=[metrics])
    def f():
        pass

    f()
    assert (seen, stats(metrics)["calls"]) == ([Outcome.SUCCESS], 1)


@pytest.mark.parametrize(
    "options",
    [{"in_progress": 1}, {"in_progress": None}, {"max_series": 0}, {"max_series": True}, {"max_series": "2000"}],
    ids=str,
)
def test_other_values_are_refused_by_name(options):
    ((name, value),) = options.items()
    with pytest.raises(ConfigurationError, match=f"{name}={value!r}"):
        MetricsObserver(**options)
