"""Laws of webhooks: no address inside is public, whatever carries it; waits make sense; bodies are short."""

from __future__ import annotations

import ipaddress
import json
import math

from hypothesis import given
from hypothesis import strategies as st

from callpyback.sinks.addresses import is_public
from callpyback.sinks.http_client import Answer
from callpyback.sinks.webhook_request import MOST_SENT, Event, body_of
from callpyback.sinks.webhook_schedule import seconds_asked, wait_before

INSIDE = [
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
]


@given(st.sampled_from(INSIDE).flatmap(lambda network: st.ip_addresses(network=network)))
def test_no_address_inside_is_public_in_any_disguise(address):
    number = int(address)
    disguises = [
        f"::ffff:{address}",
        f"64:ff9b::{address}",
        f"::{address}",
        str(ipaddress.IPv6Address((0x2002 << 112) | (number << 80))),
    ]
    assert not any(map(is_public, (str(address), *disguises)))


@given(st.ip_addresses(v=6))
def test_an_address_of_version_6_is_public_only_if_the_standard_library_says_so_too(address):
    if is_public(str(address)):
        assert address.is_global
        assert not any((address.is_private, address.is_loopback, address.is_link_local, address.is_site_local))


@given(st.text(max_size=60), st.floats(allow_nan=True, allow_infinity=True))
def test_whatever_retry_after_says_it_means_a_number_of_seconds_or_nothing(text, now):
    seconds = seconds_asked(text, now)
    assert seconds is None or (seconds >= 0 and math.isfinite(seconds)) or text.strip().isdigit()


@given(st.integers(2, 10**9), st.integers(100, 599) | st.none(), st.text(max_size=20) | st.none(), st.booleans())
def test_a_wait_is_never_negative(attempt, status, retry_after, may_pass):
    wait = wait_before(attempt, Answer(status, retry_after, "", may_pass), 0.0)
    assert wait is None or wait >= 0


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), PLAIN), st.integers(0, 100_000))
def test_a_body_is_json_of_at_most_64_kb(payload, length):
    event = Event({**payload, "long": "x" * length})
    body = body_of(event)
    sent = json.loads(body)
    assert len(body) <= MOST_SENT
    assert (sent["event_id"], sent["attempt"]) == (event.event_id, 0)
    assert sent["truncated"] or all(name in sent for name in payload)
