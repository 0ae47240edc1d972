"""`WebhookObserver`: what it sends, what it refuses, and that no call waits for it.

What servers do to it is in test_webhook_sender.py, the end of the process in test_webhook_processes.py.
"""

from __future__ import annotations

import copy
import itertools
import json
import logging
import pickle
import ssl
import threading
import uuid

import cloudpickle
import pytest

from callpyback import (
    BaseObserver,
    CallPyBack,
    ConfigurationError,
    ExecutionState,
    MockTimeSource,
    handle,
)
from callpyback.sinks import WebhookObserver
from delivering import counted
from receiving import LIMIT, Receiver, fail, free_port, hostile, receiver, webhook

__all__ = ["hostile", "receiver", "webhook"]  # fixtures

URL = "https://example.com/hook"


def the_payload(server, observer):
    assert observer.flush(LIMIT)
    [request] = server.requests
    return request.payload


def test_a_failure_is_sent_in_the_usual_keys(receiver, webhook):
    server = receiver()
    observer = webhook(server)
    clock = MockTimeSource(1000.0)

    @CallPyBack([observer], time_source=clock)
    def order(item, *, amount=1):
        clock.advance(2.0)
        raise LookupError(f"no {item}")

    with pytest.raises(LookupError):
        order("tea")
    payload = the_payload(server, observer)
    event_id, call_id = payload.pop("event_id"), payload.pop("call_id")
    assert payload == {
        "alert_type": "function_failure",
        "function_name": "order",
        "qualified_name": f"{__name__}.{order.__qualname__}",
        "error_message": "LookupError: no tea",
        "timestamp": 1000.0,
        "arguments": {"item": "tea", "amount": 1},
        "execution_time": 2.0,
        "outcome": None,
        "attempt": 1,
        "truncated": False,
    }
    assert uuid.UUID(event_id)
    assert call_id


def test_every_kind_of_function_sends_its_failures(kind, receiver, webhook):
    server = receiver()
    observer = webhook(server)

    def body():
        raise ValueError("no")

    kind.ended(kind.make(body, CallPyBack([observer])))
    payload = the_payload(server, observer)
    assert (payload["function_name"], payload["error_message"]) == ("function", "ValueError: no")


def test_successes_are_not_sent(receiver, webhook):
    server = receiver()
    observer = webhook(server)
    CallPyBack([observer])(lambda: None)()
    assert observer.flush(LIMIT)
    assert server.requests == []
    assert observer.ledger == counted()


@pytest.mark.parametrize(
    ("states", "alert_types"),
    [
        (ExecutionState.POST_SUCCESS, ["function_success"]),
        (ExecutionState.COMPLETED, ["function_success", "function_failure"]),
        (ExecutionState.PRE_EXECUTION, ["function_pre_execution", "function_pre_execution"]),
    ],
)
def test_other_states_are_sent_if_asked_for(receiver, webhook, states, alert_types):
    server = receiver()
    observer = webhook(server, states=states)
    invert = CallPyBack([observer])(lambda n: 1 / n)
    invert(1)
    with pytest.raises(ZeroDivisionError):
        invert(0)
    observer.flush(LIMIT)
    assert [request.payload["alert_type"] for request in server.requests] == alert_types


def test_secrets_among_the_arguments_and_in_the_error_are_masked(receiver, webhook):
    server = receiver()
    observer = webhook(server)

    @CallPyBack([observer], default_return=None)
    def connect(url, password, options):
        raise ConnectionError(f"cannot reach {url} with password={password}")

    connect("db://ann:tulip@host/x", "tulip", {"api_key": "tulip", "hosts": [{"token": "tulip"}]})
    observer.flush(LIMIT)
    [request] = server.requests
    assert b"tulip" not in request.body
    assert request.payload["arguments"]["options"]["hosts"] == [{"token": "***REDACTED***"}]


def test_further_names_can_be_secret(receiver, webhook):
    server = receiver()
    observer = webhook(server, masked_keys=["iban"])

    @CallPyBack([observer], default_return=None)
    def transfer(customer_iban):
        raise ConnectionError(f"no answer for iban={customer_iban}")

    transfer("DE02tulip")
    observer.flush(LIMIT)
    [request] = server.requests
    assert b"tulip" not in request.body


def test_nothing_of_the_call_is_kept_for_the_queue(receiver, webhook):
    server = receiver()
    observer = webhook(server)
    changing = ["before"]

    @CallPyBack([observer], default_return=None)
    def failing(value):
        raise ValueError

    failing(changing)
    changing[0] = "after"
    assert the_payload(server, observer)["arguments"] == {"value": ["before"]}


class Unrepresentable:
    def __repr__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "value",
    [
        Unrepresentable(),
        float("nan"),
        10**400,
        b"\xff\x00",
        "\ud800 half of a pair",
        "line one\nline two",
        {1: {2: {3: {4: {5: {6: "deep"}}}}}},
        [[[]]] * 1000,
        object,
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_argument_can_be_sent(receiver, webhook, value):
    server = receiver()
    observer = webhook(server)
    fail(observer, value)
    assert "arguments" in the_payload(server, observer)


def test_a_body_has_at_most_64_kb_and_says_if_something_is_missing(receiver, webhook):
    server = receiver()
    observer = webhook(server)
    fail(observer, **{f"argument_{number}": ["\N{GRINNING FACE}" * 1000] * 100 for number in range(100)})
    observer.flush(LIMIT)
    [request] = server.requests
    assert len(request.body) <= 64 * 1024
    assert request.payload["truncated"] is True
    assert request.payload["error_message"] == "ValueError: no"


def test_a_subclass_may_send_something_else(receiver):
    class Chat(WebhookObserver):
        def make_payload(self, context):
            return {"text": f"{context.function_signature.name} failed"}

    server = receiver()
    observer = Chat(server.url, allow_http=True, allow_private=True)
    fail(observer)
    assert observer.flush(LIMIT)
    [request] = server.requests
    assert (request.payload["text"], request.payload["attempt"]) == ("failing failed", 1)
    assert observer.shutdown(LIMIT)


def test_a_payload_that_is_no_json_is_a_dead_letter_alone(receiver):
    class Careless(WebhookObserver):
        def make_payload(self, context):
            return {"value": context.arguments["arguments"][0]}

    server = receiver()
    observer = Careless(server.url, allow_http=True, allow_private=True)
    for value in (1, object(), 2):
        fail(observer, value)
    observer.flush(LIMIT)
    assert [request.payload["value"] for request in server.requests] == [1, 2]
    assert observer.ledger == counted(offered=3, delivered=2, failed=1)
    assert observer.shutdown(LIMIT)


def test_no_call_and_no_other_observer_waits_for_a_server_that_hangs(hostile, receiver, webhook):
    stuck = webhook(hostile(lambda connection, over: over.wait(LIMIT)), timeout=LIMIT)
    server = receiver()
    fine = webhook(server)
    told = threading.Event()

    class Watching(BaseObserver):
        states = ExecutionState.COMPLETED

        def update(self, context):
            told.set()

    @CallPyBack([stuck, fine, Watching()], default_return="went on")
    def failing():
        raise ValueError

    assert failing() == "went on"
    assert told.is_set()
    assert fine.flush(LIMIT)
    assert len(server.requests) == 1
    assert stuck.ledger == counted(offered=1, pending=1)


def test_a_full_queue_loses_the_oldest_and_counts_them(hostile, webhook):
    arrived = threading.Event()

    def hang(connection, over):
        arrived.set()
        over.wait(LIMIT)

    observer = webhook(hostile(hang), timeout=LIMIT, max_queue=3)
    fail(observer)
    assert arrived.wait(LIMIT)
    fail(observer, times=10)
    assert observer.ledger == counted(offered=11, pending=4, overflow=7)


def test_its_own_failures_are_logged_once_a_minute_and_sent_nowhere(webhook):
    records = []

    port = free_port()

    class Calling(logging.Handler):
        def emit(self, record):
            if f":{port}" in record.getMessage():  # observers of earlier tests may still have something to say
                records.append(record.getMessage())
                observed()

    observer = webhook(f"http://127.0.0.1:{port}/path-secret?token=query-secret", attempts=1)

    @CallPyBack([observer], default_return=None)
    def observed():
        raise ValueError

    handler = Calling()
    logger = logging.getLogger("callpyback")
    logger.addHandler(handler)
    try:
        for _ in range(5):
            observed()
        observer.flush(LIMIT)
    finally:
        logger.removeHandler(handler)
    assert observer.ledger == counted(offered=5, failed=5)
    assert handle(observed).unobserved == 1
    [line] = records
    assert "Connection refused" in line
    assert "secret" not in line


def test_secrets_are_shown_nowhere(webhook, caplog):
    caplog.set_level(1)
    server = Receiver(400)
    try:
        observer = webhook(f"{server.url}/path-secret?token=query-secret", "api-secret", secret=b"key-secret" * 5)
        fail(observer, times=2)
        observer.flush(LIMIT)
    finally:
        server.close()
    assert [request.headers["authorization"] for request in server.requests] == ["Bearer api-secret"] * 2
    shown = [
        repr(observer),
        repr(observer.observer),
        repr(vars(observer.observer)),
        json.dumps(observer.get_metrics()),
        json.dumps(observer.get_dead_letters()),
        *(record.getMessage() for record in caplog.records),
    ]
    assert [text for text in shown if "-secret" in text] == []


def test_reports_are_plain_data(receiver, webhook):
    observer = webhook(receiver(400, 204))
    fail(observer, times=2)
    observer.flush(LIMIT)
    assert json.loads(json.dumps(observer.get_metrics()))["observer"] == {
        "sent": 1,
        "given_up": 1,
        "requests": 2,
        "dead_letters": 1,
    }


REFUSED = [
    ("url", "http://example.com/", "allow_http=True"),
    ("url", "ftp://example.com/", "https://"),
    ("url", "example.com/hook", "https://"),
    ("url", "https://ann:secret@example.com/", "api_key="),
    ("url", "https://secret@127.0.0.1/", "api_key="),
    ("url", "https://exa mple.com/secret", "without blanks"),
    ("url", "https://example.com\\secret", "without blanks"),
    ("url", "https://example.com/secret\n", "without blanks"),
    ("url", "https:///secret", "host"),
    ("url", "https://", "host"),
    ("url", "https://a%2fb/secret", "host"),
    ("url", "https://example.com:99999/secret", "port"),
    ("url", "https://example.com/" + "secret" * 1000, "at most 2000"),
    ("url", "", "URL"),
    ("url", None, "URL"),
    ("url", 3, "URL"),
    ("url", b"https://example.com/secret", "URL"),
    *(
        ("url", f"https://{host}/secret", "public internet")
        for host in [
            "localhost",
            "LOCALHOST.",
            "hooks.localhost",
            "127.0.0.1",
            "0x7f000001",
            "2130706433",
            "127.1",
            "0x7f.1",
            "10.0.0.1",
            "192.168.1.1",
            "172.16.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "[::1]",
            "[::]",
            "[fe80::1]",
            "[fd00::1]",
            "[::ffff:169.254.169.254]",
            "[::ffff:7f00:1]",
            "[64:ff9b::a00:1]",
            "[2002:7f00:1::]",
        ]
    ),
    *itertools.product(["timeout"], [0, -1, float("nan"), float("inf"), "10", True, None], ["seconds"]),
    *itertools.product(["attempts", "dead_letters", "max_queue"], [0, -1, 1.5, True, "5", None], ["at least 1"]),
    *itertools.product(["allow_http", "allow_private"], [1, None, "yes"], ["True or False"]),
    *itertools.product(["api_key"], ["", "secret\r\nX-Evil: 1", "sécret", 3, b"secret"], ["ASCII"]),
    ("secret", "secret", "whsec_"),
    ("secret", "whsec_secret!!", "Base64|24 random bytes"),
    ("secret", "whsec_c2VjcmV0", "24 random bytes"),
    ("secret", b"secret", "24 random bytes"),
    ("secret", 3, "text or bytes"),
    ("ssl_context", True, "ssl.create_default_context"),
    ("ssl_context", ssl._create_unverified_context(), "verifies"),
    ("states", "POST_FAILURE", "ExecutionState"),
    ("overflow", "drop", "drop_oldest"),
    ("time_source", 3, "now"),
    ("priority", "high", "finite number"),
    ("name", 3, "text"),
]


@pytest.mark.parametrize(("parameter", "value", "expected"), REFUSED, ids=range(len(REFUSED)))
def test_what_makes_no_sense_is_refused_by_name_without_showing_a_secret(parameter, value, expected):
    with pytest.raises(ConfigurationError, match=expected) as refusal:
        WebhookObserver(**{"url": URL, parameter: value})
    text = str(refusal.value)
    assert text.startswith(f"{parameter}=")
    assert "secret" not in text.removeprefix("secret=").replace("24 random bytes", "")


@pytest.mark.parametrize(
    "url", [URL, "https://8.8.8.8/", "https://[2606:4700::1111]:8443/x", "https://bücher.example/"]
)
def test_public_urls_are_taken(url):
    assert WebhookObserver(url).shown_url.startswith("https://")


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_has_a_queue_of_its_own_and_sends_too(receiver, webhook, copied):
    server = receiver()
    observer = webhook(server, "key", secret=b"k" * 24)
    fail(observer)
    observer.flush(LIMIT)
    other = copied(observer)
    assert other.ledger == counted()
    fail(other)
    assert other.flush(LIMIT)
    first, second = server.requests
    assert first.headers["authorization"] == second.headers["authorization"] == "Bearer key"
    assert "webhook-signature" in second.headers
    assert other.shutdown(LIMIT)


def test_a_decorated_closure_travels_with_its_webhook(receiver, webhook):
    server = receiver()

    @CallPyBack([webhook(server)], default_return="handled")
    def failing():
        raise ValueError

    arrived = cloudpickle.loads(cloudpickle.dumps(failing))
    assert arrived() == "handled"
    [observer] = handle(arrived).observers
    assert observer.flush(LIMIT)
    assert len(server.requests) == 1
    assert observer.shutdown(LIMIT)


def test_an_observer_with_a_tls_context_of_its_own_says_that_it_cannot_be_pickled():
    observer = WebhookObserver(URL, ssl_context=ssl.create_default_context())
    with pytest.raises(TypeError, match="ssl_context"):
        pickle.dumps(observer)
