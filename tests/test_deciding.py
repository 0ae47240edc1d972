"""Guards answer and veto, critical observers must succeed, and everyone hears what DESIGN says they hear."""

from __future__ import annotations

import pytest

from callpyback import (
    CallPyBack,
    CallVetoed,
    ExecutionFailure,
    ExecutionResult,
    ExecutionState,
    MetricsObserver,
    MockTimeSource,
    Outcome,
    StopProcessing,
    handle,
    on_call,
    on_error,
)
from kinds import Ended, Kind, Witness, collected, drive, ended, pause

PRE, EXECUTING = ExecutionState.PRE_EXECUTION, ExecutionState.EXECUTING
TOLD = ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]


class Raising(Witness):
    """Raises an exception at one state, after noting that it was told."""

    def __init__(self, error, state="PRE_EXECUTION", **options):
        super().__init__(**options)
        self.error = error
        self.state = state

    def update(self, context):
        super().update(context)
        if context.state.name == self.state:
            raise self.error


@pytest.fixture(params=[None, MockTimeSource()], ids=["straight", "general"])
def clock(request):
    """The wrapper runs other code when the clock is not the system's."""
    return request.param


class Body:
    """Counts how often it ran."""

    def __init__(self):
        self.ran = 0

    def __call__(self):
        self.ran += 1
        return "of the body"


def test_a_veto_reaches_the_caller_and_the_body_never_runs(kind, clock):
    veto, body = CallVetoed("no"), Body()
    above, vetoing, below = Witness(priority=1), Raising(veto), Witness(priority=-1)
    decorated = kind.make(body, CallPyBack([above, vetoing, below], time_source=clock))
    assert kind.ended(decorated) == Ended(exception=veto)
    assert body.ran == 0
    for observer in (above, vetoing, below):
        assert observer.told == ["PRE_EXECUTION", "ERROR"]
        assert observer.outcome is Outcome.VETOED


def test_a_vetoed_call_has_a_failure_as_its_result_and_took_no_time(kind, clock):
    veto, witness = CallVetoed("no"), Witness()
    seen = []
    decorator = CallPyBack([Raising(veto), witness, on_error(lambda exception: seen.append(exception))])
    kind.ended(kind.make(Body(), decorator))
    result = witness.last.result
    assert isinstance(result, ExecutionFailure)
    assert seen == [veto]
    assert seen[0] is veto
    assert (result.exception_type, result.execution_time, result.value) == (CallVetoed, 0.0, None)
    assert witness.last.is_failed
    assert not witness.last.is_successful
    assert witness.last.returned is None


def test_a_subclass_of_call_vetoed_is_a_veto(kind):
    class RateLimited(CallVetoed):
        pass

    veto = RateLimited("slow down")
    assert kind.ended(kind.make(Body(), CallPyBack([Raising(veto)]))).exception is veto


def test_a_veto_is_no_failure_of_the_observer(kind):
    decorated = kind.make(Body(), CallPyBack([Raising(CallVetoed("no"))], max_observer_failures=1))
    for _ in range(3):
        kind.ended(decorated)
    [health] = handle(decorated).health.values()
    assert (health.failures, health.paused) == (0, False)


def test_a_veto_is_no_failure_of_the_function(kind):
    metrics = MetricsObserver()
    kind.ended(kind.make(Body(), CallPyBack([Raising(CallVetoed("no")), metrics])))
    counters = metrics.get_metrics()["counters"]
    assert (counters["calls"], counters["vetoed"], counters["failures"]) == (1, 1, 0)


@pytest.mark.parametrize("value", [None, 0, False, "answer", [], StopProcessing])
def test_an_answer_reaches_the_caller_and_the_body_never_runs(kind, clock, value):
    body = Body()
    above, guard, below = Witness(priority=1), Raising(StopProcessing(kind.answer(value))), Witness(priority=-1)
    decorated = kind.make(body, CallPyBack([above, guard, below], time_source=clock))
    assert kind.call(decorated) is value
    assert body.ran == 0
    for observer in (above, guard, below):
        assert observer.told == ["PRE_EXECUTION", "COMPLETED"]
        assert observer.outcome is Outcome.SUPPLIED


def test_a_supplied_call_has_the_answer_as_its_result_and_took_no_time(kind, clock):
    witness, answer = Witness(), kind.answer("answer")
    kind.call(kind.make(Body(), CallPyBack([Raising(StopProcessing(answer)), witness], time_source=clock)))
    assert witness.last.result == ExecutionResult(answer, 0.0)
    assert witness.last.returned is answer
    assert witness.last.is_successful
    assert not witness.last.is_failed


def test_an_answer_is_counted_apart_from_successes(kind):
    metrics = MetricsObserver()
    kind.call(kind.make(Body(), CallPyBack([Raising(StopProcessing(kind.answer(5))), metrics])))
    counters = metrics.get_metrics()["counters"]
    assert (counters["calls"], counters["supplied"], counters["successes"]) == (1, 1, 0)


def test_a_generator_gets_the_items_of_an_answer():
    for answer in ([1, 2, 3], range(1, 4), iter((1, 2, 3)), (n for n in (1, 2, 3))):
        function = Kind("generator").make(Body(), CallPyBack([Raising(StopProcessing(answer))]))
        assert list(function()) == [1, 2, 3]


def test_an_async_generator_gets_the_items_of_an_answer():
    async def items():
        for n in (1, 2, 3):
            yield n

    for answer in ([1, 2, 3], items()):
        function = Kind("async generator").make(Body(), CallPyBack([Raising(StopProcessing(answer))]))
        assert drive(collected(function())) == [1, 2, 3]


@pytest.mark.parametrize("name", ["generator", "async generator"])
@pytest.mark.parametrize("value", [None, 5])
def test_an_answer_without_items_for_a_generator_is_a_failure_of_the_observer(name, value):
    kind = Kind(name)
    decorated = kind.make(Body(), CallPyBack([Raising(StopProcessing(value))]))
    assert kind.call(decorated) == "of the body"
    [health] = handle(decorated).health.values()
    assert health.failures == 1


def test_an_exception_of_the_items_of_an_answer_reaches_the_consumer():
    error = KeyError("of the items")

    def items():
        yield 1
        raise error

    function = Kind("generator").make(Body(), CallPyBack([Raising(StopProcessing(items()))]))
    assert ended(lambda: list(function())).exception is error


class Guard(Raising):
    """Asked only while nothing is decided."""

    guard = True


def test_guards_are_only_asked_while_nothing_is_decided(kind, clock):
    body = Body()
    first = Guard(StopProcessing(kind.answer("first")), priority=9)
    second = Guard(StopProcessing(kind.answer("second")), priority=5)
    plain = Witness()
    decorated = kind.make(body, CallPyBack([plain, second, first], time_source=clock))
    assert kind.call(decorated) == "first"
    assert first.told == plain.told == ["PRE_EXECUTION", "COMPLETED"]
    assert second.told == []


def test_guards_are_not_asked_after_a_veto(kind, clock):
    veto = CallVetoed("no")
    vetoing, guard = Raising(veto, priority=9), Guard(StopProcessing(kind.answer(5)), priority=5)
    assert kind.ended(kind.make(Body(), CallPyBack([vetoing, guard], time_source=clock))).exception is veto
    assert guard.told == []


def test_a_guard_that_lets_the_call_pass_hears_everything(kind, clock):
    guard = Witness(guard=True)
    assert kind.call(kind.make(Body(), CallPyBack([guard], time_source=clock))) == "of the body"
    assert guard.told == TOLD


def test_a_guard_passed_over_in_one_call_is_asked_in_the_next(kind):
    answers = iter([StopProcessing(kind.answer("answer")), StopProcessing()])
    first = Raising(None, priority=9)
    first.update = lambda context: (_ for _ in ()).throw(next(answers)) if context.state is PRE else None
    guard = Witness(guard=True)
    decorated = kind.make(Body(), CallPyBack([first, guard]))
    assert (kind.call(decorated), guard.told) == ("answer", [])
    assert (kind.call(decorated), guard.told) == ("of the body", TOLD)


def test_the_first_decision_stands(kind, clock):
    veto = CallVetoed("no")
    vetoing, answering = Raising(veto, priority=9), Raising(StopProcessing(kind.answer(5)), priority=5)
    decorated = kind.make(Body(), CallPyBack([vetoing, answering], time_source=clock))
    assert kind.ended(decorated).exception is veto
    vetoing.priority, answering.priority = 5, 9
    decorated = kind.make(Body(), CallPyBack([vetoing, answering], time_source=clock))
    assert kind.call(decorated) == 5
    assert [health.failures for health in handle(decorated).health.values()] == [0, 0]


def test_stop_processing_without_a_value_skips_lower_plain_observers_for_this_state(kind, clock):
    stopping = Raising(StopProcessing(), priority=9)
    plain, guard, critical = Witness(), Witness(guard=True), Witness(critical=True)
    decorated = kind.make(Body(), CallPyBack([stopping, plain, guard, critical], time_source=clock))
    assert kind.call(decorated) == "of the body"
    assert plain.told == ["POST_SUCCESS", "COMPLETED"]
    assert stopping.told == guard.told == critical.told == TOLD
    assert [health.failures for health in handle(decorated).health.values()] == [0, 0, 0, 0]


def test_a_guard_may_still_decide_after_stop_processing_without_a_value(kind, clock):
    stopping, guard = Raising(StopProcessing(), priority=9), Guard(StopProcessing(kind.answer(5)))
    assert kind.call(kind.make(Body(), CallPyBack([stopping, guard], time_source=clock))) == 5


@pytest.mark.parametrize("error", [CallVetoed("late"), StopProcessing(), StopProcessing(["late"])], ids=repr)
@pytest.mark.parametrize("state", ["POST_SUCCESS", "COMPLETED"])
def test_a_decision_at_another_state_is_a_failure_of_the_observer(kind, clock, error, state):
    decorated = kind.make(Body(), CallPyBack([Raising(error, state), below := Witness(priority=-1)], time_source=clock))
    assert kind.call(decorated) == "of the body"
    assert below.told == TOLD
    assert [health.failures for health in handle(decorated).health.values()] == [1, 0]


@pytest.mark.parametrize("error", [CallVetoed("of the body"), StopProcessing(5)], ids=repr)
def test_a_decision_raised_by_a_body_is_an_ordinary_exception(kind, clock, error):
    def body():
        raise error

    witness = Witness()
    assert kind.ended(kind.make(body, CallPyBack([witness], time_source=clock))).exception is error
    assert witness.told == ["PRE_EXECUTION", "POST_FAILURE", "COMPLETED"]
    assert witness.outcome is Outcome.FAILURE


def test_any_other_exception_before_the_body_is_a_failure_of_the_observer(kind, clock):
    decorated = kind.make(Body(), CallPyBack([Raising(PermissionError("rate limit"))], time_source=clock))
    assert kind.call(decorated) == "of the body"


def test_a_callback_may_decide(kind):
    def answer(arguments):
        raise StopProcessing(kind.answer(arguments["x"] + 1))

    def refuse():
        raise CallVetoed("no")

    assert kind.call(kind.make(print, CallPyBack([on_call(answer)]), "x"), 5) == 6
    assert type(kind.ended(kind.make(print, CallPyBack([on_call(refuse)]))).exception) is CallVetoed


def test_what_bind_begins_may_decide(kind):
    ends = []

    class Binding:
        priority = 0

        def bind(self, function_signature):
            def begin():
                raise CallVetoed("no")

            return begin, lambda elapsed, value, exception, outcome: ends.append((elapsed, outcome))

    assert type(kind.ended(kind.make(Body(), CallPyBack([Binding()]))).exception) is CallVetoed
    assert ends == [(0.0, Outcome.VETOED)]


def test_a_slot_remembers_from_the_question_to_the_end(kind, clock):
    class Remembering(Witness):
        def update(self, context):
            context.slot.setdefault("states", []).append(context.state.name)
            self.told_states = list(context.slot["states"])

    first, second = Remembering(), Remembering()
    decorated = kind.make(Body(), CallPyBack([first, second], time_source=clock))
    for _ in range(2):
        kind.call(decorated)
        assert first.told_states == second.told_states == TOLD


class AsyncRaising(Raising):
    """The same, but awaits something first."""

    async def update(self, context):
        await pause()
        super().update(context)


class AsyncGuard(AsyncRaising):
    guard = True


@pytest.mark.parametrize("name", ["coroutine", "async generator"])
def test_async_observers_decide_too(name):
    kind, veto, error = Kind(name), CallVetoed("no"), RuntimeError("critical")
    body, passed_over = Body(), AsyncGuard(StopProcessing(["second"]), priority=-1)
    answering = AsyncGuard(StopProcessing(kind.answer("first")))
    assert kind.call(kind.make(body, CallPyBack([answering, passed_over]))) == "first"
    assert answering.told == ["PRE_EXECUTION", "COMPLETED"]
    assert passed_over.told == []
    assert kind.ended(kind.make(body, CallPyBack([AsyncRaising(veto)]))).exception is veto
    critical = AsyncRaising(error, "POST_SUCCESS", critical=True)
    assert body.ran == 0
    assert kind.ended(kind.make(body, CallPyBack([critical]))).exception is error
    assert critical.told == ["PRE_EXECUTION", "POST_SUCCESS", "ERROR"]
    assert body.ran == 1


def test_a_critical_observer_that_fails_before_the_body_vetoes_with_its_own_exception(kind, clock):
    error, body, below = Exception("rate limit"), Body(), Witness(priority=-1)
    decorated = kind.make(body, CallPyBack([Raising(error, critical=True), below], time_source=clock))
    assert kind.ended(decorated).exception is error
    assert body.ran == 0
    assert below.told == ["PRE_EXECUTION", "ERROR"]
    assert below.outcome is Outcome.VETOED
    assert below.last.result.exception_type is Exception


def test_a_critical_failure_vetoes_even_an_answered_call(kind, clock):
    error = RuntimeError("critical")
    answering, critical = Raising(StopProcessing(kind.answer(5)), priority=9), Raising(error, critical=True)
    decorated = kind.make(Body(), CallPyBack([answering, critical], time_source=clock))
    assert kind.ended(decorated).exception is error
    assert answering.told == critical.told == ["PRE_EXECUTION", "ERROR"]
    assert answering.outcome is Outcome.VETOED
    assert answering.last.returned is None


def test_a_critical_failure_after_success_reaches_the_caller_once_all_are_told(kind, clock):
    error = RuntimeError("critical")
    critical, below = Raising(error, "POST_SUCCESS", critical=True), Witness(priority=-1)
    decorated = kind.make(Body(), CallPyBack([critical, below], time_source=clock))
    assert kind.ended(decorated).exception is error
    assert critical.told == below.told == ["PRE_EXECUTION", "POST_SUCCESS", "ERROR"]
    assert below.outcome is Outcome.FAILURE
    assert below.contexts[1].is_successful
    assert below.contexts[1].result.value == kind.shown("of the body")
    assert below.last.result.exception_type is RuntimeError
    assert below.last.is_failed


def test_the_users_exception_wins_over_a_critical_failure(kind, clock):
    user_error, error = ValueError("v"), RuntimeError("critical")

    def body():
        raise user_error

    critical, below = Raising(error, "POST_FAILURE", critical=True), Witness(priority=-1)
    decorated = kind.make(body, CallPyBack([critical, below], time_source=clock))
    assert kind.ended(decorated).exception is user_error
    assert user_error.__context__ is None
    assert below.told == ["PRE_EXECUTION", "POST_FAILURE", "ERROR"]
    assert below.outcome is Outcome.FAILURE
    assert below.last.result.exception_type is ValueError


def test_a_critical_failure_keeps_a_handler_from_answering(clock):
    def fail():
        raise ValueError

    critical = Raising(RuntimeError("critical"), "POST_FAILURE", critical=True)
    decorated = CallPyBack([critical], default_return=5, time_source=clock)(fail)
    assert type(ended(decorated).exception) is ValueError
    assert critical.told == ["PRE_EXECUTION", "POST_FAILURE", "ERROR"]


def test_a_critical_failure_at_the_end_reaches_the_caller_but_changes_no_announced_outcome(kind, clock):
    error = RuntimeError("critical")
    critical, below = Raising(error, "COMPLETED", critical=True), Witness(priority=-1)
    decorated = kind.make(Body(), CallPyBack([critical, below], time_source=clock))
    assert kind.ended(decorated).exception is error
    assert critical.told == below.told == TOLD
    assert below.outcome is Outcome.SUCCESS


def test_a_critical_failure_at_the_end_of_an_answered_call_reaches_the_caller(kind, clock):
    error = RuntimeError("critical")
    answering = Raising(StopProcessing(kind.answer(5)), priority=9)
    critical = Raising(error, "COMPLETED", critical=True)
    decorated = kind.make(Body(), CallPyBack([answering, critical], time_source=clock))
    assert kind.ended(decorated).exception is error
    assert answering.outcome is Outcome.SUPPLIED


def test_the_first_critical_failure_reaches_the_caller(kind, clock):
    first, second = RuntimeError("first"), RuntimeError("second")
    observers = [
        Raising(second, "POST_SUCCESS", critical=True, priority=1),
        Raising(first, "POST_SUCCESS", critical=True, priority=2),
    ]
    decorated = kind.make(Body(), CallPyBack(observers, time_source=clock))
    assert kind.ended(decorated).exception is first


def test_a_critical_observer_is_never_paused(kind, clock):
    error = RuntimeError("critical")
    decorator = CallPyBack([Raising(error, critical=True)], max_observer_failures=1, time_source=clock)
    decorated = kind.make(Body(), decorator)
    for _ in range(4):
        assert kind.ended(decorated).exception is error
    [health] = handle(decorated).health.values()
    assert (health.failures, health.paused) == (4, False)


def test_a_system_exit_of_a_critical_observer_vetoes_but_does_not_end_the_program(kind, clock):
    exiting = SystemExit("of the observer")
    decorated = kind.make(Body(), CallPyBack([Raising(exiting, critical=True)], time_source=clock))
    veto = kind.ended(decorated).exception
    assert type(veto) is CallVetoed
    assert veto.__cause__ is exiting


def test_initialized_and_executing_are_told_on_request(kind, clock):
    everything, plain = Witness(*ExecutionState), Witness()
    assert kind.call(kind.make(Body(), CallPyBack([everything, plain], time_source=clock))) == "of the body"
    assert everything.told == ["INITIALIZED", "PRE_EXECUTION", "EXECUTING", "POST_SUCCESS", "COMPLETED"]
    assert plain.told == TOLD


def test_executing_is_not_told_when_the_body_does_not_run(kind, clock):
    everything = Witness(*ExecutionState)
    kind.ended(kind.make(Body(), CallPyBack([everything, Raising(CallVetoed("no"))], time_source=clock)))
    assert everything.told == ["INITIALIZED", "PRE_EXECUTION", "ERROR"]


def test_a_decision_at_initialized_is_a_failure_of_the_observer(kind):
    raising = Raising(CallVetoed("early"), "INITIALIZED")
    raising.states = tuple(ExecutionState)
    decorated = kind.make(Body(), CallPyBack([raising]))
    assert kind.call(decorated) == "of the body"
    [health] = handle(decorated).health.values()
    assert health.failures == 1


@pytest.mark.parametrize("critical_at", ["INITIALIZED", "EXECUTING"])
def test_a_critical_failure_at_a_requested_state_reaches_the_caller(kind, critical_at):
    error = RuntimeError("critical")
    critical = Raising(error, critical_at, critical=True)
    critical.states = tuple(ExecutionState)
    decorated = kind.make(Body(), CallPyBack([critical]))
    assert kind.ended(decorated).exception is error
    assert critical.told[-1] == "ERROR"


@pytest.mark.parametrize("state", ExecutionState, ids=lambda state: state.name)
def test_an_observer_of_one_state_is_told_that_state_alone(kind, clock, state):
    witness = Witness(state)
    kind.call(kind.make(Body(), CallPyBack([witness], time_source=clock)))
    reached = state.name in ["INITIALIZED", "PRE_EXECUTION", "EXECUTING", "POST_SUCCESS", "COMPLETED"]
    assert witness.told == [state.name] * reached


def test_higher_priorities_are_told_earlier_and_equal_ones_keep_the_order_of_registration(kind, clock):
    order = []

    class Noting(Witness):
        def update(self, context):
            order.append((context.state.name, self.name))

    observers = [
        Noting(name="low", priority=-5),
        Noting(name="first"),
        Noting(name="high", priority=1.5),
        Noting(name="second"),
    ]
    kind.call(kind.make(Body(), CallPyBack(observers, time_source=clock)))
    assert order == [(state, name) for state in TOLD for name in ("high", "first", "second", "low")]


def test_a_terminal_state_is_told_exactly_once_last(kind, clock):
    def fail():
        raise ValueError("v")

    for body, deciding in ((Body(), None), (fail, None), (Body(), CallVetoed("no")), (Body(), StopProcessing("ab"))):
        witness = Witness(*ExecutionState)
        observers = [witness] if deciding is None else [witness, Raising(deciding)]
        kind.ended(kind.make(body, CallPyBack(observers, time_source=clock)))
        assert [context.state.is_terminal for context in witness.contexts].count(True) == 1
        assert witness.last.state.is_terminal


def test_a_call_made_by_an_observer_is_unobserved_and_counted(kind):
    witness = Witness()
    decorator = CallPyBack([witness])
    inner = decorator(lambda: "inner")
    calling = Witness(priority=5)
    calling.update = lambda context: inner()
    assert kind.call(kind.make(Body(), CallPyBack([calling]))) == "of the body"
    assert witness.told == []
    assert handle(inner).unobserved == 3
    assert inner() == "inner"
    assert witness.told == TOLD


def test_an_observer_that_calls_the_observed_function_does_not_recurse(kind):  # C05
    results = []

    class Calling(Witness):
        def update(self, context):
            results.append(kind.call(decorated))

    decorated = kind.make(Body(), CallPyBack([Calling()]))
    assert kind.call(decorated) == "of the body"
    assert results == ["of the body"] * 3
