"""Extractors of the user's own, and the public protocol of the built-in ones."""
# ruff: noqa: RET504 - local variables are the subject

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import types

import pytest

from callpyback.core.variable_extraction import (
    NoOpVariableExtractor,
    NullVariable,
    TracingVariableExtractor,
)
from watching import (
    KINDS,
    passing,
    watch,
    watching,
)


class Masking:
    """A user's extractor that adds something to the built-in one, through the public protocol."""

    def __init__(self):
        self.inner = TracingVariableExtractor()

    def setup_extraction(self):
        return self.inner.setup_extraction()

    def extract_variables(self, names):
        return {name: f"<{value}>" for name, value in self.inner.extract_variables(names).items()}


class Recording:
    """A user's extractor that remembers what it was asked, and fails where it is told to."""

    def __init__(self, fails_at=None, answer=None, error=RuntimeError):
        self.fails_at, self.answer, self.error = fails_at, answer, error
        self.log = []

    def at(self, place):
        self.log.append(place)
        if place == self.fails_at:
            raise self.error(place)

    @contextlib.contextmanager
    def setup_extraction(self):
        self.at("enter")
        yield
        self.at("exit")

    def extract_variables(self, names):
        self.at("extract")
        self.log.append(type(sys.exception()).__name__)
        return dict.fromkeys(names, "found") if self.answer is None else self.answer


class TestOwnExtractors:
    @staticmethod
    def function(x):
        y = 10 // x
        return y

    def test_is_asked_inside_its_context_at_both_ends(self):
        extractor = Recording()
        decorated = watch(self.function, "x", extractor=extractor)
        decorated(1)
        with pytest.raises(ZeroDivisionError):
            decorated(0)
        assert decorated.seen == [{"x": "found"}] * 2
        success, failure = extractor.log[:4], extractor.log[4:]
        assert success == ["enter", "extract", "NoneType", "exit"]
        assert failure == ["enter", "extract", "ZeroDivisionError", "exit"]

    def test_is_not_asked_about_an_abandoned_generator(self):
        extractor = Recording()

        def function():
            yield 1

        decorated = watch(function, "x", extractor=extractor, kind=KINDS["generator"])
        running = decorated()
        next(running)
        running.close()
        assert decorated.seen == [{"x": NullVariable}]
        assert extractor.log == ["enter", "exit"]

    @pytest.mark.parametrize("error", [RuntimeError, SystemExit, asyncio.CancelledError])
    @pytest.mark.parametrize("place", ["enter", "extract", "exit"])
    def test_a_failing_one_hurts_nothing_and_is_reported_once(self, place, error):
        reports = []
        extractor = Recording(place, error=error)
        decorated = watch(self.function, "x", extractor=extractor, report=lambda *told: reports.append(told))
        assert decorated(5) == decorated(5) == 2
        with pytest.raises(ZeroDivisionError) as caught:
            decorated(0)
        assert (caught.value.__context__, caught.value.__cause__) == (None, None)
        assert decorated.seen == [{"x": "found" if place == "exit" else NullVariable}] * 3
        ((message, told),) = reports
        assert "Recording" in message
        assert (type(told), told.args) == (error, (place,))

    @pytest.mark.parametrize("answer", [3, [("x", 1)], "x", object()])
    def test_rubbish_is_reported_and_dropped(self, answer):
        reports = []
        decorated = watch(
            self.function, "x", extractor=Recording(answer=answer), report=lambda *told: reports.append(told)
        )
        decorated(1)
        assert decorated.seen == [{"x": NullVariable}]
        assert type(answer).__name__ in str(reports[0][1])

    def test_missing_names_are_filled_in_and_others_dropped(self):
        decorated = watch(self.function, "x", "y", extractor=Recording(answer={"y": 1, "z": 2}))
        decorated(1)
        assert decorated.seen == [{"x": NullVariable, "y": 1}]

    def test_failures_are_logged_when_nobody_asks_for_reports(self, caplog):
        watch(self.function, "x", extractor=Recording("extract"))(1)
        assert [(record.name, record.levelname) for record in caplog.records] == [("callpyback", "WARNING")]

    def test_a_failing_report_hurts_nothing(self):
        decorated = watch(self.function, "x", extractor=Recording("extract"), report=lambda: None)
        assert decorated(1) == 10

    def test_keyboard_interrupt_belongs_to_the_program(self):
        extractor = Recording("extract", error=KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            watch(self.function, "x", extractor=extractor)(1)
        assert extractor.log == ["enter", "extract", "exit"]

    @pytest.mark.parametrize("object_", [object(), types.SimpleNamespace(setup_extraction=3)])
    def test_an_object_that_is_none_at_all_hurts_nothing(self, object_):
        reports = []
        decorated = watch(self.function, "x", extractor=object_, report=lambda *told: reports.append(told))
        assert decorated(1) == 10
        assert (decorated.seen, len(reports)) == ([{"x": NullVariable}], 1)

    def test_one_that_hands_on_to_the_built_in_gets_this_call_s_values(self):
        @watching("n", "below", extractor=Masking())
        def count(n):
            below = count(n - 1) if n else 0
            if n == 3:
                raise ValueError
            return below + 1

        assert count(2) == 3
        with pytest.raises(ValueError):
            count(3)
        succeeded = [{"n": f"<{n}>", "below": f"<{n}>"} for n in range(3)]
        assert count.seen == [*succeeded, *succeeded, {"n": "<3>", "below": "<3>"}]

    def test_one_that_hands_on_works_for_interleaved_generators(self):
        @watching("x", extractor=Masking(), kind=KINDS["generator"])
        def function(x):
            for _ in range(x):
                yield x
            x += 100

        running = [function(x) for x in (2, 1, 3)]
        while running:
            running = [one for one in running if next(one, None) is not None]
        running = function(1)
        next(running)
        running.close()
        assert [seen["x"] for seen in function.seen] == ["<101>", "<102>", "<103>", NullVariable]

    def test_one_that_hands_on_works_for_coroutines(self):
        @watching("x", extractor=Masking(), kind=KINDS["coroutine"])
        async def function(x):
            await asyncio.sleep(0)
            x += 100
            return x

        async def main():
            await asyncio.gather(*map(function, range(5)))

        asyncio.run(main())
        assert sorted(seen["x"] for seen in function.seen) == [f"<{100 + n}>" for n in range(5)]


class TestByHand:
    """The public protocol of the built-in extractor, without a decorator."""

    @staticmethod
    def function(x):
        y = 10 // x
        return y

    def test_answers_for_the_last_call_of_a_bound_function(self):
        extractor = TracingVariableExtractor()
        binding = extractor.bind(self.function, ("x", "y"), "function")
        with extractor.setup_extraction():
            assert extractor.extract_variables(["x"]) == {"x": NullVariable}
            self.function(1)
            self.function(5)
            assert extractor.extract_variables(["y", "z"]) == {"y": 2, "z": NullVariable}
        assert extractor.extract_variables(["y"]) == {"y": NullVariable}
        assert binding.names == ("x", "y")

    def test_answers_for_a_decorated_call(self):
        extractor = TracingVariableExtractor()
        decorated = watch(self.function, "y", extractor=extractor)
        with extractor.setup_extraction():
            decorated(5)
            assert extractor.extract_variables(["y"]) == {"y": 2}
        assert decorated.seen == [{"y": 2}]

    def test_the_last_call_counts_decorated_or_not(self):
        extractor = TracingVariableExtractor()
        decorated = watch(self.function, "y", extractor=extractor)
        with extractor.setup_extraction():
            for call, x, y in [(self.function, 1, 10), (decorated, 5, 2), (self.function, 10, 1), (decorated, 2, 5)]:
                call(x)
                assert extractor.extract_variables(["y"]) == {"y": y}

    def test_answers_for_the_failure_being_handled(self):
        extractor = TracingVariableExtractor()
        binding = extractor.bind(self.function, ("x",), "function")
        with extractor.setup_extraction():
            try:
                passing(self.function)(0)
            except ZeroDivisionError:
                assert extractor.extract_variables(["x", "y"]) == {"x": 0, "y": NullVariable}
        del binding

    def test_a_failure_handled_around_it_is_not_this_one(self):
        extractor = TracingVariableExtractor()
        binding = extractor.bind(self.function, ("x",), "function")
        try:
            self.function(0)
        except ZeroDivisionError:
            with extractor.setup_extraction():
                self.function(1)
                assert extractor.extract_variables(["x"]) == {"x": 1}
        del binding

    def test_unbound_it_knows_the_function_that_raised(self):
        extractor = TracingVariableExtractor()
        with extractor.setup_extraction():
            try:
                self.function(0)
            except ZeroDivisionError:
                assert extractor.extract_variables(["x"]) == {"x": 0}

    def test_contexts_nest_and_extractors_keep_apart(self):
        one, two = TracingVariableExtractor(), TracingVariableExtractor()
        bindings = [one.bind(self.function, ("x",), "function"), two.bind(self.function, ("x",), "function")]
        with one.setup_extraction():
            self.function(1)
            with two.setup_extraction():
                self.function(2)
                assert two.extract_variables(["x"]) == {"x": 2}
            assert one.extract_variables(["x"]) == {"x": 1}
        assert len(bindings) == 2

    def test_a_binding_that_is_gone_is_forgotten(self):
        extractor = TracingVariableExtractor()
        extractor.bind(self.function, ("x",), "function")
        gc.collect()
        with extractor.setup_extraction():
            self.function(1)
            assert extractor.extract_variables(["x"]) == {"x": NullVariable}

    def test_the_no_op_extractor_answers_nothing(self):
        extractor = NoOpVariableExtractor()
        decorated = watch(self.function, "x", extractor=extractor)
        with extractor.setup_extraction():
            decorated(1)
            assert extractor.extract_variables(["x", "y"]) == {"x": NullVariable, "y": NullVariable}
        assert decorated.seen == [{"x": NullVariable}]
