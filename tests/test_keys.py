"""Keys are plain functions of the arguments, checked when they are given; a bad key belongs to one call."""

from __future__ import annotations

import pytest

from callpyback import ConfigurationError
from callpyback.core.raised import OfOneCall
from callpyback.observers.parts.keys import checked_key, key_of, takes_instance
from callpyback.testing import build_context


def by_user(arguments):
    return arguments["user"]


def by_instance(arguments, instance):
    return id(instance), arguments["user"]


def test_a_key_gets_the_arguments_and_the_instance_if_it_asks_for_it():
    thing = object()
    context = build_context("f", arguments={"user": "ann"}, instance=thing)
    assert key_of(context, by_user, with_instance=takes_instance(by_user)) == "ann"
    assert key_of(context, by_instance, with_instance=takes_instance(by_instance)) == (id(thing), "ann")


@pytest.mark.parametrize("arguments", [{}, {"user": []}], ids=repr)
def test_a_key_that_raises_or_can_not_be_hashed_belongs_to_one_call(arguments):
    with pytest.raises(OfOneCall):
        key_of(build_context("f", arguments=arguments), by_user, with_instance=False)


async def later(arguments):
    pass


@pytest.mark.parametrize("key", ["user", 3, later, lambda: 1, lambda a, b: 1], ids=range(5))
def test_other_keys_are_refused(key):
    with pytest.raises(ConfigurationError, match="by="):
        checked_key(key, "by")


def test_builtins_and_none_are_keys():
    assert [checked_key(key) for key in (None, by_user, len)] == [None, by_user, len]
