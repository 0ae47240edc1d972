"""Requirements, priorities, registration: a valid order, or an error that names who is to blame.

The model orders as the documentation says: of those whose requirements have been met, the highest priority is next,
and of equal ones the one registered first.
"""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callpyback import (
    CallPyBack,
    ConfigurationError,
    ExecutionState,
    Subscription,
    add_global_observer,
    handle,
    remove_global_observer,
)
from callpyback.core.visitors import VISITORS
from kinds import KINDS, Witness

NAMES = "abcdefgh"
COMPLETED = ExecutionState.COMPLETED


class Member:
    """One observer of a generated set."""

    def __init__(self, name, priority, requires, required_by, place, said_by) -> None:
        self.name = name
        self.priority = priority
        self.requires = requires
        self.required_by = required_by
        self.place = place
        self.said_by = said_by

    def __repr__(self) -> str:
        asked = f"after {sorted(self.requires)}, before {sorted(self.required_by)}"
        return f"{self.name}({self.priority}, {asked}, {self.place})"

    def registered_as(self, notes):
        witness = Witness(COMPLETED, name=self.name, priority=self.priority)
        witness.update = lambda context: notes.append(self.name)
        asked = {"requires": tuple(self.requires), "required_by": tuple(self.required_by)}
        if self.said_by == "attributes":
            vars(witness).update(asked)
            return witness
        return Subscription(witness, **asked)


@st.composite
def members(draw, names=NAMES, places=("constructor",)):
    chosen = draw(st.lists(st.sampled_from(names), unique=True, max_size=len(names)))
    some = st.frozensets(st.sampled_from(chosen or ["z"]), max_size=2)
    # Mostly names that exist; now and then one that does not.
    wild = st.frozensets(st.sampled_from([*names, "nobody"]), max_size=1)
    which = st.one_of(some, some, some, wild) if chosen else st.just(frozenset())
    return [
        Member(
            name,
            draw(st.integers(-2, 2)),
            draw(which),
            draw(st.one_of(st.just(frozenset()), which)),
            draw(st.sampled_from(places)),
            draw(st.sampled_from(["attributes", "registration"])),
        )
        for name in chosen
    ]


def befores(present) -> dict[str, set[str]]:
    """Return whom each of them must come after, of those present."""
    names = {member.name for member in present}
    before = {member.name: set(member.requires) & names for member in present}
    for member in present:
        for name in member.required_by & names:
            before[name].add(member.name)
    return before


def in_order(present) -> list[str] | None:
    """Return the names in the order they are told; None if they require each other in a circle."""
    before, left, told = befores(present), list(present), []
    while left:
        ready = [member for member in left if before[member.name] <= set(told)]
        if not ready:
            return None
        best = max(ready, key=lambda member: member.priority)  # the first of equal ones: registered first
        told.append(best.name)
        left.remove(best)
    return told


def unknown(present) -> set[str]:
    """Return the names that are asked for and that nobody has."""
    return {name for member in present for name in member.requires | member.required_by} - {m.name for m in present}


def in_circles(present) -> set[str]:
    """Return the names of those that come before themselves."""
    reach = {name: set(names) for name, names in befores(present).items()}
    for _ in present:
        for names in reach.values():
            names |= {further for name in set(names) for further in reach[name]}
    return {name for name, names in reach.items() if name in names}


def order_told(kind, function, notes) -> list[str]:
    notes.clear()
    kind.call(function)
    return list(notes)


def assert_names_offenders(error, present) -> None:
    """A circle by everybody in it and nobody else, an unknown name by who asks for it."""
    text = str(error)
    if "circle" in text:
        named = {name for name in NAMES if repr(name) in text}
        assert named
        assert named <= in_circles(present)
    else:
        assert any(
            repr(member.name) in text and repr(name) in text
            for member in present
            for name in (member.requires | member.required_by) & unknown(present)
        )


@pytest.mark.parametrize("kind", KINDS[:2], ids=str)
@settings(max_examples=150, deadline=None)
@given(present=members())
def test_a_decorator_tells_in_a_valid_order_or_names_the_offenders(kind, present):
    notes = []
    expected = None if unknown(present) else in_order(present)
    try:
        decorator = CallPyBack([member.registered_as(notes) for member in present])
        function = kind.make(lambda: 1, decorator)
    except ConfigurationError as error:
        assert expected is None
        assert_names_offenders(error, present)
    else:
        assert order_told(kind, function, notes) == expected
        assert [known.name for known in decorator.registrations] == expected
        assert [known.name for known in handle(function).registrations] == expected


def is_required(member, present) -> bool:
    return any(
        other is not member and (member.name in other.requires or other.name in member.required_by) for other in present
    )


@settings(max_examples=150, deadline=None)
@given(given_members=members(places=("constructor", "decorator", "function")), data=st.data())
def test_coming_and_going_keeps_it(given_members, data):
    """Whoever does not fit is refused and changes nothing; whoever is required can't go."""
    kind, notes = KINDS[0], []
    constructed = [member for member in given_members if member.place == "constructor"]
    constructed = constructed if not unknown(constructed) and in_order(constructed) is not None else []
    decorator = CallPyBack([member.registered_as(notes) for member in constructed])
    function = kind.make(lambda: 1, decorator)
    present = list(constructed)

    def holder_of(member):
        return handle(function) if member.place == "function" else decorator

    for member in given_members:
        if member in constructed:
            continue
        wished = [*present, member]
        fits = not (member.requires | member.required_by) - {m.name for m in wished} and in_order(wished) is not None
        try:
            holder_of(member).add_observer(member.registered_as(notes))
        except ConfigurationError as error:
            assert not fits
            assert repr(member.name) in str(error)
        else:
            assert fits
            present = wished
        assert order_told(kind, function, notes) == in_order(present)

    for member in data.draw(st.permutations(present), label="leaving"):
        try:
            holder_of(member).remove_observer(member.name)
        except ConfigurationError as error:
            assert is_required(member, present)
            assert "requires it" in str(error)
        else:
            assert not is_required(member, present)
            present.remove(member)
        assert order_told(kind, function, notes) == in_order(present)


@settings(max_examples=100, deadline=None)
@given(local=members("abcd"), visiting=members("wxyzab"))
def test_observers_of_everything_find_their_place_and_break_nothing(local, visiting):
    """What they require of others orders them where those are; what can't be met counts as nothing."""
    kind, notes = KINDS[0], []
    if unknown(local) or in_order(local) is None:
        local = []
    function = kind.make(lambda: 1, CallPyBack([member.registered_as(notes) for member in local]))
    added = []
    try:
        for member in visiting:
            try:
                add_global_observer(member.registered_as(notes))
            except ConfigurationError as error:
                assert "circle" in str(error)
                assert in_order([*added, member]) is None
            else:
                added.append(member)
        told = order_told(kind, function, notes)
        # The function's own keep their order; each of the others is told once, or not at all if it closes a circle.
        own = [member.name for member in local]
        unambiguous = [member for member in added if member.name not in own]
        if unambiguous == added and in_order([*local, *added]) is not None:
            assert told == in_order([*local, *added])
        assert set(own) <= set(told)
        if unambiguous == added:
            before = befores(local)
            assert all(told.index(first) < told.index(name) for name in own for first in before[name])
            assert len(told) == len(set(told))
    finally:
        while VISITORS.everywhere:  # those that others require go after them
            for visitor in VISITORS.everywhere:
                with contextlib.suppress(ConfigurationError):
                    remove_global_observer(visitor.name)
