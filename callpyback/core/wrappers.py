"""The thin shell around the body, one text for each kind of callable.

A decorated function keeps one identity while its observers come and go, so it keeps one function object, and its
`__code__` is replaced. The code is made from the texts below. Each kind has a shell; into it go the stretches before
and after the body. These are calls of the sequence (`execution.py`) in general, and nothing at all where nobody
listens. In the case that matters for speed, where observers are told without awaiting and the system's clock is
used, they are written out straight: no loop, no generator, one `try` for the stretch. `at` counts the listeners
told; when one of them raises, the sequence takes over from there.

Shapes are cached: two functions with the same kind and the same number and sort of listeners share the compiled text.
"""

from __future__ import annotations

import functools
import inspect
import linecache
import types
from collections.abc import Callable
from textwrap import indent
from threading import get_ident
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.call import Call
from callpyback.core.context import ExecutionContext
from callpyback.core.dispatch import TELLING, enter, leave
from callpyback.core.execution import (
    beginning,
    complete,
    failing,
    resumed_beginning,
    resumed_success,
    run,
    succeeding,
)
from callpyback.core.functions import FunctionKind, Target
from callpyback.core.plan import STALE, Plan, called
from callpyback.core.state_machine import ExecutionState, Outcome

if TYPE_CHECKING:
    from callpyback.core.handle import FunctionHandle

_PRE, _SUCCESS, _COMPLETED = ExecutionState.PRE_EXECUTION, ExecutionState.POST_SUCCESS, ExecutionState.COMPLETED

_UNROLLED: Final = 8
"""Up to so many listeners of one state are written out; more are told in a loop."""

_IN_A_LOOP: Final = ("loop",)


def elapsed_between(started: float, ended: float) -> float:
    """Return a duration by a clock that may have gone back; a clock that failed gives nan."""
    return 0.0 if ended < started else ended - started


def without_first_entry(error: BaseException) -> BaseException:
    """Return an exception thrown into a generator, without the traceback entry of the shell it passed through."""
    trace = error.__traceback__
    return error if trace is None else error.with_traceback(trace.tb_next)


NOT_BEGUN: Final = object()
"""The state of a capture that did not begin, because calling the function with these arguments failed."""


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


_NAMES: Final[dict[str, Any]] = {
    "__name__": "callpyback.wrapper",
    **{
        known.__name__: known
        for known in (
            Call,
            ExecutionContext,
            beginning,
            called,
            captured_at_failure,
            complete,
            elapsed_between,
            failing,
            get_ident,
            items_of,
            resumed_beginning,
            resumed_success,
            run,
            succeeding,
            without_first_entry,
        )
    },
    "NOT_BEGUN": NOT_BEGUN,
    "TELLING": TELLING,
    "perf_counter": perf_counter,
    "enter": enter,
    "leave": leave,
    "BODY_RETURNED": Outcome.SUCCESS,
    **{state.name: state for state in (_PRE, _SUCCESS, _COMPLETED)},
}

_RELAY: Final = """\
inner = function(*args, **kwargs)
step, sent = inner.asend, None
while True:
    try:
        item = await step(sent)
    except StopAsyncIteration:
        return
    sent = None
    try:
        sent = yield item
    except BaseException as thrown:
        step, sent = inner.athrow, without_first_entry(thrown)
    else:
        step = inner.asend
"""

_BODY: Final = """\
{before}{started}
try:
    {inner}value = {awaited}
except BaseException as error:
    elapsed = {elapsed}
{failed}
elapsed = {elapsed}
{after}"""

_GENERATOR_BODY: Final = """\
{before}{started}
resumed, running, items, first = started, 0.0, 0, None
try:
    inner = function(*args, **kwargs)
    {capture}
    step, sent = inner.{send}, None
    while True:
        item = {awaiting}step(sent)
        sent, paused = None, {clock}()
        running += {segment}
        if not items:
            first = paused - started
        items += 1
        try:
            sent = yield item
        except BaseException as thrown:
            step, sent = inner.{throw}, without_first_entry(thrown)
        else:
            step = inner.{send}
        resumed = {clock}()
except {stop} as stop:
    value = {returned}
except BaseException as error:
    paused = {clock}()
    elapsed = running + {segment}
{failed}
paused = {clock}()
elapsed = running + {segment}
{after}"""

_GENERATOR_FACTS: Final = "call.items, call.time_to_first_item, call.lifetime = items, first, paused - started\n"
_RAISE_PROBLEM: Final = "if call.problem is not None:\n    raise call.taken()\n"


class _Shell:
    """What differs between the kinds: how to wait, to hand over, to answer, to run the body."""

    def __init__(self, kind: FunctionKind) -> None:
        self.is_function = kind is FunctionKind.FUNCTION
        self.is_async = kind in (FunctionKind.COROUTINE, FunctionKind.ASYNC_GENERATOR)
        self.is_generator = kind in (FunctionKind.GENERATOR, FunctionKind.ASYNC_GENERATOR)
        self.head = "async def" if self.is_async else "def"

    def call_through(self) -> str:
        """Only call the function."""
        call = "function(*args, **kwargs)"
        if self.is_generator:
            return _RELAY if self.is_async else f"return (yield from {call})\n"
        return f"return {'await ' if self.is_async else ''}{call}\n"

    def answered(self) -> str:
        """Give the caller what an observer supplied, or raise what it refused the call with."""
        if self.is_generator and self.is_async:
            return "async for item in items_of(call.taken_answer()):\n    yield item\nreturn\n"
        return f"return {'(yield from call.taken_answer())' if self.is_generator else 'call.taken_answer()'}\n"

    def returned(self, value: str) -> str:
        """Return a value, where the kind has one."""
        return "return\n" if self.is_async and self.is_generator else f"return {value}\n"

    def driven(self, steps: str) -> str:
        """Go through a stretch of the sequence."""
        return f"await complete(call, {steps})\n" if self.is_async else f"run({steps})\n"

    def body(self, layout: _Layout, failed: str, after: str) -> str:
        """Run the body, timed, its locals captured, its failure handed on."""
        started = f"{'call.started = ' if layout.has_call else ''}started = {layout.clock}()"
        if not layout.is_straight:
            started = f"clock = current.clock\n{started}"
        parts = {"started": started, "clock": layout.clock, "failed": indent(failed, "    "), "after": after}
        return self._generator_body(layout, parts) if self.is_generator else self._plain_body(layout, parts)

    def _generator_body(self, layout: _Layout, parts: dict[str, str]) -> str:
        names = ("asend", "athrow", "await ") if self.is_async else ("send", "throw", "")
        parts |= dict(zip(("send", "throw", "awaiting"), names, strict=True))
        parts["stop"] = "StopAsyncIteration" if self.is_async else "StopIteration"
        parts["returned"] = "None" if self.is_async else "stop.value"
        parts["segment"] = layout.between("resumed", "paused")
        parts["before"] = layout.captured("state = NOT_BEGUN", "\n")
        parts["capture"] = layout.captured("state = current.binding.begin(inner)") or "pass"
        return _GENERATOR_BODY.format_map(parts)

    def _plain_body(self, layout: _Layout, parts: dict[str, str]) -> str:
        call = "function(*args, **kwargs)"
        parts["before"] = parts["inner"] = ""
        if layout.captures is not False and self.is_async:
            parts["before"] = layout.captured("state = NOT_BEGUN", "\n")
            begun = layout.captured("state = current.binding.begin(inner)", "\n")
            parts["inner"] = indent(f"inner = {call}\n{begun}", "    ").lstrip() + "    "
            call = "inner"
        else:
            parts["before"] = layout.captured("state = current.binding.begin()", "\n")
        parts["awaited"] = f"{'await ' if self.is_async else ''}{call}"
        parts["elapsed"] = layout.between("started", f"{layout.clock}()")
        return _BODY.format_map(parts)


class _Layout:
    """What of a plan decides about its code; without a plan, the general layout, which serves any."""

    def __init__(self, plan: Plan | None) -> None:
        self.is_straight = plan is not None and _is_straight(plan)
        self.forms: dict[ExecutionState, tuple[str, ...]] = {}
        self.captures: bool | None = None
        self.has_call = True
        self.clock = "perf_counter" if self.is_straight else "clock"
        if plan is not None and self.is_straight:
            self.captures = plan.binding is not None
            self.forms = {state: _forms(plan, state) for state in (_PRE, _SUCCESS, _COMPLETED)}
            only_ends = not self.forms[_SUCCESS] and set(self.forms[_COMPLETED]) <= {"end"}
            self.has_call = bool(self.forms[_PRE]) or not only_ends or self.captures

    def between(self, start: str, end: str) -> str:
        """Take the time between two readings; only the system's clock is known never to go back."""
        return f"{end} - {start}" if self.is_straight else f"elapsed_between({start}, {end})"

    def captured(self, statement: str, end: str = "") -> str:
        """Do something about captured variables, if there are any to capture."""
        if self.captures is None:
            return f"if current.binding is not None: {statement}{end}"
        return f"{statement}{end}" if self.captures else ""


def _is_straight(plan: Plan) -> bool:
    unusual = plan.listeners[ExecutionState.INITIALIZED] or plan.listeners[ExecutionState.EXECUTING]
    return plan.system_time and not plan.is_async and not unusual


def _forms(plan: Plan, state: ExecutionState) -> tuple[str, ...]:
    listeners = plan.listeners[state]
    if len(listeners) > _UNROLLED:
        return _IN_A_LOOP
    bound = "begin" if state is _PRE else "end"
    return tuple("update" if known.update is not None else bound if known.is_bound else "tell" for known in listeners)


_CALLS: Final = {
    "update": "{name}(ExecutionContext({state}, call, {name}_listener))",
    "tell": "{name}(call)",
    "begin": "{name}()",
    "end": "{name}(elapsed, value, None, BODY_RETURNED)",
}

_LOOP: Final = """\
for at, (known, tell) in enumerate(current.loops[{state}], {base}):
    if known.active: tell(call)
"""


def _told(state: ExecutionState, forms: tuple[str, ...], base: str) -> str:
    """Tell the listeners of one state, those before it counted in `base`."""
    if forms == _IN_A_LOOP:
        return _LOOP.format(state=state.name, base=base)
    text = ""
    for index, form in enumerate(forms):
        name = f"{state.value}_{index}"
        call = _CALLS[form].format(name=name, state=state.name)
        text += f"at = {base} + {index}\nif {name}_registration.active: {call}\n"
    return text


def _unpacked(layout: _Layout) -> str:
    """Take what is to be called out of the plan, into local variables."""
    names = [
        f"{state.value}_{index}{part}"
        for state, forms in layout.forms.items()
        if forms != _IN_A_LOOP
        for index in range(len(forms))
        for part in ("", "_listener", "_registration")
    ]
    return f"{', '.join(names)}, = current.told\n" if names else ""


def _to_unpack(layout: _Layout, plan: Plan) -> tuple[Any, ...]:
    """Return what `_unpacked` takes."""
    parts: list[Any] = []
    for state, forms in layout.forms.items():
        if forms != _IN_A_LOOP:
            for form, listener in zip(forms, plan.listeners[state], strict=True):
                told = listener.tells[state] if form == "tell" else getattr(listener, form)
                parts += (told, listener, listener.registration)
    return tuple(parts)


def _guarded(told: str, resumed: str, *, is_first: bool) -> str:
    thread = "thread = get_ident()\n" if is_first else ""
    return (
        f"{thread}failure = None\nenter(thread)\ntry:\n{indent(told, '    ')}"
        "except BaseException as error:\n    failure = error\n"
        "finally:\n    leave(thread)\n"
        # After the `except`: what is told now must not see this exception as the one being handled.
        f"if failure is not None:\n{indent(resumed, '    ')}"
    )


def _before(layout: _Layout, shell: _Shell) -> str:
    """From the beginning of the call to the body."""
    decided = f"if call.decided:\n{indent(shell.answered(), '    ')}"
    if not layout.is_straight:
        return f"call = called(current, args, kwargs)\n{shell.driven('beginning(call)')}{decided}"
    if not layout.has_call:
        return ""
    made = "call = Call()\ncall.plan, call.args, call.kwargs = current, args, kwargs\n"
    told = _told(_PRE, layout.forms[_PRE], "0")
    if not told:
        return made
    resumed = "run(resumed_beginning(call, at, failure))\nfailure, decided = None, call.decided\n"
    decided = decided.replace("call.decided", "decided", 1)
    return f"{made}decided = False\n{_guarded(told, resumed, is_first=True)}{decided}"


def _after(layout: _Layout, shell: _Shell) -> str:
    """From the return of the body to the end."""
    fill = "call.elapsed, call.value = elapsed, value\ncall.raised = call._success = None\n"
    facts = _GENERATOR_FACTS if shell.is_generator else ""
    facts += layout.captured("call.captured = current.binding.returned(state)", "\n")
    if not layout.is_straight:
        return f"{fill}{facts}{shell.driven('succeeding(call)')}{_RAISE_PROBLEM}call.release()\n"
    first, last = layout.forms[_SUCCESS], layout.forms[_COMPLETED]
    told = _told(_SUCCESS, first, "0")
    if last:
        before = "len(current.listeners[POST_SUCCESS])" if first == _IN_A_LOOP else str(len(first))
        told += "call.outcome = BODY_RETURNED\n" if layout.has_call else ""
        told += _told(_COMPLETED, last, before)
    if not told:
        return ""
    resumed = f"run(resumed_success(call, at, failure))\nfailure = None\n{_RAISE_PROBLEM}"
    # Only a plain function is sure to end in the thread in which it began.
    is_first = not (shell.is_function and layout.forms[_PRE])
    if not layout.has_call:
        resumed = f"call = called(current, args, kwargs)\n{fill}{facts}{resumed}"
        return _guarded(told, resumed, is_first=is_first)
    return f"{fill}{facts}{_guarded(told, resumed, is_first=is_first)}if current.uses_slots:\n    call.release()\n"


def _failed(layout: _Layout, shell: _Shell) -> str:
    """From an exception of the body to the end, inside the `except` block."""
    text = "" if layout.has_call else "call = called(current, args, kwargs)\ncall.started = started\n"
    text += "call.elapsed = elapsed\n"
    text += _GENERATOR_FACTS if shell.is_generator else ""
    text += layout.captured("call.captured = captured_at_failure(current.binding, state, error)", "\n")
    text += shell.driven("failing(call, error)") + _RAISE_PROBLEM
    text += "if not call.handled:\n    call.release()\n    del call\n    raise\ncall.release()\n"
    return text + shell.returned("call.returned")


def _path(layout: _Layout, shell: _Shell) -> str:
    return (
        _before(layout, shell)
        + shell.body(layout, _failed(layout, shell), _after(layout, shell))
        + shell.returned("value")
    )


def _source(layout: _Layout | None, kind: FunctionKind, shape: int) -> str:
    """Write a wrapper: the straight path for its shape, if it has one, and the general path for every other case."""
    shell = _Shell(kind)
    text = "current = plan\n"
    if layout is None:
        text = f"if not plan.shape:\n{indent(shell.call_through(), '    ')}"
    elif layout.is_straight:
        fits = f"if current.shape == {shape} and not (current.ailing or TELLING):\n"
        text += fits + indent(_unpacked(layout) + _path(layout, shell), "    ")
    text += "current = watch.current_plan()\nif current.is_empty or (TELLING and watch.is_unobserved()):\n"
    text += indent(shell.call_through(), "    ") + _path(_Layout(None), shell)
    return f"def make(function, plan, watch):\n    {shell.head} wrapper(*args, **kwargs):\n{indent(text, ' ' * 8)}"


_shapes: dict[tuple[Any, ...], tuple[int, types.CodeType]] = {}


def _compiled(layout: _Layout | None, kind: FunctionKind) -> tuple[int, types.CodeType]:
    """Return the number and the code of a shape, compiled when it is first met."""
    key = (kind,) if layout is None else (kind, layout.captures, *layout.forms.values())
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


def fit(plan: Plan, target: Target, wrapper: types.FunctionType) -> None:
    """Give the wrapper the code for a plan, and the plan the shape of the code."""
    layout = None if plan.is_empty else _Layout(plan)
    shape, code = _compiled(layout, target.kind)
    if layout is not None:
        plan.shape = shape
        plan.told = _to_unpack(layout, plan)
        plan.loops = {
            state: tuple((listener.registration, listener.tells[state]) for listener in plan.listeners[state])
            for state, forms in layout.forms.items()
            if forms == _IN_A_LOOP
        }
    wrapper.__code__ = _named(code, target)


def _named(code: types.CodeType, target: Target) -> types.CodeType:
    # A copy for each function: the interpreter specialises code to what it meets, so it should meet one function.
    flags = getattr(getattr(target.function, "__code__", None), "co_flags", 0) & inspect.CO_ITERABLE_COROUTINE
    name, qualname = target.signature.name, target.signature.qualname
    return code.replace(co_name=name, co_qualname=qualname, co_flags=code.co_flags | flags)


def make_wrapper(target: Target, watch: FunctionHandle) -> tuple[types.CellType, types.FunctionType]:
    """Return the cell that holds the plan, and the function that stands for the decorated one."""
    code = _named(_compiled(None, target.kind)[1], target)
    held = {"function": target.function, "plan": STALE, "watch": watch}
    cells = {name: types.CellType(value) for name, value in held.items()}
    closure = tuple(cells[name] for name in code.co_freevars)
    wrapper = types.FunctionType(code, _NAMES, target.signature.name, None, closure)
    return cells["plan"], _dressed(wrapper, target.function)


def _dressed(wrapper: types.FunctionType, function: Callable[..., Any]) -> types.FunctionType:
    functools.update_wrapper(wrapper, function)
    if isinstance(function, types.FunctionType):
        wrapper.__defaults__ = function.__defaults__
        wrapper.__kwdefaults__ = function.__kwdefaults__
    return wrapper
