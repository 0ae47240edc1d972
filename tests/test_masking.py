"""Masking hides secrets by name at any depth and by form inside texts, in bounded copies, and shows the rest."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import time
from typing import NamedTuple

import pytest

import callpyback.core.masking as module
from callpyback import ConfigurationError
from callpyback.core.masking import MASK, MASKING, Masking
from hostile_texts import HOSTILE
from kinds import ended

SECRET = "hunter2-XYZ"


@dataclasses.dataclass
class Login:
    name: str
    password: str


class Account:
    def __repr__(self):
        return f"<Account of ann, token={SECRET}>"


class Row(NamedTuple):
    user: str
    secret: str


FORMS = {
    "keyword": {"password": SECRET},
    "nested dict": {"a": {"b": {"token": SECRET}}},
    "list of dicts": {"rows": [{"pwd": SECRET}]},
    "tuple of pairs": {"headers": [("Authorization", SECRET), ("Accept", "text/plain")]},
    "URL userinfo": {"url": f"https://ann:{SECRET}@example.org/"},
    "URL password with an at sign": {"url": f"https://ann:p@{SECRET}@example.org/"},
    "URL query": {"url": f"https://example.org/?page=2&sig={SECRET}&x=1"},
    "bearer": {"text": f"Bearer {SECRET}"},
    "basic": {"text": f"Basic {SECRET}=="},
    "header line": {"text": f"Cookie: a=1; session={SECRET}"},
    "DSN": {"dsn": f"postgresql://ann:{SECRET}@db:5432/shop"},
    "DSN of pairs": {"dsn": f"host=db password={SECRET} user=ann"},
    "object": {"account": Account()},
    "dataclass": {"login": Login("ann", SECRET)},
    "named tuple": {"row": Row("ann", SECRET)},
    "bytes": {"body": f"token={SECRET}".encode()},
    "JSON": {"body": json.dumps({"user": "ann", "password": SECRET})},
    "JSON in JSON": {"body": json.dumps(json.dumps({"user": "ann", "password": SECRET}))},
    "cut JSON": {"body": '{"password": "' + SECRET + "x" * 20_000},
    "camel case": {"userPassword": SECRET},
    "prefix": {"db_password": SECRET},
    "header name": {"x-api-key": SECRET},
    "homoglyph": {"p\N{CYRILLIC SMALL LETTER A}ssword": SECRET},
    "list under a name": {"text": f"tokens=['a', '{SECRET}'] page=1"},
    "object under a name": {"text": f"password=SecretStr('{SECRET}'), page=1"},
    "quoted with escapes": {"text": f"password='it\\'s {SECRET}'"},
    "private key": {"pem": f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----"},
    "JSON Web Token": {"text": f"got eyJhbGciOiJIUzI1NiJ9.{SECRET}.{SECRET}"},
    "deep": {"a": [[[[[{"password": SECRET}]]]]]},
    "late": {"long": "x" * 9_000 + f" password={SECRET}"},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_secret_is_hidden_in_every_form(form):
    for shown in (MASKING.arguments(form), MASKING.plain(form)):
        assert SECRET not in json.dumps(shown)


def test_what_is_no_secret_is_shown():
    arguments = {
        "monkey": "m",
        "author": "ann",
        "passenger": 2,
        "keyboard": None,
        "tokenizer": [1],
        "session_count": 3.5,
    }
    assert MASKING.plain(arguments) == arguments
    assert MASKING.arguments(arguments) == {
        "monkey": "m",
        "author": "ann",
        "passenger": "2",
        "keyboard": "None",
        "tokenizer": "[1]",
        "session_count": "3.5",
    }


@pytest.mark.parametrize(
    "text",
    [
        "Authentication failed for author ann",
        "Basic authentication failed",
        "Bearer token expired",
        "see https://example.org/a?page=2#top",
        "key: the third one",
        "12:30 = noon",
        "a tokenizer: fast",
    ],
)
def test_a_text_without_secrets_stays_as_it_is(text):
    assert MASKING.text(text) == text


def test_around_a_secret_the_text_stays():
    assert MASKING.text("user=ann password=x page=2") == f"user=ann password={MASK} page=2"
    assert MASKING.text('{"password": "x", "page": 2}') == f'{{"password": {MASK}, "page": 2}}'
    assert MASKING.text("https://u:p@h/?sig=1&page=2") == f"https://{MASK}@h/?sig={MASK}&page=2"


def test_the_mask_tells_nothing_of_the_secret():
    assert MASKING.plain({"password": "x"}) == MASKING.plain({"password": "y" * 1000}) == {"password": MASK}


def test_own_names_are_secret_too():
    masking = Masking(["iban", "tax_number"])
    assert masking.plain({"customer_iban": "DE", "taxNumber": 1, "password": "x", "name": "ann"}) == {
        "customer_iban": MASK,
        "taxNumber": MASK,
        "password": MASK,
        "name": "ann",
    }
    assert not MASKING.is_secret("customer_iban")


def test_an_error_hides_the_secret_arguments_of_its_call():
    error = ValueError(f"{SECRET} is not the password of ann")
    assert MASKING.exception(error) == f"ValueError: {SECRET} is not the password of ann"
    arguments = {"user": "ann", "login": {"password": SECRET}, "pin": 4711, "raw_token": b"abcdef"}
    assert MASKING.exception(error, arguments) == f"ValueError: {MASK} is not the password of ann"
    assert MASKING.exception(KeyError("4711 or abcdef"), arguments) == f"KeyError: '{MASK} or {MASK}'"


def test_copies_are_bounded():
    wide = {f"n{i}": "x" * 1000 for i in range(10_000)}
    shown = MASKING.plain({"a": wide, "b": list(range(10**6)), "c": wide, "d": 1})
    assert len(json.dumps(shown)) < 40_000
    assert shown["a"]["..."] == "9950 more"
    assert shown["b"] == [*range(50), "..."]
    assert (shown["..."], MASKING.plain({"d": [[[[[[[1]]]]]]]})) == ("1 more", {"d": [[[["..."]]]]})
    bush = 1
    for _ in range(5):
        bush = [bush] * 50
    assert len(json.dumps(MASKING.plain(bush))) < 64_000


def test_a_structure_that_contains_itself_ends():
    loop = {"name": "ann"}
    loop["self"] = loop
    assert json.dumps(MASKING.plain(loop)).count("ann") == 5


def test_values_that_json_does_not_have_become_text():
    shown = MASKING.plain([2**63, -(2**70), float("nan"), float("inf"), {1, 2}, {(1, 2): 3}, b"x", object, 1 + 2j])
    assert json.loads(json.dumps(shown)) == shown
    assert shown[:4] == [str(2**63), str(-(2**70)), "nan", "inf"]
    assert shown[5] == {"(1, 2)": 3}


class Hostile(dict):
    def items(self):
        raise RuntimeError

    def __iter__(self):
        raise RuntimeError

    def __len__(self):
        raise RuntimeError


class Broken:
    def __repr__(self):
        raise SystemExit(SECRET)

    @property
    def _fields(self):
        raise RuntimeError(SECRET)


def test_hostile_values_are_hidden_or_shown_and_never_raise():
    assert MASKING.plain(Hostile(a=1, password=2)) == {"a": 1, "password": MASK}
    assert SECRET not in repr(MASKING.arguments({"a": Broken(), "b": [Broken()]}))


def test_a_slow_repr_is_not_asked_again_and_again(monkeypatch):
    class Slow:
        asked = 0

        def __repr__(self):
            Slow.asked += 1
            clock[0] += 0.2
            return "Slow()"

    clock = [0.0]
    monkeypatch.setattr(module, "SYSTEM", type("Clock", (), {"monotonic": staticmethod(lambda: clock[0])}))
    assert MASKING.plain([Slow(), Slow(), Slow()]) == ["Slow()", "<Slow>", "<Slow>"]
    assert Slow.asked == 1


def test_every_line_is_one_line():
    shown = MASKING.arguments({"a\nb": "c\nd", "e": ["f\ng"]})
    assert shown == {"a\\nb": "c\\nd", "e": "['f\\\\ng']"}
    assert "\n" not in MASKING.exception(ValueError("a\nb"))


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_text_takes_little_time(piece):
    text = piece * (1_000_000 // len(piece))
    started = time.thread_time()
    MASKING.text(text)
    MASKING.exception(ValueError(text), {"password": text})
    assert time.thread_time() - started < 1.0  # a pattern that backtracks takes hours


@pytest.mark.parametrize("keys", ["iban", b"iban", 3, [1], [""], {"a": 1}, [None]], ids=repr)
def test_other_keys_are_refused(keys):
    with pytest.raises(ConfigurationError, match="keys="):
        Masking(keys)


def test_endless_keys_are_refused():
    assert isinstance(ended(lambda: Masking(iter(lambda: "x", None))).exception, ConfigurationError)


@pytest.mark.parametrize("again", [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy, copy.copy])
def test_copies_hide_the_same(again):
    twin = again(Masking(["iban"]))
    assert (twin.keys, twin.is_secret("my_iban"), twin.is_secret("user")) == (("iban",), True, False)
    assert repr(twin) == "Masking(keys=('iban',))"
