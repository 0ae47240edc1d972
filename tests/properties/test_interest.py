"""Whatever is asked for, each observer is told exactly what a simple model of the filters says, on every kind of call.

The model knows states, patterns, `@want`, predicates and the rule that who is told the beginning is told the end. It
does not know of straight paths, of contexts that are not made, or of what is decided at registration.
"""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callpyback import (
    CallbackObserver,
    CallPyBack,
    ExecutionState,
    MockTimeSource,
    Subscription,
    add_global_observer,
    handle,
    observing,
    remove_global_observer,
    want,
)
from callpyback.core.plan import EMPTY
from callpyback.core.state_machine import PLAIN_STATES, TERMINAL_STATES
from callpyback.core.visitors import VISITORS
from kinds import KINDS

INITIALIZED, PRE, EXECUTING = ExecutionState.INITIALIZED, ExecutionState.PRE_EXECUTION, ExecutionState.EXECUTING
POST_SUCCESS, POST_FAILURE = ExecutionState.POST_SUCCESS, ExecutionState.POST_FAILURE
COMPLETED, ERROR = ExecutionState.COMPLETED, ExecutionState.ERROR

VISITED = {
    "returns": (INITIALIZED, PRE, EXECUTING, POST_SUCCESS, COMPLETED),
    "raises": (INITIALIZED, PRE, EXECUTING, POST_FAILURE, COMPLETED),
    "unexpected": (INITIALIZED, PRE, EXECUTING, POST_FAILURE, ERROR),
}

PREDICATES = {
    "always": (lambda context: True, lambda state, n, ending: True),
    "never": (lambda context: [], lambda state, n, ending: False),
    "begins": (lambda context: context.state is PRE, lambda state, n, ending: state is PRE),
    "ends": (lambda context: context.state.is_terminal, lambda state, n, ending: state in TERMINAL_STATES),
    "odd": (lambda context: context.arguments["n"] % 2, lambda state, n, ending: n % 2),
    "failed": (
        lambda context: context.is_failed,
        lambda state, n, ending: ending != "returns" and state in (POST_FAILURE, COMPLETED, ERROR),
    ),
}
RAISES = {"raises": (lambda context: 1 / 0, lambda state, n, ending: False)}
PATTERNS = {"*": True, "function": True, "*.function": True, "fun?tion": True, "nobody": False, "Function": False}
MATCHES = {
    None: True,
    **PATTERNS,
    ("nobody", "function"): True,
    ("nobody", "neither"): False,
    lambda signature: signature.name == "function": True,
    lambda signature: None: False,
}


def holds(names, state, n, ending) -> bool:
    return all((PREDICATES | RAISES)[name][1](state, n, ending) for name in names)


def asking(names) -> tuple:
    return tuple((PREDICATES | RAISES)[name][0] for name in names)


class Alternative:
    """One `@want`."""

    def __init__(self, patterns, kinds, predicates) -> None:
        self.patterns, self.kinds, self.predicates = patterns, kinds, predicates

    def is_about(self, state) -> bool:
        named = not self.patterns or any(PATTERNS[pattern] for pattern in self.patterns)
        return named and (not self.kinds or state in self.kinds)

    def mark(self, target):
        return want(*self.patterns, *self.kinds, *asking(self.predicates))(target)

    def __repr__(self) -> str:
        return f"want{(*self.patterns, *sorted(kind.name for kind in self.kinds), *self.predicates)}"


class Asked:
    """An observer of some sort, all that is asked for it, and what the model says it hears."""

    def __init__(self, **parts) -> None:
        vars(self).update(parts)

    def __repr__(self) -> str:
        return f"Asked({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

    @property
    def states(self) -> frozenset:
        """What it would hear without filters."""
        if self.sort.startswith("bound"):
            asked = frozenset({PRE, COMPLETED, ERROR} if self.sort == "bound" else TERMINAL_STATES)
            return asked & self.states_asked if self.states_asked and self.states_by == "registration" else asked
        if self.sort == "guard":
            return frozenset({PRE, COMPLETED, ERROR})
        if self.states_asked:
            return self.states_asked
        if "callback" in self.sort:
            return PLAIN_STATES
        named = frozenset(kind for chosen in self.wants for kind in chosen.kinds)
        return named if self.wants and all(chosen.kinds for chosen in self.wants) else PLAIN_STATES | named

    def may_hear(self, state) -> bool:
        """Say whether names and states let it through."""
        if state not in self.states or not MATCHES[self.match]:
            return False
        if self.wants and not any(chosen.is_about(state) for chosen in self.wants):
            return False
        return self.hook != "names" or f"call.{state.value}" in self.hook_takes

    def wants_to_hear(self, state, n, ending) -> bool:
        fitting = [chosen for chosen in self.wants if chosen.is_about(state)]
        return (
            self.may_hear(state)
            and holds(self.when, state, n, ending)
            and (not fitting or any(holds(chosen.predicates, state, n, ending) for chosen in fitting))
            and (self.hook != "contexts" or holds(self.hook_takes, state, n, ending))
        )

    def hears(self, n, ending) -> list[str]:
        """Return the states it is told in one call."""
        told, begun = [], False
        # Who is asked at the beginning, or counts it, hears nothing more of a call of which it did not hear that.
        pairs = self.sort in ("bound", "guard") or (self.sort == "guard by update" and self.may_hear(PRE))
        if self.sort == "guard" and not self.may_hear(PRE):
            return []
        for state in VISITED[ending]:
            if state in TERMINAL_STATES and (begun or self.sort == "guard"):
                wanted = begun and (self.sort == "guard" or self.may_hear(state))
            else:
                wanted = self.wants_to_hear(state, n, ending) and (state is PRE or begun or not pairs)
            if wanted:
                told.append(self.noted(state))
                begun = begun or state is PRE
        return told

    def noted(self, state) -> str:
        without_state = self.sort.startswith("bound") or self.sort == "guard"
        return "END" if without_state and state in TERMINAL_STATES else state.name

    # The observer itself

    def made(self, notes):
        """Return the observer, or a subscription of it."""
        observer = getattr(self, f"_{self.sort.replace(' ', '_')}")(notes)
        marked = observer.callback if "callback" in self.sort else observer
        for chosen in reversed(self.wants):
            chosen.mark(marked)
        if self.hook == "names":
            observer.is_interested = lambda event_type: event_type in self.hook_takes
        elif self.hook == "contexts":
            predicates = asking(self.hook_takes)
            observer.is_interested = lambda context: all(predicate(context) for predicate in predicates)
        given = {"when": asking(self.when), "match": self.match}
        if self.states_asked and "callback" not in self.sort:
            given["states"] = self.states_asked
        asked = {
            name: value for name, value in given.items() if value and getattr(self, f"{name}_by") == "registration"
        }
        vars(observer).update({name: value for name, value in given.items() if value and name not in asked})
        return Subscription(observer, **asked) if asked else observer

    def _update(self, notes):
        return Told(notes)

    def _guard_by_update(self, notes):
        return Told(notes, guard=True)

    def _async_update(self, notes):
        return ToldLater(notes)

    def _callback(self, notes):
        return CallbackObserver(lambda context: notes.append(context.state.name), self.states)

    def _async_callback(self, notes):
        async def callback(state):
            notes.append(state.name)

        return CallbackObserver(callback, self.states)

    def _callback_by_values(self, notes):
        return CallbackObserver(lambda state: notes.append(state.name), self.states)

    def _bound(self, notes):
        return Bound(lambda: notes.append("PRE_EXECUTION"), lambda *_: notes.append("END"))

    def _bound_to_the_end(self, notes):
        return Bound(None, lambda *_: notes.append("END"))

    def _guard(self, notes):
        return Guarding(lambda args, kwargs: notes.append("PRE_EXECUTION"), lambda *_: notes.append("END"))


class Told:
    priority = 0
    name = "told"

    def __init__(self, notes, **options) -> None:
        self.notes = notes
        vars(self).update(options)

    def update(self, context):
        self.notes.append(context.state.name)


class ToldLater(Told):
    async def update(self, context):
        self.notes.append(context.state.name)


class Bound:
    priority = 0

    def __init__(self, *pair) -> None:
        self.pair = pair

    def bind(self, function_signature):
        return self.pair


class Guarding(Bound):
    guard = True

    def bind_guard(self, function_signature, clock):
        return self.pair


SORTS = ("update", "callback", "callback by values", "bound", "bound to the end", "guard", "guard by update")
ASYNC_SORTS = ("async update", "async callback")
PLACES = ("decorator", "function", "everywhere", "scope")

predicates = st.lists(st.sampled_from(sorted(PREDICATES)), max_size=2).map(tuple)
states = st.frozensets(st.sampled_from(ExecutionState), min_size=1, max_size=4)
said = st.sampled_from(["attribute", "registration"])


@st.composite
def alternatives(draw):
    patterns = tuple(draw(st.lists(st.sampled_from(sorted(PATTERNS)), max_size=2, unique=True)))
    kinds = tuple(draw(st.one_of(st.just(()), states)))
    asked = draw(predicates)
    return Alternative(patterns or (() if kinds or asked else ("*",)), kinds, asked)


@st.composite
def observers(draw, sorts):
    sort = draw(st.sampled_from(sorts))
    hook = draw(st.sampled_from([None, None, "names", "contexts"]))
    takes = (
        st.frozensets(st.sampled_from([f"call.{state.value}" for state in ExecutionState]))
        if hook == "names"
        else predicates
    )
    wants = draw(st.one_of(st.just([]), st.lists(alternatives(), max_size=3)))
    states_asked = draw(st.one_of(st.none(), states))
    if sort in ("bound", "guard"):  # a beginning and an end that belong together
        states_asked, hook = None, hook and "contexts"
        wants = [Alternative(chosen.patterns or ("*",), (), chosen.predicates) for chosen in wants]
    if sort == "guard by update" and states_asked:
        states_asked = (states_asked - {INITIALIZED}) | {PRE}
    return Asked(
        sort=sort,
        place=draw(st.sampled_from(PLACES)),
        wants=[
            Alternative(w.patterns, tuple(k for k in w.kinds if k is not INITIALIZED) or (PRE,), w.predicates)
            if sort == "guard by update" and w.kinds
            else w
            for w in wants
        ],
        hook=hook,
        hook_takes=draw(takes if hook == "names" else predicates),
        when=draw(st.one_of(st.just(()), st.lists(st.sampled_from([*PREDICATES, *RAISES]), max_size=2).map(tuple))),
        match=draw(st.one_of(st.none(), st.sampled_from(list(MATCHES)))),
        states_asked=states_asked,
        when_by=draw(said),
        match_by=draw(said),
        states_by=draw(said),
    )


def body(ending):
    def run(n):
        if ending == "raises":
            raise LookupError(n)
        if ending == "unexpected":
            raise ValueError(n)
        return n

    return run


@contextlib.contextmanager
def registered(asked, notes, decorator, function):
    """Register each in its place, for the time of a `with`."""
    made = [known.made(noted) for known, noted in zip(asked, notes, strict=True)]
    by_place = {place: [m for known, m in zip(asked, made, strict=True) if known.place == place] for place in PLACES}
    with contextlib.ExitStack() as stack:
        for observer in by_place["decorator"]:
            decorator.add_observer(observer)
        for observer in by_place["function"]:
            handle(function).add_observer(observer)
        for observer in by_place["everywhere"]:
            add_global_observer(observer)
            stack.callback(remove_global_observer, VISITORS.everywhere[-1].name)
        for observer in by_place["scope"]:
            stack.enter_context(observing(observer))
        yield


@pytest.mark.parametrize("kind", KINDS, ids=str)
@settings(max_examples=120, deadline=None)
@given(
    data=st.data(),
    calls=st.lists(st.integers(0, 3), min_size=1, max_size=3),
    ending=st.sampled_from(list(VISITED)),
    clocked=st.booleans(),
)
def test_each_observer_is_told_exactly_what_the_model_says(kind, data, calls, ending, clocked):
    sorts = SORTS + (ASYNC_SORTS if kind.is_async else ())
    asked = data.draw(st.lists(observers(sorts), min_size=1, max_size=5), label="observers")
    notes = [[] for _ in asked]
    decorator = CallPyBack(
        exception_classes=LookupError, max_observer_failures=10**6, time_source=MockTimeSource() if clocked else None
    )
    function = kind.make(body(ending), decorator, parameters="n")
    with registered(asked, notes, decorator, function):
        for n in calls:
            kind.ended(function, n)
    for known, noted in zip(asked, notes, strict=True):
        assert noted == [state for n in calls for state in known.hears(n, ending)], known
    for known, noted in zip(asked, notes, strict=True):
        if noted.count("PRE_EXECUTION") and all(known.may_hear(state) for state in TERMINAL_STATES):
            assert sum(noted.count(end) for end in ("COMPLETED", "ERROR", "END")) >= noted.count("PRE_EXECUTION")


@pytest.mark.parametrize("kind", KINDS, ids=str)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_explain_agrees_with_the_model_and_nobody_interested_costs_nothing(kind, data):
    sorts = SORTS + (ASYNC_SORTS if kind.is_async else ())
    asked = data.draw(st.lists(observers(sorts), max_size=4), label="observers")
    for known in asked:
        known.place = "decorator" if known.place in ("everywhere", "scope") else known.place
    decorator = CallPyBack()
    function = kind.make(body("returns"), decorator, parameters="n")
    with registered(asked, [[] for _ in asked], decorator, function):
        hearings = handle(function).explain()
        expected = [
            {state.name for state in ExecutionState if known.may_hear(state)}
            if known.sort != "guard" or known.may_hear(PRE)
            else set()
            for known in asked
        ]
        assert sorted(sorted(hearing.states) for hearing in hearings) == sorted(sorted(names) for names in expected)
        assert all(hearing.why_not for hearing in hearings if not hearing.states)
        kind.call(function, 1)
        assert (handle(function).current_plan() is EMPTY) == (not any(expected))
