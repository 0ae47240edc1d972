"""`StateObserver`: what is overridden is what is told, and nothing else."""

from __future__ import annotations

import copy
import pickle

import pytest

from callpyback import (
    BackgroundObserver,
    CallPyBack,
    CallVetoed,
    ConfigurationError,
    ExecutionState,
    MetricsObserver,
    Notice,
    Retry,
    StateObserver,
    handle,
)
from callpyback.testing import build_context
from kinds import KINDS, drive, ended

S = ExecutionState
STATES = {
    "on_call": {S.PRE_EXECUTION},
    "on_success": {S.POST_SUCCESS},
    "on_failure": {S.POST_FAILURE},
    "on_completion": {S.COMPLETED, S.ERROR},
    "on_error": {S.ERROR},
    "on_retry": set(),
    "on_progress": set(),
}
ASYNC_KINDS = [kind for kind in KINDS if kind.is_async]


def noting(*names, base=StateObserver, **attributes):
    """Return a class that overrides these methods, each of which notes its name and what it was shown."""

    def noted(name):
        def hook(self, context):
            vars(self).setdefault("seen", []).append((name, context.state.name))

        return hook

    return type("Noting", (base,), {name: noted(name) for name in names} | attributes)


class Both(StateObserver):  # at module level, to be pickled
    told = 0

    def on_success(self, context):
        self.told += 1

    def on_error(self, context):
        self.told += 10


@pytest.mark.parametrize("name", STATES)
def test_overriding_one_method_asks_for_its_states_alone(name):
    assert noting(name).states == STATES[name]


def test_notices_follow_what_is_overridden():
    assert noting("on_success").notices == frozenset()
    assert noting("on_retry").notices == {Notice.RETRY}
    assert noting("on_progress", "on_retry").notices == frozenset(Notice)


def test_a_subclass_of_a_subclass_asks_for_the_methods_of_both():
    assert noting("on_call", base=noting("on_success")).states == {S.PRE_EXECUTION, S.POST_SUCCESS}


def test_a_mixin_counts():
    class Mixin:
        def on_success(self, context):
            pass

    class Mixed(Mixin, StateObserver):
        pass

    assert Mixed.states == {S.POST_SUCCESS}


def test_a_class_may_narrow_its_states():
    narrow = noting("on_completion", states=frozenset({S.COMPLETED}))
    assert narrow.states == {S.COMPLETED}
    assert noting("on_call", base=narrow).states == {S.COMPLETED}
    assert noting("on_completion")(states=S.ERROR).states == {S.ERROR}


def test_every_kind_of_call_is_told_by_the_methods(kind):
    observer = noting("on_call", "on_success", "on_failure", "on_completion")()
    function = kind.make(lambda fails: 1 // (not fails), CallPyBack([observer]))
    assert kind.call(function, False) == 1
    assert isinstance(kind.ended(function, True).exception, ZeroDivisionError)
    assert observer.seen == [
        ("on_call", "PRE_EXECUTION"),
        ("on_success", "POST_SUCCESS"),
        ("on_completion", "COMPLETED"),
        ("on_call", "PRE_EXECUTION"),
        ("on_failure", "POST_FAILURE"),
        ("on_completion", "COMPLETED"),
    ]


def test_at_error_on_error_comes_before_on_completion(kind):
    observer = noting("on_error", "on_completion")()
    function = kind.make(lambda: 1 / 0, CallPyBack([observer], exception_classes=[OSError]))
    kind.ended(function)
    assert observer.seen == [("on_error", "ERROR"), ("on_completion", "ERROR")]


def test_on_completion_is_called_whatever_on_error_raises():
    def on_error(self, context):
        raise LookupError

    observer = noting("on_completion", on_error=on_error)()
    function = CallPyBack([observer], exception_classes=[OSError])(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        function()
    assert observer.seen == [("on_completion", "ERROR")]
    assert handle(function).health["Noting"].failures == 1


def test_on_error_is_not_called_for_expected_errors():
    observer = noting("on_error", "on_failure")()
    with pytest.raises(ZeroDivisionError):
        CallPyBack([observer])(lambda: 1 / 0)()
    assert observer.seen == [("on_failure", "POST_FAILURE")]


def test_a_retry_is_told_with_its_notice():
    class Watching(StateObserver):
        def on_retry(self, context):
            told.append((context.notice.attempt, str(context.notice.exception)))

    told, errors = [], [OSError("first"), OSError("second")]

    def body():
        if errors:
            raise errors.pop(0)
        return "value"

    assert CallPyBack([Watching()], retry=Retry(attempts=3, wait=0, on=OSError))(body)() == "value"
    assert told == [(1, "first"), (2, "second")]


def test_on_call_may_veto():
    class Refusing(StateObserver):
        def on_call(self, context):
            raise CallVetoed("no")

    with pytest.raises(CallVetoed, match="no"):
        CallPyBack([Refusing()])(lambda: 1)()


def test_a_critical_one_reaches_the_caller():
    class Insisting(StateObserver):
        critical = True

        def on_success(self, context):
            raise LookupError

    with pytest.raises(LookupError):
        CallPyBack([Insisting()])(lambda: 1)()


class TestRefusals:
    def test_a_class_that_overrides_nothing(self):
        with pytest.raises(ConfigurationError, match=r"Noting overrides none of on_call, on_success, .*never be told"):
            CallPyBack([noting()()])

    @pytest.mark.parametrize(
        ("wrong", "right"),
        [
            ("on_sucess", "on_success"),
            ("on_fail", "on_failure"),
            ("on_complete", "on_completion"),
            ("on_errors", "on_error"),
            ("onsuccess", "on_success"),
        ],
    )
    def test_a_slip_of_the_pen_beside_what_is_overridden(self, wrong, right):
        with pytest.raises(ConfigurationError, match=f"Noting.{wrong}.. is never called - did you mean '{right}'"):
            CallPyBack([noting("on_call", wrong)()])

    def test_no_method_that_only_starts_alike(self):
        CallPyBack([noting("on_success", "on_alarm", "on_successes", "on_call_centre_open")()])

    @pytest.mark.parametrize("method", [lambda self: None, lambda self, context, more: None])
    def test_a_method_that_does_not_take_the_context(self, method):
        with pytest.raises(
            ConfigurationError, match=r"Noting.on_call\(\) can't be called.*write on_call\(self, context\)"
        ):
            CallPyBack([noting(on_call=method)()])

    def test_a_method_that_is_a_generator(self):
        def on_call(self, context):
            yield

        with pytest.raises(ConfigurationError, match="remove the `yield`"):
            CallPyBack([noting(on_call=on_call)()])


class TestAsync:
    class Awaited(StateObserver):
        def __init__(self):
            super().__init__()
            self.seen = []

        async def on_success(self, context):
            self.seen.append("success")

        def on_call(self, context):
            self.seen.append("call")

        async def on_error(self, context):
            self.seen.append("error")
            raise LookupError

        def on_completion(self, context):
            self.seen.append("completion")

    @pytest.mark.parametrize("kind", ASYNC_KINDS, ids=str)
    def test_async_methods_are_awaited_and_plain_ones_called_on_the_way(self, kind):
        observer = self.Awaited()
        function = kind.make(lambda: 1, CallPyBack([observer]))
        kind.call(function)
        assert observer.seen == ["call", "success", "completion"]

    def test_on_completion_is_called_whatever_an_async_on_error_raises(self):
        observer = self.Awaited()
        kind = ASYNC_KINDS[0]
        kind.ended(kind.make(lambda: 1 / 0, CallPyBack([observer], exception_classes=[OSError])))
        assert observer.seen == ["call", "error", "completion"]

    def test_around_a_plain_function_it_is_refused(self):
        with pytest.raises(ConfigurationError, match="is async"):
            CallPyBack([self.Awaited()])(lambda: 1)

    def test_a_subclass_with_a_plain_method_in_its_place_is_plain_again(self):
        plain = noting("on_success", "on_error", base=self.Awaited)
        CallPyBack([plain()])(lambda: 1)()

    def test_in_the_background_it_gets_an_event_loop(self):
        observer = self.Awaited()
        background = BackgroundObserver(observer)
        CallPyBack([background])(lambda: 1)()
        assert background.shutdown(10)
        assert observer.seen == ["call", "success", "completion"]


def test_a_state_nobody_overrides_is_dropped_when_asked_for_all_the_same():
    observer = noting("on_success")()
    observer.update(build_context(state=S.PRE_EXECUTION))
    drive(noting(on_success=TestAsync.Awaited.on_success)()._update_async(build_context()))
    assert not hasattr(observer, "seen")


def test_an_update_of_its_own_stands_before_the_methods():
    class Own(StateObserver):
        def update(self, context):
            seen.append(context.state.name)
            super().update(context)

        def on_success(self, context):
            seen.append("on_success")

    seen = []
    CallPyBack([Own()])(lambda: 1)()
    assert seen == ["POST_SUCCESS", "on_success"]


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_a_copy_goes_its_own_way(again):
    observer = Both(priority=3, name="both")
    observer.update(build_context(state=S.POST_SUCCESS))
    twin = again(observer)
    twin.update(build_context(exception=ValueError(), state=S.ERROR))
    assert (observer.told, twin.told, twin.priority, twin.name) == (1, 11, 3, "both")


def test_it_stands_among_other_observers():
    metrics, observer = MetricsObserver(), noting("on_failure")()
    function = CallPyBack([metrics, observer])(lambda n: 1 // n)
    for n in (1, 0, 2):
        ended(lambda n=n: function(n))
    assert (metrics.get_metrics()["total_calls"], len(observer.seen)) == (3, 1)
