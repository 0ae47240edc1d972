"""`BackgroundObserver` among the observers of a function: what it is told, what it keeps of its observer, copies.

The queue and its ledger, flushing and shutting down, failing sinks and async ones have test_delivery_*.py each; forks,
signals and the end of the program are in test_delivery_processes.py, the ledger under every sequence of events in
properties/test_delivery.py. Of the list of cases:

* D28 to D30, D11 to D24: stores, exporters and webhooks, which this version does not have; a poison event among others
  is in test_batching.py.
* C34: gevent is not among the tested libraries. Locks, threads and waits are those of `threading` and `queue`, looked
  up when they are made, so a program that gevent has patched gets greenlets.
* C35: the counts go by the interpreter's lock; free-threaded builds are not among the tested Pythons.
* M09: the worst case is in the docstring of `BackgroundObserver`; that the queue never gets longer is tested here.
"""

from __future__ import annotations

import copy
import gc
import itertools
import logging
import pickle
import threading
import weakref

import cloudpickle
import pytest

from callpyback import (
    BackgroundObserver,
    BaseObserver,
    CallPyBack,
    ConfigurationError,
    ExecutionState,
    MetricsObserver,
    Notice,
    Retry,
    create_callback_observer,
    handle,
    on_failure,
    on_retry,
)
from callpyback.core.telling import TELLING
from delivering import LIMIT, OVERFLOWS, Gate, Kept, background, counted, held, offered, worker_of
from kinds import Witness, drive

__all__ = ["background"]  # fixtures


def test_a_call_returns_while_the_observer_is_still_busy_with_it(kind, background):
    gate = Gate()
    observer = background(gate)
    function = kind.make(lambda: "value", CallPyBack([observer]))
    assert kind.call(function) == "value"
    assert kind.call(function) == "value"
    assert gate.seen == []
    gate.opened.set()
    assert observer.flush(LIMIT)
    assert [context.state.name for context in gate.seen] == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"] * 2


def test_a_background_observer_is_told_what_an_inline_one_is_told_in_the_same_order(background):
    inline, sink = Witness(), Kept()
    observer = background(sink)

    @CallPyBack([inline, observer])
    def factorial(n):
        return n * factorial(n - 1) if n else 1

    factorial(4)
    observer.flush(LIMIT)
    told = [(context.call_id, context.state, context.outcome, context.result) for context in inline.contexts]
    assert [(c.call_id, c.state, c.outcome, c.result) for c in sink.seen] == told
    assert [context.arguments for context in sink.seen] == [context.arguments for context in inline.contexts]


def test_a_context_shows_the_failure_after_the_call_has_ended(kind, background):
    gate = Gate()
    observer = background(gate)
    failing = kind.make(lambda: 1 / 0, CallPyBack([observer]))
    assert isinstance(kind.ended(failing).exception, ZeroDivisionError)
    gate.opened.set()
    observer.flush(LIMIT)
    context = gate.seen[-1]
    assert context.result.exception_type is ZeroDivisionError
    assert "ZeroDivisionError: division by zero" in context.result.traceback_info
    assert context.result.exception.__traceback__ is None


def test_a_slot_lasts_from_the_first_state_to_the_last(kind, background):
    class Slotted(Kept):
        def update(self, context):
            told = context.slot.setdefault("told", [])
            told.append(context.state.name)
            super().update(tuple(told))

    sink = Slotted()
    observer = background(sink)
    function = kind.make(lambda: "value", CallPyBack([observer]))
    kind.call(function)
    kind.call(function)
    observer.flush(LIMIT)
    assert sink.seen[2::3] == [("PRE_EXECUTION", "POST_SUCCESS", "COMPLETED")] * 2


def test_the_thread_is_started_by_the_first_offer_and_is_a_daemon(background):
    observer = background(Kept(name="not yet started"))
    CallPyBack([observer])(lambda: None)
    assert observer.flush(LIMIT)
    assert "callpyback not yet started" not in [thread.name for thread in threading.enumerate()]
    observer.update(1)
    observer.flush(LIMIT)
    assert worker_of(observer).daemon


@pytest.mark.parametrize("overflow", OVERFLOWS)
def test_an_observer_may_call_the_function_it_observes(kind, background, overflow):
    class Calling(Kept):
        def update(self, context):
            super().update(kind.call(function))

    sink = Calling()
    observer = background(sink, max_queue=10, overflow=overflow, block_timeout=LIMIT)
    function = kind.make(lambda: "value", CallPyBack([observer]))
    kind.call(function)
    assert observer.flush(LIMIT)
    assert sink.seen == ["value"] * 3
    assert handle(function).unobserved == 3
    assert observer.ledger == counted(offered=3, delivered=3)
    assert observer.shutdown(LIMIT)
    assert TELLING == []


def test_calls_of_other_threads_are_observed_while_the_sink_is_at_work(background):
    held(background)
    witness = Witness()
    CallPyBack([witness])(lambda: None)()
    assert witness.told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]


def test_a_logging_handler_that_calls_the_observed_function_makes_no_loop(background):
    class Calling(logging.Handler):
        def emit(self, record):
            function()

    class Broken(BaseObserver):
        states = ExecutionState.COMPLETED

        def update(self, context):
            raise LookupError

    observer, handler = background(Broken()), Calling()
    function = CallPyBack([observer])(lambda: None)
    logging.getLogger("callpyback").addHandler(handler)
    try:
        function()
        assert observer.flush(LIMIT)
    finally:
        logging.getLogger("callpyback").removeHandler(handler)
    assert observer.ledger == counted(offered=1, failed=1)
    assert handle(function).unobserved == 1


def test_states_priority_and_name_are_the_observers(background):
    failures = background(on_failure(lambda exception: None, priority=7, name="alerts"))
    assert (failures.states, failures.priority, failures.name) == ({ExecutionState.POST_FAILURE}, 7, "alerts")
    plain = background(Witness(priority=3))
    assert (plain.states, plain.priority, plain.name) == (None, 3, "witness")


def test_an_observer_of_notices_alone_is_told_of_them(kind, background):
    sink = on_retry(lambda attempt, exception: told.append((attempt, type(exception))))
    told, observer = [], background(sink)
    assert (observer.states, observer.notices) == (frozenset(), sink.notices)
    errors = [ValueError, OSError]

    def body():
        if errors:
            raise errors.pop(0)

    kind.ended(kind.make(body, CallPyBack([observer], retry=Retry(attempts=3, on=Exception, wait=0))))
    assert observer.flush(LIMIT)
    assert told == ([] if kind.is_generator else [(1, ValueError), (2, OSError)])  # not after the first item


def test_notices_are_kept_beside_states(background):
    observer = background(create_callback_observer(print, [Notice.RETRY, ExecutionState.COMPLETED]))
    assert (observer.states, observer.notices) == ({ExecutionState.COMPLETED}, {Notice.RETRY})


def test_states_priority_and_name_may_be_others(background):
    observer = background(Witness(priority=3), states=ExecutionState.COMPLETED, priority=0, name="other")
    assert (observer.states, observer.priority, observer.name) == ({ExecutionState.COMPLETED}, 0, "other")


def test_counters_with_an_update_may_run_in_the_background_too(background):
    observer = background(MetricsObserver())
    function = CallPyBack([observer], default_return=None)(lambda text: int(text))
    function("1")
    function("x")
    observer.flush(LIMIT)
    metrics = observer.get_metrics()
    assert metrics["observer"]["counters"]["calls"] == 2
    assert metrics["observer"]["counters"]["handled"] == 1
    assert metrics["ledger"] == {
        "offered": 2,
        "delivered": 2,
        "failed": 0,
        "pending": 0,
        "dropped": {"overflow": 0, "shutdown": 0},
    }
    assert (metrics["queue_length"], metrics["max_queue"], metrics["last_error"]) == (0, 10_000, None)


def test_metrics_need_no_metrics_of_the_observer(background):
    assert "observer" not in background(Witness()).get_metrics()


def test_the_observer_is_configured_and_validated_with_its_decorator(background):
    class Careful(BaseObserver):
        level = 0

        def update(self, context): ...

        def validate(self):
            if self.level > 3:
                raise ValueError("too high")

    observer = background(Careful())
    CallPyBack().add_observer(observer, options={"level": 2})
    assert observer.observer.level == 2
    with pytest.raises(ConfigurationError, match="too high"):
        CallPyBack().add_observer(background(Careful()), options={"level": 4})


class BindOnly:
    priority = 0

    def bind(self, function_signature):
        return None, None


class Guarding(Witness):
    guard = True


class Critical(Witness):
    critical = True


class Generating(Witness):
    def update(self, context):
        yield


@pytest.mark.parametrize(
    ("observer", "message"),
    [
        (Guarding(), "is a guard or critical"),
        (Critical(), "is a guard or critical"),
        (BindOnly(), "meant to run inline"),
        (BackgroundObserver(Witness()), "in the background already"),
        (Generating(), "remove the `yield`"),
        (Kept, r"did you mean Kept\(\)"),
        (len, "lacks `update`"),
        (None, "lacks `update`"),
    ],
)
def test_what_cannot_be_told_later_is_refused(observer, message):
    with pytest.raises(ConfigurationError, match=message):
        BackgroundObserver(observer)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *itertools.product(["max_queue"], [0, -1, 1.5, True, "10", None]),
        *itertools.product(["overflow"], ["drop", "", None, 3, []]),
        *itertools.product(["block_timeout", "exit_timeout"], [-1, float("nan"), float("inf"), "1", True, None]),
        *itertools.product(["priority"], ["high", float("nan"), True]),
        ("name", 3),
        ("states", "COMPLETED"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused_by_name(parameter, value):
    with pytest.raises(ConfigurationError, match=parameter):
        BackgroundObserver(Witness(), **{parameter: value})


def test_a_misspelled_policy_is_met_with_the_nearest():
    with pytest.raises(ConfigurationError, match="did you mean 'drop_oldest'"):
        BackgroundObserver(Witness(), overflow="drop_oldst")


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), "1"])
def test_a_timeout_that_makes_no_sense_is_refused(background, timeout):
    observer = background(Witness())
    for wait in (observer.flush, observer.shutdown):
        with pytest.raises(ConfigurationError, match="timeout"):
            wait(timeout)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_has_a_queue_of_its_own(background, copied):
    observer = background(Kept(), max_queue=7)
    observer.update(1)
    observer.flush(LIMIT)
    other = copied(observer)
    assert (other.max_queue, other.name, other.ledger) == (7, "Kept", counted())
    other.update(2)
    assert other.flush(LIMIT)
    assert other.observer.seen[-1] == 2
    assert observer.ledger == counted(offered=1, delivered=1)
    assert other.shutdown(LIMIT)


def test_a_decorated_closure_travels_with_its_background_observer(background):
    function = CallPyBack([background(Kept())])(lambda: "value")
    function()
    arrived = cloudpickle.loads(cloudpickle.dumps(function))
    assert arrived() == "value"
    [observer] = handle(arrived).observers
    assert observer.flush(LIMIT)
    assert observer.ledger == counted(offered=3, delivered=3)


def test_an_observer_that_is_dropped_delivers_the_rest_and_ends_its_thread():
    gate = Gate()
    observer = BackgroundObserver(gate)
    offered(observer, 1, 2, 3)
    assert gate.reached.wait(LIMIT)
    thread = worker_of(observer)
    reference = weakref.ref(observer)
    del observer
    gc.collect()
    assert reference() is None
    gate.opened.set()
    thread.join(LIMIT)
    assert not thread.is_alive()
    assert gate.seen == [1, 2, 3]


def test_an_observer_of_a_dropped_function_ends_its_thread_too():
    sink = Kept(name="of a dropped function")
    function = CallPyBack([BackgroundObserver(sink)])(lambda: None)
    function()
    [observer] = handle(function).observers
    observer.flush(LIMIT)
    thread = worker_of(observer)
    del function, observer
    sink.seen.clear()
    gc.collect()
    thread.join(LIMIT)
    assert not thread.is_alive()


def test_a_coroutine_driven_by_hand_is_observed_in_the_background(background):
    sink = Kept()
    observer = background(sink)

    @CallPyBack([observer])
    async def function():
        return "value"

    assert drive(function()) == "value"
    assert observer.flush(LIMIT)
    assert [context.state.name for context in sink.seen] == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]
