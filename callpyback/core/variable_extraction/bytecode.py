"""Insertion of one call at the beginning of a Python 3.11 code object.

The inserted instructions follow `RESUME`. Jumps in 3.11 are relative and none crosses that point, so only two tables
have to be shifted: exceptions and lines. The new instructions have no line, so tracers see no event for them.
See `Objects/exception_handling_notes.txt` and `Objects/locations.md` in the CPython 3.11 source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from opcode import opmap
from types import CodeType
from typing import Any, Final

_UNIT: Final = 2  # bytes of an instruction or inline cache
_NO_LOCATION: Final = 15
_LONGEST_LOCATION: Final = 8  # units one entry of the line table can cover
_BEFORE_RESUME: Final = ("MAKE_CELL", "COPY_FREE_VARS", "RETURN_GENERATOR", "POP_TOP", "EXTENDED_ARG")


class UnsupportedCodeError(Exception):
    """This code object is not laid out as the compiler of 3.11 does."""


def with_call_at_start(code: CodeType, function: Callable[[], Any]) -> CodeType:
    """Return a copy of `code` that calls `function()` first, and drops what it returns.

    Raises:
        UnsupportedCodeError: The code is laid out in a way unknown here.
    """
    at = _unit_after_resume(code.co_code)
    call = _call_of_constant(len(code.co_consts))
    size = len(call) // _UNIT
    return code.replace(
        co_code=code.co_code[: at * _UNIT] + call + code.co_code[at * _UNIT :],
        co_consts=(*code.co_consts, function),
        co_stacksize=max(code.co_stacksize, 2),
        co_exceptiontable=_shifted_exceptions(code.co_exceptiontable, at, size),
        co_linetable=_shifted_lines(code.co_linetable, at, size),
    )


def _unit_after_resume(instructions: bytes) -> int:
    allowed = {opmap[name] for name in _BEFORE_RESUME}
    for unit in range(len(instructions) // _UNIT):
        operation, argument = instructions[unit * _UNIT], instructions[unit * _UNIT + 1]
        if operation == opmap["RESUME"] and argument == 0:
            return unit + 1
        if operation not in allowed:
            break
    raise UnsupportedCodeError("no RESUME at the beginning")


def _call_of_constant(index: int) -> bytes:
    high = index.to_bytes(4, "big").lstrip(b"\0")[:-1]
    return bytes(
        [
            *(opmap["PUSH_NULL"], 0),
            *(byte for part in high for byte in (opmap["EXTENDED_ARG"], part)),
            *(opmap["LOAD_CONST"], index & 0xFF),
            *(opmap["PRECALL"], 0, 0, 0),  # with one inline cache
            *(opmap["CALL"], 0, 0, 0, 0, 0, 0, 0, 0, 0),  # with four
            *(opmap["POP_TOP"], 0),
        ]
    )


def _shifted_exceptions(table: bytes, at: int, size: int) -> bytes:
    """Move ranges and handlers that begin at or after `at`, stretch those around it."""
    numbers = list(_exception_numbers(table))
    shifted = bytearray()
    for start, length, target, depth_and_lasti in zip(*(iter(numbers),) * 4, strict=True):
        end = start + length
        new_start = start + size if start >= at else start
        new_end = end + size if end > at else end
        new_target = target + size if target >= at else target
        entry = bytearray()
        for number in (new_start, new_end - new_start, new_target, depth_and_lasti):
            entry += _six_bit_digits(number)
        entry[0] |= 0x80  # marks the first byte of an entry
        shifted += entry
    return bytes(shifted)


def _exception_numbers(table: bytes) -> Iterator[int]:
    """Decode the table's numbers: six bits a byte, high digits first, 0x40 on all bytes but the last."""
    number = 0
    for byte in table:
        number = number << 6 | byte & 0x3F
        if not byte & 0x40:
            yield number
            number = 0


def _six_bit_digits(number: int) -> bytes:
    digits = [number & 0x3F]
    while number := number >> 6:
        digits.append(number & 0x3F | 0x40)
    return bytes(reversed(digits))


def _shifted_lines(table: bytes, at: int, size: int) -> bytes:
    """Insert entries without a line, between the entries that meet at unit `at`."""
    position = unit = 0
    while unit < at:
        if position >= len(table):
            raise UnsupportedCodeError("the line table ends early")
        unit += (table[position] & 0x07) + 1
        position += 1
        while position < len(table) and not table[position] & 0x80:  # only an entry's first byte has the high bit
            position += 1
    if unit != at:
        raise UnsupportedCodeError("one entry of the line table covers RESUME and what follows")
    inserted = bytearray()
    for covered in range(0, size, _LONGEST_LOCATION):
        units = min(_LONGEST_LOCATION, size - covered)
        inserted.append(0x80 | _NO_LOCATION << 3 | units - 1)
    return table[:position] + inserted + table[position:]
