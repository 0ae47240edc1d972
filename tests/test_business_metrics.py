"""Business numbers: the seed's configuration and summary, exact totals in bounded memory."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import math
import pickle
import threading
import weakref
from dataclasses import dataclass
from decimal import Decimal

import pytest

from callpyback import (
    CallPyBack,
    CallVetoed,
    ConfigurationError,
    FunctionSignature,
    MockTimeSource,
    Outcome,
    StopProcessing,
    on_call,
)
from callpyback.observers.business_metrics import BusinessMetricsObserver
from callpyback.testing import build_context
from kinds import drive, ended

CONFIG = {
    "process_order": {
        "revenue": {"source": "result", "path": ["order_total"]},
        "items_sold": {"source": "result", "path": ["item_count"]},
        "shipping_cost": {"source": "arguments", "path": ["shipping_method", "cost"]},
    },
    "user_signup": {
        "new_users": {"source": "result", "path": [], "default": 1},
        "conversion_value": {"source": "arguments", "path": ["referral_value"], "default": 10},
    },
}
TOTAL = {"f": {"total": {}}}


def observing(config=TOTAL, **options):
    return BusinessMetricsObserver(config, **{"time_source": MockTimeSource(0.0), **options})


def returning(observer, *values, name="f", outcome=Outcome.SUCCESS):
    _, end = observer.bind(FunctionSignature(name, module="shop"))
    for value in values:
        end(0.1, value, None, outcome)


def test_the_seeds_example_has_the_numbers_its_text_promises():
    business = observing(CONFIG)
    watch = CallPyBack(observers=[business])

    @watch
    def process_order(customer_id, items, shipping_method):
        total = sum(item["price"] for item in items)
        return {"order_total": total, "item_count": len(items), "customer_id": customer_id}

    @watch
    def user_signup(email, referral_code=None):
        return {"user_id": "USER_1", "referral_value": 25}

    process_order(1, [{"price": 10}, {"price": 5}], {"cost": 3})
    process_order(2, [{"price": 2.5}], {"cost": 1})
    user_signup("ann@example.org")
    summary = business.get_business_summary()
    day = {"revenue": 17.5, "items_sold": 3.0, "shipping_cost": 4.0, "new_users": 1.0, "conversion_value": 10.0}
    assert summary == {
        "total_metrics": {
            "process_order": {"revenue": 17.5, "items_sold": 3.0, "shipping_cost": 4.0},
            "user_signup": {"new_users": 1.0, "conversion_value": 10.0},
        },
        "recent_events": 8,
        "recent_metrics": day,
        "daily_trends": {"1970-01-01": day},
        "function_performance": {
            "process_order": {"total_calls": 2, "success_rate": 100.0, "total_business_value": 24.5},
            "user_signup": {"total_calls": 1, "success_rate": 100.0, "total_business_value": 11.0},
        },
        "ignored_values": 0,
    }
    assert json.loads(json.dumps(summary)) == summary
    assert business.metrics == summary["total_metrics"]
    assert business.events[0] == {
        "timestamp": "1970-01-01T00:00:00.000Z",
        "function": "process_order",
        "metric": "revenue",
        "value": 15.0,
        "success": True,
    }


def test_without_a_configuration_nothing_is_counted():
    business = BusinessMetricsObserver()
    CallPyBack(observers=[business])(lambda: 3)()
    summary = business.get_business_summary()
    assert (summary["total_metrics"], summary["function_performance"], summary["recent_events"]) == ({}, {}, 0)


def test_variables_are_a_source_too():
    business = observing({"bill": {"fee": {"source": "variables", "path": ["fee"]}}})

    @CallPyBack(observers=[business], variable_names=["fee"])
    def bill(amount):
        fee = amount / 10
        return amount + fee

    bill(20)
    bill(30)
    assert business.metrics == {"bill": {"fee": 5.0}}


def test_results_may_be_objects():
    @dataclass
    class Order:
        total: Decimal

    business = observing({"f": {"total": {"path": "total"}}})
    returning(business, Order(Decimal("19.99")), Order(Decimal("0.01")))
    assert business.metrics == {"f": {"total": 20.0}}


def test_a_failed_call_counts_as_one_and_earns_nothing():
    business = observing()
    returning(business, 5.0, 7.0)
    for outcome in (Outcome.FAILURE, Outcome.TIMED_OUT, Outcome.HANDLED):
        returning(business, None, outcome=outcome)
    performance = business.get_business_summary()["function_performance"]["f"]
    assert performance == {"total_calls": 5, "success_rate": 40.0, "total_business_value": 12.0}


@pytest.mark.parametrize("outcome", [Outcome.VETOED, Outcome.CANCELLED, Outcome.ABANDONED, Outcome.ABORTED])
def test_calls_that_did_not_come_to_an_end_do_not_count(outcome):
    business = observing()
    returning(business, None, outcome=outcome)
    assert business.get_business_summary()["function_performance"] == {}


def test_a_metric_says_of_which_calls_it_is():
    business = observing(
        {
            "pay": {
                "paid": {"source": "arguments", "path": ["amount"]},
                "lost": {"source": "arguments", "path": ["amount"], "when": "failure"},
                "asked": {"source": "arguments", "path": ["amount"], "when": "always"},
            }
        }
    )

    @CallPyBack(observers=[business])
    def pay(amount, works):
        if not works:
            raise ValueError

    pay(10, True)
    ended(lambda: pay(3, False))
    assert business.metrics == {"pay": {"paid": 10.0, "asked": 13.0, "lost": 3.0}}
    assert business.get_business_summary()["function_performance"]["pay"]["total_business_value"] == 20.0


def test_a_value_that_a_guard_supplied_counts_and_a_veto_does_not():
    def decide(arguments):
        if arguments["n"] == 1:
            raise StopProcessing(40)
        if arguments["n"] == 2:
            raise CallVetoed

    business = observing()

    @CallPyBack(observers=[business, on_call(decide)])
    def f(n):
        return 2

    f(0)
    f(1)
    ended(lambda: f(2))
    assert business.metrics == {"f": {"total": 42.0}}
    assert business.get_business_summary()["function_performance"]["f"]["total_calls"] == 2


def test_functions_are_configured_by_each_of_their_names_and_by_patterns():
    class Shop:
        @staticmethod
        def order():
            return 1

    name = f"{__name__}.{Shop.order.__qualname__}"
    for key in ("order", Shop.order.__qualname__, name, "*Shop.order", f"{__name__}.*", "ord??"):
        business = observing({key: {"total": {}}})
        CallPyBack(observers=[business])(Shop.order)()
        assert business.metrics == {"order": {"total": 1.0}}, key


def test_what_is_said_of_a_name_goes_before_what_is_said_of_a_pattern():
    business = observing({"f": {"a": {"default": 1}}, "*": {"a": {"default": 2}, "b": {"default": 3}}})
    returning(business, "no number")
    assert business.metrics == {"f": {"a": 1.0, "b": 3.0}}


def test_other_functions_are_not_even_bound():
    business = observing()
    assert business.bind(FunctionSignature("other")) == (None, None)
    business.update(build_context("other", value=3))
    assert business.metrics == {}


def test_numbers_that_are_not_finite_are_left_out_and_counted():
    business = observing()
    returning(business, 1.0, math.nan, math.inf, 10**400, 2.0)
    summary = business.get_business_summary()
    assert (summary["total_metrics"], summary["ignored_values"]) == ({"f": {"total": 3.0}}, 3)
    assert summary["function_performance"]["f"]["total_calls"] == 5


def test_sums_do_not_drift():
    business = observing(max_events=1)
    returning(business, *[0.1] * 100_000)
    assert business.metrics == {"f": {"total": 10_000.0}}


def test_the_window_moves_and_the_totals_stay():
    clock = MockTimeSource(1_000_000.0)
    business = observing(time_source=clock)
    returning(business, 1.0)
    clock.advance(1800.0)
    returning(business, 2.0)
    summary = business.get_business_summary()
    assert (summary["recent_events"], summary["recent_metrics"]) == (2, {"total": 3.0})
    clock.advance(1801.0)
    summary = business.get_business_summary()
    assert (summary["recent_events"], summary["recent_metrics"]) == (1, {"total": 2.0})
    clock.advance(3600.0)
    summary = business.get_business_summary()
    assert (summary["recent_events"], summary["recent_metrics"]) == (0, {})
    assert summary["total_metrics"] == {"f": {"total": 3.0}}


def test_days_are_those_of_utc_and_bounded():
    clock = MockTimeSource(86_399.0)
    business = observing(time_source=clock, max_days=3)
    returning(business, 1.0)
    clock.advance(1.0)
    returning(business, 2.0, 3.0)
    assert business.get_business_summary()["daily_trends"] == {
        "1970-01-01": {"total": 1.0},
        "1970-01-02": {"total": 5.0},
    }
    for _ in range(10):
        clock.advance(86_400.0)
        returning(business, 1.0)
    assert list(business.get_business_summary()["daily_trends"]) == ["1970-01-10", "1970-01-11", "1970-01-12"]
    assert business.metrics == {"f": {"total": 16.0}}


def test_a_failing_clock_loses_no_total():
    class Failing:
        def now(self):
            raise OSError

    business = observing(time_source=Failing())
    returning(business, 1.0)
    summary = business.get_business_summary()
    assert (summary["total_metrics"], summary["daily_trends"]) == ({"f": {"total": 1.0}}, {})
    assert business.events[0]["timestamp"] == "unknown"


def test_events_are_bounded_and_totals_exact():
    business = observing(max_events=10)
    returning(business, *range(1000))
    assert [event["value"] for event in business.events] == list(map(float, range(990, 1000)))
    assert business.metrics == {"f": {"total": 499_500.0}}


def test_too_many_functions_share_their_totals():
    business = observing({"*": {"total": {}}}, max_functions=2)
    for n in range(10):
        returning(business, 1, name=f"f{n}")
    assert business.metrics == {"f0": {"total": 1.0}, "f1": {"total": 1.0}, "<overflow>": {"total": 8.0}}


def test_threads_lose_nothing():
    business = observing(max_events=5)
    threads = [threading.Thread(target=returning, args=(business, *[0.5] * 5000)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert business.metrics == {"f": {"total": 20_000.0}}
    assert business.get_business_summary()["function_performance"]["f"]["total_calls"] == 40_000


def test_every_kind_of_function_is_counted(kind):
    business = observing({"function": {"calls": {"default": 1}, "given": {"source": "arguments", "path": ["n"]}}})
    function = kind.make(lambda n: "value", CallPyBack([business]), "n")
    kind.call(function, 5)
    assert business.metrics == {"function": {"calls": 1.0, "given": 5.0}}


def test_nothing_of_a_call_is_kept_alive():
    class Order:
        total = 5

    business = observing({"f": {"total": {"path": "total"}}})
    order = Order()
    alive = weakref.ref(order)
    CallPyBack(observers=[business])(FunctionNamed("f"))(order)
    del order
    gc.collect()
    assert alive() is None
    assert business.metrics == {"f": {"total": 5.0}}


def FunctionNamed(name):
    def function(order):
        return order

    function.__name__ = name
    return function


def test_a_cancelled_coroutine_is_no_failure():
    business = observing({"work": {"calls": {"default": 1}}})

    @CallPyBack(observers=[business])
    async def work():
        raise asyncio.CancelledError

    ended(lambda: drive(work()))
    assert business.get_business_summary()["function_performance"] == {}


def test_reset_forgets_the_numbers():
    business = observing()
    returning(business, 1.0, math.nan)
    business.reset()
    assert business.get_metrics() == BusinessMetricsObserver().get_business_summary()
    returning(business, 2.0)
    assert business.metrics == {"f": {"total": 2.0}}


@pytest.mark.parametrize("again", [lambda o: pickle.loads(pickle.dumps(o)), copy.deepcopy, copy.copy])
def test_a_copy_has_the_numbers_and_goes_its_own_way(again):
    business = observing()
    returning(business, 1.0)
    twin = again(business)
    returning(twin, 2.0)
    returning(business, 5.0)
    assert (business.metrics, twin.metrics) == ({"f": {"total": 6.0}}, {"f": {"total": 3.0}})
    assert (len(business.events), len(twin.events)) == (2, 2)
    assert twin.metrics_config == {"f": {"total": {"source": "result", "path": [], "default": 0.0, "when": "success"}}}


BAD = {
    "metrics_config": [3, {"f": {}}, [1]],
    "max_events": [0, True, None],
    "window": [0, -1, math.inf, "3600"],
    "max_days": [0],
    "max_functions": [0],
    "time_source": [3],
}


@pytest.mark.parametrize(
    ("parameter", "value"), [(p, v) for p, values in BAD.items() for v in values], ids=lambda v: ""
)
def test_other_values_are_refused(parameter, value):
    with pytest.raises(ConfigurationError, match=parameter):
        BusinessMetricsObserver(**{parameter: value})
