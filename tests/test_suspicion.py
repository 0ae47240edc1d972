"""Errors are suspicious by class, or by whole words in their text; never by a part of a word."""

from __future__ import annotations

import re
import time

import pytest

from callpyback import ConfigurationError
from callpyback.errors import AccessDenied
from callpyback.observers.parts.suspicion import PATTERNS, Suspicion

USUAL = Suspicion((PermissionError,), PATTERNS)


class AuthorError(Exception):
    pass


class Unauthorized(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError("no"), "PermissionError"),
        (AccessDenied("0123"), "AccessDenied"),
        (RuntimeError("HTTP 401: UNAUTHORIZED!"), "unauthorized"),
        (Unauthorized(), "unauthorized"),
        (ValueError("Authentication   failed for ann"), "authentication   failed"),
        (KeyError("access denied"), "access denied"),
        (ValueError("possible SQL injection: 1=1"), "sql injection"),
        (ValueError("XSS in title"), "xss"),
        (ExceptionGroup("two", [ValueError(), ExceptionGroup("one", [PermissionError()])]), "PermissionError"),
    ],
    ids=repr,
)
def test_a_class_or_a_phrase_is_the_reason(error, reason):
    assert USUAL.reason(error) == reason


@pytest.mark.parametrize(
    "error",
    [
        AuthorError("no such author"),
        ValueError("xsserver is down"),
        ValueError("unauthorizedly spelled"),
        ValueError("preauthentication failed_over"),
        ValueError("permission was denied"),
        ValueError(),
        ExceptionGroup("access denied", [ValueError("leaves count, not the group")]),
    ],
    ids=repr,
)
def test_parts_of_words_are_no_reason(error):
    assert USUAL.reason(error) is None


def test_own_classes_phrases_and_expressions_count():
    suspicion = Suspicion(LookupError, ["card  stolen", re.compile(r"CVE-\d{4}")])
    assert suspicion.reason(KeyError("x")) == "KeyError"
    assert suspicion.reason(ValueError("Card stolen.")) == "card stolen"
    assert suspicion.reason(ValueError("see CVE-2024")) == repr(r"CVE-\d{4}")
    assert suspicion.reason(PermissionError("access denied")) is None


def test_nothing_may_be_suspicious():
    assert Suspicion((), []).reason(PermissionError("access denied")) is None


def test_punctuation_in_a_phrase_is_meant_literally():
    suspicion = Suspicion((), ["a.b (c)"])
    assert suspicion.reason(ValueError("a.b (c)")) == "a.b (c)"
    assert suspicion.reason(ValueError("axb (c)")) is None


def test_an_error_that_can_not_be_shown_is_no_reason():
    class Broken(Exception):
        def __str__(self):
            raise RuntimeError

    assert USUAL.reason(Broken()) is None


@pytest.mark.parametrize("piece", ["permission ", "permission" + " " * 9, "unauthorize", "x", "xss_", " "])
def test_hostile_text_takes_little_time(piece):
    text = piece * (1_000_000 // len(piece))
    started = time.thread_time()
    USUAL.reason(ValueError(text))
    assert time.thread_time() - started < 0.05

    pattern = USUAL._phrases

    def seconds(size):
        started = time.thread_time()
        pattern.search(text[:size])
        return time.thread_time() - started

    assert min(seconds(160_000) for _ in range(3)) < 24 * max(min(seconds(20_000) for _ in range(3)), 0.0005)


@pytest.mark.parametrize(
    "patterns", ["xss", 3, [3], [""], [" "], [b"x"], [re.compile(b"x")], re.compile("x")], ids=repr
)
def test_other_patterns_are_refused(patterns):
    with pytest.raises(ConfigurationError, match="patterns="):
        Suspicion((), patterns)


@pytest.mark.parametrize("classes", [3, "PermissionError", (KeyboardInterrupt,), [int]], ids=repr)
def test_other_classes_are_refused(classes):
    with pytest.raises(ConfigurationError, match="alert_on="):
        Suspicion(classes, ())
