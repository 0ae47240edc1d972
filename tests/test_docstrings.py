"""The examples in docstrings run, and say what comes out."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import callpyback

# Each is imported by one sort of Python alone.
NOT_EVERYWHERE = {"callpyback.core.variable_extraction.monitoring", "callpyback.core.variable_extraction.prologue"}
MODULES = [
    found.name
    for found in pkgutil.walk_packages(callpyback.__path__, "callpyback.")
    if found.name not in NOT_EVERYWHERE
]


@pytest.mark.parametrize("name", ["callpyback", *MODULES])
def test_the_examples_of_a_module_run(name):
    assert doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS).failed == 0


def test_there_are_examples():
    found = doctest.DocTestFinder().find(importlib.import_module("callpyback.errors"))
    assert sum(bool(example.examples) for example in found) >= 2
