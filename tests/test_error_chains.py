"""Handlers one after another: how chains are made, whom they ask, and what reaches the caller."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import pickle
import threading
import traceback
import weakref

import pytest

from callpyback import (
    AccessDenied,
    CallPyBack,
    ConfigurationError,
    MockTimeSource,
    Outcome,
)
from callpyback.core.decisions import Again, Answered, Reraised
from callpyback.handlers import (
    BaseHandler,
    BusinessLogicErrorHandler,
    ConditionalErrorHandler,
    DefaultErrorHandler,
    ErrorHandlerBuilder,
    ErrorHandlerChain,
    Handler,
    NetworkErrorHandler,
    ReraiseErrorHandler,
    Retry,
    SecurityErrorHandler,
    TimeoutErrorHandler,
    create_robust_error_chain,
    create_simple_error_chain,
    create_standard_error_chain,
    create_user_friendly_error_chain,
    create_validation_error_chain,
)
from handling import AuthorError, OwnHandler, Translated, decided, failed, raising
from kinds import Kind, Witness, ended, pause

single_valued = pytest.mark.parametrize(
    "kind", [Kind("plain"), Kind("coroutine"), Kind("method")], ids=str
)  # generators have no single value to replace
awaiting = pytest.mark.parametrize("kind", [Kind("coroutine"), Kind("async generator")], ids=str)

FAILED = ["PRE_EXECUTION", "POST_FAILURE", "COMPLETED"]


@pytest.fixture(params=[None, MockTimeSource()], ids=["straight", "general"])
def clock(request):
    """The wrapper runs other code when the clock is not the system's."""
    return request.param


class Noting:
    """Notes every error it is asked about, and passes it on."""

    def __init__(self):
        self.asked = []

    def handle_error(self, error, context):
        self.asked.append(error)
        raise error


class TestAroundCalls:
    @single_valued
    def test_the_value_of_a_chain_reaches_the_caller_and_its_handlers_name_the_observers(self, kind, clock):
        witness = Witness()
        chain = Handler(KeyError, value=1) | Handler(ValueError, value="for the caller", name="mine")
        decorated = kind.make(raising(ValueError("v")), CallPyBack([witness], error_handler=chain, time_source=clock))
        assert kind.call(decorated) == "for the caller"
        assert witness.told == FAILED
        last = witness.last
        assert (last.outcome, last.returned, last.decided_by) == (Outcome.HANDLED, "for the caller", "mine")

    def test_an_error_that_a_handler_reraises_is_the_users_own(self, kind, clock):
        error, witness = ValueError("v"), Witness()
        decorator = CallPyBack([witness], error_handler=create_standard_error_chain(), time_source=clock)
        assert kind.ended(kind.make(raising(error), decorator)).exception is error
        assert (error.__cause__, error.__context__, error.__suppress_context__) == (None, None, False)
        assert (witness.told, witness.outcome, witness.last.decided_by) == (FAILED, Outcome.FAILURE, "reraise")

    def test_another_error_reaches_the_caller_with_the_users_as_its_cause(self, kind, clock):
        error, witness = ValueError("v"), Witness()
        handler = Handler(ValueError, raises=Translated, name="translator") | DefaultErrorHandler()
        raised = kind.ended(
            kind.make(raising(error), CallPyBack([witness], error_handler=handler, time_source=clock))
        ).exception
        assert type(raised) is Translated
        assert raised.__cause__ is error
        assert (witness.outcome, witness.last.decided_by) == (Outcome.FAILURE, "translator")
        assert witness.last.result.exception_type is ValueError

    @single_valued
    @pytest.mark.parametrize(
        ("chain", "expected"),
        [
            (ErrorHandlerChain(), "of the decorator"),
            (Handler(KeyError, value="of the chain"), "of the decorator"),
            (Handler(ValueError, value="of the chain"), "of the chain"),
        ],
        ids=["nobody", "not for it", "for it"],
    )
    def test_the_decorators_default_follows_where_nobody_decides(self, kind, chain, expected):
        decorator = CallPyBack(error_handler=chain, default_return="of the decorator")
        assert kind.call(kind.make(raising(ValueError("v")), decorator)) == expected

    @single_valued
    def test_the_decorators_default_does_not_follow_a_chain_that_reraises(self, kind):
        error = ValueError("v")
        chain = ErrorHandlerChain([Handler(KeyError, value=1), ReraiseErrorHandler()])
        decorated = kind.make(raising(error), CallPyBack(error_handler=chain, default_return="of the decorator"))
        assert kind.ended(decorated).exception is error

    @single_valued
    def test_a_mistake_in_a_handler_leaves_the_users_error_as_it_was(self, kind, clock, caplog):
        error = ValueError("v")
        chain = Handler(ValueError, answer=raising(ZeroDivisionError("bug"))) | Handler(KeyError, value=1)
        decorated = kind.make(raising(error), CallPyBack(error_handler=chain, time_source=clock))
        assert kind.ended(decorated).exception is error
        assert (error.__cause__, error.__context__) == (None, None)
        assert "bug" in caplog.text
        assert "callpyback itself failed" not in caplog.text

    def test_a_handler_adds_no_line_to_the_users_traceback(self, kind):
        def depth(**options):
            error = kind.ended(kind.make(raising(ValueError("v")), CallPyBack(**options))).exception
            return len(traceback.extract_tb(error.__traceback__))

        def reraise(error, context):
            raise error

        chains = (Noting() | Handler(answer=reraise), ReraiseErrorHandler(), NetworkErrorHandler())
        assert {depth(error_handler=chain) for chain in chains} == {depth()}

    def test_a_chain_is_asked_about_exceptions_of_the_body_only(self, kind):
        for error in (KeyboardInterrupt(), SystemExit(3), asyncio.CancelledError()):
            noting = Noting()
            chain = noting | DefaultErrorHandler(5)
            assert kind.ended(kind.make(raising(error), CallPyBack(error_handler=chain))).exception is error
            assert noting.asked == []
        assert kind.call(kind.make(lambda: 6, CallPyBack(error_handler=chain))) == 6
        assert noting.asked == []

    def test_a_chain_is_not_asked_about_unexpected_errors(self, kind):
        noting, error = Noting(), KeyError("k")
        decorator = CallPyBack(error_handler=noting | DefaultErrorHandler(5), exception_classes=ValueError)
        assert kind.ended(kind.make(raising(error), decorator)).exception is error
        assert noting.asked == []

    @single_valued
    def test_an_exception_group_is_matched_as_a_whole(self, kind):
        group = ExceptionGroup("g", [ValueError("v")])
        chain = Handler(ValueError, value="one") | Handler(ExceptionGroup, value="group")
        assert kind.call(kind.make(raising(group), CallPyBack(error_handler=chain))) == "group"

    @awaiting
    def test_coroutine_functions_in_a_chain_are_awaited_around_what_can_await(self, kind):
        async def answer(error, context):
            await pause()
            raise Translated from error

        error, witness = ValueError("v"), Witness()
        decorated = kind.make(
            raising(error), CallPyBack([witness], error_handler=Handler(KeyError, value=1) | Handler(answer=answer))
        )
        raised = kind.ended(decorated).exception
        assert type(raised) is Translated
        assert raised.__cause__ is error
        assert witness.told == FAILED

    def test_coroutine_functions_in_a_chain_are_refused_around_what_can_not(self, kind):
        async def answer(error): ...

        chain = ConditionalErrorHandler(lambda error: True, Handler(KeyError, value=1) | Handler(answer=answer))
        decorator = CallPyBack(error_handler=chain)
        if kind.is_async:
            error = OSError()
            assert kind.ended(kind.make(raising(error), decorator)).exception is not error
            return
        with pytest.raises(ConfigurationError, match="async"):
            kind.make(raising(OSError()), decorator)

    def test_a_handler_is_awaited_in_the_callers_own_task_and_context(self):
        variable = contextvars.ContextVar("variable", default="outside")

        async def answer(error):
            await asyncio.sleep(0)
            variable.set("by the handler")
            return asyncio.current_task()

        @CallPyBack(error_handler=Handler(answer=answer))
        async def function():
            raise ValueError

        async def main():
            return await function() is asyncio.current_task(), variable.get()

        assert asyncio.run(main()) == (True, "by the handler")

    def test_a_task_cancelled_while_a_handler_is_awaited_is_cancelled(self):
        witness, reached = Witness(), asyncio.Event()

        async def answer(error):
            reached.set()
            await asyncio.Event().wait()

        @CallPyBack([witness], error_handler=Handler(answer=answer) | DefaultErrorHandler(5))
        async def function():
            raise ValueError

        async def main():
            task = asyncio.create_task(function())
            await reached.wait()
            task.cancel()
            await asyncio.wait([task])
            return task.cancelled()

        assert asyncio.run(main())
        assert witness.outcome is Outcome.CANCELLED

    def test_a_coroutine_closed_while_a_handler_is_awaited_is_abandoned(self):
        witness = Witness()

        async def answer(error):
            await pause()

        @CallPyBack([witness], error_handler=Handler(answer=answer) | DefaultErrorHandler(5))
        async def function():
            raise ValueError

        coroutine = function()
        coroutine.send(None)
        coroutine.close()
        assert witness.told == FAILED
        assert (witness.outcome, witness.last.returned, witness.last.decided_by) == (Outcome.ABANDONED, None, None)

    def test_a_generator_exit_of_a_handlers_own_hides_no_error(self):  # E27
        error = ValueError("v")

        class Exiting:
            async def handle_error(self, error, context):
                raise GeneratorExit

        for handler in (Handler(answer=Exiting().handle_error), Exiting()):
            chain = ErrorHandlerChain([Handler(KeyError, value=1), handler])
            kind = Kind("coroutine")
            assert kind.ended(kind.make(raising(error), CallPyBack(error_handler=chain))).exception is error

    def test_one_chain_serves_many_threads_and_functions_at_once(self):
        chain = BusinessLogicErrorHandler({KeyError: lambda error, context: (error.args[0], context.arguments["n"])})
        decorator = CallPyBack(error_handler=chain | DefaultErrorHandler("other"))

        @decorator
        def first(n):
            raise KeyError(n)

        @decorator
        def second(n):
            raise ValueError(n)

        wrong = []

        def hammer(start):
            mine = range(start, start + 200)
            wrong.extend(n for n in mine if first(n) != (n, n) or second(n) != "other")

        threads = [threading.Thread(target=hammer, args=(1000 * number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []

    def test_a_function_may_call_itself_inside_its_own_handler(self):
        @CallPyBack(
            error_handler=Handler(ValueError, answer=lambda error, context: halved(context.arguments["n"] // 2))
        )
        def halved(n):
            if n > 1:
                raise ValueError
            return f"at {n}"

        assert halved(40) == "at 1"

    def test_a_handled_error_and_its_frames_are_freed_at_once(self):  # E20
        class Local: ...

        kept = []

        @CallPyBack(error_handler=Handler(KeyError, value=1) | Handler(OSError, answer=lambda error: "done"))
        def function():
            local = Local()
            kept.append(weakref.ref(local))
            raise OSError

        gc.collect()
        gc.disable()
        try:
            assert function() == "done"
            assert kept[0]() is None
        finally:
            gc.enable()

    def test_a_denial_shows_nothing_of_the_original(self, kind, caplog):
        decorated = kind.make(
            raising(PermissionError("hunter2")), CallPyBack(error_handler=create_robust_error_chain())
        )
        denied = kind.ended(decorated).exception
        assert type(denied) is AccessDenied
        assert "hunter2" not in "".join(traceback.format_exception(denied))
        assert "hunter2" not in caplog.text
        assert denied.incident_id in caplog.text


class TestComposition:
    def test_handlers_are_asked_in_order_and_the_first_that_decides_wins(self):
        asked = []

        def noting(name, *, decides):
            def when(error):
                asked.append(name)
                return decides

            return Handler(OSError, when=when, value=name)

        chain = noting("a", decides=False) | noting("b", decides=True) | noting("c", decides=True)
        assert chain.handle_error(OSError(), failed(OSError())) == "b"
        assert asked == ["a", "b"]

    def test_an_error_nobody_decides_about_goes_on(self):
        error = OSError()
        assert decided(Handler(KeyError, value=1) | Handler(ValueError, value=2), error) is None
        assert ended(lambda: ErrorHandlerChain().handle_error(error, failed(error))).exception is error

    def test_a_chain_of_chains_is_one_chain(self):
        a, b, c = Handler(KeyError, value=1), Handler(ValueError, value=2), DefaultErrorHandler(3)
        for chain in ((a | b) | c, a | (b | c), ErrorHandlerChain([a, ErrorHandlerChain([b, ErrorHandlerChain([c])])])):
            assert chain.handlers == (a, b, c)
        assert repr(a | c) == "<ErrorHandlerChain of 'handler of KeyError', 'default'>"

    def test_composing_changes_neither_side(self):
        first, second = ErrorHandlerChain([Handler(KeyError, value=1)]), Handler(ValueError, value=2)
        assert (first | second).handlers == (*first.handlers, second)
        assert len(first.handlers) == 1

    def test_a_users_own_handler_can_stand_on_either_side(self):
        own, other = OwnHandler(lambda error, context: "own"), Handler(KeyError, value=1)
        assert (other | own).handlers == (other, own)
        assert (own | other).handlers == (own, other)
        assert decided(other | own, OSError()) == Answered("own", "OwnHandler")

    def test_a_users_own_handler_passes_on_by_raising_the_error(self, caplog):
        error = OSError()
        assert decided(OwnHandler(raising(error)) | DefaultErrorHandler(5), error) == Answered(5, "default")
        assert caplog.records == []

    def test_what_else_a_users_own_handler_raises_goes_to_the_caller_caused_by_the_error(self):
        error, raised = OSError(), Translated()
        decision = decided(OwnHandler(raising(raised)) | DefaultErrorHandler(5), error)
        assert decision == Reraised(raised, "OwnHandler")
        assert raised.__cause__ is error

    def test_what_a_users_own_handler_raises_from_none_stays_so(self):
        def hide(error, context):
            raise Translated from None

        raised = decided(OwnHandler(hide) | DefaultErrorHandler(5), OSError()).error
        assert (raised.__cause__, raised.__suppress_context__) == (None, True)

    def test_a_users_own_handler_may_be_a_coroutine_function(self):
        class Awaited:
            name = "awaited"

            async def handle_error(self, error, context):
                await pause()
                if isinstance(error, KeyError):
                    raise error
                return "of the backup"

        chain = Awaited() | DefaultErrorHandler(5)
        assert chain.is_async
        assert decided(chain, OSError()) == Answered("of the backup", "awaited")
        assert decided(chain, KeyError()) == Answered(5, "default")

    def test_a_users_own_handler_may_decide_like_ours(self, caplog):
        class Deciding:
            name, is_async, retries = "deciding", True, True

            def __init__(self, decision):
                self.decision = decision

            def decide(self, error, context):
                yield from ()
                return self.decision

            def handle_error(self, error, context):
                raise NotImplementedError

        again = Again(1.0, "deciding")
        chain = Deciding(again) | DefaultErrorHandler(5)
        assert (chain.is_async, chain.retries) == (True, True)
        assert decided(Deciding(again) | DefaultErrorHandler(5), OSError()) == again
        assert caplog.records == []
        assert decided(Deciding("no decision") | DefaultErrorHandler(5), OSError()) == Answered(5, "default")
        assert "no decision" in caplog.text

    def test_a_subclass_decides_by_rules_of_its_own(self):
        class Doubtful(ErrorHandlerChain):
            def consider(self, error, context):
                decision = yield from super().consider(error, context)
                return decision or Answered("doubtful", self.name)

        chain = Handler(KeyError, value=0) | Doubtful([Handler(KeyError, value=1)]) | DefaultErrorHandler(5)
        assert decided(chain, OSError()) == Answered("doubtful", "chain")

    def test_an_empty_chain_can_stand_anywhere(self):
        empty = ErrorHandlerChain()
        assert (empty | empty).handlers == ()
        assert (Handler(KeyError, value=1) | empty | DefaultErrorHandler(5)).classes == (KeyError, Exception)
        conditional = Handler(KeyError, value=1) | ConditionalErrorHandler(lambda error: True, empty)
        assert decided(conditional, OSError()) is None

    def test_a_condition_decides_whether_another_handler_is_asked(self):
        handler = ConditionalErrorHandler(
            lambda error, context: context.arguments["n"] == 1, Handler(KeyError, value=0, name="zero")
        )
        assert decided(handler, KeyError(), arguments={"n": 1}) == Answered(0, "zero")
        assert decided(handler, KeyError(), arguments={"n": 2}) is None
        assert decided(handler, OSError(), arguments={"n": 1}) is None

    def test_a_condition_that_raises_does_not_hold(self, caplog):
        handler = ConditionalErrorHandler(lambda error, context: context.arguments["m"], DefaultErrorHandler(0))
        assert decided(handler, OSError(), arguments={"n": 1}) is None
        assert "KeyError" in caplog.text

    def test_a_condition_is_not_asked_about_errors_that_the_handler_is_not_for(self):
        asked = []
        decided(ConditionalErrorHandler(asked.append, Handler(KeyError, value=0)), OSError())
        assert asked == []

    def test_what_is_async_or_retries_inside_a_handler_shows_outside(self):
        async def later(error): ...

        for inner in (Handler(answer=later), OwnHandler(None) | Handler(KeyError, when=later, value=1)):
            assert ConditionalErrorHandler(lambda error: True, inner).is_async
        retrying = ConditionalErrorHandler(lambda error: True, Handler(KeyError, value=1) | Retry())
        assert (retrying | DefaultErrorHandler(1)).retries
        assert not retrying.is_async
        assert not (Handler(KeyError, value=1) | DefaultErrorHandler(1)).retries

    def test_a_chain_can_not_be_made_to_contain_itself(self):  # F16
        chain = ErrorHandlerChain([Handler(KeyError, value=1)])
        with pytest.raises(AttributeError):
            chain.handlers = (chain,)
        assert not hasattr(chain, "append")
        handlers = [Handler(KeyError, value=1)]
        handlers.append(handlers)
        with pytest.raises(ConfigurationError, match="an error handler"):
            ErrorHandlerChain(handlers)

    def test_own_handlers_that_ask_each_other_in_a_circle_hide_no_error(self):  # F16
        class Circular(BaseHandler):
            def consider(self, error, context):
                return (yield from (self | DefaultErrorHandler()).decide(error, context))

        class Deciding(BaseHandler):
            def consider(self, error, context):
                return (yield from self.decide(error, context))

        error = OSError()
        assert ended(lambda: Deciding("circle").handle_error(error, failed(error))).exception is error
        assert Circular("circle").handle_error(error, failed(error)) is None

    @pytest.mark.parametrize(
        ("earlier", "later", "named"),
        [
            (DefaultErrorHandler(), Handler(KeyError, value=1), "default"),
            (Handler(OSError, value=1, name="files"), TimeoutErrorHandler(), "files"),
            (Handler(OSError, value=1, name="files"), NetworkErrorHandler(), "files"),
            (Handler((OSError, KeyError), reraise=True, name="two"), Handler([KeyError, TimeoutError], value=1), "two"),
            (ReraiseErrorHandler(), OwnHandler(None), "reraise"),
            (Handler(LookupError, raises=Translated, name="t"), Handler(KeyError, when=lambda error: 1, value=1), "t"),
            (Handler(Exception, value=1, retry=Retry(), name="all"), Retry(), "all"),
            (BusinessLogicErrorHandler({OSError: 1}), SecurityErrorHandler(), "business"),
            (Handler(OSError, value=1, name="o"), ConditionalErrorHandler(lambda error: True, Retry()), "o"),
            (DefaultErrorHandler(), ConditionalErrorHandler(lambda error: True, Handler(KeyError, value=1)), "default"),
        ],
    )
    def test_a_handler_that_would_never_be_asked_is_refused(self, earlier, later, named):
        with pytest.raises(ConfigurationError, match=f"would never be asked.*'{named}'.*before it"):
            ErrorHandlerChain([earlier, later])
        assert len(ErrorHandlerChain([later, earlier]).handlers) == 2

    def test_handlers_that_cover_another_together_are_both_named(self):
        first, second = Handler(KeyError, value=1, name="first"), Handler(OSError, value=1, name="second")
        with pytest.raises(ConfigurationError, match=r"'first'.*'second'.*before it"):
            first | second | Handler([KeyError, TimeoutError], value=2)

    @pytest.mark.parametrize(
        "earlier",
        [
            Handler(OSError, answer=lambda error: 1),
            Handler(OSError, when=lambda error: True, value=1),
            Handler(OSError, retry=Retry()),
            Handler(ConnectionError, value=1),
            Retry(on=Exception),
            NetworkErrorHandler(),
            BusinessLogicErrorHandler({OSError: 1, ConnectionError: lambda error: 1}),
            OwnHandler(None),
            ConditionalErrorHandler(lambda error: True, DefaultErrorHandler()),
        ],
        ids=repr,
    )
    def test_a_handler_that_may_be_asked_is_taken(self, earlier):
        assert len((earlier | Handler(OSError, value=2)).handlers) == 2


STEPS = {
    "timeout": lambda builder: builder.add_timeout_handler(default_return=5),
    "validation": lambda builder: builder.add_validation_handler(reraise=True),
    "flexible validation": lambda builder: builder.add_flexible_validation_handler(KeyError, default_return=5),
    "network": lambda builder: builder.add_network_handler(retry_count=3, wait=0, timeout=5, default_return=1),
    "business": lambda builder: builder.add_business_logic_handler({AuthorError: 5}),
    "security": lambda builder: builder.add_security_handler(),
    "conditional": lambda builder: builder.add_conditional_handler(lambda error: True, Retry()),
    "default": lambda builder: builder.add_default_handler(5),
}
READY = {
    "simple": create_simple_error_chain("default"),
    "standard": create_standard_error_chain("default", wait=0),
    "user friendly": create_user_friendly_error_chain("default", error_mapping={KeyError: "absent"}),
    "user friendly, without a mapping": create_user_friendly_error_chain("default"),
    "validation": create_validation_error_chain("default"),
    "robust": create_robust_error_chain("default", wait=0),
}


class TestBuilder:
    @pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
    def test_each_step_adds_one_handler_and_returns_the_builder(self, step):
        builder = ErrorHandlerBuilder()
        assert step(builder) is builder
        assert len(builder.build().handlers) == 1

    def test_what_is_added_first_is_asked_first(self):
        builder = ErrorHandlerBuilder()
        for step in STEPS.values():
            step(builder)
        names = [handler.name for handler in builder.build().handlers]
        assert names == [name.removeprefix("flexible ") for name in STEPS]

    def test_any_handler_can_be_added(self):
        own = OwnHandler(lambda error, context: "own")
        chain = ErrorHandlerBuilder().add_handler(Handler(KeyError, value=1) | Retry()).add_handler(own).build()
        assert [type(handler) for handler in chain.handlers] == [Handler, Retry, OwnHandler]

    def test_what_is_added_later_is_not_in_a_chain_built_before(self):
        builder = ErrorHandlerBuilder().add_timeout_handler()
        before = builder.build()
        builder.add_default_handler(5)
        assert (len(before.handlers), len(builder.build().handlers)) == (1, 2)

    def test_a_handler_that_would_never_be_asked_is_refused_when_it_is_added(self):
        builder = ErrorHandlerBuilder().add_default_handler(5)
        with pytest.raises(ConfigurationError, match=r"'timeout'.*would never be asked.*'default'"):
            builder.add_timeout_handler()
        assert len(builder.build().handlers) == 1


class TestReadyChains:
    @pytest.mark.parametrize("chain", READY.values(), ids=READY)
    def test_every_handler_decides_about_some_error_of_its_classes(self, chain):
        for handler in chain.handlers:
            errors = [error for cls in handler.classes for error in (cls(), ConnectionResetError())]
            errors = [error for error in errors if isinstance(error, handler.classes)]
            assert handler.name in {decided(chain, error).by for error in errors}

    @pytest.mark.parametrize(
        ("name", "error", "expected"),
        [
            ("simple", KeyError(), Answered("default", "default")),
            ("standard", TimeoutError(), Answered("default", "timeout")),
            ("standard", ConnectionResetError(), Again(0.0, "network")),
            ("standard", ValueError("v"), "reraise"),
            ("standard", AuthorError("a"), "reraise"),
            ("user friendly", KeyError("page"), Answered("absent", "business")),
            ("user friendly", AuthorError("rule 7"), Answered("default", "default")),
            ("user friendly", PermissionError("hunter2"), "security"),
            ("validation", ValueError("v"), Answered("default", "validation")),
            ("validation", UnicodeDecodeError("utf-8", b"", 0, 1, "r"), Answered("default", "validation")),
            ("validation", KeyError("k"), "reraise"),
            ("robust", PermissionError("hunter2"), "security"),
            ("robust", TimeoutError(), Again(0.0, "network")),
            ("robust", ValueError("v"), Answered("default", "default")),
        ],
    )
    def test_a_ready_chain_does_what_its_description_says(self, name, error, expected):
        decision = decided(READY[name], error)
        if isinstance(expected, str):
            assert (type(decision), decision.by) == (Reraised, expected)
        else:
            assert decision == expected

    def test_no_number_of_retries_means_none(self):
        for create in (create_standard_error_chain, create_robust_error_chain):
            decision = decided(create("default", retry_count=0), ConnectionResetError())
            assert decision == Answered("default", "network")

    def test_a_mapping_that_would_hide_the_default_is_refused(self):
        with pytest.raises(ConfigurationError, match=r"'default'.*would never be asked.*'business'"):
            create_user_friendly_error_chain(5, error_mapping={Exception: "anything"})

    @pytest.mark.parametrize("chain", READY.values(), ids=READY)
    def test_a_ready_chain_can_be_pickled(self, chain):
        copy = pickle.loads(pickle.dumps(chain))
        for error in (KeyError("k"), ConnectionResetError(), ValueError("v"), OSError(), TimeoutError()):
            mine, theirs = decided(chain, error), decided(copy, error)
            assert (type(mine), mine.by) == (type(theirs), theirs.by)
