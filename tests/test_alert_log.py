"""Alerts are kept in bounded number, counted exactly, logged, and handed to a callback that can hurt nobody."""

from __future__ import annotations

import logging
import math

import pytest

from callpyback import ConfigurationError
from callpyback.observers.parts.alert_log import AlertLog, checked_callback


def alert(number, **more):
    return {"timestamp": float(number), "number": number, **more}


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, "callpyback")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "callpyback"]


def test_the_newest_alerts_are_kept_and_all_are_counted(lines):
    log = AlertLog(2)
    for number in range(5):
        log.report(alert(number), f"line {number} of 100 %s")
    assert [kept["number"] for kept in log.kept()] == [3, 4]
    assert log.total == 5
    assert lines() == [f"line {number} of 100 %s" for number in range(5)]


def test_without_a_text_nothing_is_logged(lines):
    AlertLog(2).report(alert(1), None)
    assert lines() == []


def test_readers_and_the_callback_get_copies():
    told = []
    log = AlertLog(2, told.append)
    mine = alert(1)
    log.report(mine, None)
    mine["number"] = 2
    log.kept()[0]["number"] = 3
    assert (told, log.kept()) == ([alert(1)], [{"timestamp": 1.0, "number": 2}])


def test_what_the_callback_raises_is_logged_once_in_a_while_and_counted(lines):
    def fail(_):
        raise SystemExit("no mail")

    log = AlertLog(2, fail)
    for number in range(3):
        log.report(alert(number), None)
    assert (log.total, log.failed_callbacks, len(lines())) == (3, 3, 1)
    assert "SystemExit: no mail" in lines()[0]


def test_ctrl_c_in_the_callback_belongs_to_the_program():
    def interrupted(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        AlertLog(2, interrupted).report(alert(1), None)


def test_recent_alerts_are_those_that_happened_again_too():
    log = AlertLog(9)
    log.report(alert(10), None)
    log.report(alert(20, last_timestamp=90.0), None)
    log.report(alert(80), None)
    log.report({"timestamp": None}, None)
    assert [kept["timestamp"] for kept in log.since(50.0)] == [20.0, 80.0]
    assert log.since(math.nan) == []


def test_a_copy_goes_its_own_way_and_cleared_it_is_empty():
    log = AlertLog(9)
    log.report(alert(1), None)
    twin = log.copied({})
    twin.report(alert(2), None)
    assert (log.total, twin.total, len(log.kept()), len(twin.kept())) == (1, 2, 1, 2)
    twin.clear()
    assert (twin.total, twin.kept(), log.total) == (0, [], 1)


async def later(_):
    pass


@pytest.mark.parametrize("callback", [3, "print", later, lambda: None, lambda a, b: None], ids=range(5))
def test_other_callbacks_are_refused_by_name(callback):
    with pytest.raises(ConfigurationError, match="on_slow="):
        checked_callback("on_slow", callback)


def test_builtin_functions_and_methods_are_callbacks():
    kept = []
    for callback in (print, kept.append, None):
        assert checked_callback("on_alert", callback) == callback


@pytest.mark.parametrize("number", [0, -1, True, 1.5, "3", None])
def test_other_numbers_of_alerts_are_refused(number):
    with pytest.raises(ConfigurationError, match="max_alerts="):
        AlertLog(number)
