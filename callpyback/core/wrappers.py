"""The function that stands for the decorated one, and the code it runs.

A decorated function keeps one identity while its observers come and go, so it keeps one function object, and its
`__code__` is replaced: `shells.py` writes the code for the layout of a plan. Layouts are cached: two functions with
the same kind and the same number and sort of listeners share the compiled text.
"""

from __future__ import annotations

import functools
import inspect
import linecache
import types
from collections.abc import Callable
from threading import get_ident
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.call import NOT_ASKED, Call
from callpyback.core.context import ExecutionContext
from callpyback.core.current import CURRENT, CurrentCall
from callpyback.core.drivers import complete, run
from callpyback.core.execution import (
    attempting,
    beginning,
    failing,
    giving_up,
    resumed_answer,
    resumed_beginning,
    resumed_success,
    retrying,
    succeeding,
)
from callpyback.core.layout import Layout
from callpyback.core.plan import STALE, Plan, called
from callpyback.core.reporting import report
from callpyback.core.shells import COMPLETED, POST_SUCCESS, PRE_EXECUTION, Shell, empty_path, straight_path
from callpyback.core.state_machine import Outcome
from callpyback.core.telling import TELLING, enter, is_inside_observer, leave
from callpyback.core.time_sources import UNKNOWN, elapsed_between
from callpyback.core.tracking import switch_on_for
from callpyback.core.waiting import Wait
from callpyback.errors import NO_VALUE, StopProcessing

if TYPE_CHECKING:
    from callpyback.core.functions import FunctionKind, Target
    from callpyback.core.handle import FunctionHandle

NOT_BEGUN: Final = object()
"""The state of a capture that did not begin, because calling the function with these arguments failed."""


DONE: Final = object()
"""A guard has answered, and everybody knows."""


def captured_at_success(binding: Any, state: Any) -> dict[str, Any]:
    """Return the variables of a body that returned."""
    captured: dict[str, Any] = {} if state is NOT_BEGUN else binding.returned(state)
    return captured


def captured_at_failure(binding: Any, state: Any, error: BaseException) -> dict[str, Any]:
    """Return the variables of a body that raised."""
    if state is NOT_BEGUN:
        return {}
    # The frame of a generator or coroutine that was closed half way must not be read: CPython may have freed it.
    captured: dict[str, Any] = (
        binding.abandoned(state) if isinstance(error, GeneratorExit) else binding.raised(state, error)
    )
    return captured


async def items_of(answer: Any) -> Any:
    """Give the items of what an observer answered for an async generator."""
    if hasattr(answer, "__aiter__"):
        async for item in answer:
            yield item
    else:
        for item in answer:
            yield item


_USED: Final = (
    Call,
    CurrentCall,
    ExecutionContext,
    StopProcessing,
    Wait,
    attempting,
    beginning,
    called,
    captured_at_failure,
    captured_at_success,
    complete,
    elapsed_between,
    failing,
    giving_up,
    get_ident,
    items_of,
    perf_counter,
    report,
    resumed_answer,
    resumed_beginning,
    resumed_success,
    retrying,
    run,
    succeeding,
)

_NAMES: Final[dict[str, Any]] = {
    "__name__": "callpyback.wrapper",
    **{known.__name__: known for known in _USED},
    "ANSWERED": Outcome.SUPPLIED,
    "BODY_RETURNED": Outcome.SUCCESS,
    "COMPLETED": COMPLETED,
    "CURRENT": CURRENT,
    "DONE": DONE,
    "NO_VALUE": NO_VALUE,
    "NOT_ASKED": NOT_ASKED,
    "NOT_BEGUN": NOT_BEGUN,
    "POST_SUCCESS": POST_SUCCESS,
    "PRE_EXECUTION": PRE_EXECUTION,
    "TELLING": TELLING,
    "UNKNOWN": UNKNOWN,
    "enter": enter,
    "is_inside": is_inside_observer,
    "leave": leave,
    "with_traceback": BaseException.with_traceback,
}

_shapes: dict[tuple[Any, ...], tuple[int, types.CodeType]] = {}


def _compiled(layout: Layout | None, kind: FunctionKind) -> tuple[int, types.CodeType]:
    """Return the number and the code of a shape, compiled when it is first met; without a layout, for no plan."""
    key = (kind,) if layout is None else (kind, *layout.key)
    known = _shapes.get(key)
    if known is None:
        shape = 0 if layout is None else len(_shapes) + 1
        source = _source(layout, kind, shape)
        filename = f"<callpyback {kind} {shape}>"
        module = compile(source, filename, "exec")
        made = next(c for c in module.co_consts if isinstance(c, types.CodeType))
        code = next(c for c in made.co_consts if isinstance(c, types.CodeType))
        # Tracebacks and debuggers find the text of the shell here; no modification time means: never checked on disk.
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        known = _shapes.setdefault(key, (shape, code))
    return known


def _source(layout: Layout | None, kind: FunctionKind, shape: int) -> str:
    shell = Shell(kind)
    if layout is None:
        straight = empty_path(shell)
    else:
        straight = straight_path(layout, shell, shape) if layout.is_straight else ""
    return shell.wrapper(straight, Layout(), retries=layout is not None and layout.retries)


def fit(plan: Plan, target: Target, wrapper: types.FunctionType) -> None:
    """Give the wrapper the code for a plan, and the plan the shape of the code."""
    layout = None if plan.is_empty else Layout(plan)
    shape, code = _compiled(layout, target.kind)
    if layout is not None:
        plan.shape = shape
        plan.told = layout.to_unpack(plan)
        plan.loops = layout.loops(plan)
    wrapper.__code__ = _named(code, target)


def _named(code: types.CodeType, target: Target) -> types.CodeType:
    # A copy for each function: the interpreter specialises code to what it meets, so it should meet one function.
    function = target.function
    flags = function.__code__.co_flags if isinstance(function, types.FunctionType) else 0
    flags &= inspect.CO_ITERABLE_COROUTINE
    name, qualname = target.signature.name, target.signature.qualname
    return code.replace(co_name=name, co_qualname=qualname, co_flags=code.co_flags | flags)


def make_wrapper(target: Target, watch: FunctionHandle) -> tuple[types.CellType, types.FunctionType]:
    """Return the cell that holds the plan, and the function that stands for the decorated one."""
    switch_on_for(target.function)
    code = _named(_compiled(None, target.kind)[1], target)
    held = {"function": target.function, "plan": STALE, "watch": watch}
    cells = {name: types.CellType(value) for name, value in held.items()}
    closure = tuple(cells[name] for name in code.co_freevars)
    wrapper = types.FunctionType(code, _NAMES, target.signature.name, None, closure)
    return cells["plan"], _dressed(wrapper, target.function)


def _dressed(wrapper: types.FunctionType, function: Callable[..., Any]) -> types.FunctionType:
    if isinstance(function, types.FunctionType):
        functools.update_wrapper(wrapper, function)
        wrapper.__defaults__ = function.__defaults__
        wrapper.__kwdefaults__ = function.__kwdefaults__
    return wrapper  # of another callable, a proxy shows the attributes
