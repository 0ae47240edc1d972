"""Patterns of secrets in texts take linear time, and leave the rest of a text as it is."""

from __future__ import annotations

import time

import pytest

import callpyback.core.secret_texts as module
from callpyback.core.secret_texts import MASK, masked_text
from hostile_texts import HOSTILE


@pytest.mark.parametrize("piece", HOSTILE)
@pytest.mark.parametrize("name", ["_USERINFO", "_SCHEME", "_CREDENTIAL", "_PRIVATE_KEY", "_NAME", "_HINT"])
def test_each_pattern_takes_linear_time(name, piece):
    pattern = getattr(module, name)

    def seconds(size):
        text = piece * (size // len(piece))
        started = time.thread_time()
        pattern.sub("", text)
        return time.thread_time() - started

    # Quadratic time would be 64 times as much; a machine that does other things gets room.
    assert min(seconds(160_000) for _ in range(3)) < 24 * max(min(seconds(20_000) for _ in range(3)), 0.0005)


def is_token(name):
    return name == "token"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("token=x", f"token={MASK}"),
        ("token=", f"token={MASK}"),
        ("a token: x, y", f"a token: {MASK}, y"),
        ("token=x token=y", f"token={MASK} token={MASK}"),
        ("mytoken=x", "mytoken=x"),
        ("token x", "token x"),
        ("token=[1, (2, ']')] z", f"token={MASK} z"),
        ("token=F(a='b) c') z", f"token={MASK} z"),
        ("token='unfinished", f"token={MASK}"),
        ("token=[unfinished", f"token={MASK}"),
        ("", ""),
    ],
)
def test_a_value_ends_where_it_ends(text, expected):
    assert masked_text(text, is_token) == expected
