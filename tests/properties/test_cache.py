"""The cache does what a dictionary with times and an order would; equal arguments, and no others, make equal keys."""

from __future__ import annotations

import inspect
from collections import OrderedDict

import hypothesis.strategies as st
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from callpyback import CacheObserver, CallPyBack, ConfigurationError, MockTimeSource
from callpyback.guards.cache_keys import ArgumentKeys
from kinds import ended

TTL, MAXSIZE = 10.0, 3
FORMS = {
    "by position": lambda function, a, b: function(a, b),
    "by keyword": lambda function, a, b: function(b=b, a=a),
    "mixed": lambda function, a, b: function(a, b=b),
    "by default": lambda function, a, b: function(a) if b == 0 else function(a, b),
}
KEYS = st.tuples(st.integers(0, 4), st.integers(0, 1))


class CacheMachine(RuleBasedStateMachine):
    """Calls a cached function, and a model of it: results in the order of their use, each with its time."""

    def __init__(self):
        super().__init__()
        self.clock = MockTimeSource()
        self.cache = CacheObserver(TTL, MAXSIZE)
        self.fails = False
        self.ran = 0
        self.model = OrderedDict()
        self.counts = dict.fromkeys(("hits", "misses", "evictions", "expirations"), 0)

        @CallPyBack([self.cache], time_source=self.clock)
        def function(a, b=0):
            self.ran += 1
            if self.fails:
                raise ValueError(a)
            return (a, b, self.ran)

        self.function = function

    def purge(self):
        now = self.clock.monotonic()
        for key in [key for key, (_, expires) in self.model.items() if expires <= now]:
            del self.model[key]
            self.counts["expirations"] += 1

    @rule(key=KEYS, form=st.sampled_from(sorted(FORMS)), fails=st.sampled_from([False, False, False, True]))
    def call(self, key, form, fails):
        self.fails = fails
        now, ran = self.clock.monotonic(), self.ran
        result = ended(lambda: FORMS[form](self.function, *key))
        value, expires = self.model.get(key, (None, now))
        if now < expires:
            self.counts["hits"] += 1
            self.model.move_to_end(key)
            assert (result.value, self.ran) == (value, ran)
            return
        self.counts["misses"] += 1
        assert self.ran == ran + 1
        if fails:
            assert isinstance(result.exception, ValueError)
            return
        assert result.value == (*key, self.ran)
        self.purge()
        if len(self.model) == MAXSIZE:
            self.model.popitem(last=False)
            self.counts["evictions"] += 1
        self.model[key] = (result.value, now + TTL)

    @rule(seconds=st.sampled_from([0.5, 3.0, 9.5, 10.0, 11.0]))
    def advance(self, seconds):
        self.clock.advance(seconds)

    @rule(key=KEYS)
    def invalidate(self, key):
        is_valid = key in self.model and self.clock.monotonic() < self.model[key][1]
        assert self.cache.invalidate(self.function, *key) is is_valid
        if key in self.model:
            self.purge()
            self.model.pop(key, None)

    @rule(of_function=st.booleans())
    def clear(self, of_function):
        self.cache.clear(*[self.function] * of_function)
        self.purge()
        self.model.clear()

    @rule()
    def reset(self):
        self.cache.reset()
        self.model.clear()
        self.counts = dict.fromkeys(self.counts, 0)

    @rule()
    def look(self):
        stats = self.cache.get_cache_stats()
        self.purge()
        assert {name: stats[name] for name in self.counts} == self.counts
        assert stats["size"] == len(self.model)

    @invariant()
    def is_bounded(self):
        [cached] = self.cache._cached()
        shelf, eviction = cached._shelves.common, cached._shelves.eviction
        assert len(shelf.entries) == len(eviction._order) == len(eviction._ages) <= MAXSIZE
        assert (shelf.flights, len(eviction.changes)) == ({}, 0)

    def teardown(self):
        self.look()


CacheMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestCacheMachine = CacheMachine.TestCase


@st.composite
def signatures(draw):
    """A signature of any shape, its defaults small numbers."""
    source, names = [], iter("abcdef")
    kinds = inspect.Parameter
    has_default = False
    for kind in [kinds.POSITIONAL_ONLY] * draw(st.integers(0, 2)) + [kinds.POSITIONAL_OR_KEYWORD] * draw(
        st.integers(0, 2)
    ):
        has_default = has_default or draw(st.booleans())
        default = draw(st.integers(0, 1)) if has_default else kinds.empty
        source.append(inspect.Parameter(next(names), kind, default=default))
    if draw(st.booleans()):
        source.append(inspect.Parameter("rest", kinds.VAR_POSITIONAL))
    for _ in range(draw(st.integers(0, 2))):
        default = draw(st.sampled_from([kinds.empty, 0, 1]))
        source.append(inspect.Parameter(next(names), kinds.KEYWORD_ONLY, default=default))
    if draw(st.booleans()):
        source.append(inspect.Parameter("options", kinds.VAR_KEYWORD))
    return inspect.Signature(source)


CALLS = st.tuples(
    st.lists(st.integers(0, 1), max_size=4).map(tuple),
    st.dictionaries(st.sampled_from(["a", "b", "c", "d", "rest", "options"]), st.integers(0, 1), max_size=4),
)


def named(signature, args, kwargs):
    """Return what a function with this signature is given, or None if it can't be called so."""
    # A real function: `Signature.bind` refuses some calls that Python takes.
    namespace = {}
    exec(f"def function{signature}: return locals()", namespace)
    try:
        return namespace["function"](*args, **kwargs)
    except TypeError:
        return None


@settings(max_examples=400, deadline=None)
@given(signature=signatures(), calls=st.lists(CALLS, min_size=2, max_size=6))
def test_two_calls_have_equal_keys_exactly_if_the_body_gets_equal_arguments(signature, calls):
    keys = ArgumentKeys(signature.parameters.values(), typed=False)
    seen = []
    for args, kwargs in calls:
        given, key = named(signature, args, kwargs), ended(lambda args=args, kwargs=kwargs: keys.of(args, kwargs))
        if given is not None:
            assert key.exception is None
            seen.append((given, key.value))
    for given, key in seen:
        for other_given, other_key in seen:
            assert (given == other_given) == (key == other_key)
            assert given != other_given or hash(key) == hash(other_key)


@settings(max_examples=300, deadline=None)
@given(signature=signatures(), right=CALLS, wrong=CALLS)
def test_a_call_the_function_refuses_never_has_the_key_of_one_it_takes(signature, right, wrong):
    keys = ArgumentKeys(signature.parameters.values(), typed=False)
    if named(signature, *right) is None or named(signature, *wrong) is not None:
        return
    refused = ended(lambda: keys.of(*wrong))
    assert isinstance(refused.exception, TypeError) or refused.value != keys.of(*right)


@settings(max_examples=200, deadline=None)
@given(signature=signatures(), call=CALLS)
def test_types_make_keys_differ_that_would_be_equal(signature, call):
    keys = ArgumentKeys(signature.parameters.values(), typed=True)
    if named(signature, *call) is None:
        return
    args, kwargs = call
    as_floats = tuple(map(float, args)), {name: float(value) for name, value in kwargs.items()}
    assert keys.of(*call) == keys.of(args, dict(reversed(kwargs.items())))
    assert (keys.of(*call) == keys.of(*as_floats)) is (call == ((), {}))


class Hostile:
    """Raises whatever is asked of it."""

    def __getattr__(self, name):
        raise RuntimeError(name)

    def __repr__(self):
        raise RuntimeError("no text")

    __str__ = __bool__ = __len__ = __iter__ = __eq__ = __hash__ = __lt__ = __float__ = __repr__


ODD = {
    "a builtin": len,
    "a class": type,
    "an object": object(),
    "a hostile class": Hostile,
    "something hostile": Hostile(),
    "no key": lambda: None,
    "an unhashable key": lambda arguments: [],
}  # by name: Hypothesis shows what it draws
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.sampled_from(sorted(ODD)),
    st.lists(st.integers(), max_size=2),
)


@settings(max_examples=300, deadline=None)
@given(parameter=st.sampled_from(["ttl_seconds", "maxsize", "key", "typed", "priority", "name"]), value=ANYTHING)
def test_any_value_for_any_parameter_works_or_is_refused_by_name(parameter, value):
    given_value = ODD.get(value, value) if isinstance(value, str) else value
    made = ended(lambda: CacheObserver(**{parameter: given_value}))
    if made.exception is not None:
        assert isinstance(made.exception, ConfigurationError)
        assert parameter in str(made.exception)
        return
    function = CallPyBack([made.value])(lambda number: [number])
    assert [function(number) for number in (1, 1, 2)] in ([[1], [1], [2]], [[1], [1], [1]])
