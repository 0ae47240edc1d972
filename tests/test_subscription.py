"""What is asked for an observer where it is registered: states, filters, name, order, holding, options."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import cloudpickle
import pytest

from callpyback import (
    BaseObserver,
    CallPyBack,
    CallVetoed,
    ConfigurationError,
    ExecutionState,
    LoggingObserver,
    MetricsObserver,
    RateLimitObserver,
    Subscription,
    TimingObserver,
    handle,
    on_completion,
)
from callpyback.core.plan import EMPTY
from kinds import BoundWitness, Witness

TOLD = ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]
COMPLETED, POST_SUCCESS = ExecutionState.COMPLETED, ExecutionState.POST_SUCCESS


def by_constructor(observer, **asked):
    return CallPyBack([Subscription(observer, **asked)])


def by_adding(observer, **asked):
    decorator = CallPyBack()
    decorator.add_observer(observer, **asked)
    return decorator


def by_adding_a_subscription(observer, **asked):
    decorator = CallPyBack()
    decorator.add_observer(Subscription(observer, **asked))
    return decorator


PLACES = [by_constructor, by_adding, by_adding_a_subscription]


@pytest.fixture(params=PLACES, ids=lambda place: place.__name__)
def registered(request):
    return request.param


def watched(kind, decorator, body=lambda: "value"):
    function = kind.make(body, decorator)
    kind.ended(function)
    return function


def fails():
    raise LookupError("the user's")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, TOLD),
        ({"states": COMPLETED}, ["COMPLETED"]),
        ({"states": [COMPLETED, ExecutionState.INITIALIZED]}, ["INITIALIZED", "COMPLETED"]),
        ({"when": lambda context: context.state is POST_SUCCESS}, ["POST_SUCCESS"]),
        ({"when": (lambda context: True, lambda context: context.state is POST_SUCCESS)}, ["POST_SUCCESS"]),
        ({"match": "function"}, TOLD),
        ({"match": ["nobody", "*function"]}, TOLD),
        ({"match": "nobody"}, []),
        ({"match": lambda signature: signature.name == "function"}, TOLD),
        ({"match": lambda signature: False}, []),
        ({"states": COMPLETED, "match": "*", "when": lambda context: True}, ["COMPLETED"]),
    ],
    ids=[
        "nothing",
        "state",
        "states",
        "when",
        "several when",
        "match",
        "several patterns",
        "nobody",
        "predicate",
        "predicate of nobody",
        "all",
    ],
)
def test_filters_can_be_given_wherever_an_observer_is_registered(kind, registered, asked, told):
    witness = Witness()
    function = watched(kind, registered(witness, **asked))
    assert witness.told == told
    assert (handle(function).current_plan() is EMPTY) is (told == [])


def test_filters_can_be_given_on_one_function(kind):
    witness = Witness()
    function = kind.make(lambda: 1, CallPyBack())
    handle(function).add_observer(witness, COMPLETED, when=lambda context: True, match="function", name="own")
    kind.call(function)
    assert witness.told == ["COMPLETED"]
    assert list(handle(function).health) == ["own"]


def test_predicates_given_are_asked_beside_the_observers_own(kind, registered):
    witness = Witness(when=lambda context: context.state is not POST_SUCCESS)
    watched(kind, registered(witness, when=lambda context: context.state is not ExecutionState.PRE_EXECUTION))
    assert witness.told == ["COMPLETED"]


def test_patterns_and_states_given_take_the_place_of_the_observers_own(kind, registered):
    witness = Witness(COMPLETED, match="nobody")
    watched(kind, registered(witness, match="function", states=POST_SUCCESS))
    assert witness.told == ["POST_SUCCESS"]


def test_the_observer_itself_is_not_changed(registered):
    witness = Witness()
    before = dict(vars(witness))
    registered(witness, states=COMPLETED, match="x", when=lambda context: True, name="other", priority=5)(lambda: 1)()
    assert vars(witness) == before


def test_a_priority_given_takes_the_place_of_the_observers_own(registered):
    low, high = Witness(priority=-5), Witness(priority=5)
    decorator = registered(low, priority=10)
    decorator.add_observer(high)
    assert decorator.observers == (low, high)


def test_a_priority_of_zero_can_be_asked_for(registered):
    high = Witness(priority=5)
    decorator = registered(high, priority=0)
    decorator.add_observer(middle := Witness(priority=1))
    assert decorator.observers == (middle, high)


# States of observers without contexts


@pytest.mark.parametrize("body", [lambda: "value", fails], ids=["returns", "raises"])
def test_states_are_kept_by_observers_without_contexts_too(kind, registered, body):
    bound = BoundWitness()
    watched(kind, registered(bound, states=ExecutionState.ERROR), body)
    assert (bound.begun, bound.ends) == (0, [])
    bound = BoundWitness()
    watched(kind, registered(bound, states=COMPLETED), body)
    assert (bound.begun, len(bound.ends)) == (0, 1)


def test_metrics_of_unexpected_errors_alone(registered):
    metrics = MetricsObserver()
    decorator = registered(metrics, states=ExecutionState.ERROR)
    function = decorator(lambda: 1)
    handle(function).add_observer(Vetoing())
    with pytest.raises(CallVetoed):
        function()
    decorator(lambda: 2)()
    assert metrics.get_metrics()["counters"]["vetoed"] == metrics.get_metrics()["total_calls"] == 1


PRE = ExecutionState.PRE_EXECUTION


@pytest.mark.parametrize(
    ("states", "counted"),
    [(COMPLETED, 2), (ExecutionState.ERROR, 1), ([PRE, COMPLETED], 3), (PRE, 3), ([COMPLETED, POST_SUCCESS], 2)],
    ids=["completed", "error", "both", "beginning", "others too"],
)
def test_beginnings_and_ends_that_belong_together_are_not_split(registered, states, counted):
    metrics = MetricsObserver(in_progress=True)
    function = registered(metrics, states=states)(lambda: 1)
    handle(function).add_observer(vetoing := Vetoing())
    with pytest.raises(CallVetoed):
        function()
    handle(function).remove_observer(vetoing)
    function(), function()
    report = metrics.get_metrics()
    assert (report["in_progress"], report["total_calls"]) == (0, counted)


def test_a_guard_decides_at_the_beginning_so_that_state_is_among_its_own(registered):
    with pytest.raises(ConfigurationError, match="PRE_EXECUTION"):
        registered(RateLimitObserver(1, 60), states=COMPLETED)(lambda: 1)
    assert registered(RateLimitObserver(1, 60), states=PRE)(lambda: 1)() == 1


class Vetoing:
    priority = 1
    name = "vetoing"

    def update(self, context):
        if context.state is ExecutionState.PRE_EXECUTION:
            raise CallVetoed("no")


@pytest.mark.parametrize(
    "make",
    [MetricsObserver, LoggingObserver, lambda: TimingObserver(threshold=0.0)],
    ids=["metrics", "logging", "timing"],
)
def test_built_in_observers_hear_what_is_asked_for_them(make):
    """As seen by what they are bound to: nothing at all, or ends alone."""
    observer = make()
    assert handle(CallPyBack([Subscription(observer, match="nobody")])(lambda: 1)).current_plan() is EMPTY
    [hearing] = handle(CallPyBack([Subscription(observer, states=COMPLETED)])(lambda: 1)).explain()
    assert set(hearing.states) - {"RETRY"} == {"COMPLETED"}  # notices are no states


# Names


def test_names_are_numbered_where_they_are_taken(registered):
    decorator = registered(Witness(name="audit"))
    decorator.add_observer(Witness(name="audit"))
    decorator.add_observer(Witness(name="other"))
    decorator.add_observer(Witness(name="audit"))
    assert [known.name for known in decorator.registrations] == ["audit", "audit#2", "other", "audit#3"]


def test_a_name_that_is_asked_for_is_given_or_refused(registered):
    decorator = registered(Witness(name="audit"), name="money")
    decorator.add_observer(Witness(), name="audit")
    assert [known.name for known in decorator.registrations] == ["money", "audit"]
    with pytest.raises(ConfigurationError, match=r"name='money'.*choose another"):
        decorator.add_observer(Witness(), name="money")
    assert len(decorator.observers) == 2


def test_a_name_asked_for_that_looks_numbered_makes_way_for_nobody():
    decorator = CallPyBack()
    decorator.add_observer(Witness(name="a"), name="a#2")
    for _ in range(3):
        decorator.add_observer(Witness(name="a"))
    assert [known.name for known in decorator.registrations] == ["a#2", "a", "a#3", "a#4"]


def test_a_name_is_free_again_once_its_observer_has_left(registered):
    decorator = registered(first := Witness(name="audit"))
    decorator.remove_observer(first)
    decorator.add_observer(Witness(), name="audit")
    assert [known.name for known in decorator.registrations] == ["audit"]


def test_a_name_is_free_again_once_its_weakly_held_observer_is_gone(registered):
    decorator = registered(Witness(name="audit"), weak=True)
    gc.collect()
    decorator.add_observer(Witness(), name="audit")
    assert [known.name for known in decorator.registrations] == ["audit"]


def test_names_differ_between_a_decorator_and_its_functions():
    decorator = CallPyBack([Witness(name="audit")])
    function, other = decorator(lambda: 1), decorator(lambda: 2)
    handle(function).add_observer(Witness(name="audit"))
    handle(function).add_observer(Witness(), name="own")
    assert list(handle(function).health) == ["audit", "audit#2", "own"]
    for holder in (handle(function), decorator):
        with pytest.raises(ConfigurationError, match="name='own'"):
            holder.add_observer(Witness(), name="own")
    handle(other).add_observer(Witness(), name="own")  # another function
    decorator.add_observer(Witness(name="audit"))  # differs from those on every function
    assert list(handle(function).health) == ["audit", "audit#2", "own", "audit#3"]
    assert list(handle(other).health) == ["audit", "own", "audit#3"]


def test_observers_are_found_by_the_name_they_have_here(registered):
    decorator = registered(Witness(name="audit"), name="money")
    with pytest.raises(ConfigurationError, match=r"'audit' is not registered.*money"):
        decorator.remove_observer("audit")
    decorator.remove_observer("money")
    assert decorator.observers == ()


def test_numbered_names_are_the_keys_of_the_metrics(registered):
    decorator = registered(MetricsObserver())
    decorator.add_observer(MetricsObserver())
    decorator.add_observer(MetricsObserver(), name="money")
    decorator(lambda: 1)()
    metrics = decorator.get_metrics()
    assert sorted(metrics) == [
        "MetricsObserver#2_metrics",
        "MetricsObserver_metrics",
        "money_metrics",
        "observer_count",
    ]
    assert all(value == 3 if key == "observer_count" else value["total_calls"] == 1 for key, value in metrics.items())


def test_numbered_names_say_who_decided(kind):
    first, second = Vetoing(), Vetoing()
    first.update = lambda context: None
    witness = Witness(COMPLETED, ExecutionState.ERROR)
    function = kind.make(lambda: 1, CallPyBack([first, second, witness]))
    kind.ended(function)
    assert witness.last.decided_by == "vetoing#2"


def test_numbered_names_are_in_the_log_and_in_the_health(caplog):
    class Failing(Witness):
        def update(self, context):
            raise LookupError

    function = CallPyBack([Failing(name="bad"), Failing(name="bad")])(lambda: 1)
    function()
    assert [health.name for health in handle(function).health.values()] == ["bad", "bad#2"]
    assert any("observer bad#2 failed" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("name", ["", 5, b"audit", ["a"]], ids=repr)
def test_what_is_no_name_is_refused(name):
    with pytest.raises(ConfigurationError, match="name="):
        Subscription(Witness(), name=name)


# Holding and options


def test_a_subscription_holds_weakly_if_asked(kind, registered):
    witness = Witness()
    function = kind.make(lambda: 1, registered(witness, weak=True, match="function"))
    kind.call(function)
    assert witness.told == TOLD
    reference = weakref.ref(witness)
    del witness
    gc.collect()
    assert reference() is None
    kind.call(function)


def test_options_go_to_configure(registered):
    class Configured(BaseObserver):
        limit = 5

        def update(self, context):
            pass

    observer = Configured()
    registered(observer, options={"limit": 7})
    assert observer.limit == 7


def test_a_guard_may_be_asked_for_some_functions_alone(registered):
    decorator = registered(RateLimitObserver(1, 60), match="pay")

    @decorator
    def pay(): ...
    @decorator
    def look(): ...

    assert [look() for _ in range(3)] == [None] * 3
    pay()
    with pytest.raises(Exception, match="limit"):
        pay()


def test_one_subscription_serves_several_decorators():
    witness = Witness()
    subscription = Subscription(
        witness, states=iter([COMPLETED]), match=iter(["*"]), when=iter([lambda context: context.is_successful])
    )
    for _ in range(2):
        function = CallPyBack([subscription], default_return=None)(lambda n: 1 / n)
        function(1), function(0)
    assert witness.told == ["COMPLETED"] * 2


# Refusals


@pytest.mark.parametrize("empty", [[], (), "", frozenset()], ids=repr)
def test_no_pattern_at_all_is_not_every_function(registered, empty):
    with pytest.raises(ConfigurationError, match="match="):
        registered(Witness(), match=empty)


@pytest.mark.parametrize("given", [0, "", False], ids=repr)
@pytest.mark.parametrize("parameter", ["when", "match"])
def test_what_is_false_and_no_filter_is_refused(registered, parameter, given):
    with pytest.raises(ConfigurationError, match=f"{parameter}="):
        registered(Witness(), **{parameter: given})


@pytest.mark.parametrize("weak", [1, None, "yes"], ids=repr)
def test_weak_is_true_or_false(weak):
    with pytest.raises(ConfigurationError, match="weak="):
        Subscription(Witness(), weak=weak)


@pytest.mark.parametrize("names", [5, [""], [5], b"audit", [None]], ids=repr)
@pytest.mark.parametrize("parameter", ["requires", "required_by"])
def test_what_are_no_names_of_observers_is_refused(parameter, names):
    with pytest.raises(ConfigurationError, match=f"{parameter}="):
        Subscription(Witness(), **{parameter: names})


def test_a_subscription_of_a_subscription_is_refused():
    with pytest.raises(ConfigurationError, match="a Subscription already"):
        Subscription(Subscription(Witness()))


def test_options_beside_a_subscription_are_refused():
    decorator = CallPyBack()
    with pytest.raises(ConfigurationError, match=r"an observer beside match.*or a Subscription alone"):
        decorator.add_observer(Subscription(Witness()), match="pay")
    assert decorator.observers == ()


def test_a_subscription_of_no_observer_is_refused_where_it_is_registered():
    with pytest.raises(ConfigurationError, match="lacks `update`"):
        CallPyBack([Subscription(5)])


def test_the_same_observer_twice_is_refused_whatever_is_asked(registered):
    decorator = registered(witness := Witness(), name="one", match="pay")
    with pytest.raises(ConfigurationError, match="registered here already"):
        decorator.add_observer(witness, name="other", match="look")


def test_an_unknown_option_is_a_type_error():
    with pytest.raises(TypeError, match="mach"):
        CallPyBack().add_observer(Witness(), mach="pay")


class Hostile:
    """Raises whatever is done with it."""

    def __getattribute__(self, name):
        raise LookupError("hostile")

    __iter__ = __call__ = __bool__ = __eq__ = __len__ = lambda self, *_: 1 / 0
    __hash__ = None


@pytest.mark.parametrize("parameter", ["states", "when", "match", "name", "requires", "required_by", "weak", "options"])
def test_a_hostile_value_is_refused_by_name(parameter):
    with pytest.raises(ConfigurationError, match=parameter):
        CallPyBack([Subscription(Witness(), **{parameter: Hostile()})])


def test_a_subscription_shows_what_it_asks():
    assert repr(Subscription(5)) == "<Subscription of 5: nothing special>"
    assert repr(Subscription(5, match="pay", weak=True)) == "<Subscription of 5: match, weak>"


# Copies


def is_completed(context):
    return context.state is COMPLETED


class Portable(Witness):
    match = "function_of_module"

    def is_interested(self, context):
        return True


def portable_decorator():
    return CallPyBack(
        [
            Subscription(Portable(name="first"), when=is_completed, requires="second"),
            Subscription(Portable(name="b"), name="second", states=COMPLETED),
            Portable(name="second#2"),
        ]
    )


def function_of_module():
    return "value"


@pytest.mark.parametrize(
    "copied",
    [
        copy.deepcopy,
        lambda decorator: pickle.loads(pickle.dumps(decorator)),
        lambda decorator: pickle.loads(cloudpickle.dumps(decorator)),
    ],
    ids=["deepcopy", "pickle", "cloudpickle"],
)
def test_what_was_asked_for_travels_with_a_decorator(copied):
    decorator = copied(portable_decorator())
    decorator(function_of_module)()
    decorator(lambda: 1)()
    assert [(known.name, known.observer.told) for known in decorator.registrations] == [
        ("second", ["COMPLETED"]),
        ("first", ["COMPLETED"]),
        ("second#2", TOLD),
    ]
    with pytest.raises(ConfigurationError, match="'first' requires it"):
        decorator.remove_observer("second")
    decorator.add_observer(Witness(name="first"))
    assert [known.name for known in decorator.registrations][-1] == "first#2"


def test_what_was_asked_for_travels_with_a_function():
    function = portable_decorator()(lambda: "value")
    handle(function).add_observer(Witness(name="own"), when=is_completed, required_by="first")
    travelled = pickle.loads(cloudpickle.dumps(function))
    assert travelled() == "value"
    for known in (function, travelled):
        assert [registration.name for registration in handle(known).registrations] == [
            "second",
            "second#2",
            "own",
            "first",
        ]
    assert {hearing.name: hearing.states for hearing in handle(travelled).explain()}["own"] != ()


def test_a_weakly_held_observer_stays_behind_whatever_its_filters():
    class Weak(Portable):
        def when(self, context):
            return True

    here = [Portable(), Weak()]
    decorator = CallPyBack([Subscription(observer, weak=True, match="*") for observer in here])
    travelled = pickle.loads(pickle.dumps(decorator))
    assert (travelled.observers, len(decorator.observers)) == ((), 2)


def test_callback_observers_take_subscriptions_too(kind):
    told = []
    note = on_completion(lambda outcome: told.append(outcome.name))
    watched(
        kind,
        CallPyBack([Subscription(note, when=lambda context: not context.is_failed)], default_return=None)
        if not kind.is_generator
        else CallPyBack([Subscription(note, when=is_completed)]),
    )
    assert told == ["SUCCESS"]
