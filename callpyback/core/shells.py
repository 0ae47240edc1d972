"""The thin shell around the body, as text: one for each kind of callable, filled in for what listens.

Into a shell go the stretches before and after the body. On the *general path* these are the sequence
(`execution.py`), which serves every case. On the *straight path*, where observers are told without awaiting and the
system's clock is used, they are written out: no loop, no generator, one `try` for a stretch. `at` counts the
listeners told; when one of them raises, the sequence takes over from there.

What could fail in the library itself stands inside a `try`, so that the body's outcome is the caller's in any case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from callpyback.core.functions import FunctionKind
from callpyback.core.state_machine import ExecutionState
from callpyback.core.templates import (
    AGAIN,
    ANSWERED,
    ASKED,
    BEGUN,
    BODY,
    CALLS,
    ENTERED,
    ENTERED_STEP,
    FAILED,
    GENERAL,
    GENERATOR_BODY,
    GENERATOR_FACTS,
    IF_PLACED,
    LATE_JOB,
    LATE_TASK,
    LEFT,
    LEFT_STEP,
    LOOP,
    MADE,
    MARKED,
    PLACE_TAKEN,
    PLACE_TAKEN_FIRST,
    PLACED,
    RAISED,
    RELAY,
    RELEASED,
    RUN_IN_TIME,
    SET_ALARM,
    STEP_IN_TIME,
    STOPPED_ALARM,
    UNMARKED,
    WRAPPER,
    contained,
    filled,
    indented,
)

if TYPE_CHECKING:
    from callpyback.core.layout import Layout

PRE_EXECUTION, POST_SUCCESS = ExecutionState.PRE_EXECUTION, ExecutionState.POST_SUCCESS
COMPLETED = ExecutionState.COMPLETED


class Shell:
    """What differs between the kinds: how to wait, to call through, to answer, to run the body."""

    def __init__(self, kind: FunctionKind) -> None:
        self.is_function = kind is FunctionKind.FUNCTION
        self.is_async = kind in (FunctionKind.COROUTINE, FunctionKind.ASYNC_GENERATOR)
        self.is_generator = kind in (FunctionKind.GENERATOR, FunctionKind.ASYNC_GENERATOR)
        self.facts = GENERATOR_FACTS if self.is_generator else ""

    def wrapper(self, straight: str, general: Layout, *, retries: bool) -> str:
        """Write a wrapper: its straight path, if it has one, and the general path for every other case."""
        begun = filled(BEGUN, placed=PLACED, through=self.called_through(), before=_before(general, self))
        if straight and retries:
            begun = f"if call is None:\n{indented(begun)}"
            straight = f"call = None\n{straight}"
        again = filled(
            AGAIN,
            waited=self.driven("retrying(call)"),
            given_up=self.driven("giving_up(call)"),
            attempted=self.driven("attempting(call)"),
            raised=filled(RAISED, released=RELEASED),
        )
        path = filled(GENERAL, begun=begun, again=again, path=_path(general, self))
        return filled(WRAPPER, head="async def" if self.is_async else "def", straight=straight, general=path)

    def called_through(self) -> str:
        """Only call the function."""
        call = "function(*args, **kwargs)"
        if self.is_generator:
            return RELAY if self.is_async else f"return (yield from {call})\n"
        return f"return {'await ' if self.is_async else ''}{call}\n"

    def answered(self) -> str:
        """Give the caller what an observer supplied, or raise what it refused the call with."""
        if self.is_generator and self.is_async:
            given = "async for item in items_of(call.value):\n    yield item\nreturn\n"
        else:
            given = f"return {'(yield from call.value)' if self.is_generator else 'call.value'}\n"
        return filled(RAISED, released=RELEASED) + RELEASED + given

    def returned(self, value: str) -> str:
        """Return a value, where the kind has one."""
        return "return\n" if self.is_async and self.is_generator else f"return {value}\n"

    def driven(self, steps: str) -> str:
        """Go through a stretch of the sequence."""
        return f"await complete(call, {steps})\n" if self.is_async else f"run({steps})\n"

    def body(self, layout: Layout, failed: str, after: str) -> str:
        """Run the body, timed, its locals captured, its failure handed on."""
        keep = "call.started = " if layout.has_record else ""
        parts = {"failed": failed, "after": after, "begun": layout.captured("state = NOT_BEGUN\n")}
        if layout.is_straight:
            parts["started"] = f"{keep}started = perf_counter()"
            parts["stopped"] = "elapsed = perf_counter() - started"
            parts["paused"] = "paused = perf_counter()\nrunning += paused - resumed"
            parts["resumed"] = "resumed = perf_counter()"
            parts["elapsed"] = "elapsed = running"
        else:
            parts["started"] = f"clock = current.clock\n{_read('started')}call.started = started"
            stopped = "elapsed = call.earlier + elapsed_between(started, clock())"
            parts["stopped"] = contained(stopped, "elapsed = UNKNOWN")
            parts["paused"] = _read("paused") + contained("running += elapsed_between(resumed, paused)")
            parts["resumed"] = _read("resumed")
            parts["elapsed"] = "elapsed = call.earlier + running"
        parts |= self._deadline(layout) | _placed(layout)
        parts["started"] = f"{parts.pop('taken')}{parts['started']}"
        begin = f"state = current.binding.begin({'' if self.is_function else 'inner'})"
        capture = layout.captured(contained(begin))
        if self.is_generator:
            return self._generator_body(parts, capture)
        return self._plain_body(parts, capture, layout)

    def _deadline(self, layout: Layout) -> dict[str, str]:
        """Watch the time the body takes; on the straight path there is no limit."""
        names = ("alarmed", "wound", "in_time", "at_last", "too_late")
        if layout.is_straight:
            return dict.fromkeys(names, "")
        if self.is_async:
            # For an async generator each step has an alarm of its own: only within a step is there a task to cancel.
            first = "" if self.is_generator else SET_ALARM.format("")
            each = SET_ALARM.format("running") if self.is_generator else ""
            parts = (f"alarm = None\n{first}", each, STOPPED_ALARM, STOPPED_ALARM, LATE_TASK)
            return dict(zip(names, parts, strict=True))
        if self.is_generator:
            return dict(
                zip(
                    names,
                    ("expired = None", "", STEP_IN_TIME, "", "call.expired, expired = expired, None"),
                    strict=True,
                )
            )
        return dict(zip(names, ("job = None", "", "", "", LATE_JOB), strict=True))

    def _plain_body(self, parts: dict[str, str], capture: str, layout: Layout) -> str:
        call = "function(*args, **kwargs)"
        inner = ""
        if capture and self.is_async:
            inner, call = f"inner = {call}\n{capture}", "inner"
        elif capture:
            parts["begun"] += capture
        run = f"value = {'await ' if self.is_async else ''}{call}"
        if not (self.is_async or layout.is_straight):
            run = RUN_IN_TIME
        return filled(BODY, inner=inner, run=run, **parts)

    def _generator_body(self, parts: dict[str, str], capture: str) -> str:
        names = ("asend", "athrow", "await ") if self.is_async else ("send", "throw", "")
        parts |= dict(zip(("send", "throw", "awaiting"), names, strict=True))
        parts["stop"] = "StopAsyncIteration" if self.is_async else "StopIteration"
        parts["returned"] = "None" if self.is_async else "stop.value"
        return filled(GENERATOR_BODY, inner=capture, **parts)


def _read(name: str) -> str:
    return contained(f"{name} = clock()", f"{name} = UNKNOWN")


def _path(layout: Layout, shell: Shell) -> str:
    """The body and what follows it, to the end of the call."""
    return shell.body(layout, _failed(layout, shell), _after(layout, shell)) + shell.returned("value")


def straight_path(layout: Layout, shell: Shell, shape: int) -> str:
    """Write the path for the calls in which nothing unusual happens, behind the test that they are."""
    path = _unpacked(layout) + _before(layout, shell) + _path(layout, shell)
    # Left by `break` when the body is to run again.
    test = "while" if layout.retries else "if"
    usual = f"current.shape == {shape} and not (current.ailing or (TELLING and is_inside()))"
    return f"current = plan\n{test} {usual}:\n{indented(path)}"


def empty_path(shell: Shell) -> str:
    """Write the path for nobody listening."""
    return f"if not plan.shape:\n{indented(shell.called_through())}"


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
    decided = f"if call.decided:\n{indented(shell.answered())}"
    if not layout.is_straight:
        return shell.driven("beginning(call)") + decided
    made = _made(layout) if layout.has_call else "call = None\n"
    told = _told(layout, PRE_EXECUTION, "0", shell)
    if not told:
        return _made(layout) if layout.has_record else made if layout.retries else ""
    guards = layout.guards[PRE_EXECUTION]
    resumed = "" if layout.has_call else _made(layout)
    if not guards:
        resumed += "run(resumed_beginning(call, at, failure))\nfailure = None\n"
        test = "failure is not None"
    else:
        resumed += _held_in_call(layout)
        steps = "resumed_beginning(call, at, failure, decision)"
        if _answers_at_once(layout, shell):
            steps = f"{steps} if answered is None else resumed_answer(call, answered, at, failure, decision)"
            resumed = f"if answered is DONE:\n    return value\n{resumed}"
        resumed += shell.driven(steps) + "failure = decision = None\n"
        reloaded = (f"held_{at} = call.token_of({_listener_at(at)}_registration)" for at in guards)
        resumed += "".join(contained(statement) for statement in reloaded)
        test = "failure is not None or decision is not None"
    resumed += decided
    unasked = "".join(f"held_{at} = " for at in guards)
    marked = _watched(
        told,
        marked=layout.is_marked(PRE_EXECUTION),
        thread="thread = get_ident()",
        unasked=f"answered = decision = None\n{unasked}NOT_ASKED\n" if guards else "",
    )
    last = _made(layout, if_none=True) if layout.has_record and not layout.has_call else ""
    return f"{made}{marked}if {test}:\n{indented(resumed)}{last}"


def _answers_at_once(layout: Layout, shell: Shell) -> bool:
    """Return whether a guard's answer can be given without the record of the call."""
    is_simple = all(form.endswith("ask") for form in layout.forms[PRE_EXECUTION])
    return is_simple and not (layout.has_call or shell.is_generator or layout.is_loop(COMPLETED))


def _listener_at(index: int) -> str:
    return f"{PRE_EXECUTION.value}_{index}"


def _held(layout: Layout) -> str:
    return ", ".join(f"({_listener_at(at)}_registration, held_{at})" for at in layout.guards[PRE_EXECUTION])


def _after(layout: Layout, shell: Shell) -> str:
    """From the return of the body to the end."""
    elapsed = "call.elapsed, call.value, call.raised = elapsed, value, None\n"
    fill = elapsed + shell.facts
    fill += layout.captured(contained("call.captured = captured_at_success(current.binding, state)"))
    raised = filled(RAISED, released=RELEASED)
    if not layout.is_straight:
        return f"{fill}{shell.driven('succeeding(call)')}{raised}{RELEASED}"
    told = _told(layout, POST_SUCCESS, "0", shell)
    told += "call.outcome = BODY_RETURNED\n" if layout.has_call else ""
    last = _told(layout, COMPLETED, layout.counted(POST_SUCCESS), shell)
    if not (layout.forms[POST_SUCCESS] or last):
        return ""
    resumed = f"run(resumed_success(call, at, failure))\nfailure = None\n{raised}"
    resumed = f"{_held_in_call(layout)}{resumed}"
    if not layout.has_call:
        resumed = f"{_made_late(layout)}{fill}{resumed}"
    # Only a plain function is sure to end in the thread in which it began.
    is_known = shell.is_function and layout.is_marked(PRE_EXECUTION) and layout.forms[PRE_EXECUTION]
    marked = _watched(
        told + last,
        marked=layout.is_marked(POST_SUCCESS, COMPLETED),
        thread="" if is_known else "thread = get_ident()",
    )
    ended = f"{marked}if failure is not None:\n{indented(resumed)}"
    if not layout.has_call:
        return ended
    return f"{fill}{ended}if current.uses_slots:\n{indented(RELEASED)}"


def _made(layout: Layout, *, if_none: bool = False) -> str:
    """Make the record of a call."""
    made = f"{MADE}{PLACED}" if layout.tracks else MADE
    return f"if call is None:\n{indented(made)}" if if_none else made


def _made_late(layout: Layout) -> str:
    """Make the record of a call for which nobody needed one so far."""
    if layout.has_record:
        return ""
    return _made(layout, if_none=bool(layout.forms[PRE_EXECUTION] or layout.retries)) + "call.started = started\n"


def _placed(layout: Layout) -> dict[str, str]:
    """Make the call the current one of its body, and of each step of a generator."""
    parts = {"entered": ENTERED, "left": LEFT, "entered_step": ENTERED_STEP, "left_step": LEFT_STEP}
    if not layout.is_straight:  # asked of each plan
        return {"taken": PLACE_TAKEN, **{name: IF_PLACED + indented(text) for name, text in parts.items()}}
    if not layout.tracks:
        return {"taken": "", **dict.fromkeys(parts, "")}
    return {"taken": PLACE_TAKEN_FIRST, **parts}


def _held_in_call(layout: Layout) -> str:
    return contained(f"call.hold({_held(layout)})") if layout.guards[PRE_EXECUTION] else ""


def _failed(layout: Layout, shell: Shell) -> str:
    """From an exception of the body to the end, inside the `except` block."""
    made = ""
    if layout.is_straight:
        made = ("" if layout.has_call else _made_late(layout)) + _held_in_call(layout)
    again = ""
    if not layout.is_straight:
        again = "if call.again is not None:\n    continue\n"
    elif layout.retries:
        again = "if call.again is not None:\n    break\n"
    return filled(
        FAILED,
        made=made,
        facts=shell.facts,
        captured=layout.captured(contained("call.captured = captured_at_failure(current.binding, state, error)")),
        driven=shell.driven("failing(call, error)"),
        again=again,
        raised=filled(RAISED, released=RELEASED),
        released=RELEASED,
        returned=shell.returned("call.returned"),
    )


def _watched(told: str, *, marked: bool, thread: str, unasked: str = "") -> str:
    """Tell, keeping the first exception; what is told next must not see it as the one being handled."""
    if marked:
        return filled(MARKED, told=told, thread=thread, unasked=unasked)
    return filled(UNMARKED, told=told, unasked=unasked)


def _told(layout: Layout, state: ExecutionState, base: str, shell: Shell) -> str:
    """Tell the listeners of one state, those before it counted in `base`."""
    if layout.is_loop(state):
        return LOOP.format(state=state.name, base=base)
    text = ""
    for index, form in reversed(tuple(enumerate(layout.forms[state]))):
        name = f"{state.value}_{index}"
        kind = form.removeprefix("leaf ")
        if kind == "ask":
            # Nobody below a guard is told here once the guard has decided.
            answered = _answered(layout) if _answers_at_once(layout, shell) else ""
            text = filled(ASKED, at=str(index), name=name, answered=answered, rest=text or "pass\n")
        elif kind == "settle":
            settled = _settled(name, layout.guards[COMPLETED][index], "elapsed, value, None, BODY_RETURNED")
            text = f"at = {base} + {index}\n{settled}{text}"
        else:
            call = CALLS[kind].format(name=name, state=state.name)
            text = f"at = {base} + {index}\nif {name}_registration.active: {call}\n{text}"
    return text


def _settled(name: str, guard: int, given: str) -> str:
    return f"if held_{guard} is not NOT_ASKED: {name}({given}, held_{guard})\n"


def _answered(layout: Layout) -> str:
    """Tell everybody who hears of ends that a guard has answered."""
    told = ""
    for index, form in enumerate(layout.forms[COMPLETED]):
        name, given = f"{COMPLETED.value}_{index}", "0.0, value, None, ANSWERED"
        told += f"at = {index}\n"
        if form.endswith("settle"):
            told += _settled(name, layout.guards[COMPLETED][index], given)
        else:
            told += f"if {name}_registration.active: {name}({given})\n"
    return filled(ANSWERED, told=told)
