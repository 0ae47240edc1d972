"""Any value becomes bounded, one-line text: nothing raises, nothing large is copied (E14, E17, E18, S08)."""

from __future__ import annotations

import array
import collections
import dataclasses
import enum
import tracemalloc
import types
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callpyback.core.safe_repr import one_line, safe_repr, safe_text

plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4), inner, max_size=4)
        | st.tuples(inner, inner)
        | st.sets(st.integers(), max_size=4)
    ),
    max_leaves=6,
)


class Shaped:
    """Stands in for an array or data frame: printing it would take for ever."""

    shape = (3, 4)
    dtype = "float64"

    def __repr__(self) -> str:
        raise AssertionError("must not be called")


@dataclasses.dataclass
class Order:
    number: int
    lines: list[int]
    card: str = dataclasses.field(default="4111", repr=False)


@dataclasses.dataclass(repr=False)
class Shy:
    card: str

    def __repr__(self) -> str:
        return "Shy()"


Point = collections.namedtuple("Point", "x y")  # noqa: PYI024 - its repr is the same, and is the subject


class Colour(enum.IntEnum):
    RED = 1


class Names(list):
    pass


class Raises:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __repr__(self) -> str:
        raise self.error


@given(plain_values)
def test_small_values_are_shown_as_repr_shows_them(value):
    text = repr(value)
    if len(text) <= 200 and _depth(value) <= 5:
        assert safe_repr(value) == text


def _depth(value: object) -> int:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple | set) else ()
    return 1 + max((_depth(item) for item in items), default=0) if isinstance(value, dict | list | tuple | set) else 0


@given(plain_values | st.text(), st.integers(0, 60))
def test_text_is_one_printable_line_no_longer_than_asked(value, max_length):
    for text in (
        safe_repr(value, max_length),
        safe_text(ValueError(value), max_length),
        one_line(str(value), max_length),
    ):
        assert len(text) <= max_length
        assert text.isprintable()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Shaped(), "<Shaped shape=(3, 4) dtype=float64>"),
        (Order(1, [0] * 11), "Order(number=1, lines=[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ...])"),
        (Shy("4111"), "Shy()"),
        (Point([0] * 11, 2), "Point(x=[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ...], y=2)"),
        (types.SimpleNamespace(a=1), "namespace(a=1)"),
        (Colour.RED, "<Colour.RED: 1>"),
        (Names("ab"), "['a', 'b']"),
        (collections.deque([1]), "deque([1])"),
        (array.array("d", [1.5]), "array([1.5])"),
        (collections.OrderedDict(a=1), "OrderedDict({'a': 1})"),
        (collections.defaultdict(int, a=1), "defaultdict({'a': 1})"),
        (frozenset({1}), "frozenset({1})"),
        (frozenset(), "frozenset()"),
        ({"a": 1}.keys(), "dict_keys(['a'])"),
        ((1,), "(1,)"),
        (KeyError("k", [1]), "KeyError('k', [1])"),
        ([[[[[[1]]]]]], "[[[[[[...]]]]]]"),
        (list(range(12)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...]"),
    ],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__,
)
def test_each_kind_of_value_has_its_bounded_form(value, shown):
    assert safe_repr(value) == shown


@pytest.mark.parametrize("error", [RuntimeError("no"), SystemExit(1), GeneratorExit(), RecursionError(), MemoryError()])
def test_a_repr_that_raises_is_named_and_its_neighbours_are_still_shown(error):
    name = type(error).__name__
    assert safe_repr([1, Raises(error), "x"]) == f"[1, <unrepresentable Raises: {name}>, 'x']"


def test_a_keyboard_interrupt_belongs_to_the_program():
    with pytest.raises(KeyboardInterrupt):
        safe_repr([Raises(KeyboardInterrupt())])


def test_a_repr_that_recurses_for_ever_is_contained():
    class Endless:
        def __repr__(self) -> str:
            return repr([self])

    assert safe_repr(Endless()) == "<unrepresentable Endless: RecursionError>"


def test_an_exhausted_stack_is_contained():
    def deep() -> str:
        try:
            return deep()
        except RecursionError:
            return safe_repr([[[1]]])

    assert "unrepresentable" in deep()


def test_a_value_that_contains_itself_ends():
    loop: list[object] = []
    loop.append(loop)
    assert safe_repr(loop) == "[[[[[[...]]]]]]"


def test_a_hostile_metaclass_does_no_harm():
    class Meta(type):
        @property
        def __name__(cls) -> str:
            raise RuntimeError

        def __getattribute__(cls, name: str) -> object:
            raise RuntimeError

    value = Meta("Odd", (), {})()
    assert safe_repr(value) == "<unrepresentable Odd: RuntimeError>"


def test_text_from_a_repr_is_escaped_and_cut():
    class Loud:
        def __repr__(self) -> str:
            return "a\nb\x1b[31m\udc80" + "!" * 10_000_000

    text = safe_repr(Loud())
    assert text.startswith(r"a\nb\x1b[31m\udc80!!!")
    assert text.endswith("!...")
    assert len(text) == 200


def test_a_str_subclass_from_a_repr_runs_no_code_of_its_own():
    class Trap(str):
        __slots__ = ()

        def __getitem__(self, key: object) -> str:
            raise RuntimeError

    class Sly:
        def __repr__(self) -> str:
            return Trap("sly")

    assert safe_repr(Sly()) == "sly"


def test_only_the_first_slow_repr_is_paid_for(monkeypatch):
    clock = count(step=1.0)
    monkeypatch.setattr("callpyback.core.safe_repr.SYSTEM", types.SimpleNamespace(monotonic=lambda: next(clock)))
    asked = []

    class Slow:
        def __repr__(self) -> str:
            asked.append(self)
            return "Slow()"

    assert safe_repr([Slow(), Slow(), Slow()]) == "[Slow(), <Slow>, <Slow>]"
    assert len(asked) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: "x" * 100_000_000,
        lambda: b"x" * 100_000_000,
        lambda: bytearray(100_000_000),
        lambda: [1] * 10_000_000,
        lambda: dict.fromkeys(range(1_000_000)),
        lambda: set(range(1_000_000)),
        lambda: collections.Counter(range(1_000_000)),
        lambda: ValueError("x" * 100_000_000),
    ],
    ids=["str", "bytes", "bytearray", "list", "dict", "set", "Counter", "exception"],
)
@pytest.mark.parametrize("show", [safe_repr, lambda value: safe_text(ValueError(value))], ids=["repr", "text"])
def test_what_is_large_is_not_copied(make, show):
    value = make()
    tracemalloc.start()
    try:
        text = show(value)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert text.endswith(("...", "...]", "...}", "...})"))
    assert peak < 100_000


def test_a_long_int_is_shown_by_its_size():
    assert safe_repr(10**5000) == "<int of 16610 bits>"


class BadMessage(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class OwnMessage(Exception):
    def __str__(self) -> str:
        return "own\nwords"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("first\nsecond"), r"ValueError: first\nsecond"),
        (ValueError(), "ValueError"),
        (ValueError(""), "ValueError"),
        (ValueError(1, "x"), "ValueError: (1, 'x')"),
        (ValueError([1] * 11), "ValueError: [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, ...]"),
        (KeyError("name"), "KeyError: 'name'"),
        (FileNotFoundError(2, "gone", "a.txt"), "FileNotFoundError: [Errno 2] gone: 'a.txt'"),
        (ExceptionGroup("two", [ValueError(), KeyError()]), "ExceptionGroup: two (2 sub-exceptions)"),
        (OwnMessage(), r"OwnMessage: own\nwords"),
        (BadMessage(), "<unrepresentable BadMessage: RuntimeError>"),
        (ValueError(Raises(SystemExit())), "ValueError: <unrepresentable Raises: SystemExit>"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_an_exception_is_its_type_and_message(error, text):
    assert safe_text(error) == text


def test_an_exception_is_left_as_it_was():
    error = ValueError("x")
    with pytest.raises(ValueError, match="x") as caught:
        raise error
    trace = error.__traceback__
    safe_text(error)
    assert caught.value.__traceback__ is trace
    assert error.__context__ is None
