"""The thin shell around the body, as text: one for each kind of callable, filled in for what listens.

Into a shell go the stretches before and after the body. On the *general path* these are the sequence
(`execution.py`), which serves every case. On the *straight path*, where observers are told without awaiting and the
system's clock is used, they are written out: no loop, no generator, one `try` for a stretch. `at` counts the
listeners told; when one of them raises, the sequence takes over from there.

What could fail in the library itself stands inside a `try`, so that the body's outcome is the caller's in any case.
"""

from __future__ import annotations

import re
from textwrap import indent
from typing import TYPE_CHECKING, Final

from callpyback.core.functions import FunctionKind
from callpyback.core.state_machine import ExecutionState

if TYPE_CHECKING:
    from callpyback.core.layout import Layout

PRE_EXECUTION, POST_SUCCESS = ExecutionState.PRE_EXECUTION, ExecutionState.POST_SUCCESS
COMPLETED = ExecutionState.COMPLETED

_WRAPPER: Final = """\
def make(function, plan, watch):
    {head} wrapper(*args, **kwargs):
        {straight}
        {general}
"""

_GENERAL: Final = """\
current, call = plan, None
try:
    current = watch.current_plan()
    if not (current.is_empty or (TELLING and watch.is_unobserved())):
        call = called(current, args, kwargs)
except Exception as fault:
    report(fault)
if call is None:
    {through}
{path}
"""

_BODY: Final = """\
{begun}
{started}
try:
    {inner}
    value = {awaited}
except BaseException as error:
    {stopped}
    {failed}
{stopped}
{after}
"""

_GENERATOR_BODY: Final = """\
{begun}
{started}
resumed, running, items, first = started, 0.0, 0, None
try:
    inner = function(*args, **kwargs)
    {inner}
    step, sent = inner.{send}, None
    while True:
        item = {awaiting}step(sent)
        sent = None
        {paused}
        if not items:
            first = paused - started
        items += 1
        try:
            sent = yield item
        except BaseException as thrown:
            step, sent = inner.{throw}, with_traceback(thrown, thrown.__traceback__.tb_next)
        else:
            step = inner.{send}
        {resumed}
except {stop} as stop:
    sent, value = None, {returned}
except BaseException as error:
    sent = step = None  # what was thrown in must not be held by the frame in its traceback
    {paused}
    elapsed = running
    {failed}
{paused}
elapsed = running
{after}
"""

_RELAY: Final = """\
inner = function(*args, **kwargs)
step, sent = inner.asend, None
while True:
    try:
        item = await step(sent)
    except StopAsyncIteration:
        return
    except BaseException:
        sent = step = None
        raise
    sent = None
    try:
        sent = yield item
    except BaseException as thrown:
        step, sent = inner.athrow, with_traceback(thrown, thrown.__traceback__.tb_next)
    else:
        step = inner.asend
"""

_FAILED: Final = """\
{made}
call.elapsed = elapsed
{facts}
{captured}
{driven}
{raised}
{released}
if not call.handled:
    del call
    raise
{returned}
"""

_RELEASED: Final = """\
try:
    call.release()
except Exception as fault:
    report(fault)
"""

_RAISED: Final = """\
if call.problem is not None:
    problem, call.problem = call.problem, None
    {released}
    try:
        raise problem
    finally:
        del problem, call
"""

_CONTAINED: Final = """\
try:
    {statement}
except Exception as fault:
    {otherwise}
    report(fault)
"""

_MARKED: Final = """\
{thread}
failure, at = None, 0
try:
    enter(thread)
    {told}
except BaseException as error:
    failure = error
finally:
    leave(thread)
"""

_UNMARKED: Final = """\
failure, at = None, 0
try:
    {told}
except BaseException as error:
    failure = error
"""

_LOOP: Final = """\
for at, (known, tell, shown) in enumerate(current.loops[{state}], {base}):
    if known.active: tell(call if shown is None else ExecutionContext({state}, call, shown))
"""

_CALLS: Final = {
    "update": "{name}(ExecutionContext({state}, call, {name}_listener))",
    "tell": "{name}(call)",
    "begin": "{name}()",
    "end": "{name}(elapsed, value, None, BODY_RETURNED)",
}

_MADE: Final = "call = Call()\ncall.plan, call.args, call.kwargs = current, args, kwargs\n"
_GENERATOR_FACTS: Final = "call.items, call.time_to_first_item, call.lifetime = items, first, paused - started\n"


def _filled(template: str, **parts: str) -> str:
    """Fill in a template: a part alone on its line keeps the line's indentation, an empty one takes the line away."""
    lines = []
    for line in template.splitlines(keepends=True):
        alone = re.fullmatch(r"( *)\{(\w+)\}\n", line)
        if alone is None:
            lines.append(line.format_map(parts))
        elif part := parts[alone[2]]:
            lines.append(indent(part if part.endswith("\n") else f"{part}\n", alone[1]))
    return "".join(lines)


def _contained(statement: str, otherwise: str = "") -> str:
    return _filled(_CONTAINED, statement=statement, otherwise=otherwise)


class Shell:
    """What differs between the kinds: how to wait, to call through, to answer, to run the body."""

    def __init__(self, kind: FunctionKind) -> None:
        self.is_function = kind is FunctionKind.FUNCTION
        self.is_async = kind in (FunctionKind.COROUTINE, FunctionKind.ASYNC_GENERATOR)
        self.is_generator = kind in (FunctionKind.GENERATOR, FunctionKind.ASYNC_GENERATOR)
        self.facts = _GENERATOR_FACTS if self.is_generator else ""

    def wrapper(self, straight: str, general: Layout) -> str:
        """Write a wrapper: its straight path, if it has one, and the general path for every other case."""
        general_path = _filled(_GENERAL, through=self.called_through(), path=_path(general, self))
        head = "async def" if self.is_async else "def"
        return _filled(_WRAPPER, head=head, straight=straight, general=general_path)

    def called_through(self) -> str:
        """Only call the function."""
        call = "function(*args, **kwargs)"
        if self.is_generator:
            return _RELAY if self.is_async else f"return (yield from {call})\n"
        return f"return {'await ' if self.is_async else ''}{call}\n"

    def answered(self) -> str:
        """Give the caller what an observer supplied, or raise what it refused the call with."""
        if self.is_generator and self.is_async:
            given = "async for item in items_of(call.value):\n    yield item\nreturn\n"
        else:
            given = f"return {'(yield from call.value)' if self.is_generator else 'call.value'}\n"
        return _filled(_RAISED, released=_RELEASED) + _RELEASED + given

    def returned(self, value: str) -> str:
        """Return a value, where the kind has one."""
        return "return\n" if self.is_async and self.is_generator else f"return {value}\n"

    def driven(self, steps: str) -> str:
        """Go through a stretch of the sequence."""
        return f"await complete(call, {steps})\n" if self.is_async else f"run({steps})\n"

    def body(self, layout: Layout, failed: str, after: str) -> str:
        """Run the body, timed, its locals captured, its failure handed on."""
        keep = "call.started = " if layout.has_call else ""
        parts = {"failed": failed, "after": after, "begun": layout.captured("state = NOT_BEGUN\n")}
        if layout.is_straight:
            parts["started"] = f"{keep}started = perf_counter()"
            parts["stopped"] = "elapsed = perf_counter() - started"
            parts["paused"] = "paused = perf_counter()\nrunning += paused - resumed"
            parts["resumed"] = "resumed = perf_counter()"
        else:
            parts["started"] = f"clock = current.clock\n{_read('started')}call.started = started"
            parts["stopped"] = _contained("elapsed = elapsed_between(started, clock())", "elapsed = UNKNOWN")
            parts["paused"] = _read("paused") + _contained("running += elapsed_between(resumed, paused)")
            parts["resumed"] = _read("resumed")
        begin = f"state = current.binding.begin({'' if self.is_function else 'inner'})"
        capture = layout.captured(_contained(begin))
        if self.is_generator:
            return self._generator_body(parts, capture)
        return self._plain_body(parts, capture)

    def _plain_body(self, parts: dict[str, str], capture: str) -> str:
        call = "function(*args, **kwargs)"
        inner = ""
        if capture and self.is_async:
            inner, call = f"inner = {call}\n{capture}", "inner"
        elif capture:
            parts["begun"] += capture
        return _filled(_BODY, inner=inner, awaited=f"{'await ' if self.is_async else ''}{call}", **parts)

    def _generator_body(self, parts: dict[str, str], capture: str) -> str:
        names = ("asend", "athrow", "await ") if self.is_async else ("send", "throw", "")
        parts |= dict(zip(("send", "throw", "awaiting"), names, strict=True))
        parts["stop"] = "StopAsyncIteration" if self.is_async else "StopIteration"
        parts["returned"] = "None" if self.is_async else "stop.value"
        return _filled(_GENERATOR_BODY, inner=capture, **parts)


def _read(name: str) -> str:
    return _contained(f"{name} = clock()", f"{name} = UNKNOWN")


def _path(layout: Layout, shell: Shell) -> str:
    body = shell.body(layout, _failed(layout, shell), _after(layout, shell))
    return _before(layout, shell) + body + shell.returned("value")


def straight_path(layout: Layout, shell: Shell, shape: int) -> str:
    """Write the path for the calls in which nothing unusual happens, behind the test that they are."""
    path = _unpacked(layout) + _path(layout, shell)
    return f"current = plan\nif current.shape == {shape} and not (current.ailing or TELLING):\n{indent(path, '    ')}"


def empty_path(shell: Shell) -> str:
    """Write the path for nobody listening."""
    return f"if not plan.shape:\n{indent(shell.called_through(), '    ')}"


def _unpacked(layout: Layout) -> str:
    """Take what is to be called out of the plan, into local variables."""
    names = [
        f"{state.value}_{index}{part}"
        for state, forms in layout.unrolled()
        for index in range(len(forms))
        for part in ("", "_listener", "_registration")
    ]
    return f"{', '.join(names)}, = current.told\n" if names else ""


def _before(layout: Layout, shell: Shell) -> str:
    """From the beginning of the call to the body."""
    decided = f"if call.decided:\n{indent(shell.answered(), '    ')}"
    if not layout.is_straight:
        return shell.driven("beginning(call)") + decided
    if not layout.has_call:
        return ""
    told = _told(layout, PRE_EXECUTION, "0")
    if not told:
        return _MADE
    resumed = "run(resumed_beginning(call, at, failure))\nfailure = None\n" + decided
    marked = _watched(told, marked=layout.is_marked(PRE_EXECUTION), thread="thread = get_ident()")
    return f"{_MADE}{marked}if failure is not None:\n{indent(resumed, '    ')}"


def _after(layout: Layout, shell: Shell) -> str:
    """From the return of the body to the end."""
    fill = "call.elapsed, call.value, call.raised = elapsed, value, None\n" + shell.facts
    fill += layout.captured(_contained("call.captured = captured_at_success(current.binding, state)"))
    raised = _filled(_RAISED, released=_RELEASED)
    if not layout.is_straight:
        return f"{fill}{shell.driven('succeeding(call)')}{raised}{_RELEASED}"
    told = _told(layout, POST_SUCCESS, "0")
    told += "call.outcome = BODY_RETURNED\n" if layout.has_call else ""
    last = _told(layout, COMPLETED, layout.counted(POST_SUCCESS))
    if not (layout.forms[POST_SUCCESS] or last):
        return ""
    resumed = f"run(resumed_success(call, at, failure))\nfailure = None\n{raised}"
    if not layout.has_call:
        resumed = f"{_MADE}call.started = started\n{fill}{resumed}"
    # Only a plain function is sure to end in the thread in which it began.
    is_known = shell.is_function and layout.is_marked(PRE_EXECUTION) and layout.forms[PRE_EXECUTION]
    marked = _watched(
        told + last,
        marked=layout.is_marked(POST_SUCCESS, COMPLETED),
        thread="" if is_known else "thread = get_ident()",
    )
    ended = f"{marked}if failure is not None:\n{indent(resumed, '    ')}"
    if not layout.has_call:
        return ended
    return f"{fill}{ended}if current.uses_slots:\n{indent(_RELEASED, '    ')}"


def _failed(layout: Layout, shell: Shell) -> str:
    """From an exception of the body to the end, inside the `except` block."""
    return _filled(
        _FAILED,
        made="" if layout.has_call else f"{_MADE}call.started = started\n",
        facts=shell.facts,
        captured=layout.captured(_contained("call.captured = captured_at_failure(current.binding, state, error)")),
        driven=shell.driven("failing(call, error)"),
        raised=_filled(_RAISED, released=_RELEASED),
        released=_RELEASED,
        returned=shell.returned("call.returned"),
    )


def _watched(told: str, *, marked: bool, thread: str) -> str:
    """Tell, keeping the first exception; what is told next must not see it as the one being handled."""
    return _filled(_MARKED, told=told, thread=thread) if marked else _filled(_UNMARKED, told=told)


def _told(layout: Layout, state: ExecutionState, base: str) -> str:
    """Tell the listeners of one state, those before it counted in `base`."""
    if layout.is_loop(state):
        return _LOOP.format(state=state.name, base=base)
    text = ""
    for index, form in enumerate(layout.forms[state]):
        name = f"{state.value}_{index}"
        call = _CALLS[form.removeprefix("leaf ")].format(name=name, state=state.name)
        text += f"at = {base} + {index}\nif {name}_registration.active: {call}\n"
    return text
