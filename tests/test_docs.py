"""The documentation names what there is, links to what there is, and its tables say what the code says.

That its code blocks run is tested by `make docs`.
"""

from __future__ import annotations

import functools
import inspect
import re
from pathlib import Path

import pytest

import callpyback
import callpyback.observers
import callpyback.testing
from callpyback import CallPyBack, ConfigurationError, ExecutionState, MetricsObserver, Outcome, on_success
from callpyback.core.state_machine import PLAIN_STATES, TRANSITIONS
from callpyback.observers import QuantileSketch, SlowExecution
from callpyback.testing import RecordedCall, RecordingObserver, build_context

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


@pytest.mark.parametrize("module", [callpyback, callpyback.testing], ids=lambda module: module.__name__)
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
        ("locals.md", callpyback.TracingVariableExtractor),
        ("observers.md", callpyback.BaseObserver),
        ("observers.md", callpyback.LoggingObserver),
        ("observers.md", callpyback.MetricsObserver),
        ("observers.md", callpyback.TimingObserver),
        ("observers.md", callpyback.ObserverHealth),
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
    assert [name for name in own if not re.search(rf"\b{name}\b", text)] == []


@pytest.mark.parametrize(
    ("page", "function"),
    [
        ("context.md", callpyback.FunctionSignature),
        ("observers.md", callpyback.BaseObserver),
        ("observers.md", callpyback.CallbackObserver),
        ("observers.md", callpyback.create_callback_observer),
        ("observers.md", callpyback.on_success),
        ("observers.md", callpyback.LoggingObserver),
        ("observers.md", callpyback.MetricsObserver),
        ("observers.md", callpyback.TimingObserver),
        ("observers.md", SlowExecution),
        ("decorator.md", callpyback.factory),
        ("decorator.md", callpyback.CallPyBack.add_observer),
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
    assert len(named) == 15  # "fifteen names", say the tutorial and the how-to


class Awaited(callpyback.BaseObserver):
    async def update(self, context):
        """Do nothing."""


def generator():
    yield


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
    lambda: CallPyBack(max_execution_time=1),
    lambda: CallPyBack(enable_async_observers=True),
]


def test_the_messages_that_troubleshooting_quotes_are_those_of_the_library():
    messages = []
    for misuse in MISUSES:
        with pytest.raises(ConfigurationError) as refused:
            misuse()
        messages.append(str(refused.value))
    quoted = [row[0] for row in table(DOCS / "how-to" / "troubleshooting.md", "it says", "do")]
    assert [[quote in message for message in messages].count(True) for quote in quoted] == [1] * len(MISUSES)
