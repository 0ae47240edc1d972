"""How far a body has come is told at once, in its own thread, to those who ask; nothing they do changes the call."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import pickle
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from callpyback import (
    BaseObserver,
    CallbackObserver,
    CallPyBack,
    CallVetoed,
    ConfigurationError,
    ExecutionState,
    MetricsObserver,
    Notice,
    ProgressNotice,
    StopProcessing,
    Subscription,
    create_callback_observer,
    handle,
    on_progress,
    on_retry,
)
from callpyback.core.telling import TELLING
from callpyback.testing import assert_healthy, build_context
from kinds import BoundWitness, Witness, drive, ended
from retrying import make, repeating
from tracking import current_call, tracked, watched

__all__ = ["tracked", "watched"]

pytestmark = pytest.mark.usefixtures("tracked")

S = ExecutionState


def noting(notes):
    return on_progress(lambda done, total: notes.append((done, total)))


class Told(Witness):
    """Told of progress and of nothing else."""

    states = frozenset()

    def __init__(self, **options) -> None:
        super().__init__(notices=Notice.PROGRESS, **options)
        self.states = frozenset()


class TestTrack:
    def test_each_item_is_told_when_the_next_one_is_asked_for(self, kind, watched):
        notes = []

        def body():
            for item in current_call().track(["a", "b"]):
                notes.append(item.upper())  # noqa: PERF401 - one after the other is the subject
            return "value"

        assert kind.call(kind.make(body, watched(noting(notes)))) == "value"
        assert notes == [(0, 2), "A", (1, 2), "B", (2, 2)]

    @pytest.mark.parametrize(
        ("iterable", "total", "expected"),
        [
            ("ab", None, 2),
            (range(3), None, 3),
            (iter([1, 2]), None, 2),  # it says itself how many are left
            ((item for item in "ab"), None, None),
            ((item for item in "ab"), 7, 7),
            ([1, 2], 7, 7),
            ([], None, 0),
        ],
        ids=range(7),
    )
    def test_the_total_is_the_length_if_there_is_one_and_none_is_given(self, iterable, total, expected):
        notes = []
        CallPyBack([noting(notes)])(lambda: list(current_call().track(iterable, total)))()
        assert {known for _, known in notes} == {expected}

    def test_a_length_that_fails_is_no_length(self):
        class Odd(list):
            def __len__(self):
                raise RuntimeError

        notes = []
        items = CallPyBack([noting(notes)])(lambda: [item + 1 for item in current_call().track(Odd([1]))])()
        assert items == [2]
        assert notes == [(0, None), (1, None)]

    def test_what_the_iterable_raises_is_the_bodys(self, watched):
        error, notes = LookupError("user's"), []

        def failing():
            yield 1
            raise error

        came = ended(watched(noting(notes))(lambda: list(current_call().track(failing()))))
        assert came.exception is error
        assert notes == [(0, None), (1, None)]

    def test_a_loop_that_is_left_lets_go_of_the_iterable(self):
        closed = []

        def items():
            try:
                yield from range(5)
            finally:
                closed.append("items")

        def body():
            for item in current_call().track(items()):
                if item == 1:
                    break
            closed.append("loop left")

        notes = []
        CallPyBack([noting(notes)])(body)()
        assert closed == ["items", "loop left"]
        assert notes == [(0, None), (1, None)]

    def test_asynchronous_iterables_too(self, watched):
        notes, closed = [], []

        async def items():
            try:
                for item in "abc":
                    await asyncio.sleep(0)
                    yield item
            finally:
                closed.append(True)

        async def body(most):
            tracking = current_call().track(items(), 3)
            async for item in tracking:
                notes.append(item)
                if len(notes) == most:
                    break
            await tracking.aclose()

        function = watched(noting(notes))(body)
        asyncio.run(function(100))
        assert notes == [(0, 3), "a", (1, 3), "b", (2, 3), "c", (3, 3)]
        notes.clear()
        asyncio.run(function(2))
        assert notes == [(0, 3), "a"]
        assert closed == [True, True]

    def test_an_async_iterator_that_cannot_be_closed_need_not_be(self):
        class Items:
            left = 2

            def __aiter__(self):
                return self

            async def __anext__(self):
                if not self.left:
                    raise StopAsyncIteration
                self.left -= 1
                return self.left

        async def body():
            tracking = current_call().track(Items())
            items = [item async for item in tracking]
            await tracking.aclose()
            return items

        assert asyncio.run(CallPyBack([noting([])])(body)()) == [1, 0]

    def test_what_can_be_iterated_both_ways_is_for_a_plain_loop(self):
        class Both(list):
            def __aiter__(self):
                raise AssertionError

        notes = []
        assert CallPyBack([noting(notes)])(lambda: list(current_call().track(Both([1]))))() == [1]
        assert notes == [(0, 1), (1, 1)]

    @pytest.mark.parametrize("observers", [[], [Witness()], [MetricsObserver()]], ids=range(3))
    def test_where_nobody_listens_it_is_the_iterables_own_iterator(self, observers):
        async def items():
            yield 1

        def body():
            call, given, agen = current_call(), iter([1]), items()
            return [call.track(given) is given, type(call.track([1])), call.track(agen) is agen]

        assert CallPyBack(observers)(body)() == [True, type(iter([])), True]

    def test_what_is_not_iterable_is_refused_at_once_listened_to_or_not(self, watched):
        def body():
            with pytest.raises(TypeError, match="not iterable"):
                current_call().track(5)
            return True

        assert watched(noting([]))(body)()
        assert body()


class TestNotices:
    def test_observers_that_ask_are_told_inside_executing(self, kind, watched):
        told = Told()

        def body(asset):
            call = current_call()
            call["asset"] = asset
            call.progress(1, 2)
            call["late"] = True

        kind.call(kind.make(body, watched(told, metadata={"m": 1})), "rock")
        [context] = told.contexts
        assert context.state is S.EXECUTING
        assert context.notice == ProgressNotice(1, 2)
        assert (context.result, context.outcome, context.execution_time) == (None, None, None)
        assert context.tags == {"asset": "rock"}
        assert context.metadata == {"m": 1, "asset": "rock"}
        assert (context.attempt, context.depth) == (1, 0)
        assert context.arguments["args"] == ("rock",)

    def test_they_are_told_once_for_each_time_in_order_of_priority(self, kind, watched):
        notes = []
        observers = [
            on_progress(lambda done: notes.append(("low", done)), priority=-1),
            on_progress(lambda done: notes.append(("high", done)), priority=1),
        ]
        kind.call(kind.make(lambda: [current_call().progress(done) for done in range(2)], watched(*observers)))
        assert notes == [("high", 0), ("low", 0), ("high", 1), ("low", 1)]

    def test_what_is_told_together_with_states_shares_slot_and_id(self, kind, watched):
        class Counting(BaseObserver):
            notices = frozenset({Notice.PROGRESS})
            ends = ()

            def update(self, context):
                context.slot["told"] = context.slot.get("told", 0) + 1
                context.shared.counting.ids = {*vars(context.shared.counting).get("ids", ()), context.call_id}
                if context.outcome is not None:
                    self.ends = (*self.ends, (context.slot["told"], len(context.shared.counting.ids)))

        counting = Counting()
        function = kind.make(lambda: list(current_call().track("ab")), watched(counting))
        kind.call(function)
        kind.call(function)
        assert counting.ends == ((6, 1), (6, 1))

    def test_observers_told_by_plain_values_may_ask_for_it(self, kind):
        class Bound(BoundWitness):
            notices = frozenset({Notice.PROGRESS})
            told = 0

            def update(self, context):
                self.told += context.notice.done

        bound = Bound()
        kind.call(kind.make(lambda: current_call().progress(5), CallPyBack([bound])))
        assert bound.told == 5
        assert bound.begun == len(bound.ends) == 1

    def test_the_time_of_a_context_is_that_of_the_beginning(self):
        told, bound = Told(), BoundWitness()

        @CallPyBack([told, bound])
        def body():
            current_call().progress(1)
            threading.Event().wait(0.02)
            current_call().progress(2)

        body()
        first, second = told.contexts
        assert abs(first.timestamp - second.timestamp) < 0.01

    def test_a_predicate_may_choose(self, kind, watched):
        notes = []
        chosen = Subscription(noting(notes), when=lambda context: context.notice.done > 1)
        kind.call(kind.make(lambda: list(current_call().track("abc")), watched(chosen)))
        assert notes == [(2, 3), (3, 3)]

    def test_each_attempt_tells_of_itself(self, kind, watched):
        notes = []

        def body():
            call = current_call()
            call.progress(call.attempt, 3)
            if call.attempt < 3:
                raise ValueError

        told = on_progress(lambda attempt, done: notes.append((attempt, done)))
        kind.call(make(kind, body, watched(told, retry=repeating(on=ValueError))))
        assert notes == [(1, 1), (2, 2), (3, 3)]

    def test_retries_and_progress_are_told_apart(self, kind, watched):
        notes, told = [], Told(name="told")

        def body():
            current_call().progress(current_call().attempt)
            if current_call().attempt < 2:
                raise ValueError("e")

        both = create_callback_observer(
            lambda context, exception, wait, done: notes.append((repr(exception), wait, done)),
            [Notice.RETRY, Notice.PROGRESS],
        )
        kind.call(make(kind, body, watched(both, told, retry=repeating(on=ValueError))))
        assert notes == [("None", None, 1), ("ValueError('e')", 0.0, None), ("None", None, 2)]
        assert [context.notice for context in told.contexts] == [ProgressNotice(1), ProgressNotice(2)]

    def test_a_body_with_a_deadline_tells_from_its_thread(self, kind):
        notes, threads = [], set()
        observers = [noting(notes), on_progress(lambda: threads.add(threading.get_ident()))]
        function = kind.make(lambda: list(current_call().track("ab")), CallPyBack(observers, max_execution_time=60))
        kind.call(function)
        assert notes == [(0, 2), (1, 2), (2, 2)]
        assert len(threads) == 1

    def test_threads_that_tell_at_once_are_told_each_its_own(self):
        seen = []

        class Checking(BaseObserver):
            notices = frozenset({Notice.PROGRESS})
            states = frozenset({S.COMPLETED})

            def update(self, context):
                if context.notice is not None:
                    seen.append((threading.get_ident(), context.notice.done, context.notice.total))

        @CallPyBack([Checking()])
        def body():
            call = current_call()

            def tell(number):
                for turn in range(100):
                    call.progress((number, turn), threading.get_ident())

            with ThreadPoolExecutor(4) as pool:
                list(pool.map(tell, range(4)))

        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            body()
        finally:
            sys.setswitchinterval(before)
        assert len(seen) == 400
        assert all(thread == told_by for thread, _, told_by in seen)
        assert len({done for _, done, _ in seen}) == 400
        assert TELLING == []

    @pytest.mark.parametrize("value", [None, "half", float("nan"), -1, object(), 10**400])
    def test_whatever_is_told_is_told_as_it_is(self, value):
        told = Told()
        CallPyBack([told])(lambda: current_call().progress(value, value))()
        [notice] = [context.notice for context in told.contexts]
        assert notice.done is value
        assert notice.total is value
        assert notice.fraction is None or 0.0 <= notice.fraction <= 1.0

    def test_a_call_that_was_built_tells_nobody_that_was_paused_or_removed(self):
        notes = []
        function = CallPyBack([noting(notes)])(lambda: current_call().progress(1))
        function.callpyback.pause()
        function()
        function.callpyback.resume()
        function.on_progress(lambda done: notes.append("hook"), name="hook")
        handle(function).remove_observer("hook")
        function()
        assert notes == [(1, None)]


class TestIsolation:
    class Failing(Told):
        def __init__(self, error, **options) -> None:
            super().__init__(**options)
            self.error = error

        def update(self, context) -> None:
            super().update(context)
            if self.error is not None:
                raise self.error

    ERRORS = (LookupError(), SystemExit(1), CallVetoed("no"), StopProcessing(1), StopProcessing(), GeneratorExit())

    @pytest.mark.parametrize("error", ERRORS, ids=range(len(ERRORS)))
    @pytest.mark.parametrize("critical", [False, True])
    def test_whatever_an_observer_raises_is_counted_and_changes_nothing(self, kind, watched, error, critical):
        failing, witness, notes = self.Failing(error, priority=1, critical=critical, name="failing"), Witness(), []
        function = kind.make(lambda: current_call().progress(1) or "value", watched(failing, witness, noting(notes)))
        assert kind.call(function) == "value"
        assert notes == [(1, None)]
        assert witness.told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]
        assert witness.outcome.name == "SUCCESS"
        assert handle(function).health["failing"].failures == 1

    def test_the_bodys_own_failure_stays_the_bodys(self, kind, watched):
        failing, error = self.Failing(LookupError(), critical=True), ValueError()

        def body():
            current_call().progress(1)
            raise error

        came = kind.ended(kind.make(body, watched(failing)))
        assert came.exception is error
        assert error.__context__ is None

    def test_a_whole_call_without_a_failure_ends_the_row(self, kind, watched):
        failing = self.Failing(LookupError(), name="failing")
        function = kind.make(lambda: [current_call().progress(n) for n in "ab"], watched(failing))
        health = lambda: handle(function).health["failing"]  # noqa: E731
        kind.call(function)
        kind.call(function)
        assert (health().failures, health().failures_in_a_row, health().paused) == (4, 2, False)
        failing.error = None
        kind.call(function)
        assert (health().failures, health().failures_in_a_row) == (4, 0)

    def test_an_observer_that_fails_too_often_is_paused(self, kind, watched):
        failing = self.Failing(LookupError(), name="failing")
        function = kind.make(lambda: current_call().progress(1), watched(failing, max_observer_failures=2))
        for _ in range(5):
            kind.call(function)
        assert len(failing.contexts) == 2
        assert handle(function).health["failing"].paused

    def test_ctrl_c_in_an_observer_comes_out_of_the_body(self, kind, watched):
        interrupt, went_on = KeyboardInterrupt(), []
        failing, later, witness = self.Failing(interrupt, priority=1), Told(), Witness()

        def body():
            current_call().progress(1)
            went_on.append(True)

        came = kind.ended(kind.make(body, watched(failing, later, witness)))
        assert came.exception is interrupt
        assert went_on == []
        assert len(later.contexts) == 1
        assert witness.outcome.name == "ABORTED"
        assert TELLING == []

    def test_async_observers_are_skipped_and_counted(self):
        notes = []

        async def note(done):
            notes.append(done)

        async def body():
            current_call().progress(1)
            return "value"

        function = CallPyBack([on_progress(note, name="note"), noting(notes)])(body)
        assert drive(function()) == "value"
        assert notes == [(1, None)]
        assert handle(function).health["note"].skipped == 1
        assert_healthy(function)

    def test_an_async_observer_is_refused_where_nothing_could_ever_await_it(self):
        async def note(done): ...

        with pytest.raises(ConfigurationError, match="there is nothing to await it"):
            CallPyBack([on_progress(note)])(lambda: None)

    def test_calls_that_an_observer_makes_are_unobserved_and_it_can_tell_of_no_progress(self, kind, watched):
        witness, notes = Witness(), []
        inner = CallPyBack([witness, noting(notes)])(lambda: current_call().progress("inner"))
        calls = []

        def look(done):
            notes.append(done)
            inner()
            calls[0].progress("told by an observer")

        def body():
            calls.append(current_call())
            current_call().progress("body")

        kind.call(kind.make(body, watched(on_progress(look))))
        assert notes == ["body"]
        assert witness.told == []
        assert handle(inner).unobserved == 1

    def test_a_steering_observer_decides_nothing_here(self, kind, watched):
        """`critical` and decisions at a notice leave no trace in the call."""
        failing = self.Failing(CallVetoed("no"), critical=True)
        witness = Witness(S.POST_SUCCESS, S.COMPLETED)
        function = kind.make(lambda: list(current_call().track("abc")), watched(failing, witness))
        assert kind.ended(function).exception is None
        assert [(context.decided_by, context.returned) for context in witness.contexts] == [(None, None)] * 2


class TestHook:
    def test_a_function_has_a_hook(self, kind, watched):
        notes = []
        function = kind.make(lambda: list(current_call().track("ab")), watched())

        @function.on_progress
        def note(done, total, tags, state, depth, attempt):
            notes.append((done, total, tags, state, depth, attempt))

        kind.call(function)
        assert notes == [(done, 2, {}, S.EXECUTING, 0, 1) for done in range(3)]
        assert callable(note)

    def test_it_takes_a_priority_and_a_name_and_may_be_weak(self):
        class Listening:
            def note(self, done):
                notes.append("weak")

        notes, listening = [], Listening()
        function = CallPyBack()(lambda: current_call().progress(1))
        function.on_progress(lambda: notes.append("last"), priority=-5, name="last")
        function.on_progress(listening.note, weak=True)
        function()
        gone = weakref.ref(listening)
        del listening
        gc.collect()
        assert gone() is None
        function()
        assert notes == ["weak", "last", "last"]
        assert "last" in handle(function).health

    def test_callables_that_are_no_functions_have_it_too(self):
        notes = []
        inner = CallPyBack()(lambda: current_call().progress(1))
        observed = CallPyBack()(functools.partial(inner))
        observed.on_progress(lambda done: notes.append(done))
        observed()
        assert notes == [1]  # nobody listens to the inner function: it belongs to the call around

    def test_at_other_states_a_callback_gets_none(self):
        told = []
        callback = create_callback_observer(
            lambda done, total, wait: told.append((done, total, wait)), [*ExecutionState, *Notice]
        )
        CallPyBack([callback])(lambda: None)()
        assert set(told) == {(None, None, None)}

    def test_a_callback_that_overrides_update_gets_the_context(self):
        class Own(CallbackObserver):
            def update(self, context):
                self.callback(context.notice)

        notes = []
        CallPyBack([Own(lambda context: notes.append(context), Notice.PROGRESS)])(lambda: current_call().progress(1))()
        assert notes == [ProgressNotice(1)]

    def test_update_gives_by_hand_what_the_call_gives(self):
        notes = []
        callback = on_progress(lambda done, total, exception, wait: notes.append((done, total, exception, wait)))
        callback.update(build_context(state=S.EXECUTING, notice=ProgressNotice(1, 2)))
        on_retry(lambda done, wait: notes.append((done, wait))).update(build_context(state=S.EXECUTING))
        assert notes == [(1, 2, None, None), (None, None)]


class TestRecord:
    @pytest.mark.parametrize(
        ("done", "total", "fraction"),
        [
            (0, 4, 0.0),
            (1, 4, 0.25),
            (4, 4, 1.0),
            (5, 4, 1.0),
            (-1, 4, 0.0),
            (1, None, None),
            (0, 0, 1.0),
            (float("nan"), 4, None),
            (1, float("nan"), None),
            (1, float("inf"), 0.0),
            ("a", 4, None),
            (1, "b", None),
            (10**400, 3, None),
        ],
    )
    def test_the_fraction_is_between_nothing_and_all(self, done, total, fraction):
        assert ProgressNotice(done, total).fraction == fraction

    def test_it_is_compared_by_what_it_says_and_never_changes(self):
        notice = ProgressNotice(1, 2)
        assert notice == ProgressNotice(1, 2) != ProgressNotice(2, 2)
        assert hash(notice) == hash(ProgressNotice(1, 2))
        with pytest.raises(AttributeError):
            notice.done = 5

    @pytest.mark.parametrize(
        "copied", [copy.copy, copy.deepcopy, lambda kept: pickle.loads(pickle.dumps(kept))], ids=range(3)
    )
    def test_a_context_of_a_notice_can_be_copied(self, copied):
        told = Told()
        CallPyBack([told])(lambda: current_call().tag(a=1) or current_call().progress(1, 2))()
        [context] = told.contexts
        again = copied(context)
        assert again.notice == ProgressNotice(1, 2)
        assert (again.tags, again.depth, again.call_id) == (context.tags, 0, context.call_id)

    def test_one_can_be_built(self):
        context = build_context(state=S.EXECUTING, notice=ProgressNotice(1, 2), tags={"a": 1}, attempt=2)
        assert (context.notice.fraction, context.tags, context.metadata, context.attempt) == (
            0.5,
            {"a": 1},
            {"a": 1},
            2,
        )

    @pytest.mark.parametrize(
        "options",
        [
            {"notice": ProgressNotice(1)},
            {"state": S.EXECUTING, "notice": "half"},
            {"state": S.PRE_EXECUTION, "tags": {"a": 1}},
            {"parent_call_id": "c-1", "depth": 0},
        ],
        ids=range(4),
    )
    def test_one_that_no_call_has_is_refused(self, options):
        with pytest.raises(ConfigurationError, match=next(name for name in options if name != "state").split("_")[0]):
            build_context(**options)
