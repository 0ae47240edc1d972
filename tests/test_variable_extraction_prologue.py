"""The change of `__code__` on Python 3.11, instruction by instruction."""

from __future__ import annotations

import argparse
import asyncio.base_events
import dataclasses
import dis
import gc
import inspect
import json.decoder
import tarfile
import types
import typing
from pathlib import Path

import pytest

from callpyback.core.variable_extraction import NullVariable, prologue
from callpyback.core.variable_extraction.bytecode import UnsupportedCodeError, with_call_at_start
from callpyback.core.variable_extraction.prologue import keep_frame
from watching import HAS_MONITORING, watch


@pytest.mark.skipif(HAS_MONITORING, reason="only Python 3.11 needs its code changed")
class TestPrologue:
    """The change of `__code__` on Python 3.11."""

    @staticmethod
    def functions():
        def inside(code):
            yield code
            for constant in code.co_consts:
                if isinstance(constant, types.CodeType):
                    yield from inside(constant)

        for module in (argparse, asyncio.base_events, dataclasses, json.decoder, tarfile, typing):
            module_code = compile(Path(module.__file__).read_bytes(), module.__file__, "exec")
            for code in inside(module_code):
                if code.co_flags & inspect.CO_NEWLOCALS and code.co_flags & inspect.CO_OPTIMIZED:
                    yield code

    def test_only_the_call_is_added(self):

        def shape(code):
            listed = list(dis.get_instructions(code))
            position = {instruction.offset: index for index, instruction in enumerate(listed)}
            added = next((i for i, one in enumerate(listed) if one.argval is keep_frame), None)
            if added is not None:
                first = next(i for i in range(added, -1, -1) if listed[i].opname == "PUSH_NULL")
                assert [one.opname for one in listed[added : added + 4]] == ["LOAD_CONST", "PRECALL", "CALL", "POP_TOP"]
                assert {one.positions.lineno for one in listed[first : added + 4]} == {None}
                gap = range(first, added + 4)
            else:
                gap = range(0)
            number = {index: order for order, index in enumerate(i for i in range(len(listed)) if i not in gap)}
            number[len(listed)] = len(number)
            position[len(code.co_code)] = len(listed)

            def place(offset):
                return number[position[offset]]

            instructions = [
                (one.opname, place(one.argval) if one.opcode in dis.hasjrel else one.arg, one.positions)
                for index, one in enumerate(listed)
                if index in number
            ]
            table = [
                (place(entry.start), place(entry.end), place(entry.target), entry.depth, entry.lasti)
                for entry in dis._parse_exception_table(code)
            ]
            return instructions, table

        count = 0
        for code in self.functions():
            assert shape(with_call_at_start(code, keep_frame)) == shape(code)
            count += 1
        assert count > 500

    def test_there_is_room_on_the_smallest_stack(self):
        code = (lambda: 1).__code__
        assert code.co_stacksize == 1
        assert with_call_at_start(code, keep_frame).co_stacksize == 2

    def test_code_of_unknown_layout_is_refused(self):

        def function():
            return 1

        for strange in (
            function.__code__.replace(co_linetable=b"\xf9"),
            function.__code__.replace(co_linetable=b""),
            function.__code__.replace(co_code=b"\x09\x00" + function.__code__.co_code),
        ):
            with pytest.raises(UnsupportedCodeError):
                with_call_at_start(strange, print)

    def test_a_refused_function_warns_and_captures_failures(self):
        def function(x):
            return 1 // x

        function.__code__ = function.__code__.replace(co_linetable=b"")
        with pytest.warns(RuntimeWarning, match="no way to see its return"):
            decorated = watch(function, "x")
        decorated(1)
        with pytest.raises(ZeroDivisionError):
            decorated(0)
        assert decorated.seen == [{"x": NullVariable}, {"x": 0}]

    def test_closures_share_one_changed_code(self):
        def make():
            def function(x):
                return x

            return function

        one, two, other = make(), make(), make()
        kept = watch(one, "x"), watch(two, "x")
        assert one.__code__ is two.__code__ is not other.__code__
        assert len(kept) == 2

    def test_code_objects_that_are_gone_are_forgotten(self):

        before = len(prologue._changed_codes)
        for _ in range(20):
            namespace = {}
            exec("def function(x): return x", namespace)
            watch(namespace["function"], "x")(1)
        del namespace
        gc.collect()
        assert len(prologue._changed_codes) <= before + 1
