"""`ProcessingObserver`: should_process, extract, process and store, once for each call that has ended."""

from __future__ import annotations

import copy
import functools
import json
import pickle

import pytest

from callpyback import CallPyBack, ConfigurationError, ExecutionState, ProcessingObserver, handle
from callpyback.testing import build_context
from kinds import KINDS

ASYNC_KINDS = [kind for kind in KINDS if kind.is_async]


class Rows(ProcessingObserver):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.rows = []

    def extract(self, context):
        return {"function": context.function_signature.name, "success": context.is_successful}

    def store(self, data):
        self.rows.append(data)


class Json:  # as the strategies of the custom-observers page
    def process(self, data, context):
        return json.dumps(data)


def test_each_call_that_has_ended_is_processed_once_however_it_ended(kind):
    rows = Rows()
    function = kind.make(lambda n: 1 // n, CallPyBack([rows], exception_classes=[OSError]))
    kind.call(function, 1)
    kind.ended(function, 0)  # unexpected: it ends in ERROR
    assert rows.rows == [{"function": "function", "success": True}, {"function": "function", "success": False}]


def test_the_steps_run_in_order_and_each_is_given_what_the_one_before_gave():
    class Steps(ProcessingObserver):
        def should_process(self, context):
            seen.append(("should_process", context))
            return True

        def extract(self, context):
            seen.append(("extract", context))
            return "data"

        def process(self, data, context):
            seen.append(("process", data, context))
            return "processed"

        def store(self, data):
            seen.append(("store", data))

    seen, context = [], build_context()
    Steps().update(context)
    assert seen == [
        ("should_process", context),
        ("extract", context),
        ("process", "data", context),
        ("store", "processed"),
    ]


def test_a_call_that_should_not_be_processed_is_not():
    class Failures(Rows):
        def should_process(self, context):
            return context.is_failed

    rows = Failures()
    rows.update(build_context())
    rows.update(build_context(exception=ValueError()))
    assert [row["success"] for row in rows.rows] == [False]


def test_the_states_may_be_others():
    assert Rows().states == {ExecutionState.COMPLETED, ExecutionState.ERROR}
    assert Rows(states=ExecutionState.POST_SUCCESS).states == {ExecutionState.POST_SUCCESS}


class Adding:
    def __call__(self, data, context):
        return {**data, "state": context.state.name}


def with_context(data, context=None):
    return context.state.name


def indented(data, indent=2):
    return indent


@pytest.mark.parametrize(
    ("processor", "stored"),
    [
        (Json(), '{"function": "f", "success": true}'),
        (json.dumps, '{"function": "f", "success": true}'),
        (Adding(), {"function": "f", "success": True, "state": "COMPLETED"}),
        (lambda data, context: context.state.name, "COMPLETED"),
        (with_context, "COMPLETED"),
        (indented, 2),
        (functools.partial(json.dumps, sort_keys=True), '{"function": "f", "success": true}'),
        (len, 2),
        (dict.copy, {"function": "f", "success": True}),
        (None, {"function": "f", "success": True}),
    ],
    ids=range(10),
)
def test_the_processor_is_given_the_data_and_the_context_if_it_takes_one(processor, stored):
    rows = Rows(processor=processor)
    rows.update(build_context("f"))
    assert rows.rows == [stored]


def test_the_processor_may_be_exchanged():
    rows = Rows()
    rows.configure(processor=Json())
    rows.update(build_context("f"))
    rows.processor = None
    rows.update(build_context("f"))
    assert [type(row) for row in rows.rows] == [str, dict]


def endless(data):
    yield data


@pytest.mark.parametrize("processor", [Json, 3, "json", lambda: None, lambda a, b, c: None, endless], ids=range(6))
def test_other_processors_are_refused(processor):
    with pytest.raises(ConfigurationError, match=r"processor=.*expected"):
        Rows(processor=processor)


def test_a_class_of_processors_gets_the_hint():
    with pytest.raises(ConfigurationError, match=r"did you mean Json\(\)"):
        Rows(Json)


class TestValidation:
    def test_a_missing_step_is_named_at_registration(self):
        class Storing(ProcessingObserver):
            def store(self, data):
                pass

        with pytest.raises(ConfigurationError, match=r"Storing lacks extract\(self, context\)"):
            CallPyBack([Storing()])

    def test_the_names_of_the_template_with_underscores_get_a_hint(self):
        class Seed(ProcessingObserver):
            def _extract_data(self, context):
                return 1

            def _store_data(self, data):
                pass

        with pytest.raises(ConfigurationError, match=r"Seed lacks extract.*did you mean '_extract_data'"):
            CallPyBack([Seed()])

    def test_an_update_of_its_own_needs_no_steps(self):
        class Own(ProcessingObserver):
            def update(self, context):
                seen.append(context.state.name)

        seen = []
        CallPyBack([Own()])(lambda: 1)()
        assert seen == ["COMPLETED"]


def test_a_step_that_raises_skips_the_rest_and_is_counted():
    class Broken(Rows):
        def extract(self, context):
            raise LookupError

    rows = Broken()
    function = CallPyBack([rows])(lambda: 1)
    assert function() == 1
    assert (rows.rows, handle(function).health["Broken"].failures) == ([], 1)


class AsyncRows(Rows):
    async def extract(self, context):
        return context.function_signature.name

    async def store(self, data):
        self.rows.append(data)


async def shout(data):
    return data.upper()


@pytest.mark.parametrize("kind", ASYNC_KINDS, ids=str)
def test_async_steps_are_awaited(kind):
    rows = AsyncRows(processor=shout)
    function = kind.make(lambda: 1, CallPyBack([rows]))
    kind.call(function)
    assert rows.rows == ["FUNCTION"]


@pytest.mark.parametrize("rows", [AsyncRows(), Rows(shout)], ids=["steps", "processor"])
def test_an_async_one_around_a_plain_function_is_refused(rows):
    with pytest.raises(ConfigurationError, match="is async"):
        CallPyBack([rows])(lambda: 1)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_a_copy_has_the_processor(again):
    twin = again(Rows(Json(), priority=3, name="rows"))
    twin.update(build_context("f"))
    assert twin.rows == ['{"function": "f", "success": true}']
    assert (twin.priority, twin.name) == (3, "rows")
