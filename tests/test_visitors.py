"""Observers of every decorated function there is: told of all that call, gone when removed, paid for only while there.

Observers for the calls inside a `with` are in test_scopes.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import pickle
import threading
import weakref

import cloudpickle
import pytest

from callpyback import (
    BackgroundObserver,
    BaseObserver,
    CacheObserver,
    CallPyBack,
    CallVetoed,
    ConfigurationError,
    ExecutionState,
    FunctionKind,
    LoggingObserver,
    MetricsObserver,
    MockTimeSource,
    RateLimitObserver,
    Subscription,
    TimingObserver,
    add_global_observer,
    handle,
    on_completion,
    remove_global_observer,
    want,
)
from callpyback.core.health import COOL_DOWN
from callpyback.core.plan import EMPTY
from callpyback.core.visitors import VISITORS
from kinds import WAYS, BoundWitness, Witness
from test_concurrency import hurried, in_threads
from watching import run_python

__all__ = ["hurried"]

TOLD = ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]
COMPLETED = ExecutionState.COMPLETED


@pytest.fixture(autouse=True)
def nobody_left():
    """What a test registers it removes."""
    before = VISITORS.everywhere
    yield
    left = [visitor.registration.name for visitor in VISITORS.everywhere if visitor not in before]
    for visitor in VISITORS.everywhere:
        if visitor not in before:
            remove_global_observer(visitor.registration.name)
    assert left == []


@pytest.fixture
def everywhere():
    """Register an observer for the time of the test."""
    added = []

    def add(observer, *args, **asked):
        add_global_observer(observer, *args, **asked)
        added.append(observer)
        return observer

    yield add
    for observer in added:
        remove_global_observer(
            getattr(observer, "observer", observer) if isinstance(observer, Subscription) else observer
        )


def plan_of(function):
    return handle(function).current_plan()


def test_it_hears_of_functions_there_are_and_of_those_to_come(kind, everywhere):
    earlier = kind.make(lambda: 1, CallPyBack())
    witness = everywhere(Witness())
    later = kind.make(lambda: 2, CallPyBack())
    assert (kind.call(earlier), kind.call(later)) == (1, 2)
    assert witness.told == TOLD * 2


def test_it_hears_whatever_else_is_observed(kind, everywhere):
    witness = everywhere(Witness())
    for number, observed in enumerate(way() for way in WAYS.values()):
        kind.call(kind.make(lambda: "value", observed))
        assert witness.told == TOLD * (number + 1)


def test_it_hears_of_every_sort_of_callable(everywhere):
    witness = everywhere(Witness(COMPLETED))
    watch = CallPyBack()

    class Host:
        @watch
        def method(self): ...
        @watch
        @classmethod
        def of_class(cls): ...
        @watch
        @staticmethod
        def static(): ...
        @watch
        @property
        def read(self): ...

    host = Host()
    host.method(), host.of_class(), host.static(), host.read
    watch(functools.partial(int, "5"))()
    watch(len)("abc")
    names = [context.function_signature.name for context in witness.contexts]
    assert names == ["method", "of_class", "static", "read", "int", "len"]


def test_once_removed_it_hears_no_more_and_nothing_is_left(kind):
    function = kind.make(lambda: 1, CallPyBack())
    kind.call(function)
    code = handle(function).wrapper.__code__.co_code
    witness = Witness()
    add_global_observer(witness)
    kind.call(function)
    assert plan_of(function) is not EMPTY
    remove_global_observer(witness)
    assert plan_of(function) is EMPTY
    assert handle(function).wrapper.__code__.co_code == code
    kind.call(function)
    assert witness.told == TOLD
    reference = weakref.ref(witness)
    del witness
    gc.collect()
    assert reference() is None
    assert handle(function).health == {}


def test_it_takes_the_straight_path_as_if_registered_on_the_function(kind, everywhere):
    local = kind.make(lambda: 1, CallPyBack([Witness()]))
    kind.call(local)
    shape = plan_of(local).shape
    everywhere(Witness())
    visited = kind.make(lambda: 1, CallPyBack())
    kind.call(visited)
    assert plan_of(visited).shape == shape > 0


def test_filters_on_functions_cost_nothing_elsewhere(kind, everywhere):
    witness = everywhere(Witness(), match="nobody")
    everywhere(want("nobody")(Witness(name="other")))
    function = kind.make(lambda: 1, CallPyBack())
    kind.call(function)
    assert plan_of(function) is EMPTY
    assert witness.told == []


def test_states_filters_name_and_priority_can_be_asked_for(everywhere):
    witness, told = Witness(), []
    everywhere(
        Subscription(witness, states=COMPLETED, match="*pay", when=lambda context: context.arguments["n"], name="money")
    )
    everywhere(on_completion(lambda: told.append("high")), priority=5)
    decorator = CallPyBack([on_completion(lambda: told.append("local"))])

    @decorator
    def pay(n): ...
    @decorator
    def look(n): ...

    pay(0), look(1), pay(1)
    assert [(c.function_signature.name, c.arguments, c.state) for c in witness.contexts] == [
        ("pay", {"n": 1}, COMPLETED)
    ]
    assert told == ["high", "local"] * 3
    assert "money" in handle(pay).health
    remove_global_observer("money")
    add_global_observer(witness)  # as it was not there any more
    add_global_observer(Witness(), name="money")
    remove_global_observer("money")


def test_globals_are_in_order_among_themselves_and_with_those_of_the_function(kind, everywhere):
    told = []

    def noting(name, priority=0):
        return on_completion(lambda: told.append(name), priority, name)

    function = kind.make(lambda: 1, CallPyBack([noting("local", 1), noting("last", -9)]))
    everywhere(noting("report", 9), requires=("audit", "local", "not here"))
    everywhere(noting("audit"), required_by="last")
    everywhere(noting("high", 10))
    kind.call(function)
    assert told == ["high", "local", "audit", "report", "last"]


def test_what_a_function_requires_is_its_own_observer_of_that_name(everywhere):
    told = []

    def noting(name, called, priority=0, **options):
        return Subscription(on_completion(lambda: told.append(called), priority, name), **options)

    function = CallPyBack([noting("audit", "own audit"), noting("b", "b", 10, requires="audit")])(lambda: 1)
    everywhere(noting("audit", "global audit", 100))
    function()
    assert told == ["global audit", "own audit", "b"]


def test_a_circle_among_globals_is_refused_and_changes_nothing(everywhere):
    local = Witness()
    function = CallPyBack([local])(lambda: 1)
    first = everywhere(Witness(name="first"), requires="second")
    with pytest.raises(ConfigurationError, match="circle"):
        add_global_observer(Witness(name="second"), requires="first")
    function()
    assert (first.told, local.told) == (TOLD, TOLD)
    everywhere(Witness(name="second"))


def test_a_circle_that_a_function_makes_leaves_out_the_global_one_there(everywhere, caplog):
    one, two = Witness(name="one", requires="two"), Witness(name="two")
    function, other = CallPyBack([one, two])(lambda: 1), CallPyBack()(lambda: 2)
    visitor = everywhere(Witness(name="visitor"), requires="one", required_by="two")
    assert (function(), other()) == (1, 2)
    assert (one.told, two.told) == (TOLD, TOLD)
    assert visitor.told == TOLD  # of the other
    assert any("visitor hears nothing of" in record.getMessage() for record in caplog.records)


def test_the_same_observer_is_told_once_however_often_it_is_registered(kind, everywhere):
    witness = everywhere(Witness())
    function = kind.make(lambda: 1, CallPyBack([witness]))
    kind.call(function)
    assert witness.told == TOLD
    handle(function).decorator.remove_observer(witness)
    kind.call(function)
    assert witness.told == TOLD * 2
    handle(function).add_observer(witness)
    kind.call(function)
    assert witness.told == TOLD * 3


def test_registered_where_it_hears_nothing_it_is_still_told_of_everything(kind, everywhere):
    witness = Witness()
    function = kind.make(lambda: 1, CallPyBack([Subscription(witness, match="nobody")]))
    everywhere(witness)
    kind.call(function)
    assert witness.told == TOLD


def test_twice_is_refused(everywhere):
    witness = everywhere(Witness())
    with pytest.raises(ConfigurationError, match="registered here already"):
        add_global_observer(witness)
    with pytest.raises(ConfigurationError, match="name='witness'"):
        add_global_observer(Witness(), name="witness")
    everywhere(Witness())
    assert [visitor.registration.name for visitor in VISITORS.everywhere][-2:] == ["witness", "witness#2"]


@pytest.mark.parametrize("observer", [5, None, Witness, len, "metrics"], ids=repr)
def test_what_is_no_observer_is_refused_at_once(observer):
    with pytest.raises(ConfigurationError):
        add_global_observer(observer)


@pytest.mark.parametrize("asked", [{"match": 5}, {"when": 5}, {"states": "all"}, {"name": ""}], ids=str)
def test_what_cannot_be_asked_for_is_refused_at_once(asked):
    with pytest.raises(ConfigurationError):
        add_global_observer(Witness(), **asked)


def test_removing_who_is_not_there_is_refused(everywhere):
    everywhere(Witness(name="metrics"))
    with pytest.raises(ConfigurationError, match=r"not registered globally.*metrics"):
        remove_global_observer("metrcs")
    with pytest.raises(ConfigurationError, match="not registered globally"):
        remove_global_observer(Witness())


def test_iterables_that_can_be_read_once_do_for_every_decorator(everywhere):
    witness = everywhere(Witness(), states=iter([COMPLETED]), match=iter(["*"]), when=iter([lambda c: c.is_successful]))
    for _ in range(2):
        function = CallPyBack(default_return=0)(lambda n: 1 / n)
        function(1), function(0)
    assert witness.told == ["COMPLETED"] * 2


def test_it_is_configured_once_whatever_the_number_of_decorators(everywhere):
    class Configured(BaseObserver):
        limit = 0
        configured = 0

        def configure(self, **options):
            super().configure(**options)
            self.configured += bool(options)

        def update(self, context): ...

    observer = everywhere(Configured(), options={"limit": 5})
    for _ in range(3):
        CallPyBack()(lambda: 1)()
    assert (observer.configured, observer.limit) == (1, 5)


# What it can't be told of, and what it decides


def test_an_async_observer_hears_of_what_can_await_it_and_says_once_of_what_it_does_not(everywhere, caplog):
    class Awaited(Witness):
        async def update(self, context):
            await asyncio.sleep(0)
            super().update(context)

    awaited = everywhere(Awaited())
    watch = CallPyBack()

    @watch
    def plain():
        return "plain"

    @watch
    async def coroutine():
        return "coroutine"

    for _ in range(3):
        assert plain() == "plain"
        handle(plain).pause()
        handle(plain).resume()
    assert asyncio.run(coroutine()) == "coroutine"
    assert awaited.told == TOLD
    warnings = [r for r in caplog.records if r.name == "callpyback" and r.levelno >= logging.WARNING]
    [warning] = warnings
    assert "witness hears nothing of" in warning.getMessage()
    assert "plain" in warning.getMessage()
    assert "async" in warning.getMessage()


def test_one_whose_filter_raises_for_a_function_hears_nothing_of_that_one(everywhere, caplog):
    def match(signature):
        return 1 / (signature.name != "odd")

    witness = everywhere(Witness(), match=match)
    watch = CallPyBack()

    @watch
    def odd():
        return 1

    @watch
    def even():
        return 2

    assert (odd(), even()) == (1, 2)
    assert witness.told == TOLD
    assert any("hears nothing of" in r.getMessage() and "odd" in r.getMessage() for r in caplog.records)


def test_one_that_cannot_be_bound_to_a_function_hears_nothing_of_it(everywhere, caplog):
    class Binding(BoundWitness):
        def bind(self, function_signature):
            if function_signature.kind is FunctionKind.GENERATOR:
                raise LookupError("no generators")
            return super().bind(function_signature)

    bound = everywhere(Binding())

    @CallPyBack()
    def items():
        yield 1

    assert list(items()) == [1]
    assert CallPyBack()(lambda: 1)() == 1
    assert len(bound.ends) == 1
    assert any("no generators" in record.getMessage() for record in caplog.records)


def test_a_global_guard_refuses_calls_everywhere(kind, everywhere):
    everywhere(RateLimitObserver(1, 60), match="*function")
    first = kind.make(lambda: 1, CallPyBack())
    assert kind.call(first) == 1
    assert isinstance(kind.ended(first).exception, CallVetoed)
    assert CallPyBack()(lambda: 2)() == 2


def test_a_global_cache_answers_for_those_it_is_asked_for(everywhere):
    ran = []
    everywhere(CacheObserver(), match="square")

    @CallPyBack()
    def square(n):
        ran.append(n)
        return n * n

    assert (square(3), square(3), ran) == (9, 9, [3])


def test_a_critical_one_refuses_calls_when_it_fails(kind, everywhere):
    class Critical(Witness):
        critical = True

        def update(self, context):
            raise LookupError("no")

    everywhere(Critical(), match="*function")
    assert isinstance(kind.ended(kind.make(lambda: 1, CallPyBack())).exception, LookupError)


def test_its_failures_are_counted_for_each_decorator_and_it_can_be_enabled_again(everywhere):
    class Failing(Witness):
        def update(self, context):
            super().update(context)
            raise LookupError("no")

    clock = MockTimeSource()
    failing = everywhere(Failing(COMPLETED))
    first, second = (CallPyBack(time_source=clock, max_observer_failures=2)(lambda: 1) for _ in range(2))
    for _ in range(3):
        assert first() == 1
    assert len(failing.told) == 2
    assert handle(first).health["witness"].paused
    assert handle(second).health["witness"].failures == 0
    second()
    assert len(failing.told) == 3
    handle(first).enable_observer("witness")
    first()
    assert len(failing.told) == 4
    first(), first()
    clock.advance(COOL_DOWN)
    first()
    assert handle(first).health["witness"].failures == 5


def test_functions_that_are_paused_or_shut_down_tell_nobody(kind, everywhere):
    witness = everywhere(Witness())
    decorator = CallPyBack()
    function = kind.make(lambda: 1, decorator)
    with handle(function).paused():
        kind.call(function)
    assert witness.told == []
    kind.call(function)
    assert witness.told == TOLD
    decorator.shutdown()
    kind.call(function)
    assert witness.told == TOLD


def test_what_observers_call_is_not_observed_by_global_ones_either(everywhere):
    witness = everywhere(Witness(COMPLETED))
    helper = CallPyBack()(lambda: 1)
    CallPyBack([on_completion(lambda: helper())])(lambda: 2)()
    assert len(witness.told) == 1


def test_an_observer_added_in_a_call_hears_of_the_next(everywhere):
    witness = Witness()

    @CallPyBack([Witness()])
    def adding(first):
        if first:
            everywhere(witness)

    adding(True)
    assert witness.told == []
    adding(False)
    assert witness.told == TOLD


def test_removed_in_a_call_it_is_told_no_more_of_it(kind):
    witness = Witness()
    add_global_observer(witness)
    function = kind.make(lambda: remove_global_observer(witness), CallPyBack())
    kind.call(function)
    assert witness.told == ["PRE_EXECUTION"]


# In the background


def test_through_a_background_observer(everywhere):
    witness = Witness(COMPLETED)
    background = everywhere(BackgroundObserver(witness))
    for _ in range(3):
        CallPyBack()(lambda: 1)()
    assert background.shutdown()
    assert witness.told == ["COMPLETED"] * 3


def test_a_decorator_that_delivers_in_the_background_tells_global_observers_at_once(everywhere):
    """Nobody who waits for the decorator's deliveries would know of theirs."""
    own, other = [], []
    everywhere(on_completion(lambda: other.append(threading.get_ident())))
    with CallPyBack([on_completion(lambda: own.append(1))], enable_async_observers=True) as decorator:
        function = decorator(lambda: 1)
        for _ in range(50):
            function()
        assert other == [threading.get_ident()] * 50
    assert own == [1] * 50


# Nobody is kept alive


def signature_keeper():
    class Keeper:
        priority = 0

        def bind(self, function_signature):
            return None, lambda elapsed, value, exception, outcome: function_signature.name

    return Keeper()


KEEPERS = {
    "metrics": MetricsObserver,
    "timing": lambda: TimingObserver(threshold=0.0),
    "logging": LoggingObserver,
    "by context": lambda: Witness(match="*", when=lambda context: False),
    "a closure over the signature": signature_keeper,
    "a predicate over signatures": lambda: Witness(match=lambda signature: signature.name, when=lambda context: False),
}


@pytest.mark.parametrize("make", KEEPERS.values(), ids=KEEPERS)
def test_functions_and_decorators_are_collected_though_somebody_hears_of_everything(make, everywhere):
    """T42: no global registry keeps functions."""
    everywhere(make())

    def foo(): ...

    decorator = CallPyBack()
    wrapped = decorator(foo)
    wrapped()
    references = [weakref.ref(known) for known in (foo, wrapped, decorator, handle(wrapped))]
    del foo, wrapped, decorator
    gc.collect()
    assert [reference() for reference in references] == [None] * 4


def test_a_weakly_held_global_observer_can_be_collected_and_is_forgotten(kind):
    function = kind.make(lambda: 1, CallPyBack())
    for _ in range(3):
        witness = Witness()
        add_global_observer(witness, weak=True, when=lambda context: True)
        kind.call(function)
        assert witness.told == TOLD
        reference = weakref.ref(witness)
        del witness
        gc.collect()
        assert reference() is None
        kind.call(function)
    assert handle(function).health == {}
    add_global_observer(last := Witness())  # whoever comes next clears up
    assert [visitor.observer for visitor in VISITORS.everywhere] == [last]
    remove_global_observer(last)
    assert plan_of(function) is EMPTY


def test_functions_travel_without_the_observers_of_everything(everywhere):
    witness = everywhere(Witness())
    function = CallPyBack()(lambda: "value")
    function()
    travelled = pickle.loads(cloudpickle.dumps(function))
    assert travelled() == "value"
    assert witness.told == TOLD * 2  # it is in this process, so here it is told again
    assert list(handle(travelled).health) == ["witness"]


def test_elsewhere_a_travelled_function_is_on_its_own():
    program = """
        import pickle, subprocess, sys, cloudpickle
        from callpyback import add_global_observer, handle, on_completion, CallPyBack
        told = []
        add_global_observer(on_completion(lambda: told.append(1)))
        function = CallPyBack()(lambda: "value")
        function()
        code = "import pickle, sys; f = pickle.load(sys.stdin.buffer); print(f(), len(f.callpyback.health))"
        done = subprocess.run([sys.executable, "-c", code], input=cloudpickle.dumps(function), capture_output=True)
        print(done.stdout.decode().strip(), done.stderr.decode()[-300:], len(told))
    """
    assert run_python(program).split() == ["value", "0", "1"]


# Threads


def test_told_exactly_while_registered_under_threads(hurried):
    """Eight threads call; a ninth adds and removes. Who adds is told of its own calls, and of none after."""
    watch = CallPyBack()
    functions = [watch(lambda n: n) for _ in range(3)]
    done = threading.Event()
    wrong = []

    def call_on():
        while not done.is_set():
            for function in functions:
                function(0)

    def come_and_go():
        try:
            for round_ in range(1, 150):
                witness = Witness(COMPLETED, name=f"{round_}", when=lambda c, n=round_: c.arguments["n"] == n)
                functions[0](round_)
                add_global_observer(witness)
                for function in functions:
                    function(round_)
                remove_global_observer(witness)
                functions[0](round_)
                if witness.told != ["COMPLETED"] * 3:
                    wrong.append((round_, witness.told))
        finally:
            done.set()

    in_threads(lambda number: call_on() if number else come_and_go(), 9)
    assert wrong == []
    assert all(plan_of(function) is EMPTY for function in functions)


def test_coming_and_going_everywhere_at_once_never_hangs():
    program = """
        import faulthandler, sys, threading
        from callpyback import CallPyBack, ExecutionState, handle, observing
        from callpyback import add_global_observer, remove_global_observer
        from kinds import Witness
        faulthandler.dump_traceback_later(50, exit=True)
        sys.setswitchinterval(1e-6)
        watch = CallPyBack()
        functions = [watch(lambda: 1) for _ in range(3)]

        def on_decorator():
            witness = Witness(name="a")
            watch.add_observer(witness)
            watch.remove_observer(witness)

        def on_function():
            witness = Witness(name="b")
            handle(functions[0]).add_observer(witness)
            handle(functions[0]).remove_observer(witness)

        def everywhere():
            witness = Witness(name="c")
            add_global_observer(witness)
            remove_global_observer(witness)

        def inside():
            witness = Witness(ExecutionState.COMPLETED, name="d")
            with observing(witness):
                functions[1]()
            assert witness.told == ["COMPLETED"], witness.told

        def calling():
            for function in functions:
                assert function() == 1

        def decorating():
            assert watch(lambda: 2)() == 2

        failed = []
        def repeat(job):
            try:
                for _ in range(300):
                    job()
            except BaseException as error:
                failed.append(repr(error))

        jobs = [on_decorator, on_function, everywhere, inside, inside, calling, calling, decorating]
        threads = [threading.Thread(target=repeat, args=(job,)) for job in jobs]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        print(failed, [len(handle(function).health) for function in functions])
    """
    assert run_python(program) == "[] [0, 0, 0]"
