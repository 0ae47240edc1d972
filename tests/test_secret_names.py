"""Names of secrets: told by their words, not by their letters."""

from __future__ import annotations

import pytest

from callpyback.core.secret_names import is_secret_name, words_of

SECRET = """
    password passwd pwd Password PASSWORD userPassword db_password dbpassword user-password passwords password2
    passphrase secret client_secret clientSecret secrets token access_token accessToken refreshtoken x-auth-token
    csrf_token api_key apikey apiKey API_KEY x-api-key X-API-Key APIKey secret_key private_key signing_key
    AWSAccessKeyId AWS_SECRET_ACCESS_KEY authorization Authorization auth basic_auth cookie Set-Cookie session_id
    sessionid PHPSESSID signature X-Goog-Signature sig jwt bearer credentials otp pin cvv card_number key
    password_reset_token passwordHash oauth_token
""".split()  # noqa: SIM905 - so many words are read more easily without quotes

HARMLESS = """
    monkey author authors authority passenger passengers keyboard tokenizer tokenize session_count session secretary
    compass bypass keys_pressed primary_key sort_key cache_key public_key foreign_key keynote turkey token_count
    max_tokens num_tokens total_tokens password_length token_type secret_name token_expires password_reset authenticated
    pinned spinning signal design assigned cookbook passwordless has_password is_secret user name id x args kwargs
""".split()  # noqa: SIM905 - so many words are read more easily without quotes


@pytest.mark.parametrize("name", SECRET)
def test_the_words_of_a_secret_make_a_name_secret(name):
    assert is_secret_name(name)


@pytest.mark.parametrize("name", HARMLESS)
def test_the_letters_alone_do_not(name):
    assert not is_secret_name(name)


LOOK_ALIKES = [
    "p\N{CYRILLIC SMALL LETTER A}ssword",
    "t\N{GREEK SMALL LETTER OMICRON}ken",
    "\N{FULLWIDTH LATIN CAPITAL LETTER P}IN",
    "\N{CYRILLIC SMALL LETTER A}pi_k\N{CYRILLIC SMALL LETTER IE}y",
]


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_letters_that_only_look_latin_are_read_as_latin(name):
    assert not name.isascii()
    assert is_secret_name(name)


def test_further_names_are_found_as_words_in_a_row():
    more = [("iban",), ("tax", "number")]
    assert [name for name in ("customer_iban", "taxNumber", "number_tax", "ibanez") if is_secret_name(name, more)] == [
        "customer_iban",
        "taxNumber",
    ]


def test_a_long_name_is_judged_by_both_its_ends():
    assert is_secret_name("password_" + "x" * 10_000)
    assert is_secret_name("x" * 10_000 + "_password")
    assert len("".join(words_of("ab" * 10_000))) <= 200


@pytest.mark.parametrize("name", ["", "_", "123", "日本語", "\n"])
def test_names_without_words_are_harmless(name):
    assert not is_secret_name(name)
