"""A context as it was when it was told, whatever the program does afterwards to what it shows."""

from __future__ import annotations

import collections
import copy
from typing import Any, Final

from callpyback.core.context import Ending, ExecutionContext, ExecutionFailure, ExecutionResult

# Exact types: a subclass may keep more than its items, and may take part in what it is compared with.
_CONTAINERS: Final = (
    *(dict, collections.OrderedDict, collections.defaultdict, collections.Counter),
    *(list, collections.deque, set, bytearray),
)


def snapshot_of(context: ExecutionContext) -> ExecutionContext:
    """Return a context that shows what this one shows now, with nothing left to compute.

    Arguments, locals and values are copied as far as they are made of Python's own containers (list, dict, set, tuple,
    bytearray and those of `collections`); every other object stays itself, so that it still equals what a test
    compares it with. The exception is the program's own object, frames and all.
    """
    facts = {name: getattr(context, name) for name in Ending.__struct_fields__}
    facts["returned"] = frozen_copy(facts["returned"])
    return ExecutionContext(
        state=context.state,
        _call=Ending(**facts),
        function_signature=context.function_signature,
        arguments=frozen_copy(context.arguments),
        result=_result_of(context.result),
        local_variables=frozen_copy(context.local_variables),
        metadata=frozen_copy(context.metadata),
        timestamp=context.timestamp,
    )


def _result_of(result: ExecutionResult | ExecutionFailure | None) -> ExecutionResult | ExecutionFailure | None:
    if isinstance(result, ExecutionResult):
        return ExecutionResult(frozen_copy(result.value), result.execution_time, result.memory_usage)
    if isinstance(result, ExecutionFailure):
        # A new one, because the library's own lets go of the exception when the call has ended.
        return ExecutionFailure(result.exception, result.exception_type, execution_time=result.execution_time)
    return None


def frozen_copy(value: Any) -> Any:
    """Return the value, Python's own containers in it copied, everything else the same object.

    Example:
        >>> basket = {"apples": [1, 2]}
        >>> then = frozen_copy(basket)
        >>> basket["apples"].append(3)
        >>> then
        {'apples': [1, 2]}
    """
    try:
        return _copied(value, {})
    except RecursionError:
        return value  # nested too deeply to follow: shown as it is, rather than not at all


def _copied(value: Any, known: dict[int, Any]) -> Any:
    if type(value) is tuple:
        return tuple(_copied(item, known) for item in value)
    if type(value) not in _CONTAINERS:
        return value
    if id(value) not in known:
        known[id(value)] = fresh = copy.copy(value)
        if isinstance(fresh, dict):
            for key, item in list(fresh.items()):
                fresh[key] = _copied(item, known)  # not update(): a Counter's adds
        elif not isinstance(fresh, set | bytearray):
            for index, item in enumerate(list(fresh)):
                fresh[index] = _copied(item, known)
    return known[id(value)]
