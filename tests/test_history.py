"""`HistoryObserver`: the newest contexts in order, or text that keeps nothing alive."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import threading
import weakref

import pytest

from callpyback import (
    BaseObserver,
    CallPyBack,
    ConfigurationError,
    ExecutionState,
    FunctionSignature,
    HistoryObserver,
    MockTimeSource,
    Outcome,
)
from callpyback.observers.history import CallRecord
from callpyback.testing import build_context

PAY = FunctionSignature("pay", qualname="Shop.pay", module="shop.orders")
REFUND = FunctionSignature("refund", module="shop.orders")
BOTH = pytest.mark.parametrize("text", [False, True], ids=["contexts", "text"])


def filled(text=False, **options):
    history = HistoryObserver(text=text, **options)
    for function, given in (
        (PAY, {"value": 30}),
        (REFUND, {"exception": ValueError("too late")}),
        (PAY, {"exception": KeyError("card"), "returned": 0}),
        (PAY, {"exception": GeneratorExit()}),
    ):
        history.update(build_context(function, **given))
    return history


def outcomes(kept):
    return [one.outcome.name for one in kept]


@BOTH
def test_each_call_is_kept_by_its_last_context_in_the_order_the_calls_ended(kind, text):
    history = HistoryObserver(text=text)
    function = kind.make(lambda n: 1 // n, CallPyBack([history], exception_classes=[OSError]))
    for n in (1, 0, 2):
        kind.ended(function, n)
    assert [one.state.name for one in history] == ["COMPLETED", "ERROR", "COMPLETED"]
    assert outcomes(history) == ["SUCCESS", "FAILURE", "SUCCESS"]


@BOTH
def test_only_the_newest_are_kept(text):
    history = HistoryObserver(2, text=text)
    for n in range(5):
        history.update(build_context(call_id=str(n)))
    assert [one.call_id for one in history] == ["3", "4"]
    assert history.last().call_id == "4"
    assert len(history) == history.maxlen == 2
    assert history.get_metrics() == {"told": 5, "kept": 2, "maxlen": 2}
    json.dumps(history.get_metrics())


def test_what_is_kept_by_default_is_the_context_itself():
    history, context = HistoryObserver(), build_context()
    history.update(context)
    assert history.last() is context


def test_all_states_may_be_kept():
    history = HistoryObserver(states=ExecutionState)
    CallPyBack([history])(lambda: 1)()
    assert [context.state.name for context in history] == [
        "INITIALIZED",
        "PRE_EXECUTION",
        "EXECUTING",
        "POST_SUCCESS",
        "COMPLETED",
    ]


@BOTH
class TestQueries:
    def test_the_newest_few(self, text):
        history = filled(text)
        assert outcomes(history.newest(2)) == ["HANDLED", "ABANDONED"]
        assert len(history.newest(100)) == 4

    def test_failures_are_those_that_show_an_exception(self, text):
        assert outcomes(filled(text).failures()) == ["FAILURE", "HANDLED"]

    @pytest.mark.parametrize(
        ("pattern", "found"),
        [("pay", 3), ("Shop.pay", 3), ("shop.orders.Shop.pay", 3), ("shop.orders.*", 4), ("ref*", 1), ("PAY", 0)],
    )
    def test_a_pattern_is_matched_against_every_name_of_the_function(self, text, pattern, found):
        assert len(filled(text).find(pattern)) == found
        assert len(filled(text).find([pattern, "nothing"])) == found

    def test_by_outcome(self, text):
        history = filled(text)
        assert outcomes(history.find(outcome=Outcome.HANDLED)) == ["HANDLED"]
        assert outcomes(history.find("pay", outcome={Outcome.SUCCESS, Outcome.FAILURE})) == ["SUCCESS"]

    def test_by_a_predicate(self, text):
        assert outcomes(filled(text).find(when=lambda kept: kept.is_failed)) == ["FAILURE", "HANDLED"]

    def test_everything_without_a_question(self, text):
        assert len(filled(text).find()) == 4

    def test_of_nothing(self, text):
        history = HistoryObserver(text=text)
        assert (history.last(), history.newest(1), history.failures(), list(history), len(history)) == (
            None,
            [],
            [],
            [],
            0,
        )
        assert history  # an observer is one, however little it keeps

    def test_what_is_returned_is_a_list_of_its_own(self, text):
        history = filled(text)
        history.find().clear()
        assert len(history) == 4


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("match", 3), ("match", []), ("match", len), ("outcome", "failure"), ("outcome", [1]), ("when", 3)],
    ids=range(6),
)
def test_other_questions_are_refused_by_name(parameter, value):
    with pytest.raises(ConfigurationError, match=f"{parameter}="):
        HistoryObserver().find(**{parameter: value})


@pytest.mark.parametrize(
    ("parameter", "value"), [("maxlen", 0), ("maxlen", None), ("maxlen", True), ("text", 1), ("states", [])]
)
def test_other_values_are_refused_by_name(parameter, value):
    with pytest.raises(ConfigurationError, match=f"{parameter}="):
        HistoryObserver(**{parameter: value})


def test_a_huge_maxlen_is_taken():
    assert HistoryObserver(10**30).maxlen > 10**9


class TestText:
    def test_a_record_says_what_the_context_did(self):
        clock = MockTimeSource(100.0)
        history = HistoryObserver(text=True)

        @CallPyBack([history], time_source=clock, variable_names=["total"], metadata={"team": "shop"})
        def pay(amount, *, card="visa"):
            total = amount + 1
            clock.advance(2.0)
            return [total]

        pay(30)
        record = history.last()
        qualname = "TestText.test_a_record_says_what_the_context_did.<locals>.pay"
        assert record == CallRecord(
            module=__name__,
            qualname=qualname,
            name="pay",
            state=ExecutionState.COMPLETED,
            outcome=Outcome.SUCCESS,
            call_id=record.call_id,
            timestamp=100.0,
            execution_time=2.0,
            arguments={"amount": "30", "card": "'visa'"},
            value="[31]",
            exception=None,
            local_variables={"total": "31"},
            metadata={"team": "'shop'"},
        )
        assert record.call_id
        assert record.function == f"{__name__}.{qualname}"

    def test_a_record_of_a_failure_has_its_text_and_no_value(self):
        history = HistoryObserver(text=True)
        history.update(build_context(exception=ValueError("a\nb")))
        assert (history.last().exception, history.last().value) == (r"ValueError: a\nb", None)

    def test_a_record_of_a_beginning_has_neither(self):
        history = HistoryObserver(text=True, states=ExecutionState.PRE_EXECUTION)
        history.update(build_context(state=ExecutionState.PRE_EXECUTION))
        record = history.last()
        assert (record.outcome, record.value, record.exception, record.execution_time) == (None, None, None, None)
        assert not record.is_failed

    def test_values_and_names_are_one_bounded_line(self):
        history = HistoryObserver(text=True)
        history.update(
            build_context(FunctionSignature("f\ng"), arguments={"big": "x\n" * 10**6, "a\nb": 1}, value="y" * 10**6)
        )
        record = history.last()
        shown = [record.function, record.value, *record.arguments, *record.arguments.values()]
        assert all(len(text) <= 200 and text.isprintable() for text in shown)

    def test_a_bad_repr_is_contained(self):
        class Broken:
            def __repr__(self):
                raise SystemExit

        history = HistoryObserver(text=True)
        history.update(build_context(arguments={"x": Broken()}, value=Broken()))
        assert history.last().value == history.last().arguments["x"] == "<unrepresentable Broken: SystemExit>"

    def test_records_keep_nothing_of_a_call_alive(self):
        class Cart:
            pass

        class Failure(Exception):
            pass

        history = HistoryObserver(text=True, states=ExecutionState)

        @CallPyBack([history], variable_names=["mine"])
        def pay(cart, fails):
            mine = cart
            if fails:
                raise Failure(mine)
            return cart

        for fails in (False, True):
            cart = Cart()
            reference = weakref.ref(cart)
            try:
                pay(cart, fails)
            except Failure as error:
                reference_of_error = weakref.ref(error)
            del cart
            gc.collect()
            assert reference() is None
        assert reference_of_error() is None
        assert len(history) == 10


def test_contexts_show_values_as_they_are_when_read_and_hold_no_frames():
    history, basket = HistoryObserver(), []

    @CallPyBack([history])
    def fill(basket):
        secret = object.__new__(type("Secret", (), {}))
        references.append(weakref.ref(secret))
        raise ValueError(basket)

    references = []
    with pytest.raises(ValueError):
        fill(basket)
    basket.append("later")
    gc.collect()
    assert history.last().arguments == {"basket": ["later"]}
    assert references[0]() is None


def test_clear_keeps_the_count_and_reset_does_not():
    history = filled()
    history.clear()
    assert history.get_metrics() == {"told": 4, "kept": 0, "maxlen": 1000}
    history.update(build_context())
    history.reset()
    assert history.get_metrics() == {"told": 0, "kept": 0, "maxlen": 1000}


@BOTH
def test_many_threads_are_told_of_and_read_meanwhile(text):
    history = HistoryObserver(100, text=text)
    context, problems, over = build_context(), [], threading.Event()

    def write():
        for _ in range(2000):
            history.update(context)

    def read():
        try:
            while not over.is_set():
                assert len(history.find()) <= 100
                list(history)
        except Exception as error:
            problems.append(error)

    writers, reader = [threading.Thread(target=write) for _ in range(4)], threading.Thread(target=read)
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    over.set()
    reader.join()
    assert problems == []
    assert history.get_metrics() == {"told": 8000, "kept": 100, "maxlen": 100}


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
class TestCopies:
    def test_text_travels_and_goes_its_own_way(self, again):
        history = filled(text=True, maxlen=5, priority=3, name="mine")
        twin = again(history)
        assert list(twin) == list(history)
        twin.update(build_context())
        assert (len(history), len(twin), history.get_metrics()["told"]) == (4, 5, 4)
        assert (twin.priority, twin.name, twin.maxlen) == (3, "mine", 5)

    def test_contexts_stay_behind(self, again):
        history = HistoryObserver(5)
        history.update(build_context(value=threading.Lock()))
        twin = again(history)
        assert (len(history), len(twin), twin.maxlen) == (1, 0, 5)


def test_it_is_an_observer_like_others():
    assert isinstance(HistoryObserver(), BaseObserver)
    assert HistoryObserver().name == "HistoryObserver"
