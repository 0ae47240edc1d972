"""A body knows its own call: what it says of it reaches this call's observers, and nobody else, in whatever context."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import gc
import pickle
import sys
import threading
import types
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from callpyback import (
    BaseObserver,
    CallPyBack,
    CallVetoed,
    CurrentCall,
    ExecutionState,
    MetricsObserver,
    MockTimeSource,
    Notice,
    Outcome,
    StopProcessing,
    handle,
    on_call,
    on_completion,
    on_failure,
    on_retry,
    on_success,
)
from callpyback.core.current import CURRENT, NOTHING
from handling import OwnHandler
from kinds import BoundWitness, Kind, Witness, collected, drive, ended, pause
from retrying import Flaky, make, repeating
from tracking import current_call, tracked, watched

__all__ = ["tracked", "watched"]

pytestmark = pytest.mark.usefixtures("tracked")

S = ExecutionState


class Thing:
    """Can be weakly referenced."""


def watch(*states, **options):
    return Witness(*(states or (S.COMPLETED, S.ERROR)), **options)


class TestTags:
    def test_what_a_body_says_of_its_call_is_in_the_contexts_of_that_call(self, kind, watched):
        witness = Witness()

        def body(asset):
            call = current_call()
            call["asset"] = asset
            call.tag(frames=3, artist="ann")
            return asset

        function = kind.make(body, watched(witness, metadata={"project": "film", "artist": "nobody"}))
        for asset in ("rock", "tree"):
            assert kind.call(function, asset) == asset
        tags = [{"asset": asset, "frames": 3, "artist": "ann"} for asset in ("rock", "tree")]
        assert [context.tags for context in witness.contexts if context.state is S.PRE_EXECUTION] == [{}, {}]
        for state in (S.POST_SUCCESS, S.COMPLETED):
            contexts = [context for context in witness.contexts if context.state is state]
            assert [context.tags for context in contexts] == tags
            assert [context.metadata for context in contexts] == [{"project": "film", **own} for own in tags]

    def test_tags_of_a_call_that_fails_are_shown_too(self, kind, watched):
        witness = Witness()

        def body():
            current_call()["asset"] = "rock"
            raise LookupError

        ended(lambda: kind.call(kind.make(body, watched(witness))))
        assert [context.tags for context in witness.contexts] == [{}, {"asset": "rock"}, {"asset": "rock"}]

    def test_the_body_can_read_its_tags_and_put_others_in_their_place(self, watched):
        seen = []

        def body():
            call = current_call()
            seen.extend([dict(call.tags), "a" in call, list(call)])
            call["a"] = 1
            call["a"] = 2
            call.tag(b=3, self=4)
            seen.extend([call["a"], "a" in call, list(call), dict(call.tags)])
            with pytest.raises(TypeError):
                call.tags["c"] = 5
            with pytest.raises(KeyError):
                call["c"]

        witness = watch()
        watched(witness)(body)()
        assert seen == [{}, False, [], 2, True, ["a", "b", "self"], {"a": 2, "b": 3, "self": 4}]
        assert witness.last.tags == {"a": 2, "b": 3, "self": 4}

    def test_a_callback_may_name_them(self, kind, watched):
        told = []
        observers = [on(lambda tags, metadata: told.append((tags, metadata))) for on in (on_call, on_success)]
        kind.call(kind.make(lambda: current_call().tag(a=1), watched(*observers, metadata={"m": 0})))
        assert told == [({}, {"m": 0}), ({"a": 1}, {"m": 0, "a": 1})]

    def test_each_context_has_its_own_dictionary(self):
        class Meddling(BaseObserver):
            priority = 1

            def update(self, context):
                context.tags["b"] = context.metadata["b"] = 1

        witness = Witness(S.POST_SUCCESS, S.COMPLETED)
        CallPyBack([Meddling(), witness])(lambda: current_call().tag(a=1))()
        assert [(context.tags, context.metadata) for context in witness.contexts] == [({"a": 1}, {"a": 1})] * 2

    def test_calls_inside_calls_keep_theirs_to_themselves(self, kind, watched):
        witness = watch()
        inner = kind.make(lambda: current_call().tag(inner=1), watched(witness))

        def body():
            current_call().tag(before=1)
            kind.call(inner)
            current_call().tag(after=1)

        kind.call(kind.make(body, watched(witness)))
        assert [context.tags for context in witness.contexts] == [{"inner": 1}, {"before": 1, "after": 1}]

    def test_recursive_calls_keep_theirs_to_themselves(self, watched):
        witness = watch()

        @watched(witness)
        def down(n):
            current_call()["n"] = n
            if n:
                down(n - 1)
            current_call()["again"] = n

        down(5)
        assert [context.tags for context in witness.contexts] == [{"n": n, "again": n} for n in range(6)]

    def test_what_a_function_to_which_nobody_listens_says_is_said_of_the_call_around(self, kind, watched):
        witness = watch()
        paused = kind.make(lambda: current_call().tag(paused=1), CallPyBack([Witness()]))
        silent = kind.make(lambda: current_call().tag(silent=1), CallPyBack())
        observed_handle = paused.callpyback

        def body():
            kind.call(silent)
            with observed_handle.paused():
                kind.call(paused)

        kind.call(kind.make(body, watched(witness)))
        assert witness.last.tags == {"silent": 1, "paused": 1}

    def test_what_is_said_of_a_call_that_is_told_by_plain_values_alone_stays_there(self, kind):
        witness = watch()
        inner = kind.make(lambda: current_call().tag(inner=1), CallPyBack([BoundWitness()]))
        outer = kind.make(lambda: kind.call(inner) and None, CallPyBack([witness]))
        kind.call(outer)
        assert witness.last.tags == {}

    def test_an_error_handler_sees_them(self, kind):
        seen = []

        def body():
            current_call()["asset"] = "rock"
            raise LookupError

        kind.ended(kind.make(body, CallPyBack(error_handler=OwnHandler(lambda _, context: seen.append(context.tags)))))
        assert seen == [{"asset": "rock"}]

    def test_what_several_threads_say_at_once_is_all_there(self):
        witness = watch()

        @CallPyBack([witness])
        def body():
            call, start = current_call(), threading.Barrier(8)

            def say(number):
                start.wait()
                for turn in range(50):
                    call[number, turn] = turn

            with ThreadPoolExecutor(8) as pool:
                list(pool.map(say, range(8)))

        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            for _ in range(20):
                body()
                assert len(witness.last.tags) == 400
        finally:
            sys.setswitchinterval(before)

    def test_a_body_with_a_deadline_runs_elsewhere_and_says_it_of_its_call(self, kind):
        witness = watch()
        inner = CallPyBack([witness])(lambda: current_call().tag(inner=1))

        def body():
            current_call()["before"] = 1
            inner()
            current_call()["after"] = 1

        kind.call(kind.make(body, CallPyBack([witness], max_execution_time=60)))
        assert [context.tags for context in witness.contexts] == [{"inner": 1}, {"before": 1, "after": 1}]
        assert [context.depth for context in witness.contexts] == [1, 0]
        assert CURRENT.get() is NOTHING


class TestRetries:
    def test_an_attempt_goes_on_with_the_tags_of_the_one_before(self, kind, watched):
        witness = Witness(S.POST_FAILURE, S.COMPLETED, S.EXECUTING, notices=Notice.RETRY)
        body = Flaky(*(ValueError(number) for number in range(2)))

        def saying():
            call = current_call()
            call[f"attempt {call.attempt}"] = dict(call.tags)
            return body()

        kind.call(make(kind, saying, watched(witness, retry=repeating(on=ValueError))))
        first = {"attempt 1": {}}
        second = {**first, "attempt 2": first}
        third = {**second, "attempt 3": second}
        shown = [(context.state.name, context.attempt, context.tags) for context in witness.contexts]
        assert shown == [
            ("EXECUTING", 1, shown[0][2]),
            ("POST_FAILURE", 1, first),
            ("EXECUTING", 1, first),  # the notice
            ("EXECUTING", 2, shown[3][2]),
            ("POST_FAILURE", 2, second),
            ("EXECUTING", 2, second),
            ("EXECUTING", 3, shown[6][2]),
            ("COMPLETED", 3, third),
        ]

    def test_at_executing_the_tags_are_those_of_the_attempts_before(self, kind):
        told = []

        class Told(BaseObserver):
            states = frozenset({S.EXECUTING})

            def update(self, context):
                told.append(context.tags)

        def saying():
            call = current_call()
            call[call.attempt] = True
            if call.attempt < 3:
                raise ValueError

        kind.call(make(kind, saying, CallPyBack([Told()], retry=repeating(on=ValueError))))
        assert told == [{}, {1: True}, {1: True, 2: True}]

    def test_all_attempts_are_one_call(self, kind, watched):
        witness, calls = Witness(S.POST_FAILURE, S.COMPLETED), []
        body = Flaky(ValueError(1), ValueError(2))

        def saying():
            calls.append((current_call(), current_call().attempt))
            return body()

        def around():
            kind.call(inner)

        inner = make(kind, saying, watched(witness, retry=repeating(on=ValueError)))
        outer = Witness(S.COMPLETED)
        kind.call(kind.make(around, watched(outer)))
        assert [attempt for _, attempt in calls] == [1, 2, 3]
        ids = {context.call_id for context in witness.contexts} | {call.call_id for call, _ in calls}
        assert len(ids) == 1
        assert {context.parent_call_id for context in witness.contexts} == {outer.last.call_id}
        assert {context.depth for context in witness.contexts} == {1} == {call.depth for call, _ in calls}

    def test_what_an_attempt_left_behind_says_is_not_said_of_the_next(self):
        witness, left = watch(), []

        def saying():
            left.append(current_call())
            for call in left[:-1]:
                call["late"] = 1
            if len(left) < 3:
                raise ValueError

        CallPyBack([witness], retry=repeating(on=ValueError))(saying)()
        assert witness.last.tags == {}
        assert [bool(call) for call in left] == [False] * 3


class TestOutside:
    def test_outside_any_call_there_is_one_that_accepts_everything(self):
        call = current_call()
        assert not call
        call["a"] = 1
        call.tag(b=2)
        call.progress(1, 2)
        assert (call["a"], dict(call.tags), list(call), "a" in call) == (None, {}, [], False)
        assert (call.call_id, call.parent_call_id, call.depth, call.attempt) == (None, None, 0, 1)
        assert call.function_signature is None
        assert list(call.track([1, 2])) == [1, 2]
        assert repr(call) == "<no current call>"
        assert current_call() is call

    def test_it_tells_what_is_called(self, kind):
        shown = []

        def body():
            call = current_call()
            call["a"] = 1
            shown.extend([bool(call), call.function_signature, repr(call)])

        function = kind.make(body, CallPyBack([Witness()]))
        kind.call(function)
        signature = handle(function).signature
        assert shown == [True, signature, f"<current call of {signature.qualname} with {{'a': 1}}>"]

    def test_it_is_put_back_however_the_body_ends(self, kind, watched):
        for error in (None, LookupError(), KeyboardInterrupt(), SystemExit(1), asyncio.CancelledError()):
            left = []

            def body(error=error, left=left):
                left.append(current_call())
                if error is not None:
                    raise error

            function = kind.make(body, watched(Witness()))
            ended(lambda function=function: kind.call(function))
            assert current_call() is NOTHING
            assert not left[0]
            assert repr(left[0]) == "<ended call>"

    @pytest.mark.parametrize("decision", [CallVetoed("no"), StopProcessing([1])], ids=["vetoed", "answered"])
    def test_a_call_that_is_decided_is_never_the_current_one(self, kind, watched, decision):
        def decide():
            raise decision

        witness = Witness(priority=-1)
        function = kind.make(lambda: None, watched(on_call(decide), witness))

        def around():
            kind.ended(function)
            current_call()["mine"] = 1

        outer = watch()
        kind.call(kind.make(around, watched(outer)))
        assert outer.last.tags == {"mine": 1}
        assert {(context.depth, context.parent_call_id) for context in witness.contexts} == {(1, outer.last.call_id)}
        assert witness.last.tags == {}

    def test_a_call_that_has_ended_is_told_nothing_more(self):
        witness, kept = watch(), []

        @CallPyBack([witness])
        def body():
            kept.append(current_call())
            current_call()["early"] = 1

        body()
        [call] = kept
        call["late"] = 1
        call.tag(late=1)
        call.progress(1)
        assert not call
        assert (dict(call.tags), call["early"], call.function_signature, call.parent_call_id) == ({}, None, None, None)
        assert witness.last.tags == {"early": 1}
        assert call.call_id == witness.last.call_id

    def test_observers_have_no_current_call_and_neither_have_functions_they_call(self, kind, watched):
        seen = []
        helper = CallPyBack([Witness()], retry=repeating())(lambda: current_call().tag(helper=1))

        def look():
            seen.append(current_call())
            current_call()["observer"] = 1
            helper()

        observers = [on(look) for on in (on_call, on_success, on_failure, on_retry, on_completion)]
        inner = make(kind, Flaky(ValueError()), watched(*observers, retry=repeating(on=ValueError)))
        witness = watch()
        kind.call(kind.make(lambda: kind.call(inner) and None, watched(witness)))
        assert seen == [NOTHING] * 5
        assert witness.last.tags == {}

    def test_an_async_observer_has_none_either(self):
        seen = []

        async def look():
            seen.append(current_call())
            await pause()
            seen.append(current_call())

        async def body():
            current_call()["mine"] = 1

        witness = watch()
        drive(CallPyBack([on_call(look), on_success(look), witness])(body)())
        assert seen == [NOTHING] * 4
        assert witness.last.tags == {"mine": 1}


class TestGenerators:
    def test_the_consumer_never_sees_the_generators_call(self, watched):
        witness, seen = watch(), []

        @watched(witness)
        def count(name):
            while True:
                current_call()[name] = current_call().tags.get(name, 0) + 1
                try:
                    yield
                except KeyError:
                    current_call()["caught"] = True

        first, second = count("first"), count("second")
        for steps in (first, second, first, first):
            next(steps)
            seen.append(current_call())
        first.throw(KeyError())
        seen.append(current_call())
        first.close()
        second.close()
        assert seen == [NOTHING] * 5
        assert [context.tags for context in witness.contexts] == [{"first": 4, "caught": True}, {"second": 1}]
        assert current_call() is NOTHING

    def test_a_call_made_in_a_step_is_made_in_the_generators_call(self, watched):
        witness = watch()
        inner = CallPyBack([witness])(lambda: None)

        @watched(witness)
        def stepping():
            inner()
            yield
            inner()

        @watched(witness)
        def consuming():
            for _ in stepping():
                inner()

        consuming()
        depths = [context.depth for context in witness.contexts]
        assert depths == [2, 1, 2, 1, 0]
        of_step, of_consumer, _, generator, consumer = witness.contexts
        assert of_step.parent_call_id == generator.call_id
        assert of_consumer.parent_call_id == generator.parent_call_id == consumer.call_id

    def test_a_generator_may_be_taken_up_elsewhere(self, watched):
        witness = watch()

        @watched(witness)
        def stepping():
            for step in range(3):
                current_call()[step] = threading.get_ident()
                yield bool(current_call())

        steps = stepping()
        assert next(steps)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(next, steps).result()
            assert pool.submit(current_call).result() is NOTHING
        assert contextvars.copy_context().run(list, steps) == [True]
        assert list(witness.last.tags) == [0, 1, 2]
        assert current_call() is NOTHING

    def test_async_generators_keep_theirs_between_steps(self, watched):
        witness, seen = watch(), []

        @watched(witness)
        async def stepping(name):
            for step in range(3):
                current_call()[name] = step
                await asyncio.sleep(0)
                yield step
            current_call()["end"] = name

        @watched(witness)
        async def consuming():
            first, second = stepping("first"), stepping("second")
            async for _ in first:
                seen.append(current_call().function_signature.name)
                await anext(second)
                seen.append(current_call().function_signature.name)
            await second.aclose()
            current_call()["mine"] = True

        asyncio.run(consuming())
        assert set(seen) == {"consuming"}
        tags = [{"first": 2, "end": "first"}, {"second": 2}, {"mine": True}]
        assert [context.tags for context in witness.contexts] == tags

    def test_a_generator_that_is_dropped_lets_go_of_its_call(self, watched):
        witness = watch()

        @watched(witness)
        def stepping(thing):
            current_call()["begun"] = True
            yield

        thing = Thing()
        gone = weakref.ref(thing)
        steps = stepping(thing)
        next(steps)
        witness.contexts.clear()
        del steps, thing
        witness.contexts.clear()
        assert gone() is None


class TestAround:
    def test_a_call_knows_the_call_it_is_made_in(self, kind, watched):
        witness = Witness(S.PRE_EXECUTION, S.COMPLETED)
        innermost = kind.make(lambda: None, watched(witness))
        inner = kind.make(lambda: kind.call(innermost), watched(witness))
        kind.call(kind.make(lambda: kind.call(inner), watched(witness)))
        first, second, third = witness.contexts[:3]
        assert [context.depth for context in witness.contexts] == [0, 1, 2, 2, 1, 0]
        assert first.parent_call_id is None
        assert (second.parent_call_id, third.parent_call_id) == (first.call_id, second.call_id)
        assert [context.call_id for context in witness.contexts[3:]] == [third.call_id, second.call_id, first.call_id]

    @pytest.mark.parametrize("who", ["the body", "the observer", "the child", "nobody"])
    def test_whoever_asks_first_there_is_one_id(self, kind, watched, who):
        ids = {}

        class Asking(BaseObserver):
            def update(self, context):
                if who == "the observer" or context.state is S.COMPLETED:
                    ids.setdefault("context", context.call_id)

        @CallPyBack([Witness()], metadata={})
        def child():
            pass

        def body():
            if who == "the body":
                ids["body"] = current_call().call_id
            child.callpyback.add_observer(asking)
            child()
            child.callpyback.remove_observer(asking)
            kept.append(current_call())

        kept = []
        asking = on_call(lambda parent_call_id: who != "the child" or ids.update(child=parent_call_id))
        kind.call(kind.make(body, watched(Asking())))
        ids["afterwards"] = kept[0].call_id
        assert len(set(ids.values())) == 1

    def test_functions_told_by_plain_values_are_calls_too_and_unobserved_ones_are_not(self, kind):
        witness = watch()
        innermost = kind.make(lambda: None, CallPyBack([witness]))
        silent = kind.make(lambda: kind.call(innermost), CallPyBack())
        inner = kind.make(lambda: kind.call(silent), CallPyBack([BoundWitness()]))
        kind.call(kind.make(lambda: kind.call(inner), CallPyBack([witness])))
        assert [context.depth for context in witness.contexts] == [2, 0]

    def test_tasks_and_to_thread_belong_to_the_call_they_are_started_in(self):
        witness = watch()
        in_thread = CallPyBack([witness])(lambda: None)

        @CallPyBack([witness])
        async def child(name):
            current_call()["name"] = name
            await asyncio.sleep(0)
            current_call()["again"] = name

        @CallPyBack([witness])
        async def parent():
            await asyncio.gather(child(1), child(2), asyncio.to_thread(in_thread))
            asyncio.get_running_loop().call_soon(in_thread)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        async def main():
            await asyncio.gather(parent(), parent())

        asyncio.run(main())
        parents = [context for context in witness.contexts if context.function_signature.name == "parent"]
        children = [context for context in witness.contexts if context not in parents]
        assert len(children) == 8
        assert {context.depth for context in children} == {1}
        assert sorted(context.parent_call_id for context in children) == sorted(
            context.call_id for context in parents for _ in range(4)
        )
        tagged = [context.tags for context in children if context.tags]
        assert sorted(tags["name"] for tags in tagged) == [1, 1, 2, 2]
        assert all(tags == {"name": tags["name"], "again": tags["name"]} for tags in tagged)
        assert [context.tags for context in parents] == [{}, {}]

    def test_a_thread_belongs_to_none_unless_it_is_given_the_context(self):
        witness = watch()
        inner = CallPyBack([witness])(lambda: current_call().depth)

        @CallPyBack([witness])
        def parent():
            context = contextvars.copy_context()
            for target in (inner, lambda: context.run(inner)):
                thread = threading.Thread(target=target)
                thread.start()
                thread.join()

        parent()
        alone, given, parents = witness.contexts
        expected = 1 if sys.version_info >= (3, 14) and sys.flags.thread_inherit_context else 0
        assert (alone.depth, given.depth) == (expected, 1)
        assert given.parent_call_id == parents.call_id

    def test_a_task_that_outlives_its_call_knows_it_and_tells_it_nothing(self):
        witness = watch()

        @CallPyBack([witness])
        async def child():
            pass

        async def work(go_on):
            await go_on.wait()
            current_call()["late"] = 1
            current_call().progress(1)
            await child()
            return bool(current_call())

        @CallPyBack([witness])
        async def parent(go_on):
            current_call()["early"] = 1
            return asyncio.create_task(work(go_on))

        async def main():
            go_on = asyncio.Event()
            task = await parent(go_on)
            go_on.set()
            return await task

        assert asyncio.run(main()) is False
        of_parent, of_child = witness.contexts
        assert of_parent.tags == {"early": 1}
        assert (of_child.parent_call_id, of_child.depth) == (of_parent.call_id, 1)

    def test_contexts_that_are_kept_answer_later_and_elsewhere(self, kind):
        witness = watch()
        inner = kind.make(lambda: current_call().tag(a=1), CallPyBack([witness]))
        kind.call(kind.make(lambda: kind.call(inner), CallPyBack([witness])))
        child, parent = witness.contexts
        with ThreadPoolExecutor(1) as pool:
            shown = pool.submit(lambda: (child.parent_call_id, child.depth, child.tags)).result()
        assert shown == (parent.call_id, 1, {"a": 1})

    def test_copies_carry_it_with_them(self):
        witness = watch()
        inner = CallPyBack([witness])(lambda: current_call().tag(a=1))
        CallPyBack([witness])(lambda: inner())()
        child = witness.contexts[0]
        for copied in (copy.copy(child), child.with_state(S.ERROR), pickle.loads(pickle.dumps(copy.copy(child)))):
            assert (copied.parent_call_id, copied.depth, copied.tags) == (child.parent_call_id, 1, {"a": 1})
            assert copied.metadata == {"a": 1}
        assert copy.copy(child) == child

    def test_a_place_in_another_process_is_no_call(self):
        kept = []

        @CallPyBack([Witness()])
        def body():
            kept.extend([pickle.loads(pickle.dumps(current_call())), copy.deepcopy(current_call())])

        body()
        assert kept == [NOTHING, NOTHING]

    def test_an_interrupted_call_is_put_back_wherever_the_signal_comes(self):
        @CallPyBack([Witness(S.COMPLETED)])
        def body():
            return sum(range(3))

        body()
        code = body.__code__

        class Interrupt:
            def __init__(self, at):
                self.left = at

            def __call__(self, frame, event, argument):
                if frame.f_code is not code:
                    return None
                if event == "line" and CURRENT.get() is not NOTHING:
                    self.left -= 1
                    if self.left == 0:
                        raise KeyboardInterrupt
                return self

        left_behind, at = [], 0
        while True:
            at += 1
            interrupt = Interrupt(at)
            before = sys.gettrace()
            sys.settrace(interrupt)
            try:
                came = ended(lambda: contextvars.copy_context().run(lambda: (ended(body), CURRENT.get())))
            finally:
                sys.settrace(before)
            if came.value is None or came.value[1] is not NOTHING:
                left_behind.append(at)
            if interrupt.left > 0:
                break
        assert at > 3
        assert left_behind == []


@pytest.fixture
def collector_off():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.usefixtures("collector_off")
class TestMemory:
    def test_a_kept_context_of_a_child_keeps_nothing_of_its_parent(self, kind):
        witness, gone = watch(), []
        inner = kind.make(lambda: None, CallPyBack([witness]))

        def body(thing):
            gone.append(weakref.ref(thing))
            current_call()["thing"] = thing
            kind.call(inner)
            return thing

        kind.call(kind.make(body, CallPyBack([MetricsObserver(), on_completion(lambda: None)])), Thing())
        assert [reference() for reference in gone] == [None]
        assert witness.last.parent_call_id is not None

    def test_a_task_that_outlives_its_call_keeps_nothing_of_it(self):
        async def waiting(go_on):
            await go_on.wait()

        @CallPyBack([on_completion(lambda: None)])
        async def parent(go_on, thing):
            current_call()["thing"] = thing
            return asyncio.create_task(waiting(go_on)), weakref.ref(thing)

        async def main():
            go_on = asyncio.Event()
            task, gone = await parent(go_on, Thing())
            kept = gone()
            go_on.set()
            await task
            return kept

        assert asyncio.run(main()) is None

    def test_tasks_that_start_their_successors_are_no_chain(self):
        def places():
            return sum(type(known) is CurrentCall for known in gc.get_objects())

        counts = []

        @CallPyBack([on_completion(lambda: None)])
        async def step(left, done):
            counts.append(places())
            if left:
                asyncio.create_task(step(left - 1, done)).add_done_callback(lambda _: None)
            else:
                done.set()

        async def main():
            done = asyncio.Event()
            await step(30, done)
            await done.wait()

        asyncio.run(main())
        assert max(counts[5:]) <= max(counts[:5]) + 1

    def test_calls_leave_no_cycles_behind(self, kind, watched):
        witness = Witness(S.COMPLETED)

        def body(thing):
            gone.append(weakref.ref(thing))
            current_call()["a"] = 1

        function = kind.make(body, watched(on_completion(lambda call_id, depth, tags: None)))
        gone = []
        for _ in range(3):
            kind.call(function, Thing())
        assert [reference() for reference in gone] == [None] * 3
        assert witness.contexts == []

    def test_a_vetoed_call_leaves_no_cycle_behind(self, kind, watched):
        gone = []

        def refuse(arguments):
            gone.append(weakref.ref(arguments["args"][0]))
            raise CallVetoed("no")

        function = kind.make(lambda thing: None, watched(on_call(refuse)))
        for _ in range(2):
            kind.ended(function, Thing())
        assert [reference() for reference in gone] == [None] * 2


def test_a_method_tags_its_own_call():
    witness = watch()

    class Shop:
        @CallPyBack([witness])
        def sell(self, thing):
            current_call()["thing"] = thing

    Shop().sell("rock")
    assert witness.last.tags == {"thing": "rock"}


def test_a_coroutine_that_awaits_others_keeps_its_own():
    witness = watch()

    @CallPyBack([witness])
    async def inner():
        await asyncio.sleep(0)
        current_call()["inner"] = 1

    @CallPyBack([witness])
    async def outer():
        await inner()
        current_call()["outer"] = 1
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.sleep(10), 0.01)
        current_call()["after"] = 1

    asyncio.run(outer())
    assert [context.tags for context in witness.contexts] == [{"inner": 1}, {"outer": 1, "after": 1}]


def test_a_generator_based_coroutine_has_a_call_too():
    witness = watch()

    @CallPyBack([witness])
    @types.coroutine
    def old():
        current_call()["a"] = 1
        yield
        return 1

    async def main():
        return await old()

    assert drive(main()) == 1
    assert witness.last.tags == {"a": 1}


def test_time_of_tracking_is_not_the_bodys():
    clock = MockTimeSource()
    witness = watch()
    CallPyBack([witness], time_source=clock)(lambda: current_call().tag(a=clock.advance(2)))()
    assert witness.last.execution_time == 2.0
    assert witness.last.outcome is Outcome.SUCCESS


def test_async_items_of_an_answer_are_no_steps_of_a_call():
    async def items():
        yield bool(current_call())

    def answer():
        raise StopProcessing(items())

    kind = Kind("async generator")
    function = kind.make(lambda: None, CallPyBack([on_call(answer)]))
    assert drive(collected(function())) == [False]
