"""What an observer wants to hear of: by name, by state, by predicates; decided as early as possible.

`match`, `when`, `@want` and `is_interested` of the observer itself; given at registration they are in
test_subscription. The law over all of them together is in properties/test_interest.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import gc
import weakref

import pytest

from callpyback import (
    BackgroundObserver,
    BaseObserver,
    BatchingObserver,
    CacheObserver,
    CallbackObserver,
    CallPyBack,
    CircuitBreakerObserver,
    ConcurrencyLimitObserver,
    ConfigurationError,
    Event,
    ExecutionState,
    FunctionSignature,
    LoggingObserver,
    MetricsObserver,
    MockTimeSource,
    Notice,
    RateLimitObserver,
    Retry,
    TimingObserver,
    handle,
    on_call,
    on_completion,
    on_failure,
    on_retry,
    want,
)
from callpyback.core.plan import EMPTY
from kinds import BoundWitness, Witness

TOLD = ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]
PRE, COMPLETED = ExecutionState.PRE_EXECUTION, ExecutionState.COMPLETED


def watched(observer, kind=None, body=lambda: "value", **options):
    """Return what an observer is told of a call of a function named `function`."""
    decorator = CallPyBack([observer], **options)
    if kind is None:
        decorator(body)()
    else:
        kind.ended(kind.make(body, decorator))
    return observer.told


def fails():
    raise LookupError("the user's")


def is_failed(context) -> bool:
    return context.is_failed


# By name


def orders() -> None:
    """Stands for `shop.orders.Basket.pay`."""


orders.__module__, orders.__qualname__, orders.__name__ = "shop.orders", "Basket.pay", "pay"


@pytest.mark.parametrize(
    "pattern",
    [
        "shop.orders.Basket.pay",
        "shop.orders.*",
        "shop.*",
        "*.pay",
        "Basket.pay",
        "Basket.*",
        "pay",
        "p?y",
        "[op]ay",
        "*",
    ],
)
def test_patterns_match_the_full_name_the_qualified_name_or_the_bare_name(pattern):
    witness = Witness(match=pattern)
    CallPyBack([witness])(orders)()
    assert witness.told == TOLD


@pytest.mark.parametrize(
    "pattern", ["shop.orders", "orders.*", "Pay", "SHOP.*", "pa", "ay", "Basket", "[!p]ay", "pay "]
)
def test_a_pattern_matches_a_whole_name_upper_and_lower_case_told_apart(pattern):
    witness = Witness(match=pattern)
    CallPyBack([witness])(orders)()
    assert witness.told == []


@pytest.mark.parametrize("patterns", [("nobody", "pay"), ["pay", "nobody"], {"pay"}, iter(["pay"])], ids=type)
def test_of_several_patterns_one_has_to_match(patterns):
    witness = Witness(match=patterns)
    CallPyBack([witness])(orders)()
    assert witness.told == TOLD


def test_match_may_be_a_predicate_over_the_signature_asked_once_a_function(kind):
    asked = []

    def takes_a_name(signature: FunctionSignature) -> bool:
        asked.append(signature)
        return "name" in signature.parameters

    witness = Witness(match=takes_a_name)
    decorator = CallPyBack([witness])
    hears = kind.make(lambda name: name, decorator, parameters="name")
    deaf = kind.make(lambda: 1, decorator)
    for _ in range(3):
        kind.call(hears, "ann")
        kind.call(deaf)
    assert witness.told == TOLD * 3
    assert asked == [handle(hears).signature, handle(deaf).signature]


def test_a_hostile_name_is_matched_in_one_line():
    def function(): ...

    function.__qualname__ = "evil\nname"
    witness = Witness(match="*evil\\nname")
    CallPyBack([witness])(function)()
    assert witness.told == TOLD


def test_a_pattern_of_many_stars_does_not_hang():
    def function(): ...

    function.__qualname__ = function.__name__ = "a" * 10_000
    witness = Witness(match="*a" * 200 + "b")
    CallPyBack([witness])(function)()
    assert witness.told == []


# At no cost


FILTERS = {
    "match": lambda: Witness(match="nobody"),
    "match of a class": lambda: type("Picky", (Witness,), {"match": "nobody"})(),
    "want": lambda: want("nobody")(Witness()),
    "want on update": lambda: type("Picky", (Witness,), {"update": want("nobody")(lambda self, context: None)})(),
    "want on a callback": lambda: on_completion(want("nobody")(lambda context: None)),
    "a name that is refused": lambda: type("Picky", (Witness,), {"is_interested": lambda self, name: False})(),
    "bound": lambda: want("nobody")(BoundWitness()),
}


@pytest.mark.parametrize("picky", FILTERS.values(), ids=FILTERS)
def test_an_observer_that_can_hear_nothing_of_a_function_costs_it_nothing(kind, picky):
    bare, filtered = kind.make(lambda: 1, CallPyBack()), kind.make(lambda: 1, CallPyBack([picky()]))
    codes = []
    for function in (bare, filtered):
        kind.call(function)
        assert handle(function).current_plan() is EMPTY
        codes.append(handle(function).wrapper.__code__)
    assert codes[0].co_code == codes[1].co_code


def test_observers_that_hear_nothing_are_left_out_of_the_code_for_those_that_do(kind):
    alone = kind.make(lambda: 1, CallPyBack([Witness()]))
    crowd = kind.make(lambda: 1, CallPyBack([*(Witness(match="nobody", name=f"{n}") for n in range(20)), Witness()]))
    for function in (alone, crowd):
        kind.call(function)
    assert handle(alone).current_plan().shape == handle(crowd).current_plan().shape


# @want


def test_inside_one_want_all_must_hold(kind):
    @want("fun*", "other", COMPLETED, PRE, lambda context: context.arguments["n"] > 1)
    class Picky(Witness):
        pass

    picky = Picky()
    function = kind.make(lambda n: n, CallPyBack([picky]), parameters="n")
    kind.call(function, 1)
    kind.call(function, n=2)
    assert picky.told == ["PRE_EXECUTION", "COMPLETED"]


def test_several_wants_are_alternatives(kind):
    @want("nobody")
    @want("*function", ExecutionState.POST_FAILURE)
    @want(ExecutionState.COMPLETED, lambda context: context.result.exception.args == ("the user's",))
    class Picky(Witness):
        pass

    assert watched(Picky(), kind, fails) == ["POST_FAILURE", "COMPLETED"]


def test_a_want_on_update_and_one_on_the_class_are_alternatives():
    @want("one")
    class Picky(Witness):
        @want("other")
        def update(self, context):
            super().update(context)

    picky = Picky()
    decorator = CallPyBack([picky])

    @decorator
    def one(): ...
    @decorator
    def other(): ...
    @decorator
    def third(): ...

    one(), other(), third()
    assert [context.function_signature.name for context in picky.contexts] == ["one"] * 3 + ["other"] * 3


def test_want_on_a_callback_of_any_sort():
    seen = []

    @want("pay")
    def function(context):
        seen.append("function")

    class Callable:
        @want("pay")
        def method(self, value):
            seen.append(("method", value))

        def __call__(self, outcome):
            seen.append(outcome.name)

    decorator = CallPyBack(
        [on_call(function), on_completion(Callable().method), on_completion(want("pay")(Callable()))]
    )
    decorator(orders)()
    decorator(lambda: 1)()
    assert seen == ["function", ("method", None), "SUCCESS"]


def test_want_on_a_hook_of_a_function():
    @CallPyBack(default_return=None)
    def number(text):
        return int(text)

    seen = []

    @number.on_failure
    @want(lambda context: context.arguments["text"] == "y")
    def note(exception):
        seen.append(exception)

    number("x"), number("y"), number("1")
    assert len(seen) == 1


def test_want_on_a_subclass_of_callback_observers():
    seen = []

    @want("pay")
    class Paid(CallbackObserver):
        pass

    decorator = CallPyBack([Paid(lambda value: seen.append(value), ExecutionState.POST_SUCCESS)])
    decorator(orders)()
    decorator(lambda: 1)()
    assert seen == [None]


def test_a_state_that_is_wanted_is_told_though_plain_observers_are_not():
    @want(ExecutionState.INITIALIZED, ExecutionState.EXECUTING)
    class Early(Witness):
        pass

    assert watched(Early()) == ["INITIALIZED", "EXECUTING"]


def test_an_alternative_without_states_adds_the_usual_ones():
    @want(ExecutionState.INITIALIZED)
    @want("nobody")
    @want("<lambda>")
    class Early(Witness):
        pass

    assert watched(Early()) == ["INITIALIZED", *TOLD]


def test_a_notice_that_is_wanted_is_told():
    @want(Notice.RETRY)
    class Retried(Witness):
        pass

    retried = Retried()
    CallPyBack([retried], retry=Retry(attempts=3, on=LookupError, wait=0), default_return=None)(fails)()
    assert [context.notice.attempt for context in retried.contexts] == [1, 2]


def test_a_subclass_may_want_something_else():
    @want("one")
    class One(Witness):
        pass

    @want("other")
    class Other(One):
        pass

    assert watched(One(), body=lambda: 1) == []
    decorator = CallPyBack([first := One(), second := Other()])
    decorator(orders)

    @decorator
    def other(): ...

    other()
    assert (first.told, second.told) == ([], TOLD)


def test_a_name_out_of_an_enumeration_is_a_name():
    class Names(enum.StrEnum):
        PAY = "pay"

    assert watched(want(Names.PAY)(Witness()), body=orders) == TOLD


def test_a_class_of_events_is_nothing_that_a_call_could_be():
    class Paid(Event):
        pass

    assert watched(want(Paid)(Witness())) == []


def test_predicates_need_not_be_hashable():
    @dataclasses.dataclass
    class Above:
        least: int

        def __call__(self, context):
            return context.arguments["n"] > self.least

    witness = want(Above(1))(Witness())
    function = CallPyBack([witness])(lambda n: n)
    function(1), function(2)
    assert witness.told == TOLD


@pytest.mark.parametrize(
    ("criteria", "part"),
    [
        ((), "something to choose by"),
        (("",), "a pattern of names"),
        ((5,), "a function that takes the context"),
        ((None,), "a function that takes the context"),
        ((int,), "a function that takes the context"),
        ((["a"],), "a function that takes the context"),
        ((asyncio.sleep,), "a plain function"),
    ],
    ids=["none", "empty", "number", "None", "class", "list", "async"],
)
def test_what_is_no_criterion_is_refused_by_want(criteria, part):
    with pytest.raises(ConfigurationError, match=r"want\(\)=.*" + part):
        want(*criteria)


@pytest.mark.parametrize("target", [print, Witness().update, 5], ids=["builtin", "bound method", "number"])
def test_want_refuses_what_cannot_be_marked(target):
    with pytest.raises(ConfigurationError, match=r"want\(\)"):
        want("pay")(target)


def test_want_gives_back_what_it_marks():
    def function(): ...

    assert want("a")(function) is function


# Predicates


def test_when_is_asked_at_each_state_of_each_call(kind):
    asked = []

    def when(context):
        asked.append(context.state.name)
        return context.state is ExecutionState.POST_SUCCESS

    assert watched(Witness(when=when), kind) == ["POST_SUCCESS"]
    assert asked == TOLD


def test_all_of_several_predicates_must_hold(kind):
    both = [lambda context: context.state is not PRE, lambda context: context.state is not COMPLETED]
    assert watched(Witness(when=both), kind) == ["POST_SUCCESS"]


def test_a_method_named_when_is_a_predicate(kind):
    class Picky(BaseObserver, Witness):
        def __init__(self):
            Witness.__init__(self)

        update = Witness.update

        def when(self, context):
            return context.state is COMPLETED

    assert watched(Picky(), kind) == ["COMPLETED"]


@pytest.mark.parametrize(
    "made", [is_failed, staticmethod(is_failed), (is_failed,)], ids=["function", "static", "tuple"]
)
def test_a_function_in_the_body_of_the_class_is_a_predicate(kind, made):
    class Picky(BaseObserver, Witness):
        when = made

        def __init__(self):
            Witness.__init__(self)

        update = Witness.update

    assert watched(Picky(), kind, fails) == ["POST_FAILURE", "COMPLETED"]


def test_the_same_goes_for_match():
    class Picky(Witness):
        match = lambda signature: signature.name == "pay"  # noqa: E731 - as a class may be written

    picky = Picky()
    decorator = CallPyBack([picky])
    decorator(orders)()
    decorator(lambda: 1)()
    assert picky.told == TOLD


@pytest.mark.parametrize("parameter", ["when", "match", "is_interested"])
@pytest.mark.parametrize(
    "function", [lambda: True, lambda a, b: True, lambda *, context: True], ids=["0", "2", "keyword"]
)
def test_a_predicate_that_does_not_take_one_argument_is_refused(parameter, function):
    with pytest.raises(ConfigurationError, match=f"{parameter}=.*one argument"):
        CallPyBack([Witness(**{parameter: function})])


def test_the_hook_of_the_class_is_asked_for_each_context(kind):
    class Failures(Witness):
        def is_interested(self, context):
            return context.is_failed

    assert watched(Failures(), kind, fails) == ["POST_FAILURE", "COMPLETED"]
    assert watched(Failures(), kind) == []


def test_who_was_told_that_a_call_begins_is_told_its_end(kind):
    class Once(Witness):
        def is_interested(self, context):
            return context.state is PRE

    assert watched(Once(), kind) == ["PRE_EXECUTION", "COMPLETED"]
    assert watched(Once(), kind, fails) == ["PRE_EXECUTION", "COMPLETED"]


def test_who_is_told_the_beginning_without_a_question_is_told_the_end_too(kind):
    @want(PRE)
    @want(COMPLETED, lambda context: False)
    class Begun(Witness):
        pass

    assert watched(Begun(), kind) == ["PRE_EXECUTION", "COMPLETED"]


def test_that_is_decided_anew_in_each_call(kind):
    witness = Witness(when=lambda context: context.arguments["n"] % 2 == 0)
    function = kind.make(lambda n: n, CallPyBack([witness]), parameters="n")
    for n in range(4):
        kind.call(function, n)
    assert [context.arguments["n"] for context in witness.contexts] == [0, 0, 0, 2, 2, 2]


def test_recursive_calls_are_decided_apart():
    witness = Witness(when=lambda context: context.state is PRE and context.arguments["n"] in (1, 3))

    @CallPyBack([witness])
    def down(n):
        return n and down(n - 1)

    down(3)
    assert [(context.arguments["n"], context.state) for context in witness.contexts] == [
        (3, PRE),
        (1, PRE),
        (1, COMPLETED),
        (3, COMPLETED),
    ]


def test_a_predicate_may_read_everything_of_the_context():
    seen = {}

    def when(context):
        seen[context.state] = (
            context.arguments,
            context.local_variables,
            context.result and context.result.value,
            context.metadata,
        )
        context.slot["asked"] = True
        return True

    witness = Witness(when=when)

    @CallPyBack([witness], variable_names=["double"], metadata={"team": "shop"})
    def doubled(n):
        double = 2 * n
        return double  # noqa: RET504 - a local to be captured

    doubled(2)
    assert seen[PRE] == ({"n": 2}, {}, None, {"team": "shop"})
    assert seen[ExecutionState.POST_SUCCESS] == ({"n": 2}, {"double": 4}, 4, {"team": "shop"})
    assert all(context.slot == {} or context.slot["asked"] for context in witness.contexts)


def test_what_a_predicate_calls_is_not_observed():
    other_told = Witness()
    other = CallPyBack([other_told])(lambda: 1)
    assert watched(Witness(when=lambda context: other())) == TOLD
    assert other_told.told == []


def test_a_predicate_that_raises_is_a_failure_of_the_observer(kind):
    def when(context):
        raise LookupError("no idea")

    witness, other = Witness(when=when), Witness(name="other")
    function = kind.make(lambda: "value", CallPyBack([witness, other], max_observer_failures=2))
    for _ in range(3):
        assert kind.call(function) == "value"
    assert (witness.told, other.told) == ([], TOLD * 3)
    health = handle(function).health["witness"]
    # The second call pauses it at its first state.
    assert (health.failures, health.paused, health.last_error) == (4, True, "LookupError: no idea")


class Untrue:
    def __bool__(self):
        raise LookupError("neither")


@pytest.mark.parametrize("answer", [Untrue(), SystemExit()], ids=["no truth", "exits"])
def test_a_hostile_predicate_hurts_nobody_else(kind, answer):
    def when(context):
        if isinstance(answer, BaseException):
            raise answer
        return answer

    witness, other = Witness(when=when), Witness(name="other")
    function = kind.make(lambda: "value", CallPyBack([witness, other]))
    assert kind.call(function) == "value"
    assert (witness.told, other.told) == ([], TOLD)
    assert handle(function).health["witness"].failures == 3


def test_ctrl_c_in_a_predicate_ends_the_program(kind):
    def when(context):
        raise KeyboardInterrupt

    function = kind.make(lambda: "value", CallPyBack([Witness(when=when)]))
    assert isinstance(kind.ended(function).exception, KeyboardInterrupt)


def test_the_users_exception_is_untouched_by_a_predicate_that_raises(kind):
    raised = LookupError("the user's")

    def body():
        raise raised

    def when(context):
        raise ValueError("the predicate's")

    function = kind.make(body, CallPyBack([Witness(when=when)]))
    assert kind.ended(function).exception is raised
    assert (raised.__context__, raised.__cause__) == (None, None)


@pytest.mark.parametrize("where", ["when", "match", "is_interested"])
def test_an_async_predicate_is_refused(where):
    async def wants(context):
        return True

    with pytest.raises(ConfigurationError, match=f"{where}=.*a plain function"):
        CallPyBack([Witness(**{where: wants})])


@pytest.mark.parametrize(
    "when", [5, "shop.*", [5], [None], int, [is_failed, "x"]], ids=["number", "text", "list", "None", "class", "half"]
)
def test_what_is_no_predicate_is_refused(when):
    with pytest.raises(ConfigurationError, match="when="):
        CallPyBack([Witness(when=when)])


@pytest.mark.parametrize(
    "match",
    [5, [5], ["a", ""], [is_failed], b"shop", int],
    ids=["number", "list", "empty", "function", "bytes", "class"],
)
def test_what_is_no_pattern_is_refused(match):
    with pytest.raises(ConfigurationError, match="match="):
        CallPyBack([Witness(match=match)])


def test_a_match_predicate_that_raises_is_refused_at_decoration_and_leaves_nothing_behind():
    def match(signature):
        if signature.name == "second":
            raise LookupError("no idea")
        return True

    decorator = CallPyBack()

    @decorator
    def first(): ...
    @decorator
    def second(): ...

    witness = Witness(match=match)
    with pytest.raises(ConfigurationError, match=r"witness.*no idea"):
        decorator.add_observer(witness)
    first(), second()
    assert (decorator.observers, handle(first).observers, handle(second).observers) == ((), (), ())
    assert witness.told == []
    with pytest.raises(ConfigurationError, match=r"witness.*no idea"):
        CallPyBack([witness])(second.__wrapped__)


# A hook that takes names


@pytest.mark.parametrize(
    "hook",
    [
        lambda event_type: event_type == "call.completed",
        lambda name: name.startswith("call.comp"),
        lambda event_name: event_name == "call.completed",
    ],
    ids=["event_type", "name", "event_name"],
)
def test_a_hook_that_takes_a_name_is_asked_once_for_each_state(kind, hook):
    assert watched(Witness(is_interested=hook), kind) == ["COMPLETED"]


def test_a_hook_annotated_as_taking_a_text_is_asked_for_names():
    asked = []

    class Panther(Witness):
        def is_interested(self, what: str) -> bool:
            asked.append(what)
            return True

    function = CallPyBack([panther := Panther()])(lambda: 1)
    assert sorted(asked) == sorted(
        f"call.{state}" for state in ("pre_execution", "post_success", "post_failure", "completed", "error")
    )
    function(), function()
    assert len(asked) == 5
    assert panther.told == TOLD * 2


def test_a_hook_that_takes_names_and_raises_is_refused_at_decoration():
    def hook(name):
        raise LookupError("no idea")

    with pytest.raises(ConfigurationError, match=r"witness.*no idea"):
        CallPyBack([Witness(is_interested=hook)])(lambda: 1)


# Observers without contexts, guards, async observers


def test_a_bound_observer_stays_bound_under_filters_that_are_decided_at_once(kind):
    bound = want("function", COMPLETED)(BoundWitness())
    function = kind.make(lambda: "value", CallPyBack([bound]))
    kind.call(function)
    assert (bound.begun, len(bound.ends)) == (0, 1)
    assert not handle(function).current_plan().shows_contexts


def test_a_bound_observer_with_a_predicate_is_told_the_end_if_it_was_told_the_beginning(kind):
    bound = BoundWitness()
    bound.when = lambda context: context.arguments["n"] == 1
    function = kind.make(lambda n: n, CallPyBack([bound]), parameters="n")
    for n in range(3):
        kind.call(function, n)
    assert (bound.begun, [end[0] for end in bound.ends]) == (1, [kind.shown(1)])


def test_a_bound_observer_that_hears_of_ends_alone_may_be_asked_about_them(kind):
    metrics = MetricsObserver()
    metrics.when = is_failed
    decorator = CallPyBack([metrics])
    kind.ended(kind.make(fails, decorator))
    kind.ended(kind.make(lambda: 1, decorator))
    counters = metrics.get_metrics()["counters"]
    assert (counters["calls"], counters["failures"]) == (1, 1)


def test_slow_calls_of_some_functions():
    timing = TimingObserver(threshold=0.0)
    timing.match = "pay"
    decorator = CallPyBack([timing])
    decorator(orders)()
    decorator(lambda: 1)()
    assert [slow.function for slow in timing.get_slow_executions()] == ["shop.orders.Basket.pay"]


def test_a_log_of_failures_alone(caplog):
    caplog.set_level("INFO")
    logging_observer = LoggingObserver()
    logging_observer.when = is_failed
    decorator = CallPyBack([logging_observer], default_return=None)
    seen = []
    decorator.add_observer(on_failure(lambda exception: seen.append(exception)))
    decorator(fails)()
    decorator(lambda: 1)()
    assert len(seen) == 1


GUARDS = {
    "rate limit": lambda: RateLimitObserver(1, 60),
    "cache": CacheObserver,
    "limit": lambda: ConcurrencyLimitObserver(1),
}


@pytest.mark.parametrize("make", GUARDS.values(), ids=GUARDS)
@pytest.mark.parametrize("clock", [None, MockTimeSource()], ids=["straight", "general"])
def test_a_guard_is_asked_about_the_calls_that_its_predicate_lets_through(make, clock):
    guard, ends = make(), []
    guard.when = lambda context: context.arguments["n"] == 2
    decorator = CallPyBack([guard, on_completion(lambda outcome: ends.append(outcome.name))], time_source=clock)
    work = decorator(lambda n: n)
    before = guard.get_metrics()
    assert [work(1), work(1), work(1)] == [1, 1, 1]
    assert guard.get_metrics() == before
    assert ends == ["SUCCESS"] * 3
    work(2)
    assert guard.get_metrics() != before


def test_a_rate_limit_for_some_functions_and_some_calls():
    limit = RateLimitObserver(1, 60)
    limit.match = "pay*"
    limit.when = lambda context: not context.arguments.get("internal")
    decorator = CallPyBack([limit])

    @decorator
    def pay(internal):
        return "paid"

    @decorator
    def look():
        return "seen"

    assert [pay(True) for _ in range(3)] == ["paid"] * 3
    assert [look() for _ in range(3)] == ["seen"] * 3
    assert handle(look).current_plan() is EMPTY
    assert pay(False) == "paid"
    with pytest.raises(Exception, match="limit"):
        pay(False)
    assert pay(True) == "paid"


def test_a_cache_of_some_calls():
    cache, ran = CacheObserver(), []
    cache.when = lambda context: context.arguments["n"] > 1
    function = CallPyBack([cache])(lambda n: ran.append(n))
    for n in (1, 1, 2, 2):
        function(n)
    assert ran == [1, 1, 2]


def test_a_breaker_that_was_not_asked_learns_nothing():
    breaker = CircuitBreakerObserver(1, 60)
    breaker.when = lambda context: context.arguments["asked"]

    @CallPyBack([breaker])
    def work(asked):
        raise LookupError

    for _ in range(3):
        with pytest.raises(LookupError):
            work(False)
    with pytest.raises(LookupError):
        work(True)
    with pytest.raises(Exception, match="open"):
        work(True)


def test_a_limit_gives_back_no_more_than_it_took():
    limit = ConcurrencyLimitObserver(2)
    wanted = [True]
    limit.when = lambda context: wanted[0]

    @CallPyBack([limit])
    def work(depth, *, ask):
        wanted[0] = ask
        return work(depth - 1, ask=ask) if depth else "done"

    wanted[0] = False
    assert work(5, ask=False) == "done"  # deeper than the limit allows, and never asked
    wanted[0] = True
    assert work(1, ask=True) == "done"
    with pytest.raises(Exception, match="limit"):
        work(2, ask=True)
    assert work(1, ask=True) == "done"


def test_a_guard_told_by_contexts_that_was_not_asked_hears_no_more_of_the_call(kind):
    class Guard(Witness):
        guard = True
        when = staticmethod(lambda context: context.state is not PRE)

    assert watched(Guard(), kind) == []


def test_a_guard_whose_predicate_fails_is_not_asked_and_the_call_goes_on(kind):
    limit = RateLimitObserver(1, 60)
    limit.when = lambda context: 1 / 0
    function = kind.make(lambda: "value", CallPyBack([limit]))
    assert [kind.call(function) for _ in range(3)] == ["value"] * 3
    assert handle(function).health[limit.name].failures == 3


def test_a_critical_guard_whose_predicate_fails_refuses_the_call(kind):
    limit = RateLimitObserver(1, 60, critical=True)
    limit.when = lambda context: 1 / 0
    function = kind.make(lambda: "value", CallPyBack([limit]))
    assert isinstance(kind.ended(function).exception, ZeroDivisionError)


def test_an_async_observer_is_awaited_where_it_wants_to_hear(kind):
    class Awaited(Witness):
        async def update(self, context):
            super().update(context)

    if not kind.is_async:
        pytest.skip("nothing to await it")
    assert watched(Awaited(when=lambda context: context.state is not PRE), kind) == ["POST_SUCCESS", "COMPLETED"]
    assert watched(Awaited(match="nobody"), kind) == []


def test_filters_decide_about_notices_too():
    told = []
    note = on_retry(want(lambda context: context.notice.attempt == 2)(lambda attempt: told.append(attempt)))
    CallPyBack([note], retry=Retry(attempts=4, on=LookupError, wait=0), default_return=None)(fails)()
    assert told == [2]


def test_who_was_told_the_beginning_is_told_the_end_after_attempts(kind):
    if kind.is_generator:
        pytest.skip("what has given items is not repeated")
    once = Witness(when=lambda context: context.state is PRE)
    watched(once, kind, fails, retry=Retry(attempts=3, on=LookupError, wait=0))
    assert once.told == ["PRE_EXECUTION", "COMPLETED"]


# Weakly held, and in the background


WEAK = {
    "match": {"match": "function"},
    "when": {"when": lambda context: True},
    "is_interested": {"is_interested": lambda context: True},
}


class Methods(Witness):
    def when(self, context):
        return context.state is COMPLETED

    def match(self, signature):
        return True

    def is_interested(self, context):
        return True


@pytest.mark.parametrize("make", [*(lambda o=o: Witness(**o) for o in WEAK.values()), Methods], ids=[*WEAK, "methods"])
def test_filters_do_not_keep_a_weakly_held_observer(kind, make):
    observer = make()
    decorator = CallPyBack()
    function = kind.make(lambda: 1, decorator)
    decorator.add_observer(observer, weak=True)
    kind.call(function)
    assert observer.told == (["COMPLETED"] if make is Methods else TOLD)
    reference = weakref.ref(observer)
    del observer
    gc.collect()
    assert reference() is None
    kind.call(function)
    assert handle(function).health == {}


@pytest.mark.parametrize(
    "wrap", [BackgroundObserver, lambda inner: BatchingObserver(inner, batch_size=1)], ids=["one", "batch"]
)
@pytest.mark.parametrize(
    "options",
    [
        {"match": "pay"},
        {"when": lambda context: context.function_signature.name == "pay"},
        {"wants": want("pay")(lambda: None).wants},
    ],
    ids=["match", "when", "want"],
)
def test_what_is_delivered_in_the_background_is_filtered_by_the_observer_that_gets_it(wrap, options):
    inner = Witness(**options)
    background = wrap(inner)
    decorator = CallPyBack([background])
    decorator(orders)()
    decorator(lambda: 1)()
    assert background.shutdown()
    assert inner.told == TOLD


def test_observers_that_are_made_async_keep_their_filters():
    picky = Witness(match="pay", when=lambda context: context.state is COMPLETED)
    with CallPyBack([picky], enable_async_observers=True) as decorator:
        decorator(orders)()
        decorator(lambda: 1)()
        assert decorator.flush(10)
        assert picky.told == ["COMPLETED"]
