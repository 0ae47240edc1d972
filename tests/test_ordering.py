"""Observers are told in the order of what they require of each other, then of priority, then of registration.

The law over any set of them is in properties/test_requirements.
"""

from __future__ import annotations

import gc
import time

import pytest

from callpyback import (
    BackgroundObserver,
    BaseObserver,
    CallPyBack,
    ConfigurationError,
    ExecutionState,
    Subscription,
    handle,
    on_completion,
    required_by,
    requires,
    want,
)
from kinds import Witness

COMPLETED = ExecutionState.COMPLETED


def named(name, priority=0.0, **options):
    return Witness(COMPLETED, name=name, priority=priority, **options)


def names(holder) -> list[str]:
    return [known.name for known in holder.registrations]


def order_told(kind, observers) -> list[str]:
    """Return the names in the order in which a call tells them."""
    told = []
    for observer in observers:
        observer.update = lambda context, name=observer.name: told.append(name)
    kind.call(kind.make(lambda: 1, CallPyBack(observers)))
    return told


def test_an_observer_is_told_after_those_it_requires_whatever_the_priorities(kind):
    report, audit = named("report", 100, requires="audit"), named("audit", -100)
    assert order_told(kind, [report, audit]) == ["audit", "report"]


def test_an_observer_is_told_before_those_that_it_says_require_it(kind):
    audit, report = named("audit", -100, required_by=("report",)), named("report", 100)
    assert order_told(kind, [report, audit]) == ["audit", "report"]


def test_among_those_that_may_be_next_priority_decides_then_registration(kind):
    observers = [
        named("late", 50, requires="first"),
        named("b", 10),
        named("a", 10),
        named("first", 0),
        named("high", 20),
        named("low", -1),
    ]
    assert order_told(kind, observers) == ["high", "b", "a", "first", "late", "low"]


def test_requirements_reach_through_several_observers(kind):
    observers = [named(f"{n}", n, requires=f"{n - 1}" if n else ()) for n in range(12)]
    assert order_told(kind, observers[::-1]) == [f"{n}" for n in range(12)]


def test_many_may_require_one_and_one_many(kind):
    observers = [
        named("all", 9, requires=("a", "b", "c")),
        *(named(name, 5, requires="root") for name in "cba"),
        named("root", -1),
    ]
    assert order_told(kind, observers) == ["root", "c", "b", "a", "all"]


ROWS = {
    "at registration": lambda: [Subscription(named("report", 9), requires="audit"), named("audit")],
    "by the attribute": lambda: [named("report", 9, requires=["audit"]), named("audit")],
    "required by": lambda: [named("report", 9), Subscription(named("audit"), required_by="report")],
    "by the decorator": lambda: [requires("audit")(named("report", 9)), named("audit")],
    "by the other decorator": lambda: [named("report", 9), required_by("report")(named("audit"))],
    "by a renamed one": lambda: [Subscription(named("x", 9), requires="audit"), Subscription(named("y"), name="audit")],
    "twice": lambda: [
        Subscription(named("report", 9, requires="audit"), requires="audit"),
        named("audit", required_by=("report",)),
    ],
}


@pytest.mark.parametrize("made", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("turned", [False, True], ids=["in order", "turned"])
def test_requirements_can_be_said_in_every_place_in_either_order(made, turned):
    observers = made()[:: -1 if turned else 1]
    decorator = CallPyBack(observers)
    handle(decorator(lambda: 1))
    assert [name for name in names(decorator) if name == "audit"] == names(decorator)[:1]


def test_requires_on_a_callback_and_on_update():
    @requires("audit")
    def report(context): ...

    class Reporting(BaseObserver):
        priority = 5

        @requires("audit")
        def update(self, context): ...

    decorator = CallPyBack([on_completion(report, priority=9), Reporting(), on_completion(lambda: None, name="audit")])
    assert names(decorator)[0] == "audit"


def test_requires_adds_to_what_the_class_says_already():
    @requires("b", "c")
    @requires("d")
    class Report(BaseObserver):
        requires = "audit"

        def update(self, context): ...

    assert Report.requires == ("audit", "d", "b", "c")

    @required_by("x")
    class Audit(Report):
        required_by = ["y"]

    assert (Audit.requires, Audit.required_by) == (Report.requires, ("y", "x"))


@pytest.mark.parametrize("mark", [requires, required_by])
@pytest.mark.parametrize("given", [(), ("",), (5,), (["a"],), (None,)], ids=repr)
def test_names_of_nobody_are_refused_by_the_decorators(mark, given):
    with pytest.raises(ConfigurationError, match=mark.__name__):
        mark(*given)


@pytest.mark.parametrize("mark", [requires, required_by])
def test_what_cannot_be_marked_is_refused(mark):
    with pytest.raises(ConfigurationError, match=rf"{mark.__name__}\(\)"):
        mark("audit")(print)


# What can't be met


def test_an_unknown_name_is_refused_at_decoration_with_the_nearest():
    decorator = CallPyBack([named("report", requires="audti"), named("audit"), named("other")])
    with pytest.raises(ConfigurationError) as refusal:

        @decorator
        def pay(): ...

    text = str(refusal.value)
    assert "'report' has requires='audti'" in text
    assert "pay" in text
    assert "audit" in text.split("registered", maxsplit=1)[0]
    assert "audit, other" in text
    assert not decorator._handles or not any(handle.registrations for handle in decorator._handles)


def test_an_unknown_name_in_required_by_is_refused_too():
    with pytest.raises(ConfigurationError, match=r"'audit' has required_by='report'.*nobody else"):
        CallPyBack([named("audit", required_by="report")])(lambda: 1)


def test_an_observer_that_requires_itself_is_refused():
    with pytest.raises(ConfigurationError, match="'audit'"):
        CallPyBack([named("audit", requires="audit")])(lambda: 1)


def test_until_something_is_decorated_the_required_may_come_later():
    decorator = CallPyBack([named("report", requires="audit")])
    decorator.add_observer(named("audit"))
    assert names(decorator) == ["audit", "report"]
    assert names(handle(decorator(lambda: 1))) == ["audit", "report"]


def test_once_something_is_decorated_the_required_comes_first():
    decorator = CallPyBack()
    function = decorator(lambda: 1)
    report, audit = named("report", 5, requires="audit"), named("audit")
    with pytest.raises(ConfigurationError, match="requires='audit'"):
        decorator.add_observer(report)
    assert decorator.observers == handle(function).observers == ()
    decorator.add_observer(audit)
    decorator.add_observer(report)
    assert handle(function).observers == (audit, report)


def test_what_is_refused_leaves_everything_as_it_was(kind):
    decorator = CallPyBack([a := named("a"), b := named("b", requires="a")])
    function = kind.make(lambda: 1, decorator)
    before = handle(function).explain()
    for refused in (
        named("c", requires="nobody"),
        named("c", requires="b", required_by="a"),
        named("b2", required_by="zz"),
    ):
        for holder in (decorator, handle(function)):
            with pytest.raises(ConfigurationError):
                holder.add_observer(refused)
            assert holder.observers == (a, b)
    assert handle(function).explain() == before
    kind.call(function)
    assert (a.told, b.told) == (["COMPLETED"], ["COMPLETED"])
    decorator.add_observer(named("c"))  # the name is still free
    assert names(decorator) == ["a", "b", "c"]


def test_a_circle_is_refused_by_the_names_in_it():
    with pytest.raises(ConfigurationError) as refusal:
        CallPyBack([named("a", requires="b"), named("z"), named("b", requires="c"), named("c", requires="a")])
    text = str(refusal.value)
    assert "circle" in text
    assert all(repr(name) in text for name in "abc")
    assert "'z'" not in text


def test_a_circle_through_a_function_of_its_own_observers_is_refused():
    decorator = CallPyBack([named("a"), named("b", requires="a")])
    function = decorator(lambda: 1)
    with pytest.raises(ConfigurationError, match="circle"):
        handle(function).add_observer(named("own", requires="b", required_by="a"))
    assert names(handle(function)) == ["a", "b"]


def test_an_observer_that_is_required_and_never_hears_is_refused():
    decorator = CallPyBack([named("report", requires="audit"), named("audit", match="pay")])

    @decorator
    def pay(): ...

    with pytest.raises(ConfigurationError, match=r"'report' requires 'audit', which never hears anything of .*look"):

        @decorator
        def look(): ...

    assert names(handle(pay)) == ["audit", "report"]


@pytest.mark.parametrize("deaf", [{"match": "nobody"}, {"is_interested": lambda name: False}], ids=["match", "name"])
def test_who_never_hears_requires_nothing(deaf):
    decorator = CallPyBack([named("report", requires="audit", **deaf), named("audit", match="nobody")])
    assert names(handle(decorator(lambda: 1))) == ["audit", "report"]


def test_required_by_asks_for_the_same():
    with pytest.raises(ConfigurationError, match="'report' requires 'audit'"):
        CallPyBack([named("report"), want("nobody")(named("audit", required_by="report"))])(lambda: 1)


def test_a_predicate_is_no_promise_and_is_not_refused():
    decorator = CallPyBack([named("report", requires="audit"), named("audit", when=lambda context: False)])
    assert decorator(lambda: 1)() == 1


# Coming and going


def test_a_required_observer_can_be_removed_only_after_those_that_require_it():
    decorator = CallPyBack([named("audit"), named("report", requires="audit")])
    function = decorator(lambda: 1)
    with pytest.raises(ConfigurationError, match=r"'audit' can't be removed: 'report' requires it"):
        decorator.remove_observer("audit")
    assert names(handle(function)) == ["audit", "report"]
    decorator.remove_observer("report")
    decorator.remove_observer("audit")
    assert handle(function).observers == ()


def test_what_a_function_of_its_own_requires_of_the_decorator_can_be_removed_after_it():
    decorator = CallPyBack([named("audit"), named("late")])
    function, other = decorator(lambda: 1), decorator(lambda: 2)
    handle(function).add_observer(named("report", 9, requires="audit"))
    handle(other).add_observer(named("early", -9, required_by="late"))
    assert names(handle(function)) == ["audit", "report", "late"]
    assert names(handle(other)) == ["audit", "early", "late"]
    with pytest.raises(ConfigurationError, match="'report' requires it"):
        decorator.remove_observer("audit")
    with pytest.raises(ConfigurationError, match="'late' requires it"):
        handle(other).remove_observer("early")
    handle(function).remove_observer("report")
    decorator.remove_observer("audit")
    assert names(handle(other)) == ["early", "late"]


def test_those_that_come_later_find_their_place(kind):
    told = []

    def noting(name, priority=0, **options):
        return Subscription(on_completion(lambda: told.append(name), priority, name=name), **options)

    decorator = CallPyBack([noting("c", 5, requires="a"), noting("a")])
    function = kind.make(lambda: 1, decorator)
    decorator.add_observer(noting("b", 3, requires="a"))
    handle(function).add_observer(noting("d", 9, requires=("c", "b")))
    decorator.add_observer(noting("e", 7))
    kind.call(function)
    assert told == names(handle(function)) == ["e", "a", "c", "b", "d"]


def test_a_weakly_held_observer_that_is_gone_counts_as_met():
    audit = named("audit")
    decorator = CallPyBack([Subscription(audit, weak=True), report := named("report", requires="audit")])
    function = decorator(lambda: 1)
    del audit
    gc.collect()
    function()
    decorator.add_observer(other := named("other"))
    decorator(lambda: 2)()
    function()
    assert (report.told, other.told) == (["COMPLETED"] * 3, ["COMPLETED"] * 2)


def test_in_the_background_what_is_required_counts_too():
    report = BackgroundObserver(named("report", 9, requires="audit"))
    decorator = CallPyBack([report, named("audit")])
    decorator(lambda: 1)
    assert names(decorator) == ["audit", "report"]
    report.shutdown()


# Cost


def seconds_for(work) -> float:
    best = float("inf")
    for _ in range(3):
        start = time.thread_time()  # which stands still while other programs run
        work()
        best = min(best, time.thread_time() - start)
    return best


def added(number, *, same=False):
    decorator = CallPyBack()
    decorator(lambda: 1)
    for n in range(number):
        decorator.add_observer(named("same" if same else f"{n}", -n % 7))
    return decorator


def in_a_chain(number):
    return [named(f"{n}", n % 7, requires=f"{n - 1}" if n % 10 else ()) for n in reversed(range(number))]


GROWTHS = {
    "added": lambda n: added(n),
    "with one name": lambda n: added(n, same=True),
    "given at once": lambda n: CallPyBack([named(f"{number}") for number in range(n)])(lambda: 1),
    "requiring each other": lambda n: CallPyBack(in_a_chain(n))(lambda: 1),
    "added and removed": lambda n: [known for d in [added(n)] for known in d.observers if d.remove_observer(known)],
}


@pytest.mark.parametrize("work", GROWTHS.values(), ids=GROWTHS)
def test_ten_times_the_registrations_take_about_ten_times_as_long(work):
    """Quadratic growth would make it a hundred; copying a list for each is allowed for."""
    assert seconds_for(lambda: work(4000)) < 60 * seconds_for(lambda: work(400))
