"""The audit: one event a sensitive call, an alert for a suspicious error, one line each, no secret in either."""

from __future__ import annotations

import copy
import gc
import json
import logging
import pickle
import threading
import weakref

import pytest

from callpyback import (
    BaseObserver,
    CallPyBack,
    CallVetoed,
    ConfigurationError,
    ExecutionState,
    MockTimeSource,
    Retry,
    StopProcessing,
    handle,
    on_call,
)
from callpyback.observers.security_audit import SecurityAuditObserver
from callpyback.testing import build_context
from kinds import ended

MASK = "***REDACTED***"


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, "security_audit")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "security_audit"]


def auditing(*functions, **options):
    return SecurityAuditObserver(sensitive_functions=functions, **{"time_source": MockTimeSource(0.0), **options})


def make_login(audit, **options):
    @CallPyBack(observers=[audit], **options)
    def login(username, password, source_ip):
        if password == "wrong":
            raise PermissionError("Authentication failed")
        if password == "broken":
            raise ValueError("no database")
        return {"user_id": username, "session_token": "abc123"}

    return login


def test_the_seeds_login_is_audited(lines):
    audit = auditing("login", "change_password", "delete_user", "admin_action")
    login = make_login(audit)
    login("ann", "tulip", "192.0.2.1")
    ended(lambda: login("admin", "wrong", "192.0.2.7"))
    fine, failed = audit.security_events
    assert fine == {
        "timestamp": "1970-01-01T00:00:00.000Z",
        "function": "login",
        "full_name": f"{__name__}.make_login.<locals>.login",
        "user": "ann",
        "action": "unknown",
        "source_ip": "192.0.2.1",
        "success": True,
        "state": "COMPLETED",
        "outcome": "success",
    }
    assert failed == {
        **fine,
        "user": "admin",
        "source_ip": "192.0.2.7",
        "success": False,
        "outcome": "failure",
        "error": "Authentication failed",
        "error_type": "PermissionError",
    }
    [alert] = audit.alerts
    assert alert == {
        "timestamp": "1970-01-01T00:00:00.000Z",
        "function": "login",
        "full_name": fine["full_name"],
        "error": "Authentication failed",
        "error_type": "PermissionError",
        "reason": "PermissionError",
        "arguments": {"username": "admin", "password": MASK, "source_ip": "192.0.2.7"},
        "severity": "HIGH",
    }
    assert lines() == [
        f"SECURITY_EVENT: {json.dumps(fine)}",
        f"SECURITY_ALERT: {json.dumps(alert)}",
        f"SECURITY_EVENT: {json.dumps(failed)}",
    ]


def test_alerts_are_warnings_and_events_are_not(caplog):
    caplog.set_level(logging.INFO, "security_audit")
    ended(lambda: make_login(auditing("login"))("a", "wrong", "b"))
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_other_functions_are_audited_only_when_an_error_is_suspicious(lines):
    audit = auditing("delete_user")
    login = make_login(audit)
    login("ann", "tulip", "ip")
    ended(lambda: login("ann", "broken", "ip"))
    assert lines() == []
    ended(lambda: login("ann", "wrong", "ip"))
    assert (len(audit.alerts), audit.security_events) == (1, [])


def test_a_function_that_is_not_sensitive_is_told_nothing_while_it_works():
    told = []

    class Watched(SecurityAuditObserver):
        def update(self, context):
            told.append(context.state)
            super().update(context)

    login = make_login(Watched(sensitive_functions={"delete_user"}))
    login("ann", "tulip", "ip")
    assert told == []
    ended(lambda: login("ann", "broken", "ip"))
    assert told == [ExecutionState.POST_FAILURE]


@pytest.mark.parametrize("pattern", ["login", "*.login", f"{__name__}.*", "log??"])
def test_sensitive_functions_are_named_by_patterns(pattern):
    audit = auditing(pattern)
    make_login(audit)("ann", "tulip", "ip")
    assert len(audit.security_events) == 1


def test_every_kind_of_function_has_one_event_however_it_ends(kind):
    audit = auditing("function")

    def body(end):
        if end is not None:
            raise end
        return 1

    function = kind.make(body, CallPyBack([audit], exception_classes=(LookupError,)), "end")
    ends = [None, KeyError("x"), ValueError("y"), KeyboardInterrupt()]
    for end in ends:
        kind.ended(function, end)
    assert [(event["state"], event["success"], event["outcome"]) for event in audit.security_events] == [
        ("COMPLETED", True, "success"),
        ("COMPLETED", False, "failure"),
        ("ERROR", False, "failure"),
        ("ERROR", False, "aborted"),
    ]


def test_a_call_that_a_guard_refused_or_answered_has_an_event():
    def decide(arguments):
        raise CallVetoed("closed") if arguments["password"] == "veto" else StopProcessing({"user_id": 3})

    audit = auditing("login")
    login = make_login(audit)
    handle(login).add_observer(on_call(decide))
    ended(lambda: login("ann", "veto", "ip"))
    login("ann", "tulip", "ip")
    assert [event["outcome"] for event in audit.security_events] == ["vetoed", "supplied"]
    assert audit.alerts == []


def test_an_error_by_which_a_critical_observer_refuses_is_looked_at_too():
    class Bouncer(BaseObserver):
        def update(self, context):
            if context.state is ExecutionState.PRE_EXECUTION:
                raise PermissionError("you are not on the list")

    audit = auditing()
    function = CallPyBack(observers=[audit, Bouncer(critical=True)])(lambda name: name)
    ended(lambda: function("ann"))
    assert [alert["error"] for alert in audit.alerts] == ["you are not on the list"]


def test_an_unexpected_error_is_one_alert():
    audit = auditing("login")
    ended(lambda: make_login(audit, exception_classes=(LookupError,))("a", "wrong", "ip"))
    assert (len(audit.alerts), audit.security_events[0]["state"]) == (1, "ERROR")


def test_a_handled_error_is_an_alert_too():
    audit = auditing("login")
    assert make_login(audit, default_return=None)("a", "wrong", "ip") is None
    assert (len(audit.alerts), audit.security_events[0]["outcome"]) == (1, "handled")


def test_each_attempt_of_a_retried_body_is_an_alert_and_the_call_one_event():
    audit = auditing("login")
    login = make_login(audit, retry=Retry(attempts=3, on=PermissionError, wait=0.0), time_source=MockTimeSource())
    ended(lambda: login("a", "wrong", "ip"))
    assert (len(audit.alerts), len(audit.security_events)) == (3, 1)


def test_the_name_of_an_author_is_no_incident():
    class AuthorError(Exception):
        pass

    audit = auditing()

    @CallPyBack(observers=[audit])
    def find(author):
        raise AuthorError(f"no author {author}")

    ended(lambda: find("ann"))
    assert audit.alerts == []


def test_secrets_are_in_no_record(lines):
    audit = auditing("charge", masked_keys=["iban"])

    @CallPyBack(observers=[audit])
    def charge(user_id, headers, payload, iban):
        raise PermissionError(f"{iban} refused, see postgres://u:tulip@db/x?token=tulip for {headers['Authorization']}")

    ended(lambda: charge(7, {"Authorization": "tulip-1"}, [{"apiKey": "tulip-2", "page": 3}], "tulip-3"))
    for line in lines():
        assert "tulip" not in line
    assert audit.alerts[0]["arguments"] == {
        "user_id": "7",
        "headers": f"{{'Authorization': '{MASK}'}}",
        "payload": f"[{{'apiKey': '{MASK}', 'page': 3}}]",
        "iban": MASK,
    }
    assert audit.security_events[0]["user"] == 7


def test_a_record_is_one_line_whatever_is_in_it(lines):
    audit = auditing("evil\nname")
    context = build_context(
        "evil\nname",
        arguments={"user_id": "ann\nSECURITY_EVENT: {}", "action": ["a\nb"], "x\ny": 1},
        exception=PermissionError("no\nway"),
    )
    audit.update(context)
    audit.update(build_context("evil\nname", exception=PermissionError("no\nway"), state=ExecutionState.POST_FAILURE))
    assert len(lines()) == 2
    assert all("\n" not in line for line in lines())
    assert all(json.loads(line.partition(": ")[2]) for line in lines())


@pytest.mark.parametrize(
    ("arguments", "user"),
    [
        ({"user_id": 3, "username": "x"}, 3),
        ({"user_id": None, "user": "bob"}, "bob"),
        ({"username": "ann" * 1000}, "ann" * 65 + "an..."),
        ({"user_id": [1, 2]}, "[1, 2]"),
        ({}, "unknown"),
    ],
)
def test_the_user_is_told_in_bounded_form(arguments, user):
    audit = auditing("f")
    audit.update(build_context("f", arguments=arguments))
    assert audit.security_events[0]["user"] == user


def test_records_are_bounded_and_counted():
    audit = auditing("f", max_events=3)
    for _ in range(10):
        audit.update(build_context("f", exception=PermissionError(), state=ExecutionState.POST_FAILURE))
        audit.update(build_context("f", exception=PermissionError()))
    assert audit.get_metrics() == {
        "events": 10,
        "alerts": 10,
        "kept_events": 3,
        "kept_alerts": 3,
        "failed_writes": 0,
        "failed_callbacks": 0,
    }


def test_a_huge_call_is_a_small_record(lines):
    audit = auditing("f")
    arguments = {f"a{n}": {f"k{m}": "x" * 10_000 for m in range(100)} for n in range(100)}
    audit.update(build_context("f", arguments=arguments, exception=PermissionError("x" * 10**6)))
    context = build_context(
        "f", arguments=arguments, exception=PermissionError("x" * 10**6), state=ExecutionState.POST_FAILURE
    )
    audit.update(context)
    assert max(map(len, lines())) < 64_000


def test_on_alert_gets_each_alert_and_may_fail():
    told = []

    def tell(alert):
        told.append(alert["reason"])
        raise RuntimeError

    audit = auditing(on_alert=tell)
    ended(lambda: make_login(audit)("a", "wrong", "ip"))
    assert (told, audit.get_metrics()["failed_callbacks"]) == (["PermissionError"], 1)


def test_a_log_that_takes_no_events_still_gets_the_alerts(caplog):
    caplog.set_level(logging.WARNING, "security_audit")
    audit = auditing("login")
    login = make_login(audit)
    login("ann", "tulip", "192.0.2.1")
    ended(lambda: login("ann", "wrong", "192.0.2.1"))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert (len(audit.security_events), audit.get_metrics()["failed_writes"]) == (2, 0)


class Full:
    def info(self, line):
        raise OSError("disk full")

    warning = info


def test_a_log_that_can_not_be_written_hurts_no_call_unless_the_audit_is_critical(caplog):
    audit = auditing("login", audit_logger=Full())
    login = make_login(audit)
    for _ in range(10):
        assert login("ann", "tulip", "ip")["user_id"] == "ann"
    assert (audit.get_metrics()["failed_writes"], len(audit.security_events)) == (10, 10)
    assert [message for message in caplog.messages if "disk full" in message][1:] == []
    strict = make_login(auditing("login", audit_logger=Full(), critical=True))
    assert isinstance(ended(lambda: strict("ann", "tulip", "ip")).exception, OSError)


def test_nothing_of_a_call_is_kept_alive():
    class Thing:
        pass

    audit = auditing("f")

    @CallPyBack(observers=[audit])
    def f(given):
        raise PermissionError(given)

    thing = Thing()
    alive = weakref.ref(thing)
    with pytest.raises(PermissionError):
        f(thing)
    del thing
    gc.collect()
    assert (alive(), len(audit.alerts), len(audit.security_events)) == (None, 1, 1)


def test_threads_lose_no_event():
    logger = logging.getLogger("test_security_audit.quiet")
    logger.disabled = True
    audit = auditing("f", audit_logger=logger, max_events=5)

    def work():
        for _ in range(200):
            audit.update(build_context("f"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert audit.get_metrics()["events"] == 800


def test_reset_forgets_the_records():
    audit = auditing("f")
    audit.update(build_context("f"))
    audit.reset()
    assert (audit.security_events, audit.get_metrics()["events"]) == ([], 0)


@pytest.mark.parametrize("again", [lambda o: pickle.loads(pickle.dumps(o)), copy.deepcopy, copy.copy])
def test_a_copy_has_the_records_and_goes_its_own_way(again):
    audit = auditing("f", masked_keys=["iban"])
    audit.update(build_context("f"))
    twin = again(audit)
    twin.update(build_context("f", arguments={"user_id": 1}))
    assert (len(audit.security_events), len(twin.security_events), twin.get_metrics()["events"]) == (1, 2, 2)
    assert (twin.priority, twin.name, twin.sensitive_functions) == (999, "SecurityAudit", frozenset({"f"}))


BAD = {
    "audit_logger": [3, logging.Logger, "security"],
    "sensitive_functions": ["login", 3, [3], [""]],
    "patterns": ["xss"],
    "alert_on": [3],
    "masked_keys": ["iban"],
    "max_events": [0, None],
    "on_alert": [3],
    "critical": [1],
    "time_source": [3],
}


@pytest.mark.parametrize(
    ("parameter", "value"), [(p, v) for p, values in BAD.items() for v in values], ids=lambda v: ""
)
def test_other_values_are_refused(parameter, value):
    with pytest.raises(ConfigurationError, match=f"{parameter.replace('masked_keys', 'keys')}="):
        SecurityAuditObserver(**{parameter: value})
