"""Payload, signature and headers of a request."""

from __future__ import annotations

import base64
import json

import pytest

from callpyback import ExecutionContext, ExecutionFailure, ExecutionState, FunctionSignature
from callpyback.sinks.webhook_request import (
    MOST_SENT,
    Credentials,
    Event,
    body_of,
    headers_of,
    key_of,
    payload_of,
    signature_of,
)

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_the_signature_is_that_of_the_specification():
    """The values that the libraries of Standard Webhooks and of Svix are tested with."""
    signature = signature_of(key_of(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_secret_is_bytes_or_their_text():
    key = bytes(range(32))
    text = base64.b64encode(key).decode()
    assert (
        key_of(key) == key_of(bytearray(key)) == key_of(f"whsec_{text}") == key_of(f"whsec_{text.rstrip('=')}") == key
    )


@pytest.mark.parametrize("secret", ["", "whsec_", "tulip" * 10, b"", b"x" * 23, "whsec_c2hvcnQ="])
def test_a_secret_that_is_too_short_or_in_no_form_is_refused(secret):
    with pytest.raises(ValueError, match=r"whsec_|24 random bytes"):
        key_of(secret)


def test_without_secret_and_key_there_is_neither_signature_nor_authorization():
    headers = headers_of(Event({}), b"{}", 12, Credentials(None, None))
    assert {"webhook-signature", "authorization"}.isdisjoint(headers)
    assert headers["webhook-timestamp"] == "12"


def test_credentials_are_not_shown():
    assert "tulip" not in repr(Credentials("tulip", b"tulip" * 5)) + str([Credentials("tulip", None)])


def test_every_event_has_an_id_of_its_own():
    assert len({Event({}).event_id for _ in range(100)}) == 100


def test_what_is_short_is_sent_as_it_is():
    event = Event({"text": "ä"})
    assert json.loads(body_of(event)) == {"text": "ä", "event_id": event.event_id, "attempt": 0, "truncated": False}


@pytest.mark.parametrize("length", [MOST_SENT - 200, MOST_SENT - 80, MOST_SENT, 10 * MOST_SENT])
def test_the_longest_parts_go_until_the_rest_is_short_enough(length):
    body = body_of(Event({"a": "x" * length, "b": "short", "c": ["y" * 1000] * 10}))
    sent = json.loads(body)
    assert len(body) <= MOST_SENT
    assert sent["b"] == "short"
    assert sent["truncated"] == ("a" not in sent)


def context_of(**options):
    return ExecutionContext(**{"function_signature": FunctionSignature("pay"), "arguments": {}, **options})


def test_a_context_built_by_hand_will_do():
    failure = ExecutionFailure(exception=ValueError("no"), execution_time=0.5)
    payload = payload_of(
        context_of(state=ExecutionState.POST_FAILURE, arguments={"card": 1}, result=failure, timestamp=3.0)
    )
    assert (payload["error_message"], payload["execution_time"], payload["timestamp"]) == ("ValueError: no", 0.5, 3.0)


def test_what_is_not_known_is_null():
    nan = float("nan")
    failure = ExecutionFailure(exception=ValueError("no"), execution_time=nan)
    payload = payload_of(context_of(state=ExecutionState.POST_FAILURE, result=failure, timestamp=nan))
    assert (payload["timestamp"], payload["execution_time"]) == (None, None)
    payload = payload_of(context_of(state=ExecutionState.PRE_EXECUTION))
    assert (payload["error_message"], payload["outcome"]) == (None, None)


def test_a_message_is_one_bounded_line():
    failure = ExecutionFailure(exception=ValueError("line\n" * 100_000))
    message = payload_of(context_of(state=ExecutionState.POST_FAILURE, result=failure))["error_message"]
    assert len(message) <= 1000
    assert message.isprintable()
