"""What one handler decides about one error, and what of it a user can get wrong."""

from __future__ import annotations

import errno
import functools
import logging
import pickle
import re
import socket
import ssl
import urllib.error

import pytest

from callpyback import (
    AccessDenied,
    CallPyBack,
    ConfigurationError,
    ExecutionTimeout,
    FunctionSignature,
    MockTimeSource,
    factory,
)
from callpyback.core.decisions import Again, Answered, Reraised
from callpyback.handlers import (
    BaseHandler,
    BusinessLogicErrorHandler,
    ConditionalErrorHandler,
    DefaultErrorHandler,
    ErrorHandlerChain,
    Handler,
    NetworkErrorHandler,
    ReraiseErrorHandler,
    Retry,
    SecurityErrorHandler,
    TimeoutErrorHandler,
    ValidationErrorHandler,
    create_robust_error_chain,
    is_network_error,
)
from callpyback.handlers.faults import Faults
from handling import AuthorError, Hostile, Translated, decided, failed, raising
from kinds import drive, ended, pause


class TestMatching:
    @pytest.mark.parametrize(
        ("on", "error", "matches"),
        [
            (KeyError, KeyError("k"), True),
            (LookupError, KeyError("k"), True),
            (KeyError, LookupError("k"), False),
            ([KeyError, OSError], OSError(), True),
            ({KeyError}, OSError(), False),
            (iter([KeyError, OSError]), OSError(), True),
            (Exception, AuthorError("rule 7"), True),
            (lambda error: error.args == ("k",), KeyError("k"), True),
            (lambda error: error.args == ("k",), KeyError("l"), False),
            (lambda error, context: context.function_signature.name == "function", KeyError(), True),
            (lambda error, context: context.function_signature.name == "other", KeyError(), False),
            (lambda *asked: len(asked) == 2, KeyError(), True),
            (lambda error, context=None: context is not None, KeyError(), True),
            (lambda error, wanted=KeyError: type(error) is wanted, KeyError(), True),
            (functools.partial(lambda wanted, error: type(error) is wanted, KeyError), KeyError(), True),
        ],
    )
    def test_a_handler_is_for_its_classes_or_what_its_predicate_says(self, on, error, matches):
        assert decided(Handler(on, value=5, name="h"), error) == (Answered(5, "h") if matches else None)

    def test_a_predicate_narrows_the_classes(self):
        handler = Handler(OSError, when=lambda error: error.errno == errno.ENOENT, value=5)
        assert handler.handle_error(FileNotFoundError(errno.ENOENT, "no"), None) == 5
        for error in (OSError(errno.EIO, "io"), KeyError("k")):
            assert decided(handler, error) is None

    def test_without_classes_it_is_for_every_error(self):
        assert decided(Handler(value=5, name="h"), AuthorError()) == Answered(5, "h")

    @pytest.mark.parametrize("raised", [ZeroDivisionError(), RecursionError(), KeyError("no attribute")])
    def test_a_predicate_that_raises_says_no(self, raised, caplog):
        error = OSError("user's")
        for handler in (Handler(raising(raised), value=5), Handler(OSError, when=raising(raised), value=5)):
            assert decided(handler, error) is None
        assert [type(raised).__name__ in record.getMessage() for record in caplog.records] == [True, True]

    def test_a_predicate_that_raises_from_the_error_says_no_too(self):
        error = OSError("user's")

        def predicate(error):
            raise Translated from error

        assert decided(Handler(predicate, value=5), error) is None

    def test_what_can_not_be_said_to_be_true_or_false_means_no(self):
        class Neither:
            def __bool__(self):
                raise ValueError("ambiguous")

        assert decided(Handler(lambda error: Neither(), value=5), OSError()) is None

    def test_the_text_of_an_error_decides_nothing(self):
        chain = create_robust_error_chain("default")
        error = AuthorError("permission denied: rule 7, validation timeout of the network")
        assert decided(chain, error) == Answered("default", "default")


class TestActions:
    def test_a_value_is_given_as_it_is(self):
        value = object()
        assert decided(Handler(value=value, name="h"), OSError()).value is value
        assert decided(Handler(value=None, name="h"), OSError()) == Answered(None, "h")
        assert decided(Handler(value=len), OSError()).value is len

    def test_a_mutable_value_is_not_shared(self):  # E29
        handler = Handler(value={"found": []})
        handler.handle_error(OSError(), None)["found"].append(1)
        assert handler.handle_error(OSError(), None) == {"found": []}

    def test_a_factory_makes_each_value_anew(self):
        handler = Handler(value=factory(list))
        first, second = (handler.handle_error(OSError(), None) for _ in range(2))
        assert (first, second) == ([], [])
        assert first is not second

    def test_a_function_answers_from_the_error_and_the_context(self):
        handler = Handler(answer=lambda error, context: (error, context.arguments))
        error = OSError()
        assert decided(handler, error, arguments={"n": 1}).value == (error, {"n": 1})
        assert decided(Handler(answer=str), KeyError("k")).value == "'k'"

    def test_a_method_of_a_handlers_own_error_may_answer(self):
        class Refused(Exception):
            def shown(self):
                return "refused"

        assert decided(Handler(Refused, answer=Refused.shown), Refused()).value == "refused"

    def test_a_reraised_error_is_the_same_object_and_ends_the_asking(self):
        error = OSError()
        decision = decided(Handler(reraise=True, name="h"), error)
        assert decision == Reraised(error, "h")
        assert decision.error is error

    @pytest.mark.parametrize(
        "raises",
        [Translated, lambda error: Translated(), lambda error, context: Translated()],
        ids=["class", "of the error", "of both"],
    )
    def test_another_error_is_raised_with_the_original_as_its_cause(self, raises):
        error = OSError()
        raised = ended(lambda: Handler(raises=raises).handle_error(error, None)).exception
        assert type(raised) is Translated
        assert raised.__cause__ is error
        assert error.__cause__ is None

    def test_another_error_keeps_the_cause_it_has(self):
        cause, error = KeyError("the real one"), OSError()

        def translate(error):
            translated = Translated()
            translated.__cause__ = cause
            return translated

        assert decided(Handler(raises=translate), error).error.__cause__ is cause

    def test_raising_the_cause_of_an_error_closes_no_circle(self):
        inner, error = KeyError("inner"), Translated()
        error.__cause__ = inner
        assert decided(Handler(raises=lambda error: error.__cause__), error).error is inner
        assert inner.__cause__ is None

    def test_raising_the_context_of_an_error_closes_no_circle(self):
        inner, error = KeyError("inner"), Translated()
        error.__context__ = inner
        assert decided(Handler(raises=lambda error: error.__context__), error).error is inner
        assert inner.__cause__ is None

    def test_raising_the_error_itself_gives_it_no_cause(self):
        error = OSError()
        assert decided(Handler(raises=lambda error: error), error).error is error
        assert error.__cause__ is None

    def test_a_handler_with_a_retry_alone_passes_on_when_that_gives_up(self):
        handler = Handler(OSError, retry=Retry(attempts=1, on=OSError))
        assert decided(handler, OSError()) is None

    def test_an_answer_may_pass_on_by_raising_the_error(self, caplog):
        error = OSError()
        assert decided(Handler(answer=raising(error)), error) is None
        assert caplog.records == []

    def test_an_answer_may_raise_another_error_from_the_error(self):
        error = OSError()

        def answer(error, context):
            raise Translated("told") from error

        decision = decided(Handler(answer=answer, name="h"), error)
        assert (type(decision), str(decision.error), decision.by) == (Reraised, "told", "h")

    @pytest.mark.parametrize(
        "actions",
        [
            {"answer": raising(ZeroDivisionError("bug"))},
            {"raises": raising(ZeroDivisionError("bug"))},
            {"raises": lambda error: "no exception"},
            {"raises": lambda error: KeyboardInterrupt},
            {"raises": lambda error: KeyboardInterrupt()},
            {"value": factory(raising(ZeroDivisionError("bug")))},
        ],
        ids=["answer", "raises", "no exception", "an exception class", "an interrupt", "factory"],
    )
    def test_a_mistake_in_a_handler_is_logged_and_hides_nothing(self, actions, caplog):  # E28
        error = OSError("secret of the user")
        handler = Handler(OSError, name="mine", **actions)
        assert ended(lambda: handler.handle_error(error, None)).exception is error
        [record] = caplog.records
        assert (record.name, record.levelname) == ("callpyback", "WARNING")
        assert "mine" in record.getMessage()
        assert "OSError" in record.getMessage()
        assert "secret" not in record.getMessage()

    def test_mistakes_of_one_handler_are_logged_once_a_minute(self, caplog):
        handler = Handler(OSError, answer=raising(ZeroDivisionError("bug")))
        for _ in range(3):
            decided(handler, OSError())
        assert len(caplog.records) == 1

    def test_the_next_report_counts_those_that_were_not_logged(self, caplog):
        clock = MockTimeSource()
        faults = Faults("mine", clock.monotonic)
        for seconds in (0, 59, 0.5, 0.5, 60):
            clock.advance(seconds)
            faults.report(ZeroDivisionError("bug"), OSError())
        assert [record.getMessage().partition("bug")[2] for record in caplog.records] == [
            "",
            " (2 more since the last report)",
            "",
        ]

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=repr)
    def test_an_interrupt_inside_a_handler_belongs_to_the_program(self, error):
        assert ended(lambda: Handler(answer=raising(error)).handle_error(OSError(), None)).exception is error

    def test_a_coroutine_function_is_awaited(self):
        async def answer(error):
            await pause()
            return "found elsewhere"

        async def is_mine(error, context):
            await pause()
            return isinstance(error, OSError)

        handler = Handler(is_mine, answer=answer, name="h")
        assert handler.is_async
        assert decided(handler, OSError()) == Answered("found elsewhere", "h")
        assert decided(handler, KeyError()) is None
        assert drive(handler.handle_error(OSError(), failed(OSError()))) == "found elsewhere"

    def test_a_mistake_in_a_coroutine_function_hides_nothing(self, caplog):
        async def answer(error):
            await pause()
            raise ZeroDivisionError("bug")

        error = OSError()
        handler = Handler(answer=answer)
        assert ended(lambda: drive(handler.handle_error(error, failed(error)))).exception is error
        assert "bug" in caplog.text

    def test_a_function_that_returns_an_awaitable_has_answered_with_it(self):  # T35
        async def later(): ...

        waiting = later()
        assert Handler(answer=lambda error: waiting).handle_error(OSError(), None) is waiting
        waiting.close()


class TestUsualHandlers:
    @pytest.mark.parametrize("error", [TimeoutError(), ExecutionTimeout("f", 1.0)], ids=repr)
    def test_timeouts_give_the_default_or_go_on(self, error):
        assert decided(TimeoutErrorHandler(default_return=5), error) == Answered(5, "timeout")
        assert decided(TimeoutErrorHandler(), error) == Reraised(error, "timeout")
        assert decided(TimeoutErrorHandler(default_return=5), ConnectionError()) is None

    def test_validation_errors_go_on_unless_there_is_a_default(self):
        error = ValueError("no number")
        assert decided(ValidationErrorHandler(), error) == Reraised(error, "validation")
        assert decided(ValidationErrorHandler(reraise=True), error) == Reraised(error, "validation")
        assert decided(ValidationErrorHandler(default_return=5), TypeError()) == Answered(5, "validation")
        assert decided(ValidationErrorHandler(reraise=False), error) == Answered(None, "validation")
        assert decided(ValidationErrorHandler(), KeyError()) is None

    def test_other_classes_may_mean_wrong_input(self):
        handler = ValidationErrorHandler(on=KeyError, default_return=5)
        assert decided(handler, KeyError()) == Answered(5, "validation")
        assert decided(handler, ValueError()) is None

    @pytest.mark.parametrize(
        "error",
        [
            ConnectionResetError(),
            BrokenPipeError(),
            TimeoutError(),
            socket.gaierror(socket.EAI_AGAIN, "try again"),
            socket.herror(),
            OSError(errno.ENETUNREACH, "Network is unreachable"),
            OSError(errno.EHOSTUNREACH, "No route to host"),
        ],
        ids=repr,
    )
    def test_errors_of_the_network_are_told_by_class_and_errno(self, error):
        assert is_network_error(error)
        assert decided(NetworkErrorHandler(retry_count=0, default_return=5), error) == Answered(5, "network")

    @pytest.mark.parametrize(
        "error",
        [
            FileNotFoundError(errno.ENOENT, "network"),
            PermissionError(errno.EACCES, "connection"),
            OSError("network is unreachable"),
            ssl.SSLError("certificate"),
            urllib.error.URLError("no host given"),
            AuthorError("connection reset"),
        ],
        ids=repr,
    )
    def test_other_errors_are_none_of_the_network(self, error):
        assert not is_network_error(error)
        assert decided(NetworkErrorHandler(default_return=5), error) is None

    def test_errors_of_the_network_are_retried_before_the_default_is_given(self):
        error = ConnectionResetError()
        handler = NetworkErrorHandler(retry_count=1, default_return=5, wait=2.5)
        assert decided(handler, error) == Again(2.5, "network")
        assert decided(NetworkErrorHandler(retry_count=0), error) == Reraised(error, "network")

    def test_of_mapped_classes_the_most_specific_counts(self):
        class Base(Exception): ...

        class Derived(Base): ...

        class Other(Derived, KeyError): ...

        handler = BusinessLogicErrorHandler({KeyError: "key", Base: "base", Derived: "derived"})
        for error, value in ((Base(), "base"), (Derived(), "derived"), (Other(), "derived"), (KeyError(), "key")):
            assert decided(handler, error) == Answered(value, "business")
        assert decided(handler, LookupError()) is None

    def test_mapped_functions_are_called_and_other_values_given(self):
        class Callable:
            def __call__(self, error):
                raise NotImplementedError

        value = Callable()
        handler = BusinessLogicErrorHandler(
            {
                KeyError: lambda error, context: (error.args, context.arguments),
                ValueError: functools.partial(lambda prefix, error: prefix + str(error), "bad: "),
                OSError: value,
                TypeError: [],
                RuntimeError: factory(dict),
            }
        )
        assert decided(handler, KeyError("k"), arguments={"n": 1}).value == (("k",), {"n": 1})
        assert decided(handler, ValueError("v")).value == "bad: v"
        assert decided(handler, OSError()).value is value
        assert decided(handler, TypeError()).value is not decided(handler, TypeError()).value
        assert decided(handler, RuntimeError()).value == {}

    def test_a_mapped_function_that_fails_hides_nothing(self, caplog):
        handler = BusinessLogicErrorHandler({KeyError: lambda error: error.absent})
        assert decided(handler | DefaultErrorHandler(5), KeyError()) == Answered(5, "default")
        assert "AttributeError" in caplog.text

    def test_a_mapped_coroutine_function_is_awaited(self):
        async def found(error):
            await pause()
            return "found"

        handler = BusinessLogicErrorHandler({KeyError: found, OSError: 5})
        assert handler.is_async
        assert [decided(handler, error).value for error in (KeyError(), OSError())] == ["found", 5]

    def test_the_end_of_a_chain_reraises(self):
        error = AuthorError()
        assert decided(Handler(KeyError, value=1) | ReraiseErrorHandler(), error) == Reraised(error, "reraise")

    @pytest.mark.parametrize(
        ("handler", "name"),
        [
            (TimeoutErrorHandler(), "timeout"),
            (ValidationErrorHandler(), "validation"),
            (NetworkErrorHandler(), "network"),
            (BusinessLogicErrorHandler({KeyError: 1}), "business"),
            (SecurityErrorHandler(), "security"),
            (ConditionalErrorHandler(lambda error: True, DefaultErrorHandler()), "conditional"),
            (DefaultErrorHandler(), "default"),
            (ReraiseErrorHandler(), "reraise"),
            (Retry(), "retry"),
            (ErrorHandlerChain(), "chain"),
            (Handler((KeyError, OSError), value=1), "handler of KeyError | OSError"),
            (Handler(is_network_error, value=1), "handler of is_network_error"),
            (Handler(value=1, name="mine"), "mine"),
        ],
    )
    def test_every_handler_has_a_name(self, handler, name):
        assert handler.name == name


SECRET = "hunter2"


class TestSecurity:
    @pytest.fixture
    def audit(self):
        """The records of an audit log of its own."""

        class Keeping(logging.Handler):
            def emit(self, record):
                records.append(record)

        records, handler, logger = [], Keeping(), logging.getLogger("audit of the tests")
        logger.addHandler(handler)
        yield logger, records
        logger.removeHandler(handler)

    def test_a_denial_says_nothing_but_its_number(self, audit):
        logger, records = audit
        error = PermissionError(f"wrong password {SECRET}")
        denied = decided(SecurityErrorHandler(logger=logger), error).error
        assert type(denied) is AccessDenied
        assert denied.args == (records[0].incident_id,)
        assert str(denied) == f"access denied (incident {records[0].incident_id})"
        assert (denied.__cause__, denied.__suppress_context__) == (None, True)
        assert re.fullmatch("[0-9a-f]{16}", denied.incident_id)

    def test_one_entry_says_what_happened_and_holds_no_value(self, audit):
        logger, records = audit

        def login(user, password, *rest, attempt=1, **fields): ...

        error = PermissionError(f"wrong password {SECRET}")
        arguments = {"user": SECRET, "password": SECRET, "rest": (SECRET,), "attempt": 1, SECRET: 5}
        decided(
            SecurityErrorHandler(logger=logger), error, function=login, arguments=arguments, timestamp=1_700_000_000.5
        )
        [record] = records
        assert record.levelname == "WARNING"
        assert record.function_name.endswith("login")
        assert record.error_type == "PermissionError"
        assert record.argument_names == ["user", "password", "rest", "attempt", "fields"]
        assert record.began_at == "2023-11-14T22:13:20.500Z"
        for shown in (record.incident_id, "login", "PermissionError", "user, password, rest, attempt, fields", "22:13"):
            assert shown in record.getMessage()
        assert SECRET not in repr(vars(record)) + record.getMessage()
        assert record.exc_info is None

    def test_a_keyword_that_clashes_shows_the_surplus_once(self, audit):
        logger, records = audit

        def login(user, /, **fields): ...

        arguments = {"user": SECRET, "fields": {"user": SECRET}, SECRET: 5}
        decided(SecurityErrorHandler(logger=logger), PermissionError(), function=login, arguments=arguments)
        assert records[0].argument_names == ["user", "fields"]

    def test_an_entry_names_so_many_parameters_at_most(self, audit):
        logger, records = audit
        names = [f"p{number}" for number in range(60)]
        namespace = {}
        exec(f"def function({', '.join(names)}): ...", namespace)
        options = {"function": namespace["function"], "arguments": dict.fromkeys(names, SECRET)}
        decided(SecurityErrorHandler(logger=logger), PermissionError(), **options)
        assert records[0].argument_names == names[:50]

    def test_self_is_not_among_the_names(self, audit):
        logger, records = audit

        class Vault:
            @CallPyBack(error_handler=SecurityErrorHandler(logger=logger))
            def open(self, code):
                raise PermissionError(code)

        with pytest.raises(AccessDenied):
            Vault().open(SECRET)
        assert records[0].argument_names == ["code"]

    def test_by_default_entries_go_to_a_logger_below_callpybacks(self, caplog):
        decided(SecurityErrorHandler(), PermissionError())
        assert [record.name for record in caplog.records] == ["callpyback.security"]

    def test_configured_classes_are_denied_and_others_are_not(self):
        handler = SecurityErrorHandler(on=(AuthorError, PermissionError))
        assert type(decided(handler, AuthorError("rule 7")).error) is AccessDenied
        assert decided(SecurityErrorHandler(), AuthorError("rule 7: permission denied")) is None

    def test_each_incident_has_a_number_of_its_own(self):
        handler, error = SecurityErrorHandler(), PermissionError()
        assert len({decided(handler, error).error.incident_id for _ in range(100)}) == 100

    def test_a_denial_from_further_inside_keeps_its_number(self, audit):
        logger, records = audit
        inner = AccessDenied("0123")
        assert decided(SecurityErrorHandler(logger=logger), inner).error is inner
        assert records == []

    def test_the_caller_is_denied_even_if_the_entry_can_not_be_written(self, audit, caplog):
        logger, records = audit
        full = raising(ZeroDivisionError("no disk"))
        logger.addFilter(full)
        denied = decided(SecurityErrorHandler(logger=logger), PermissionError(SECRET)).error
        logger.removeFilter(full)
        assert type(denied) is AccessDenied
        assert "no disk" in caplog.text
        assert SECRET not in caplog.text
        assert records == []

    @pytest.mark.parametrize("timestamp", [float("nan"), 1e300, float("-inf")])
    def test_a_clock_that_fails_hides_no_incident(self, audit, timestamp):
        logger, records = audit
        decided(SecurityErrorHandler(logger=logger), PermissionError(), timestamp=timestamp)
        assert records[0].began_at == "unknown"

    def test_an_entry_is_one_line(self, audit):  # S08
        logger, records = audit
        forged = type("Forged\nERROR all is well", (PermissionError,), {})
        decided(SecurityErrorHandler(logger=logger), forged(), function=FunctionSignature("f\nERROR", module="m"))
        assert "\n" not in records[0].getMessage() + records[0].error_type + records[0].function_name

    def test_an_adapter_will_do_for_a_logger(self, audit):
        logger, records = audit
        handler = SecurityErrorHandler(logger=logging.LoggerAdapter(logger, {}))
        denied = decided(handler, PermissionError()).error
        assert denied.incident_id in records[0].getMessage()


def condition_of_a_module(error):
    return True


class TestPickling:
    @pytest.mark.parametrize(
        "handler",
        [
            Handler(KeyError, when=condition_of_a_module, value=[]),
            Handler(KeyError, raises=Translated),
            ConditionalErrorHandler(condition_of_a_module, Retry(wait=1) | DefaultErrorHandler(5)),
            BusinessLogicErrorHandler({KeyError: condition_of_a_module, OSError: factory(list)}),
        ],
        ids=repr,
    )
    def test_a_handler_can_be_pickled(self, handler, caplog):
        handler.faults.report(ZeroDivisionError(), OSError())
        copy = pickle.loads(pickle.dumps(handler))
        copy.faults.report(ZeroDivisionError(), OSError())
        assert len(caplog.records) == 2  # what was logged in one process is not yet logged in another
        for error in (KeyError("k"), ConnectionResetError(), ValueError("v"), OSError()):
            mine, theirs = decided(handler, error), decided(copy, error)
            assert type(mine) is type(theirs)
            if isinstance(mine, Answered):
                assert mine == theirs


ON = "Exception subclasses, such as on="
TAKES = r"a function of \(error, context\), or of the error alone"
MISUSES = {
    "nothing to do": (lambda: Handler(KeyError), "value=<not given>.*does nothing"),
    "two things": (lambda: Handler(KeyError, value=1, reraise=True), "reraise=True.*nothing beside value"),
    "an interrupt": (lambda: Handler(KeyboardInterrupt, value=1), "KeyboardInterrupt belongs to the program"),
    "BaseException": (lambda: Handler(on=[KeyError, BaseException], value=1), "BaseException belongs to the program"),
    "GeneratorExit": (lambda: Retry(on=GeneratorExit), "on=.*GeneratorExit belongs to the program"),
    "no class": (lambda: Handler((KeyError, "OSError"), value=1), f"on=.*{ON}.*'OSError' is no exception class"),
    "an instance": (lambda: Handler(KeyError("k"), value=1), f"on=.*{ON}"),
    "a class that is none": (lambda: Handler(int, value=1), f"on=.*{ON}"),
    "no classes": (lambda: Handler((), value=1), "on=.*at least one"),
    "a name of a class": (lambda: Handler("KeyError", value=1), f"on='KeyError'.*{ON}"),
    "a predicate without parameters": (lambda: Handler(lambda: True, value=1), f"on=.*{TAKES}"),
    "a predicate with too many": (lambda: Handler(KeyError, when=lambda a, b, c: 1, value=1), f"when=.*{TAKES}"),
    "a predicate by keyword": (lambda: Handler(lambda error, *, x: 1, value=1), f"on=.*{TAKES}"),
    "two predicates": (lambda: Handler(lambda error: 1, when=lambda error: 1, value=1), "when=.*nothing beside"),
    "a predicate that is none": (lambda: Handler(KeyError, when=True, value=1), f"when=True.*{TAKES}"),
    "a generator function": (lambda: Handler(answer=lambda error: (yield)), f"answer=.*{TAKES}"),
    "an answer that is none": (lambda: Handler(KeyError, answer=5), f"answer=5.*{TAKES}"),
    "one exception for all": (lambda: Handler(KeyError, raises=OSError("o")), r"raises=OSError\('o'\).*one exception"),
    "an exception that needs more": (lambda: Handler(KeyError, raises=UnicodeDecodeError), r"UnicodeDecodeError\(\) f"),
    "raising an interrupt": (lambda: Handler(KeyError, raises=SystemExit), "raises=.*SystemExit is no Exception"),
    "a value that can't be copied": (lambda: Handler(value=[object.__new__(Hostile)]), "value=.*use value=factory"),
    "reraise=1": (lambda: Handler(KeyError, reraise=1), "reraise=1.*True or False"),
    "retry=3": (lambda: Handler(KeyError, retry=3), r"retry=3.*Retry\(attempts=3"),
    "retry=Retry": (lambda: Handler(KeyError, retry=Retry), "retry=.*instance"),
    "an empty name": (lambda: Handler(KeyError, value=1, name=""), "name=''.*a text"),
    "a hostile class": (lambda: Handler(Hostile(), value=1), "on="),
    "validation with both": (lambda: ValidationErrorHandler(reraise=True, default_return=1), "reraise=True.*value"),
    "retry_count=-1": (lambda: NetworkErrorHandler(retry_count=-1), "retry_count=-1.*0 or more"),
    "retry_count=True": (lambda: NetworkErrorHandler(retry_count=True), "retry_count=True"),
    "a mapping that is none": (lambda: BusinessLogicErrorHandler([KeyError]), "error_mapping=.*a mapping"),
    "an empty mapping": (lambda: BusinessLogicErrorHandler({}), "error_mapping=.*at least one"),
    "a mapping of names": (lambda: BusinessLogicErrorHandler({"KeyError": 1}), "error_mapping=.*'KeyError' is no"),
    "a mapped function": (
        lambda: BusinessLogicErrorHandler({KeyError: lambda: 1}),
        rf"error_mapping\[KeyError\].*{TAKES}",
    ),
    "a condition that is none": (lambda: ConditionalErrorHandler(True, DefaultErrorHandler()), f"condition=.*{TAKES}"),
    "a conditional of none": (lambda: ConditionalErrorHandler(lambda error: 1, 5), "handler=5.*an error handler"),
    "a logger that is none": (lambda: SecurityErrorHandler(logger="audit"), "logger='audit'.*getLogger"),
    "one handler": (lambda: ErrorHandlerChain(DefaultErrorHandler()), "handlers=.*a list of error handlers"),
    "a class of handlers": (
        lambda: ErrorHandlerChain([DefaultErrorHandler]),
        r"did you mean DefaultErrorHandler\(\)\?",
    ),
    "no handler": (lambda: ErrorHandlerChain([len]), "handlers=.*an error handler"),
    "a hostile handler": (lambda: ErrorHandlerChain([Hostile()]), "looking at it raised"),
    "hostile handlers": (lambda: ErrorHandlerChain(Hostile()), "looking at it raised"),
    "a hostile neighbour": (lambda: DefaultErrorHandler() | Hostile(), "looking at it raised"),
}


class TestMisuse:
    @pytest.mark.parametrize(("make", "message"), MISUSES.values(), ids=MISUSES)
    def test_misuse_is_refused_when_the_handler_is_made(self, make, message):
        with pytest.raises(ConfigurationError, match=message):
            make()

    def test_composing_with_what_is_no_handler_is_a_type_error(self):
        with pytest.raises(TypeError, match="unsupported operand"):
            DefaultErrorHandler() | 5

    def test_a_handle_error_that_yields_is_refused(self):
        class Yielding:
            def handle_error(self, error, context):
                yield

        with pytest.raises(ConfigurationError, match="not a generator function"):
            ErrorHandlerChain([Yielding()])

    def test_a_handler_that_awaits_without_saying_so_is_told_by_hand(self):
        class Undeclared(BaseHandler):
            def consider(self, error, context):
                yield pause()

        with pytest.raises(ConfigurationError, match="is_async is False"):
            Undeclared("undeclared").handle_error(OSError(), None)
