"""The table of the calls: its columns, and the row that a call becomes."""

from __future__ import annotations

import functools
import json
import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from callpyback.core.masking import MASKING, Masking
from callpyback.core.safe_repr import one_line

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext

COLUMNS: Final = {
    "timestamp": "REAL",
    "function_name": "TEXT",
    "success": "BOOLEAN",
    "execution_time": "REAL",
    "arguments": "TEXT",
    "outcome": "TEXT",
    "error": "TEXT",
    "call_id": "TEXT",
    "qualified_name": "TEXT",
}
"""Each column and its type, `id INTEGER PRIMARY KEY AUTOINCREMENT` aside."""

REQUIRED: Final = frozenset({"timestamp", "function_name", "success", "execution_time", "arguments"})
"""Without these an existing table is another table; the others are added to one that lacks them."""


class Row(NamedTuple):
    """One call, as plain values: nothing of the call is kept alive."""

    timestamp: float | None
    function_name: str
    success: bool
    execution_time: float | None
    arguments: Any
    outcome: str | None
    error: str | None
    call_id: str
    qualified_name: str


def row_of(context: ExecutionContext, *, with_arguments: bool, masking: Masking = MASKING) -> Row:
    """Return the row of a call that has ended."""
    signature, result, outcome = context.function_signature, context.result, context.outcome
    arguments = context.arguments if with_arguments else None
    error = None if result is None else result.exception
    name, qualified_name = _names(signature.name, signature.qualname, signature.module)
    return Row(
        _known(context.timestamp),
        name,
        context.is_successful,
        None if result is None else _known(result.execution_time),
        None if arguments is None else masking.plain(arguments),
        None if outcome is None else outcome.value,
        None if error is None else masking.exception(error, arguments),
        context.call_id,
        qualified_name,
    )


@functools.lru_cache(maxsize=1000)
def _names(name: str, qualname: str, module: str) -> tuple[str, str]:
    return one_line(name), one_line(f"{module}.{qualname}" if module else qualname)


def parameters_of(row: Row) -> tuple[Any, ...]:
    """Return the values of a row as they are stored, the arguments as JSON."""
    if row.arguments is None:
        return row
    before, after = row[:4], row[5:]
    return (*before, as_json(row.arguments), *after)


def as_json(plain: Any) -> str:
    """Return plain data as JSON; halves of surrogate pairs, which no text in UTF-8 can hold, become escapes."""
    try:
        return msgspec.json.encode(plain).decode()
    except UnicodeEncodeError:
        return json.dumps(plain, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def _known(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) else None
