"""The documentation names what there is, links to what there is, and its tables say what the code says.

That its code blocks run is tested by `make docs`.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
from pathlib import Path

import pytest

import callpyback
import callpyback.handlers
import callpyback.observers
import callpyback.testing
from callpyback import (
    BackgroundObserver,
    CacheObserver,
    CallPyBack,
    ConfigurationError,
    ExecutionState,
    MetricsObserver,
    Notice,
    Outcome,
    RateLimitObserver,
    handlers,
    on_success,
)
from callpyback.config.catalogue import BUILT_IN
from callpyback.core.state_machine import PLAIN_STATES, TRANSITIONS
from callpyback.delivery import Ledger
from callpyback.observers import QuantileSketch, SlowExecution
from callpyback.observers.history import CallRecord
from callpyback.testing import RecordedCall, RecordingObserver, build_context

READY_MADE = {
    callpyback.StateObserver: "ready-made.md",
    callpyback.ProcessingObserver: "ready-made.md",
    callpyback.HistoryObserver: "ready-made.md",
    callpyback.DebugObserver: "ready-made.md",
    callpyback.ProgressObserver: "ready-made.md",
    callpyback.ProfilingObserver: "ready-made.md",
    callpyback.SamplingObserver: "ready-made.md",
    callpyback.DeduplicateObserver: "ready-made.md",
    callpyback.PerformanceProfileObserver: "reports-and-alerts.md",
    callpyback.BusinessMetricsObserver: "reports-and-alerts.md",
    callpyback.SecurityAuditObserver: "reports-and-alerts.md",
    callpyback.AlertObserver: "reports-and-alerts.md",
    callpyback.OverlapObserver: "reports-and-alerts.md",
    callpyback.WebhookObserver: "sinks.md",
    callpyback.DatabaseObserver: "sinks.md",
}
OF_ALL_OBSERVERS = ("bind", "is_leaf", "reset_after_fork")
TABLELESS = (callpyback.StateObserver, callpyback.ProfilingObserver)

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])


def shown(path):
    return str(path.relative_to(ROOT))


BLOCK = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)


def read(page):
    return page.read_text(encoding="utf-8")


def prose(page):
    """Return a page without its code blocks."""
    return BLOCK.sub("", read(page))


def anchors(page):
    """Return the anchors that GitHub gives to a page's headings."""
    found = set()
    for heading in re.findall(r"^#+ +(.+?) *$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        again = sum(known == slug or re.fullmatch(rf"{re.escape(slug)}-\d+", known) is not None for known in found)
        found.add(f"{slug}-{again}" if again else slug)
    return found


def links(page):
    """Return the targets of a page's links, but for those to other places."""
    targets = re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", prose(page))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def code(page):
    """Return everything a page shows as code."""
    return "\n".join([*BLOCK.findall(read(page)), *re.findall(r"`[^`\n]+`", prose(page))])


def table(page, *head):
    """Return the rows of the table with this head, without the backticks."""
    head_row = r"\|" + r"\|".join(f" {re.escape(cell)} " if cell else " " for cell in head) + r"\|"
    found = re.search(rf"^{head_row}\n\|[-|]+\|\n((?:\|.*\|\n)+)", read(page), re.MULTILINE)
    assert found is not None, f"{shown(page)} has no table with the head {head}"
    return [tuple(cell.strip().replace("`", "") for cell in row.strip("|").split("|")) for row in found[1].splitlines()]


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_links_lead_somewhere(page):
    broken = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert broken == []


def test_every_page_is_in_the_index():
    index = DOCS / "README.md"
    linked = {(index.parent / target.partition("#")[0]).resolve() for target in links(index)}
    assert linked == {page.resolve() for page in DOCS.rglob("*.md")} - {index.resolve()}


@pytest.mark.parametrize(
    "module", [callpyback, callpyback.handlers, callpyback.testing], ids=lambda module: module.__name__
)
def test_every_public_name_is_in_the_reference(module):
    text = "\n".join(code(page) for page in REFERENCE.glob("*.md"))
    assert [name for name in module.__all__ if not re.search(rf"\b{name}\b", text)] == []


@pytest.mark.parametrize(
    ("page", "cls"),
    [
        ("context.md", callpyback.ExecutionContext),
        ("context.md", callpyback.ExecutionResult),
        ("context.md", callpyback.ExecutionFailure),
        ("context.md", callpyback.FunctionSignature),
        ("context.md", callpyback.FunctionKind),
        ("context.md", callpyback.RetryNotice),
        ("choosing.md", callpyback.Hearing),
        ("current-call.md", callpyback.CurrentCall),
        ("current-call.md", callpyback.ProgressNotice),
        ("delivery.md", callpyback.BackgroundObserver),
        ("delivery.md", Ledger),
        ("guards.md", callpyback.CacheObserver),
        ("guards.md", callpyback.CircuitBreakerObserver),
        ("guards.md", callpyback.ConcurrencyLimitObserver),
        ("guards.md", callpyback.RateLimitObserver),
        ("guards.md", callpyback.Wait),
        ("handlers.md", callpyback.ErrorHandlerBuilder),
        ("handlers.md", callpyback.ErrorHandlerChain),
        ("handlers.md", callpyback.Retry),
        ("handlers.md", handlers.BaseHandler),
        ("locals.md", callpyback.TracingVariableExtractor),
        ("masking.md", callpyback.Masking),
        ("observers.md", callpyback.BaseObserver),
        ("observers.md", callpyback.LoggingObserver),
        ("observers.md", callpyback.MetricsObserver),
        ("observers.md", callpyback.TimingObserver),
        ("observers.md", callpyback.ObserverHealth),
        *((page, cls) for cls, page in READY_MADE.items()),
        ("ready-made.md", CallRecord),
        ("reports-and-alerts.md", callpyback.Degradation),
        ("states.md", callpyback.ExecutionState),
        ("states.md", callpyback.StateMachine),
        ("testing.md", RecordedCall),
        ("testing.md", RecordingObserver),
        ("time.md", callpyback.MockTimeSource),
        ("time.md", callpyback.SystemTimeSource),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_what_a_class_offers_is_on_its_page(page, cls):
    text = code(REFERENCE / page)
    own = [name for name in vars(cls) if not name.startswith("_")]
    assert own
    if cls in READY_MADE:
        own = [name for name in own if name not in (*vars(callpyback.BaseObserver), *OF_ALL_OBSERVERS)]
    assert [name for name in own if not re.search(rf"\b{name}\b", text)] == []


@pytest.mark.parametrize(
    ("page", "function"),
    [
        ("configuration.md", callpyback.create_observer),
        ("configuration.md", callpyback.describe_observers),
        ("configuration.md", callpyback.load_observers),
        ("configuration.md", callpyback.register_observer_type),
        ("context.md", callpyback.FunctionSignature),
        ("current-call.md", callpyback.CurrentCall.track),
        ("current-call.md", callpyback.on_progress),
        ("delivery.md", callpyback.BackgroundObserver),
        ("delivery.md", callpyback.BatchingObserver),
        ("errors.md", callpyback.CallVetoed),
        ("guards.md", callpyback.CacheObserver),
        ("guards.md", callpyback.CircuitBreakerObserver),
        ("guards.md", callpyback.ConcurrencyLimitObserver),
        ("guards.md", callpyback.RateLimitObserver),
        ("handlers.md", callpyback.ErrorHandlerChain),
        ("handlers.md", callpyback.Retry),
        ("handlers.md", handlers.BusinessLogicErrorHandler),
        ("handlers.md", handlers.ConditionalErrorHandler),
        ("handlers.md", handlers.Handler),
        ("handlers.md", handlers.NetworkErrorHandler),
        ("handlers.md", handlers.SecurityErrorHandler),
        ("handlers.md", handlers.ValidationErrorHandler),
        ("observers.md", callpyback.BaseObserver),
        ("observers.md", callpyback.CallbackObserver),
        ("observers.md", callpyback.create_callback_observer),
        ("observers.md", callpyback.on_success),
        ("observers.md", callpyback.LoggingObserver),
        ("observers.md", callpyback.MetricsObserver),
        ("observers.md", callpyback.TimingObserver),
        ("observers.md", SlowExecution),
        ("decorator.md", callpyback.factory),
        ("choosing.md", callpyback.Subscription),
        ("testing.md", RecordingObserver),
        ("testing.md", build_context),
        ("time.md", callpyback.MockTimeSource),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_parameters_are_on_the_page_of_what_takes_them(page, function):
    text = code(REFERENCE / page)
    names = [name for name in inspect.signature(function).parameters if name != "self"]
    assert names
    assert [name for name in names if not re.search(rf"\b{name}\b", text)] == []


def test_the_sketch_that_the_reference_names_exists():
    assert f"{callpyback.observers.__name__}.{QuantileSketch.__name__}" in code(REFERENCE / "observers.md")


def test_the_parameters_of_the_decorator_are_those_of_its_table():
    listed = [row[0] for row in table(REFERENCE / "decorator.md", "parameter", "default", "")]
    assert sorted(listed) == sorted(set(inspect.signature(CallPyBack.__init__).parameters) - {"self"})


COMMON = {"priority", "name", "time_source", "max_queue", "overflow", "block_timeout", "exit_timeout"}
"""Parameters that the pages tell once for several observers."""


@pytest.mark.parametrize("cls", READY_MADE, ids=lambda cls: cls.__name__)
def test_the_parameters_and_defaults_of_ready_made_observers_are_those_of_their_tables(cls):
    if cls in TABLELESS:
        pytest.skip("its parameters are told in its first sentence")
    section = read(REFERENCE / READY_MADE[cls]).partition(f"\n## {cls.__name__}\n")[2]
    listed = re.search(r"^\| parameter \| default \| \|\n\|[-|]+\|\n((?:\|.*\|\n)+)", section, re.MULTILINE)[1]
    rows = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in listed.splitlines()]
    told = {name: row[1] for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    parameters = inspect.signature(cls).parameters
    assert sorted(set(told) | COMMON & set(parameters)) == sorted(parameters)
    defaults = {name: parameters[name].default for name in told}
    literals = {name: cell for name, cell in told.items() if re.fullmatch(r"(None|True|False|[\d.]+|`[^`]+`)", cell)}
    shown = {name: normal(cell.strip("`")) for name, cell in literals.items() if defaults[name] is not None}
    assert shown == {name: normal(as_written(defaults[name])) for name in shown}
    assert [name for name, cell in told.items() if not cell and defaults[name] is not inspect.Parameter.empty] == []


def test_the_types_of_observers_are_those_of_the_library():
    listed = re.search(r"\*\*The library's own:\*\*(.+?)\.\n", read(REFERENCE / "configuration.md"), re.DOTALL)[1]
    assert re.findall(r"`(\w+)`", listed) == sorted(BUILT_IN)


def test_the_two_formats_of_configuration_say_the_same(tmp_path):
    text = read(REFERENCE / "configuration.md")
    asked = []
    for suffix in ("toml", "yaml"):
        path = tmp_path / f"observers.{suffix}"
        path.write_text(re.search(rf"^```{suffix}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[1], encoding="utf-8")
        asked.append([{**entry, "place": ""} for entry in callpyback.describe_observers(path)])
        for observer in callpyback.load_observers(path):
            assert isinstance(observer, callpyback.Subscription)
    assert asked[0] == asked[1]


def test_the_table_of_states_is_that_of_the_code():
    rows = table(REFERENCE / "states.md", "state", "told", "what an observer can read there")
    assert {row[0]: row[1] for row in rows} == {
        state.name: "yes" if state in PLAIN_STATES else "on request" for state in ExecutionState
    }


def test_the_table_of_steps_is_that_of_the_code():
    steps = [row[:2] for row in table(REFERENCE / "states.md", "from", "to", "when")]
    assert len(steps) == len(set(steps))
    assert set(steps) == {(state.name, after.name) for state in ExecutionState for after in TRANSITIONS[state]}


def possible(state, outcome, *, fails):
    """Return whether a call can end so."""
    try:
        context = build_context(state=state, outcome=outcome, exception=OSError() if fails else None)
    except ConfigurationError:
        return False
    return context.outcome is outcome


def test_the_table_of_outcomes_is_what_a_call_can_have():
    rows = table(REFERENCE / "states.md", "outcome", "ends in", "result", "the caller got")
    listed = {row[0]: (row[1], row[2]) for row in rows}
    expected = {}
    for outcome in Outcome:
        fails = not possible(ExecutionState.COMPLETED, outcome, fails=False)
        ends = [
            state.name
            for state in (ExecutionState.COMPLETED, ExecutionState.ERROR)
            if possible(state, outcome, fails=fails)
        ]
        expected[outcome.name] = (" or ".join(ends), "ExecutionFailure" if fails else "ExecutionResult")
    assert listed == expected


def test_the_names_a_callback_can_take_are_those_of_the_error_message():
    with pytest.raises(ConfigurationError) as refused:
        on_success(lambda unheard_of: unheard_of)
    named = re.search(r"takes what it names of ([\w, ]+);", str(refused.value))[1].split(", ")
    section = read(REFERENCE / "observers.md").partition("A callback takes")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(listed))) == sorted(named)
    assert len(named) == 22  # "twenty-two names", say the tutorial and the how-to


def test_the_defaults_of_guards_are_those_of_the_signatures_on_their_page():
    text = read(REFERENCE / "guards.md")
    for guard in GUARDS:
        shown = re.search(rf"^`{guard.__name__}\(([^`]+)\)`", text, re.MULTILINE)[1]
        assert normal(shown) == normal(signature_as_written(guard))


def test_the_priorities_of_guards_are_those_of_the_tables():
    priorities = {guard.__name__: inspect.signature(guard).parameters["priority"].default for guard in GUARDS}
    rows = table(REFERENCE / "guards.md", "", "refuses a call", "answers a call", "priority")
    assert {re.match(r"\[(\w+)\]", row[0])[1]: int(row[3]) for row in rows} == priorities
    how_to = table(DOCS / "how-to" / "choose-a-guard.md", "priority", "guard", "hence, by default")
    assert [int(row[0]) for row in how_to] == [*sorted(priorities.values(), reverse=True), 0]


def test_the_builder_has_the_methods_of_its_table():
    rows = table(REFERENCE / "handlers.md", "method", "adds")
    methods = [name for name in vars(callpyback.ErrorHandlerBuilder) if not name.startswith("_")]
    assert sorted(row[0].partition("(")[0] for row in rows) == sorted(methods)


def test_the_family_has_the_names_of_its_table():
    made = {
        handlers.BusinessLogicErrorHandler: ({KeyError: None},),
        handlers.ConditionalErrorHandler: (bool, handlers.DefaultErrorHandler()),
    }
    rows = table(REFERENCE / "handlers.md", "class", "name", "for", "does")
    classes = [getattr(handlers, row[0].partition("(")[0]) for row in rows]
    assert [cls(*made.get(cls, ())).name for cls in classes] == [row[1] for row in rows]
    assert {cls.__name__ for cls in classes} == {name for name in handlers.__all__ if name.endswith("ErrorHandler")}


FAILED = {
    "timeout": TimeoutError(),
    "other errors of the network": ConnectionResetError(),
    "PermissionError": PermissionError(),
    "ValueError, TypeError": ValueError(),
    "everything else": ZeroDivisionError(),
}


def treatment(chain, error):
    """Return what a chain does about an error, in the words of the table."""
    attempts = []

    @CallPyBack(error_handler=chain, default_return="unused")
    def function():
        attempts.append(error)
        raise error

    try:
        given = {"the default": "default", "unused": "passes"}[function()]
    except callpyback.AccessDenied:
        return "denied"
    except type(error) as raised:
        return "goes on" if raised is error else repr(raised)
    return given if len(attempts) == 1 else f"retried, then {given}"


def test_ready_chains_do_what_their_table_says():
    rows = table(REFERENCE / "handlers.md", "function", *FAILED)
    assert {row[0].partition("(")[0] for row in rows} == {
        name for name in handlers.__all__ if name.startswith("create_")
    }
    for row in rows:
        create = getattr(handlers, row[0].partition("(")[0])
        options = {"wait": 0} if "wait" in inspect.signature(create).parameters else {}
        done = [treatment(create("the default", **options), error) for error in FAILED.values()]
        assert [cell.partition(";")[0] for cell in row[1:]] == done, row[0]


def test_every_notice_is_in_the_reference():
    text = code(REFERENCE / "states.md")
    assert [notice.name for notice in Notice if f"Notice.{notice.name}" not in text] == []


GUARDS = [
    callpyback.RateLimitObserver,
    callpyback.CacheObserver,
    callpyback.CircuitBreakerObserver,
    callpyback.ConcurrencyLimitObserver,
]


def signature_as_written(cls):
    """Return the parameters of a class with their defaults, without annotations."""
    parameters = inspect.signature(cls).parameters.values()
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
    return str(inspect.Signature(bare)).strip("()").replace("<class 'Exception'>", "Exception")


def as_written(default):
    """Return a default as code has it."""
    return re.sub(r"<class '(\w+)'>", r"\1", repr(default)).replace("'", '"')


def normal(parameters):
    """Return parameters as they are compared: numbers as numbers, on one line."""
    return re.sub(r"(?<=\d)_(?=\d)", "", " ".join(parameters.split()))


class Awaited(callpyback.BaseObserver):
    async def update(self, context):
        """Do nothing."""


def generator():
    yield


def requiring(name, other):
    return callpyback.Subscription(MetricsObserver(), name=name, requires=other)


MISUSES = [
    lambda: CallPyBack(generator),
    lambda: CallPyBack(observers=[MetricsObserver]),
    lambda: CallPyBack(observers=[generator]),
    lambda: CallPyBack(observers=[type("Duck", (), {"update": print})()]),
    lambda: on_success(lambda unheard_of: unheard_of),
    lambda: CallPyBack(observers=[MetricsObserver()] * 2),
    lambda: CallPyBack(observers=[Awaited()])(generator),
    lambda: CallPyBack()(functools.singledispatchmethod(print)),
    lambda: CallPyBack()(Awaited),
    lambda: CallPyBack(default_return=None)(generator),
    lambda: BackgroundObserver(RateLimitObserver()),
    lambda: CallPyBack(observers=[CacheObserver()])(generator),
    lambda: handlers.DefaultErrorHandler() | handlers.TimeoutErrorHandler(),
    lambda: handlers.Handler(ValueError),
    lambda: CallPyBack(max_execution_time="soon"),
    lambda: CallPyBack(observers=[callpyback.Subscription(MetricsObserver(), requires="audit")])(generator),
    lambda: CallPyBack(observers=[requiring("a", "b"), requiring("b", "a")])(generator),
    lambda: CallPyBack(
        observers=[requiring("a", "b"), callpyback.Subscription(MetricsObserver(), name="b", match="-")]
    )(generator),
    lambda: CallPyBack(observers=[callpyback.Subscription(MetricsObserver(), name="a") for _ in "ab"]),
    lambda: callpyback.EventBus().register(MetricsObserver()),
    lambda: CallPyBack(observers=[type("Slip", (callpyback.StateObserver,), {"on_sucess": print})()]),
]


def test_the_messages_that_troubleshooting_quotes_are_those_of_the_library():
    messages = []
    for misuse in MISUSES:
        with pytest.raises(ConfigurationError) as refused:
            misuse()
        messages.append(str(refused.value))
    quoted = [row[0] for row in table(DOCS / "how-to" / "troubleshooting.md", "it says", "do")]
    assert [[quote in message for message in messages].count(True) for quote in quoted] == [1] * len(MISUSES)


COMING_FROM = sorted((DOCS / "coming-from").glob("*.md"))


@functools.cache
def known_tests(path):
    """Return the ids of the tests in a file, without its name."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        functions = (known for known in inner if isinstance(known, ast.FunctionDef | ast.AsyncFunctionDef))
        found |= {prefix + known.name for known in functions if known.name.startswith("test_")}
    return found


@pytest.mark.parametrize("page", COMING_FROM, ids=shown)
def test_each_row_of_a_table_for_people_of_another_system_names_a_test_that_exists(page):
    tables = re.findall(r"^\| theirs \| here \| test \|\n\|[-|]+\|\n((?:\|.*\|\n)+)", read(page), re.MULTILINE)
    rows = [row for found in tables for row in found.splitlines()]
    test_id = re.compile(r"(test_\w+\.py)::([\w:]+)")
    assert rows
    assert [row for row in rows if not test_id.search(row.rpartition(" | ")[2])] == []
    named = test_id.findall(read(page))
    assert [f"{file}::{name}" for file, name in named if name not in known_tests(ROOT / "tests" / file)] == []
