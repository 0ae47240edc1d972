"""Who hears of one function, and how that is told: `explain`, names, health, what comes and goes."""

from __future__ import annotations

import gc

import pytest

from callpyback import (
    CallPyBack,
    ConfigurationError,
    ExecutionState,
    Hearing,
    MetricsObserver,
    MockTimeSource,
    Notice,
    RateLimitObserver,
    Subscription,
    add_global_observer,
    handle,
    observing,
    on_completion,
    on_retry,
    remove_global_observer,
    want,
)
from callpyback.core.plan import EMPTY
from kinds import BoundWitness, Witness

PLAIN = ("PRE_EXECUTION", "POST_SUCCESS", "POST_FAILURE", "COMPLETED", "ERROR")
TOLD = ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]
COMPLETED = ExecutionState.COMPLETED


def explained(function) -> list[str]:
    return [str(hearing) for hearing in handle(function).explain()]


def heard(function) -> dict[str, tuple[str, ...]]:
    return {hearing.name: hearing.states for hearing in handle(function).explain()}


def test_explain_says_who_hears_what_in_the_order_they_are_told(kind):
    function = kind.make(
        lambda: 1,
        CallPyBack(
            [
                Witness(priority=-1, name="plain"),
                Subscription(Witness(priority=9, name="deaf"), match="nobody"),
                BoundWitness(),
                Subscription(Witness(COMPLETED, name="asking", priority=5), when=lambda context: True),
                on_retry(lambda exception: None, name="retries"),
                Subscription(Witness(name="report", priority=7), requires="plain"),
            ]
        ),
    )
    assert handle(function).explain() == [
        Hearing("asking", ("COMPLETED",), asks=True, why_not=""),
        Hearing("BoundWitness", ("PRE_EXECUTION", "COMPLETED", "ERROR"), asks=False, why_not=""),
        Hearing("retries", ("RETRY",), asks=False, why_not=""),
        Hearing("plain", PLAIN, asks=False, why_not=""),
        Hearing("report", PLAIN, asks=False, why_not=""),
        handle(function).explain()[-1],
    ]
    deaf = handle(function).explain()[-1]
    assert (deaf.name, deaf.states, deaf.asks) == ("deaf", (), False)
    assert "match" in deaf.why_not


def test_it_reads_as_a_sentence():
    function = CallPyBack([Subscription(Witness(COMPLETED), when=lambda context: True)])(lambda: 1)
    assert explained(function) == ["witness hears COMPLETED if its predicate holds"]
    [text] = explained(CallPyBack([Subscription(Witness(), match="nobody")])(lambda: 1))
    assert text.startswith("witness hears nothing: ")


def test_what_is_explained_is_what_is_told(kind):
    witnesses = [
        Witness(name="plain"),
        Witness(COMPLETED, ExecutionState.INITIALIZED, name="states"),
        want("*function", ExecutionState.POST_SUCCESS)(Witness(name="want")),
        Witness(is_interested=lambda name: name == "call.executing", name="name"),
        Witness(*ExecutionState, is_interested=lambda name: name == "call.executing", name="all"),
    ]
    function = kind.make(lambda: 1, CallPyBack(witnesses))
    kind.call(function)
    for witness in witnesses:
        assert [
            state for state in heard(function)[witness.name] if state not in ("POST_FAILURE", "ERROR")
        ] == witness.told


def test_a_guard_is_asked_at_the_beginning_and_told_the_end():
    limit = RateLimitObserver(1, 60)
    function = CallPyBack([Subscription(limit, when=lambda context: True)])(lambda: 1)
    [hearing] = handle(function).explain()
    assert (hearing.name, hearing.asks) == (limit.name, True)
    assert hearing.states[0] == "PRE_EXECUTION"


def test_why_nothing_is_heard():
    silent = [
        Subscription(Witness(name="match"), match="nobody"),
        want("nobody")(Witness(name="want")),
        Witness(name="hook", is_interested=lambda name: False),
    ]
    function = CallPyBack(silent)(lambda: 1)
    assert [hearing.name for hearing in handle(function).explain()] == ["match", "want", "hook"]
    assert all(hearing.why_not and not hearing.states for hearing in handle(function).explain())
    assert handle(function).current_plan() is EMPTY


def test_a_paused_observer_says_why():
    class Failing(Witness):
        def update(self, context):
            raise LookupError("broken")

    function = CallPyBack([Failing(COMPLETED)], max_observer_failures=1, time_source=MockTimeSource())(lambda: 1)
    function()
    [hearing] = handle(function).explain()
    assert hearing.states == ("COMPLETED",)
    assert "paused" in hearing.why_not
    assert "LookupError: broken" in hearing.why_not
    handle(function).enable_observer("witness")
    assert handle(function).explain()[0].why_not == ""


def test_observers_of_everything_and_of_scopes_are_explained_too(kind):
    function = kind.make(lambda: 1, CallPyBack([Witness(name="own")]))
    for name, asked in {"everywhere": {}, "elsewhere": {"match": "nobody"}}.items():
        add_global_observer(Witness(name=name), **asked)
    try:
        with observing(Witness(COMPLETED, name="scoped", priority=5)):
            assert list(heard(function).items()) == [
                ("scoped", ("COMPLETED",)),
                ("own", PLAIN),
                ("everywhere", PLAIN),
                ("elsewhere", ()),
            ]
        assert list(heard(function)) == ["own", "everywhere", "elsewhere"]
        assert all(text for text in explained(function))
    finally:
        remove_global_observer("everywhere")
        remove_global_observer("elsewhere")
    assert list(heard(function)) == ["own"]


def test_of_two_with_one_name_both_are_explained():
    function = CallPyBack([Witness(name="audit")])(lambda: 1)
    add_global_observer(Witness(name="audit"), match="nobody")
    try:
        assert [(hearing.name, hearing.states) for hearing in handle(function).explain()] == [
            ("audit", PLAIN),
            ("audit", ()),
        ]
        add_global_observer(Witness(COMPLETED, name="audit"), name="other")
        assert list(handle(function).health) == ["audit", "other"]
    finally:
        remove_global_observer("audit")
        remove_global_observer("other")


def test_an_async_observer_of_everything_is_explained_where_it_cannot_be_told():
    class Awaited(Witness):
        async def update(self, context): ...

    add_global_observer(Awaited(name="awaited"))
    try:

        @CallPyBack()
        async def coroutine(): ...

        assert heard(coroutine) == {"awaited": PLAIN}
        assert heard(CallPyBack()(lambda: 1)) == {"awaited": ()}
    finally:
        remove_global_observer("awaited")


def test_scopes_that_have_closed_are_not_explained():
    function = CallPyBack()(lambda: 1)

    def scope():
        with observing(Witness()):
            yield

    running = scope()
    next(running)
    running.close()
    assert handle(function).explain() == []


def test_notices_are_explained_after_the_states():
    function = CallPyBack([MetricsObserver(), Witness(COMPLETED, notices=frozenset(Notice), name="w")])(lambda: 1)
    assert heard(function)["w"][0] == "COMPLETED"
    assert set(heard(function)["w"][1:]) == {notice.name for notice in Notice}


# What is refused leaves the audience as it was


def not_fitting():
    class Awaited(Witness):
        async def update(self, context): ...

    return Awaited(name="awaited")


def raising(signature):
    raise LookupError("no idea")


REFUSED = {
    "async": not_fitting,
    "unknown": lambda: Witness(name="unknown", requires="nobody"),
    "circle": lambda: Subscription(Witness(name="circle"), requires="b", required_by="a"),
    "deaf": lambda: Subscription(Witness(name="deaf"), match="nobody", required_by="b"),
    "raising": lambda: Witness(name="raising", match=raising),
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("place", ["decorator", "function"])
def test_a_refused_observer_leaves_no_trace(make, place):
    first, second = Witness(name="a"), Witness(name="b", requires="a")
    decorator = CallPyBack([first, second])
    functions = [decorator(lambda: 1) for _ in range(3)]
    before = [explained(function) for function in functions]
    holder = decorator if place == "decorator" else handle(functions[0])
    for _ in range(2):  # neither the observer nor its name is taken the second time
        with pytest.raises(ConfigurationError):
            holder.add_observer(make())
    assert [explained(function) for function in functions] == before
    for function in functions:
        function()
    assert first.told == second.told == TOLD * 3


def test_a_decorator_whose_observers_do_not_fit_can_be_used_elsewhere():
    decorator = CallPyBack([not_fitting()])
    with pytest.raises(ConfigurationError):
        decorator(lambda: 1)
    gc.collect()

    @decorator
    async def coroutine(): ...

    decorator.add_observer(Witness())
    assert [hearing.name for hearing in handle(coroutine).explain()] == ["awaited", "witness"]


# Coming and going


def test_filters_leave_with_their_observer(kind):
    decorator = CallPyBack()
    function = kind.make(lambda: 1, decorator)
    for holder in (decorator, handle(function)):
        holder.add_observer(witness := Witness(), when=lambda context: True)
        kind.call(function)
        holder.remove_observer("witness")
        kind.call(function)
        assert witness.told == TOLD
        assert handle(function).explain() == []
        assert handle(function).current_plan() is EMPTY


def test_removed_in_a_call_an_observer_with_a_predicate_hears_no_more_of_it(kind):
    decorator, witness = CallPyBack(), Witness(when=lambda context: True)
    decorator.add_observer(witness)
    function = kind.make(lambda: decorator.remove_observer(witness), decorator)
    kind.call(function)
    assert witness.told == ["PRE_EXECUTION"]


def test_a_weakly_held_observer_that_is_gone_is_not_explained():
    decorator = CallPyBack()
    function = decorator(lambda: 1)
    decorator.add_observer(Witness(), weak=True, when=lambda context: True)
    gc.collect()
    assert handle(function).explain() == []
    assert function() == 1


def test_silence_is_not_kept_from_explain():
    """Paused functions and decorators that are shut down still say who would hear."""
    decorator = CallPyBack([on_completion(lambda: None, name="note")])
    function = decorator(lambda: 1)
    with handle(function).paused():
        assert list(heard(function)) == ["note"]
