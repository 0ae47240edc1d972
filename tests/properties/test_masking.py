"""No secret is in what masking gives, wherever it was; what it gives is JSON and bounded."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from callpyback.core.masking import MASKING

SECRET = "qz7-Secret-qz7"
NAMES = st.sampled_from(["password", "x-api-key", "accessToken", "db_passwd", "Cookie", "client secret"])
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=20)
ANY = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4) | st.tuples(inner)
    ),
    max_leaves=20,
)


@st.composite
def hiding(draw):
    """A structure with the secret somewhere under a secret name."""
    value = {draw(NAMES): draw(st.sampled_from([SECRET, [SECRET], {"a": SECRET}, SECRET.encode()]))}
    for _ in range(draw(st.integers(0, 3))):
        others = draw(st.lists(ANY, max_size=2))
        value = draw(st.sampled_from([[*others, value], {"inner": value, "others": others}, (value, *others)]))
    return value


@given(hiding())
def test_a_secret_under_its_name_is_never_shown(value):
    assert "qz7" not in json.dumps(MASKING.plain(value))
    assert "qz7" not in json.dumps(MASKING.arguments({"given": value}))


TEXTS = st.sampled_from(
    [
        "{0}={1}",
        "{0}: {1}",
        '{{"{0}": "{1}"}}',
        "{{'{0}': '{1}'}}",
        "a=1&{0}={1}&b=2",
        "Thing(x=1, {0}='{1}')",
        '{0} = "{1}"',
        "{0}=['{1}', '{1}']",
    ]
)


@given(
    st.text(max_size=40),
    TEXTS,
    st.sampled_from(["password", "x-api-key", "accessToken", "db_passwd"]),
    st.text(max_size=40),
)
def test_a_secret_after_its_name_is_never_shown_whatever_stands_around_it(before, form, name, after):
    text = f"{before} {form.format(name, SECRET)} {after}"
    assert "qz7" not in MASKING.text(text)
    assert "qz7" not in MASKING.exception(ValueError(text))


@given(ANY)
def test_any_value_becomes_bounded_json(value):
    shown = MASKING.plain(value)
    assert json.loads(json.dumps(shown)) == shown
    assert len(json.dumps(shown)) < 64_000


@given(st.text(max_size=200))
def test_masking_twice_is_masking_once(text):
    once = MASKING.text(text)
    assert MASKING.text(once) == once
