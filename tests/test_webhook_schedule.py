"""Whether an event is sent again, and when."""

from __future__ import annotations

import email.utils

import pytest

from callpyback.sinks.http_client import Answer
from callpyback.sinks.webhook_schedule import is_accepted, seconds_asked, wait_before

NOW = 1_700_000_000.0


def answered(status, retry_after=None):
    return Answer(status, retry_after, "", may_pass=True)


@pytest.mark.parametrize("status", [*range(200, 207), 299])
def test_2xx_is_acceptance(status):
    assert is_accepted(answered(status))


@pytest.mark.parametrize("status", [None, 100, 199, 300, 301, 400, 429, 500])
def test_nothing_else_is(status):
    assert not is_accepted(answered(status))


@pytest.mark.parametrize("status", range(100, 600))
def test_only_what_may_pass_is_sent_again(status):
    is_repeated = wait_before(2, answered(status), NOW) is not None
    assert is_repeated == (status in (408, 425, 429) or status >= 500)


def test_a_failed_connection_is_tried_again_but_not_a_refused_address():
    assert wait_before(2, Answer(None, None, "refused", may_pass=True), NOW) is not None
    assert wait_before(2, Answer(None, None, "private", may_pass=False), NOW) is None


@pytest.mark.parametrize(
    ("attempt", "ceiling"), [(2, 0.5), (3, 1), (4, 2), (5, 4), (6, 8), (7, 8), (100, 8), (10**6, 8)]
)
def test_waits_are_spread_from_zero_to_a_ceiling_that_doubles(attempt, ceiling):
    waits = [wait_before(attempt, answered(500), NOW) for _ in range(500)]
    assert 0 <= min(waits) < 0.1 * ceiling
    assert 0.9 * ceiling < max(waits) <= ceiling


@pytest.mark.parametrize("status", [429, 503])
def test_what_the_receiver_asks_for_comes_first(status):
    wait = wait_before(2, answered(status, "30"), NOW)
    assert 30 <= wait <= 30.5


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        (" 17 ", 17.0),
        (email.utils.formatdate(NOW + 90, usegmt=True), 90.0),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0),
        ("Tuesday, 14-Nov-23 22:14:20 GMT", 60.0),  # RFC 850, which RFC 9110 has recipients take
        ("Tue Nov 14 22:14:20 2023", 60.0),  # of C's asctime, as well
        ("Tue, 14 Nov 2023 22:14:20 +0100", 0.0),  # in the past
    ],
)
def test_seconds_and_dates_are_understood(text, seconds):
    assert seconds_asked(text, NOW) == seconds


@pytest.mark.parametrize(
    "text", ["", "soon", "-1", "1.5", "nan", "inf", "1e3", "٣", "Tue, 99 Nov 2023 22:14:20 GMT", "x" * 100]
)
def test_what_makes_no_sense_is_as_if_it_had_not_been_said(text):
    assert seconds_asked(text, NOW) is None


def test_a_clock_that_failed_makes_no_date_known():
    assert seconds_asked("Tue, 14 Nov 2023 22:14:20 GMT", float("nan")) is None
