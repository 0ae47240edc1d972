"""A decorated function gives what the bare one gives, whoever watches: random signatures, calls, bodies and drivers."""

from __future__ import annotations

import asyncio
import inspect
import types

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from callpyback import CallPyBack, on_completion, on_failure
from kinds import KINDS, WAYS, Forgetful, Kind, Witness, drive, ended, pause

# Names that a careless wrapper, shell or binder would take for its own.
NAMES = ("a", "b", "c", "args", "kwargs", "func", "function", "context", "call", "plan", "watch", "error", "current")


class BadText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Refuses(Exception):
    """As a frozen dataclass does."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


class Raising:
    priority = 3

    def update(self, context) -> None:
        raise LookupError(context.state)


class RaisesTheUsers:
    priority = 2

    def update(self, context) -> None:
        if context.result is not None and context.result.exception is not None:
            raise context.result.exception from KeyError("another cause")


class Meddling:
    """Changes all it can reach."""

    priority = 1

    def update(self, context) -> None:
        context.arguments.clear()
        context.metadata["a"] = 1
        error = None if context.result is None else context.result.exception
        if error is not None:
            error.add_note("an observer was here")
            error.__cause__ = KeyError("an observer's")
            error.__traceback__ = None


class Awaited:
    priority = 4

    async def update(self, context) -> None:
        await pause()


class AwaitedRaising(Awaited):
    async def update(self, context) -> None:
        await pause()
        raise LookupError(context.state)


EVERY_WAY = {
    **WAYS,
    "by one that raises": lambda: CallPyBack([Raising(), Forgetful()]),
    "by one that raises the user's exception": lambda: CallPyBack([RaisesTheUsers()]),
    "by one that meddles": lambda: CallPyBack([Meddling()]),
    "by a failing callback": lambda: CallPyBack([on_failure(lambda: 1 / 0), on_completion(lambda: 1 / 0)]),
}
ASYNC_WAYS = {
    "by one that is awaited": lambda: CallPyBack([Awaited(), Forgetful()]),
    "by one that is awaited and raises": lambda: CallPyBack([AwaitedRaising(), Forgetful()]),
}


def ways_of(kind: Kind) -> dict:
    return {**EVERY_WAY, **ASYNC_WAYS} if kind.is_async else EVERY_WAY


every_kind = pytest.mark.parametrize("kind", KINDS, ids=str)


@st.composite
def signatures(draw):
    """The text between the parentheses, and the defaults it mentions."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=6))
    sorts = sorted(draw(st.lists(st.sampled_from(range(5)), min_size=len(names), max_size=len(names))))
    sorts = [sort for at, sort in enumerate(sorts) if sort not in (2, 4) or sort not in sorts[:at]]
    parts, defaults, has_default = [], {}, False
    for at, (sort, name) in enumerate(zip(sorts, names, strict=False)):
        if sort in (2, 4):
            parts.append("*" * (sort // 2) + name)
            continue
        if sort == 3 and 2 not in sorts and 3 not in sorts[:at]:
            parts.append("*")
        has_default = draw(st.booleans()) or (has_default and sort < 2)
        if has_default:
            defaults[f"default_{name}"] = object()
            parts.append(f"{name}=default_{name}")
        else:
            parts.append(name)
        if sort == 0 and (at + 1 == len(sorts) or sorts[at + 1] != 0):
            parts.append("/")
    return ", ".join(parts), defaults


calls = st.tuples(
    st.lists(st.integers(0, 9), max_size=4).map(tuple),
    st.dictionaries(st.sampled_from([*NAMES[:6], "unknown"]), st.integers(0, 9), max_size=3),
)

ERRORS = (
    lambda: ValueError("wrong"),
    lambda: KeyError("missing"),
    lambda: StopIteration(5),
    lambda: StopAsyncIteration(),
    lambda: SystemExit(3),
    lambda: KeyboardInterrupt(),
    lambda: GeneratorExit(),
    lambda: asyncio.CancelledError("why"),
    lambda: ExceptionGroup("many", [ValueError(1), ExceptionGroup("inner", [OSError(2)])]),
    lambda: BaseExceptionGroup("many", [KeyboardInterrupt()]),
    lambda: BadText(1),
    lambda: Refuses(1),
    lambda: RecursionError("deep"),
)


class Body:
    """What the functions under test call: notes how, then returns or raises the same object each time."""

    def __init__(self, error: BaseException | None = None, *, chain: str = "none") -> None:
        self.error = error
        self.chain = chain
        self.calls = []
        self.value = object()

    def __call__(self, *args, **kwargs):
        self.calls.append((args, kwargs))
        if self.error is None:
            return self.value
        if self.chain == "cause":
            raise self.error from OSError("cause")
        if self.chain == "suppressed":
            raise self.error from None
        if self.chain == "context":
            try:
                raise OSError("context")
            except OSError:
                raise self.error
        raise self.error


def seen_by_caller(error: BaseException | None) -> tuple:
    """What a caller can see of an exception, without asking its class for text or equality."""
    if error is None:
        return ()
    depth, entry = 0, error.__traceback__
    while entry is not None:
        depth, entry = depth + 1, entry.tb_next
    chained = [type(linked) for linked in (error.__cause__, error.__context__)]
    text = str(error) if type(error) is TypeError else None
    return type(error), text, chained, error.__suppress_context__, getattr(error, "__notes__", None), depth


@every_kind
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_call_of_every_signature_ends_as_the_bare_one(kind, data):
    parameters, defaults = data.draw(signatures(), label="signature")
    way = data.draw(st.sampled_from(sorted(ways_of(kind))), label="way")
    body = Body()
    bare = kind.make(body, parameters=parameters, **defaults)
    observed = kind.make(body, ways_of(kind)[way](), parameters=parameters, **defaults)
    assert inspect.signature(observed) == inspect.signature(bare)
    for args, kwargs in data.draw(st.lists(calls, min_size=1, max_size=4), label="calls"):
        body.calls.clear()
        expected = kind.ended(bare, *args, **kwargs)
        reached = body.calls.copy()
        body.calls.clear()
        came = kind.ended(observed, *args, **kwargs)
        assert came.value is expected.value
        # Around a generator or coroutine, arguments that do not fit are refused at the first step, not at the call:
        # the shell is one itself. So where it was raised is not compared here.
        assert seen_by_caller(came.exception)[:-1] == seen_by_caller(expected.exception)[:-1]
        assert body.calls == reached


@every_kind
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_exception_arrives_as_it_was_raised(kind, data):
    make_error = data.draw(st.sampled_from(ERRORS), label="error")
    chain = data.draw(st.sampled_from(["none", "cause", "suppressed", "context"]), label="chain")
    way = data.draw(st.sampled_from(sorted(ways_of(kind))), label="way")
    handling = data.draw(st.booleans(), label="while another is handled")

    def outcome(decorator):
        error = make_error()
        body = Body(error, chain="none" if isinstance(error, Refuses) else chain)
        function = kind.make(body, decorator)
        if not handling:
            result = kind.ended(function)
        else:
            try:
                raise InterruptedError("handled meanwhile")
            except InterruptedError:
                result = kind.ended(function)
        return result, error

    expected, own = outcome(lambda function: function)
    before = seen_by_caller(expected.exception)
    was_own = expected.exception is own
    observed, own = outcome(ways_of(kind)[way]())
    assert (observed.exception is own) is was_own
    *facts, depth = before
    *observed_facts, observed_depth = seen_by_caller(observed.exception)
    assert observed_facts == facts
    assert observed_depth <= depth + 1  # the shell is the one frame more


REACTIONS = st.lists(st.sampled_from(["go on", "go on", "pass", "return", "raise", "raise stop"]), max_size=5)


TO_THE_END = [("send", None)] * 7


class Thrown(Exception):
    pass


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 9)),
        st.tuples(st.just("send"), st.none()),
        st.tuples(
            st.just("throw"),
            st.sampled_from([Thrown, GeneratorExit, KeyboardInterrupt, StopIteration, StopAsyncIteration]),
        ),
        st.tuples(st.just("close"), st.none()),
    ),
    max_size=7,
)


def reaction_to(error: BaseException, reaction: str, at: int) -> tuple[bool, object]:
    """Whether the body is to return, and what it takes for having been sent otherwise."""
    if reaction == "pass":
        raise error
    if reaction == "raise":
        raise LookupError(at) from error
    if reaction == "raise stop":
        raise StopIteration(at)
    return reaction == "return", type(error).__name__


def generator_body(reactions):
    sent = None
    for at, reaction in enumerate(reactions):
        try:
            sent = yield at, sent
        except BaseException as error:
            returns, sent = reaction_to(error, reaction, at)
            if returns:
                return "returned early"
    return "end"


async def async_generator_body(reactions):
    sent = None
    for at, reaction in enumerate(reactions):
        await pause()
        try:
            sent = yield at, sent
        except BaseException as error:
            await pause()
            returns, sent = reaction_to(error, reaction, at)
            if returns:
                return


@types.coroutine
def exchange(item):
    return (yield item)


async def coroutine_body(reactions):
    sent = None
    for at, reaction in enumerate(reactions):
        try:
            sent = await exchange((at, sent))
        except BaseException as error:
            returns, sent = reaction_to(error, reaction, at)
            if returns:
                return "returned early"
    return "end"


def transcript(iterator, steps) -> list:
    """What comes back from a generator or coroutine, step by step, to its end."""
    came = []
    for step, value in [*steps, *TO_THE_END]:
        if step == "throw":
            end = ended(lambda value=value: iterator.throw(value("thrown")))
        elif step == "close":
            end = ended(iterator.close)
        else:
            end = ended(lambda value=value: iterator.send(value))
        came.append((step, end.value, *facts_of(end.exception)))
    return came


def async_transcript(iterator, steps) -> list:
    came = []
    for step, value in [*steps, *TO_THE_END]:
        if step == "throw":
            end = ended(lambda value=value: drive(iterator.athrow(value("thrown"))))
        elif step == "close":
            end = ended(lambda: drive(iterator.aclose()))
        else:
            end = ended(lambda value=value: drive(iterator.asend(value)))
        came.append((step, end.value, *facts_of(end.exception)))
    return came


def facts_of(error: BaseException | None) -> tuple:
    if error is None:
        return (None,)
    return type(error), error.args, type(error.__cause__), error.__suppress_context__


DRIVEN = {
    "generator": (generator_body, transcript),
    "async generator": (async_generator_body, async_transcript),
    "coroutine": (coroutine_body, transcript),
}


@pytest.mark.parametrize("name", DRIVEN)
@settings(max_examples=200, deadline=None)
@given(reactions=REACTIONS, steps=STEPS, data=st.data())
def test_send_throw_and_close_reach_the_body_and_its_answer_comes_back(name, reactions, steps, data):
    if name == "coroutine":
        # `await` hands GeneratorExit on by closing what is awaited (PEP 380), in any wrapper: what a body does after
        # it, and from 3.13 on what it then returns, is lost.
        assume(("throw", GeneratorExit) not in steps)
        assume(("close", None) not in steps or {"go on", "return"}.isdisjoint(reactions))
    body, transcribed = DRIVEN[name]
    way = data.draw(st.sampled_from(sorted(EVERY_WAY)), label="way")
    if way == "by nobody" and name == "generator":
        # The shell is `yield from` there, which closes the body, too, and drops what the body then returns.
        assume(("throw", GeneratorExit) not in steps)
        assume(("close", None) not in steps or {"go on", "return"}.isdisjoint(reactions))
    expected = transcribed(body(reactions), steps)
    assert transcribed(EVERY_WAY[way]()(body)(reactions), steps) == expected


@every_kind
def test_nothing_of_the_body_runs_before_the_first_step(kind):
    body, witness = Body(), Witness()
    function = kind.make(body, CallPyBack([witness]))
    begun = function()
    if kind.name in DRIVEN:
        assert (body.calls, witness.contexts) == ([], [])
        begun.close() if hasattr(begun, "close") else drive(begun.aclose())
        assert witness.contexts == []
    else:
        assert body.calls == [((), {})]
