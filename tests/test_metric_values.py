"""Business numbers are found by key, attribute and index; what is no number counts the default."""

from __future__ import annotations

import collections
import math
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType, SimpleNamespace

import pytest

from callpyback import ConfigurationError
from callpyback.observers.parts.metric_values import Metric, checked_config

ORDER = {
    "total": 12.5,
    "items": [{"price": 3}, {"price": 4}],
    "customer": SimpleNamespace(age=41, address=SimpleNamespace(zip=8001)),
    1: "one",
    "proxy": MappingProxyType({"a": 7}),
    "queue": collections.deque([5, 6]),
    "pair": (8, 9),
}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (("total",), 12.5),
        (("items", 1, "price"), 4.0),
        (("items", "-1", "price"), 4.0),
        (("customer", "address", "zip"), 8001.0),
        (("proxy", "a"), 7.0),
        (("pair", 0), 8.0),
        (("queue", 1), 6.0),
    ],
)
def test_a_path_leads_over_keys_attributes_and_indexes(path, expected):
    assert Metric(path=path, default=None).value_in(ORDER) == expected


@pytest.mark.parametrize(
    "path", [("missing",), ("items", 9), ("items", "x"), ("total", "x"), ("customer", "x", "y"), (1,), ()], ids=repr
)
def test_where_no_number_is_found_the_default_counts(path):
    assert Metric(path=path, default=1.0).value_in(ORDER) == 1.0
    assert Metric(path=path, default=None).value_in(ORDER) is None


@pytest.mark.parametrize(
    ("value", "expected"), [(True, 1.0), (False, 0.0), (3, 3.0), (Decimal("19.99"), 19.99), (Fraction(1, 4), 0.25)]
)
def test_every_sort_of_number_is_one(value, expected):
    found = Metric(default=None).value_in(value)
    assert (found, type(found)) == (expected, float)


@pytest.mark.parametrize(
    "value", ["3", None, [], 1j, object(), b"1"], ids=lambda value: repr(value).partition(" at 0x")[0]
)
def test_other_values_are_no_numbers(value):
    assert Metric(default=7.0).value_in(value) == 7.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, Decimal("Infinity"), Decimal("NaN")])
def test_a_number_that_is_not_finite_is_not_replaced_by_the_default(value):
    assert math.isnan(Metric(default=7.0).value_in(value))


def test_a_property_that_raises_counts_the_default():
    class Raising:
        @property
        def total(self):
            raise RuntimeError

    assert Metric(path=("total",), default=2.0).value_in(Raising()) == 2.0


def test_the_configuration_of_the_seed_is_one():
    config = checked_config(
        {
            "user_signup": {
                "new_users": {"source": "result", "path": [], "default": 1},
                "conversion_value": {"source": "arguments", "path": ["referral_value"], "default": 10},
            }
        }
    )
    assert config == {
        "user_signup": {
            "new_users": Metric("result", (), 1.0),
            "conversion_value": Metric("arguments", ("referral_value",), 10.0),
        }
    }


def test_a_path_may_be_one_text_with_dots():
    assert checked_config({"f": {"m": {"path": "a.0.b"}}})["f"]["m"].path == ("a", "0", "b")
    assert checked_config({"f": {"m": {"path": ""}}})["f"]["m"].path == ()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (3, "metrics_config=3"),
        ({"f": 3}, r"metrics_config\['f'\]=3"),
        ({"f": {}}, "at least one metric"),
        ({3: {}}, "3 is no name"),
        ({"f": {"": {}}}, "is no name"),
        ({"f": {"m": []}}, r"metrics_config\['f'\]\['m'\]="),
        ({"f": {"m": {"sorce": "result"}}}, "did you mean 'source'"),
        ({"f": {"m": {"source": "argument"}}}, r"\['source'\]='argument'.*did you mean 'arguments'"),
        ({"f": {"m": {"source": ["result"]}}}, r"\['source'\]="),
        ({"f": {"m": {"path": 3}}}, r"\['path'\]=3"),
        ({"f": {"m": {"path": [1.5]}}}, "1.5 is none of these"),
        ({"f": {"m": {"path": [True]}}}, "True is none of these"),
        ({"f": {"m": {"path": "a..b"}}}, "is none of these"),
        ({"f": {"m": {"path": range(100)}}}, "at most 50"),
        ({"f": {"m": {"default": "1"}}}, r"\['default'\]='1'"),
        ({"f": {"m": {"default": math.nan}}}, r"\['default'\]=nan"),
        ({"f": {"m": {"default": True}}}, r"\['default'\]=True"),
        ({"f": {"m": {"when": "sucess"}}}, "did you mean 'success'"),
    ],
    ids=repr,
)
def test_each_fault_of_a_configuration_is_named_with_its_place(config, message):
    with pytest.raises(ConfigurationError, match=message):
        checked_config(config)
