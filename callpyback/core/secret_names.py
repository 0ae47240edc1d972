"""Names under which secrets are kept: told by their words, so that `password` is one and `passenger` is none."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

_MAX_NAME: Final = 200
_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

_SECRET: Final = frozenset(
    {
        "apikey",
        "auth",
        "authorization",
        "authtoken",
        "bearer",
        "cookie",
        "credential",
        "credentials",
        "cvc",
        "cvv",
        "jwt",
        "oauth",
        "otp",
        "passcode",
        "passphrase",
        "passwd",
        "password",
        "pin",
        "privatekey",
        "pwd",
        "secret",
        "sessid",
        "sig",
        "signature",
        "ssn",
        "token",
    }
)
_ENDINGS: Final = (
    "accesskey",
    "apikey",
    "credential",
    "privatekey",
    "secret",
    "secretkey",
    "sessid",
    "sessionid",
    "token",
)
_KEY_OF: Final = frozenset(
    {
        "access",
        "account",
        "api",
        "app",
        "auth",
        "client",
        "encryption",
        "hmac",
        "master",
        "private",
        "secret",
        "service",
        "session",
        "shared",
        "signing",
        "ssh",
    }
)
_PAIRS: Final = frozenset({("session", "id"), ("card", "number"), ("security", "code")})
_WHOLE: Final = frozenset({"key", "keys"})
"""Secret alone; as a part of a name a `key` may be that of a table, a cache or an order."""

_MEASURED_FIRST: Final = frozenset({"has", "is", "max", "min", "n", "num", "requires", "total"})
_MEASURED_LAST: Final = frozenset(
    {
        "age",
        "attempts",
        "count",
        "created",
        "expired",
        "expires",
        "expiry",
        "len",
        "length",
        "limit",
        "limits",
        "name",
        "policy",
        "required",
        "reset",
        "size",
        "strength",
        "ttl",
        "type",
        "types",
    }
)
"""What is said about a secret is none: `token_count`, `max_tokens`, `password_length`."""

_LOOK_ALIKES: Final = str.maketrans(
    "аеорсухіјѕһԁԛԝкмтвнАЕОРСУХІЈЅНКМТВαεορνυτικ", "aeopcyxijshdqwkmtbhAEOPCYXIJSHKMTBaeopvutik"
)
"""Letters of other alphabets that look like Latin ones."""


def words_of(name: str) -> tuple[str, ...]:
    """Return the words of a name in lower case, however they are put together.

    Of a name of more than 200 characters, the words of its beginning and its end.

    Example:
        >>> words_of("x-api-key"), words_of("userPassword2"), words_of("AWSAccessKeyId")
        (('x', 'api', 'key'), ('user', 'password', '2'), ('aws', 'access', 'key', 'id'))
    """
    if len(name) > _MAX_NAME:
        name = f"{name[: _MAX_NAME // 2]} {name[-_MAX_NAME // 2 :]}"
    plain = unicodedata.normalize("NFKC", name).translate(_LOOK_ALIKES)
    return tuple(word.lower() for word in _WORDS.findall(plain))


def is_secret_name(name: str, more: Iterable[tuple[str, ...]] = ()) -> bool:
    """Return whether what goes by this name is to be hidden.

    Args:
        name: Of a parameter, a key, a header, a field.
        more: Further secret names, each as its words: a name that has these words in a row is secret.

    Example:
        >>> [name for name in ("db_password", "authToken", "monkey", "author", "token_count") if is_secret_name(name)]
        ['db_password', 'authToken']
        >>> is_secret_name("customer_iban", more=[("iban",)])
        True
    """
    words = words_of(name)
    if any(words[at : at + len(wanted)] == wanted for wanted in more for at in range(len(words))):
        return True
    if not words or words[0] in _MEASURED_FIRST or words[-1] in _MEASURED_LAST:
        return False
    if len(words) == 1 and words[0] in _WHOLE:
        return True
    return any(map(_is_secret_word, words)) or any(map(_is_secret_pair, words, words[1:]))


def _is_secret_word(word: str) -> bool:
    stem = word.removesuffix("s")
    if word in _SECRET or stem in _SECRET or stem.endswith(_ENDINGS):
        return True
    return ("password" in word or "passwd" in word) and word != "passwordless"


def _is_secret_pair(word: str, after: str) -> bool:
    return (word, after) in _PAIRS or (after in _WHOLE and word in _KEY_OF)
