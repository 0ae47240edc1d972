"""Texts, to be repeated, on which a careless pattern of secrets takes quadratic time."""

from __future__ import annotations

HOSTILE = [
    "a",
    "-eyJ",
    "eyJ-",
    "://",
    "://a",
    "a=",
    "Bearer ",
    "bearer",
    "-----BEGIN PRIVATE KEY-----",
    "password=[",
    "'",
    "\\",
]
