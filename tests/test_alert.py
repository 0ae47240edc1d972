"""Alerts on the failure rate: fire above one bound, end at another, exact, in a window that moves."""

from __future__ import annotations

import copy
import json
import logging
import math
import pickle
import threading

import pytest

from callpyback import CallPyBack, CallVetoed, ConfigurationError, FunctionSignature, MockTimeSource, Outcome, on_call
from callpyback.observers.alert import AlertObserver
from callpyback.testing import build_context
from kinds import ended

SIGNATURE = FunctionSignature("pay", qualname="Shop.pay", module="shop")


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.CRITICAL, "callpyback")


class Alarm:
    """An observer with its clock, what it has told, and calls that end as the letters of a text say."""

    def __init__(self, threshold=0.5, *, signature=SIGNATURE, **options):
        self.told = []
        self.clock = MockTimeSource(1000.0)
        given = {"min_calls": 4, "time_source": self.clock, "on_alert": self.tell, "on_resolve": self.tell, **options}
        self.observer = AlertObserver(threshold, **given)
        _, self.end = self.observer.bind(signature)

    def tell(self, alert):
        self.told.append((alert["state"], alert["failures"], alert["calls"]))

    def calls(self, ends, seconds=0.0):
        for end in ends:
            self.clock.advance(seconds)
            self.end(0.1, None, None, ENDS[end])
        return self

    @property
    def states(self):
        return [state for state, _, _ in self.told]

    def numbers(self, name="pay"):
        return self.observer.get_metrics()["functions"][name]


ENDS = {
    "+": Outcome.SUCCESS,
    "-": Outcome.FAILURE,
    "t": Outcome.TIMED_OUT,
    "h": Outcome.HANDLED,
    "v": Outcome.VETOED,
    "s": Outcome.SUPPLIED,
    "c": Outcome.CANCELLED,
    "a": Outcome.ABANDONED,
    "x": Outcome.ABORTED,
}


def test_more_failures_than_the_threshold_fire_an_alert():
    alarm = Alarm().calls("++--")
    assert alarm.told == []
    alarm.calls("-")
    assert alarm.told == [("FIRING", 3, 5)]
    assert alarm.observer.alerts == [
        {
            "timestamp": 1000.0,
            "function": "pay",
            "full_name": "shop.Shop.pay",
            "type": "FAILURE_RATE",
            "severity": "HIGH",
            "state": "FIRING",
            "message": "3 of 5 calls failed in 60 s (60.0%, threshold 50.0%)",
            "failure_rate": 0.6,
            "failures": 3,
            "calls": 5,
            "window": 60.0,
            "threshold": 0.5,
            "resolved_at": None,
        }
    ]
    assert json.loads(json.dumps(alarm.observer.alerts)) == alarm.observer.alerts == alarm.observer.firing


def test_an_alert_ends_at_half_of_the_threshold_and_not_before():
    alarm = Alarm().calls("----+++++++++++")
    assert alarm.told == [("FIRING", 4, 4)]
    alarm.calls("+")
    assert alarm.told == [("FIRING", 4, 4), ("RESOLVED", 4, 16)]
    [alert] = alarm.observer.alerts
    assert (alert["state"], alert["resolved_at"], alert["failures"]) == ("RESOLVED", 1000.0, 4)
    assert alarm.observer.firing == []


def test_a_rate_that_hovers_about_the_threshold_is_one_alert():
    alarm = Alarm().calls("--+-" + "+-" * 50)
    assert alarm.states == ["FIRING"]


def test_few_calls_fire_nothing():
    assert Alarm(min_calls=10).calls("-" * 9).told == []
    assert Alarm(min_calls=10).calls("-" * 10).states == ["FIRING"]


def test_the_call_that_makes_the_number_full_may_have_succeeded():
    assert Alarm(0.4, min_calls=10).calls("-----+++++").told == [("FIRING", 5, 10)]


def test_without_a_threshold_every_failure_fires_and_only_none_ends_it():
    alarm = Alarm(0, min_calls=1).calls("++-")
    assert alarm.states == ["FIRING"]
    alarm.calls("+" * 1000, 0.01)
    assert alarm.states == ["FIRING"]
    alarm.calls("+" * 10, 6.0)
    assert alarm.states == ["FIRING", "RESOLVED"]


def test_what_is_older_than_the_window_does_not_count():
    alarm = Alarm().calls("---")
    alarm.clock.advance(61.0)
    alarm.calls("-++")
    assert (alarm.told, alarm.numbers()["calls"], alarm.numbers()["failures"]) == ([], 3, 1)


def test_an_alert_begins_when_successes_become_too_old():
    alarm = Alarm().calls("+" * 20).calls("-" * 12, 4.0)
    assert alarm.told == []
    alarm.clock.advance(12.5)
    alarm.calls("-")
    assert alarm.states == ["FIRING"]


def test_an_alert_ends_when_somebody_looks_after_the_failures_are_too_old():
    alarm = Alarm().calls("----")
    alarm.clock.advance(61.0)
    assert alarm.states == ["FIRING"]
    alarm.observer.check()
    assert alarm.told == [("FIRING", 4, 4), ("RESOLVED", 0, 0)]


@pytest.mark.parametrize("ends", ["v", "s", "c", "a", "x"])
def test_calls_that_neither_worked_nor_failed_do_not_count(ends):
    assert Alarm().calls(ends * 100).numbers() == {"calls": 0, "failures": 0, "failure_rate": None, "firing": False}


def test_which_outcomes_are_failures_can_be_said():
    assert Alarm().calls("hhhh").numbers()["failure_rate"] == 0.0
    assert Alarm().calls("t--t").numbers()["failure_rate"] == 1.0
    alarm = Alarm(failures=[Outcome.HANDLED, Outcome.VETOED]).calls("hv+-")
    assert (alarm.numbers()["failures"], alarm.numbers()["calls"]) == (2, 3)
    assert Alarm(failures=Outcome.CANCELLED).calls("cccc").states == ["FIRING"]


def test_a_veto_by_a_guard_is_no_failure():
    def refuse():
        raise CallVetoed

    observer = AlertObserver(min_calls=1)
    function = CallPyBack(observers=[observer, on_call(refuse)])(lambda: None)
    assert isinstance(ended(function).exception, CallVetoed)
    assert observer.get_metrics()["functions"]["<lambda>"]["calls"] == 0


def test_each_function_has_a_rate_of_its_own_or_all_have_one():
    for per_function, expected in ((True, {"a": 0.0, "b": 1.0}), (False, {"<all functions>": 0.5})):
        alarm = Alarm(per_function=per_function)
        for name, ends in (("a", "++++"), ("b", "----")):
            _, alarm.end = alarm.observer.bind(FunctionSignature(name))
            alarm.calls(ends)
        functions = alarm.observer.get_metrics()["functions"]
        rates = {name: numbers["failure_rate"] for name, numbers in functions.items() if numbers["calls"]}
        assert rates == expected


def test_too_many_functions_share_a_rate():
    alarm = Alarm(max_functions=2)
    for n in range(10):
        _, alarm.end = alarm.observer.bind(FunctionSignature(f"f{n}"))
        alarm.calls("+")
    functions = alarm.observer.get_metrics()["functions"]
    assert sum(numbers["calls"] for numbers in functions.values()) == 10
    assert len(functions) == 3


def test_what_a_callback_raises_hurts_no_call():
    def fail(_):
        raise RuntimeError

    observer = AlertObserver(min_calls=1, on_alert=fail, on_resolve=fail)
    works = [False]

    @CallPyBack(observers=[observer])
    def fetch():
        if not works[0]:
            raise ValueError
        return "value"

    for _ in range(5):
        assert isinstance(ended(fetch).exception, ValueError)
    works[0] = True
    assert [fetch() for _ in range(20)] == ["value"] * 20
    assert (observer.get_metrics()["total_alerts"], observer.get_metrics()["failed_callbacks"]) == (1, 2)


def test_alerts_are_logged(caplog):
    caplog.set_level(logging.INFO, "callpyback")
    Alarm().calls("----" + "+" * 12)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "FAILURE_RATE of shop.Shop.pay: 4 of 4 calls failed in 60 s (100.0%, threshold 50.0%)"),
        ("INFO", "FAILURE_RATE of shop.Shop.pay is over: 4 of 16 calls failed in 60 s (25.0%, threshold 50.0%)"),
    ]


def test_alerts_are_bounded_and_counted():
    alarm = Alarm(max_alerts=2, window=1.0)
    for _ in range(5):
        alarm.calls("----")
        alarm.clock.advance(2.0)
        alarm.calls("+")
    metrics = alarm.observer.get_metrics()
    assert (metrics["total_alerts"], metrics["firing"], len(alarm.observer.alerts)) == (5, 0, 2)


def test_a_wall_clock_that_is_set_changes_nothing():
    class Clock:
        wall = 1000.0

        def now(self):
            return self.wall

        def monotonic(self):
            return 5.0

    clock = Clock()
    alarm = Alarm(time_source=clock).calls("--")
    clock.wall -= 86_400.0
    alarm.calls("--")
    assert alarm.told == [("FIRING", 4, 4)]


def test_a_failing_clock_is_harmless():
    class Failing:
        def now(self):
            raise OSError

    alarm = Alarm(time_source=Failing()).calls("++----")
    assert alarm.told == [("FIRING", 3, 5)]
    assert alarm.observer.alerts[0]["timestamp"] is None
    assert json.dumps(alarm.observer.get_metrics())


def test_every_kind_of_function_is_counted(kind):
    observer = AlertObserver(min_calls=1)
    function = kind.make(lambda: 1 / 0, CallPyBack([observer]))
    kind.ended(function)
    assert [alert["function"] for alert in observer.firing] == ["function"]


def test_contexts_tell_the_same_as_plain_values():
    observer = AlertObserver(min_calls=1)
    observer.update(build_context(SIGNATURE))
    observer.update(build_context(SIGNATURE, exception=ValueError()))
    observer.update(build_context(SIGNATURE, exception=ValueError()))
    assert [alert["message"] for alert in observer.alerts] == ["2 of 3 calls failed in 60 s (66.7%, threshold 50.0%)"]


def test_threads_lose_no_call_and_each_turn_is_told_once_and_in_order():
    alarm = Alarm(min_calls=100)

    def work():
        for _ in range(20):
            alarm.calls("-" * 100 + "+" * 400)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = alarm.numbers()
    assert (numbers["calls"], numbers["failures"]) == (8 * 20 * 500, 8 * 20 * 100)
    assert alarm.states == ["FIRING", "RESOLVED"] * (len(alarm.states) // 2) + ["FIRING"] * (len(alarm.states) % 2)
    assert alarm.states


def test_a_callback_may_read_and_call_what_is_observed():
    def tell(alert):
        states.append(alert["state"])
        observer.check()
        ended(fetch)

    states = []
    observer = AlertObserver(min_calls=1, on_alert=tell)

    @CallPyBack(observers=[observer])
    def fetch():
        raise ValueError

    ended(fetch)
    assert states == ["FIRING"]


def test_reset_forgets_calls_and_alerts():
    alarm = Alarm().calls("----")
    alarm.observer.reset()
    assert (alarm.observer.alerts, alarm.numbers()["calls"]) == ([], 0)
    alarm.calls("+" * 100)
    assert alarm.states == ["FIRING"]
    alarm.calls("-" * 200)
    assert alarm.states == ["FIRING", "FIRING"]


@pytest.mark.parametrize("again", [lambda o: pickle.loads(pickle.dumps(o)), copy.deepcopy, copy.copy])
def test_a_copy_has_the_numbers_and_goes_its_own_way(again):
    alarm = Alarm(on_alert=None, on_resolve=None).calls("----")
    twin = again(alarm.observer)
    _, end = twin.bind(SIGNATURE)
    for _ in range(12):
        end(0.1, None, None, Outcome.SUCCESS)
    assert (len(alarm.observer.firing), len(twin.firing), twin.alerts[0]["state"]) == (1, 0, "RESOLVED")
    assert (alarm.numbers()["calls"], twin.get_metrics()["functions"]["pay"]["calls"]) == (4, 16)


BAD = {
    "threshold": [-0.1, 1, 1.5, math.nan, "0.5", None, True],
    "window": [0, -1, math.inf, None],
    "min_calls": [0, 1.5],
    "resolve": [-0.1, 0.6, "0.1", math.nan],
    "on_alert": [3],
    "on_resolve": [lambda: None],
    "per_function": [1],
    "failures": ["FAILURE", [], [Outcome.SUCCESS], ["failure"], 3],
    "max_alerts": [0],
    "max_functions": [0],
    "time_source": [3],
}


@pytest.mark.parametrize(
    ("parameter", "value"), [(p, v) for p, values in BAD.items() for v in values], ids=lambda v: ""
)
def test_other_values_are_refused(parameter, value):
    with pytest.raises(ConfigurationError, match=f"{parameter}="):
        AlertObserver(**{parameter: value})


def test_an_alert_may_end_where_it_begins():
    assert AlertObserver(0.5, resolve=0.5).threshold == 0.5
