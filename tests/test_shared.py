"""What the observers of one call share: by namespace, from the first state to the last, and with no other call."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from callpyback import BackgroundObserver, BaseObserver, CallPyBack, ExecutionContext, ExecutionState, MockTimeSource
from callpyback.core.shared import Namespace, Shared
from callpyback.testing import build_context
from kinds import Witness
from retrying import Flaky, make, repeating

S = ExecutionState


class Writing(BaseObserver):
    """Writes at PRE_EXECUTION, as the handler that selects the parameters."""

    priority = 5

    def update(self, context):
        if context.state is S.PRE_EXECUTION:
            context.shared.tests.args = context.arguments
        context.shared.tests.seen = [*vars(context.shared.tests).get("seen", ()), context.state.name]


class Reading(BaseObserver):
    """Reads what was selected."""

    def __init__(self, *states, **options):
        super().__init__(states=states or None, **options)
        self.read = []

    def update(self, context):
        tests = context.shared.tests
        self.read.append((tests.args, list(tests.seen)))


class TestCalls:
    def test_observers_of_one_call_share_it_from_the_first_state_to_the_last(self, kind):
        for options in ({}, {"time_source": MockTimeSource()}):
            reading = Reading()
            function = kind.make(lambda n: n, CallPyBack([Writing(), reading], **options), "n")
            for n in range(2):
                kind.call(function, n)
            told = ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]
            assert reading.read == [({"n": n}, told[: at + 1]) for n in range(2) for at in range(3)]

    def test_calls_share_nothing_with_each_other(self):
        reading = Reading(S.COMPLETED)

        @CallPyBack([Writing(), reading])
        def down(n):
            if n:
                down(n - 1)

        down(3)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(down, [3] * 8))
        assert sorted(args["n"] for args, _ in reading.read) == [n for n in range(4) for _ in range(9)]
        assert all(seen == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"] for _, seen in reading.read)

    def test_all_attempts_share_it(self, kind):
        reading = Reading(S.COMPLETED)
        decorator = CallPyBack([Writing(), reading], retry=repeating(on=ValueError))
        kind.call(make(kind, Flaky(ValueError()), decorator, "n=0"))
        [(args, seen)] = reading.read
        assert args == {"n": 0}
        assert seen == ["PRE_EXECUTION", "POST_FAILURE", "POST_SUCCESS", "COMPLETED"]

    def test_it_goes_with_the_call(self, kind):
        class Thing:
            """Can be weakly referenced."""

        gone = []

        class Holding(BaseObserver):
            def update(self, context):
                if context.state is S.PRE_EXECUTION:
                    context.shared.mine.thing = thing = Thing()
                    gone.append(weakref.ref(thing))
                    return
                assert context.shared.mine.thing is gone[-1]()

        witness = Witness(priority=-1)  # keeps the contexts
        function = kind.make(lambda: None, CallPyBack([Holding(), witness]))
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                kind.call(function)
            assert [reference() for reference in gone] == [None] * 3
        finally:
            gc.enable()
        assert "mine" not in witness.last.shared

    def test_an_observer_in_the_background_still_finds_it(self):
        reading = Reading(S.COMPLETED)
        background = BackgroundObserver(reading)
        CallPyBack([Writing(), background])(lambda: None)()
        background.close()
        assert reading.read == [({}, ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"])]

    def test_two_threads_that_read_it_first_read_one(self):
        found = []

        class Spreading(BaseObserver):
            states = frozenset({S.COMPLETED})

            def update(self, context):
                start = threading.Barrier(4)

                def look():
                    start.wait()
                    found.append((id(context.shared), id(context.shared.mine)))

                threads = [threading.Thread(target=look) for _ in range(4)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                assert len(set(found)) == 1
                found.clear()

        function = CallPyBack([Spreading()], max_observer_failures=1000)(lambda: None)
        for _ in range(50):
            function()
        assert function.callpyback.health["Spreading"].failures == 0


class TestContexts:
    def test_contexts_built_for_one_call_may_share_it(self):
        shared = Shared()
        contexts = [build_context(state=state, shared=shared) for state in (S.PRE_EXECUTION, S.COMPLETED)]
        contexts[0].shared.tests.args = (1,)
        assert contexts[1].shared.tests.args == (1,)
        assert "tests" not in build_context().shared

    def test_a_context_built_without_a_call_forgets_as_its_slot_does(self):
        context = ExecutionContext(state=S.COMPLETED)
        context.shared.tests.args = 1
        assert "tests" not in context.shared

    def test_a_copy_shares_it_and_a_pickle_is_empty(self):
        class Copying(BaseObserver):
            def update(self, context):
                context.shared.mine.lock = threading.Lock()
                copies = [copy.copy(context), context.with_variables({}), pickle.loads(pickle.dumps(context))]
                same.extend(copied.shared is context.shared for copied in copies)
                same.append(list(copies[2].shared))

        same = []
        function = CallPyBack()(lambda: None)
        function.callpyback.add_observer(Copying(), S.COMPLETED)
        function()
        assert same == [True, True, False, []]


class TestShared:
    def test_a_namespace_is_there_when_it_is_named_and_takes_anything(self):
        shared = Shared()
        assert list(shared) == []
        shared.tests.args, shared.tests.kwargs = (1,), {"a": 2}
        assert shared.tests is shared.tests
        assert isinstance(shared.tests, Namespace)
        assert (shared.tests.args, shared.tests.kwargs) == ((1,), {"a": 2})
        assert vars(shared.tests) == {"args": (1,), "kwargs": {"a": 2}}
        assert (list(shared.tests), len(shared.tests)) == (["args", "kwargs"], 2)
        assert "args" in shared.tests
        del shared.tests.args
        assert "args" not in shared.tests

    def test_what_nobody_has_put_anything_into_is_not_there(self):
        shared = Shared()
        assert "tests" not in shared
        shared.empty  # noqa: B018
        shared.tests.a = 1
        assert list(shared) == ["tests"]
        assert "tests" in shared
        assert "empty" not in shared

    def test_setting_an_attribute_of_its_own_is_refused_with_the_way_out(self):
        shared = Shared()
        with pytest.raises(AttributeError, match=r"put it into a namespace, as in shared\.<yours>\.args = \.\.\."):
            shared.args = 1
        with pytest.raises(AttributeError, match="can't delete the shared namespace `tests`"):
            del shared.tests
        assert list(shared) == []

    def test_a_name_that_is_not_there_is_refused_with_those_that_are(self):
        shared = Shared()
        with pytest.raises(AttributeError, match=r"nobody has set `args` in .* `tests`; there is: nothing"):
            shared.tests.args  # noqa: B018
        shared.tests.b = shared.tests.a = 1
        with pytest.raises(AttributeError, match="there is: a, b") as raised:
            shared.tests.args  # noqa: B018
        assert (raised.value.name, raised.value.obj) == ("args", shared.tests)
        assert not hasattr(shared.tests, "args")

    def test_names_with_an_underscore_are_no_namespaces(self):
        shared = Shared()
        for name in ("_private", "__deepcopy__", "_repr_html_"):
            assert not hasattr(shared, name)

    def test_they_are_shown_and_bounded(self):
        shared = Shared()
        assert repr(shared) == "<shared: nothing yet>"
        assert repr(shared.tests) == "<shared tests: nothing yet>"
        shared.tests.args = "x" * 1000
        assert repr(shared) == f"<shared: {shared.tests!r}>"
        assert len(repr(shared)) < 200

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda kept: pickle.loads(pickle.dumps(kept))])
    def test_copies_are_empty(self, copied):
        shared = Shared()
        shared.tests.lock = threading.Lock()
        assert list(copied(shared)) == []
