"""The text of the wrappers, in pieces: `{part}` alone on a line is replaced by other pieces, indented like the line."""

from __future__ import annotations

from typing import Final


def indented(text: str, spaces: int = 4) -> str:
    """Indent the lines of a text; `textwrap`, which can do it too, takes a millisecond to import."""
    return "".join(" " * spaces + line for line in text.splitlines(keepends=True))


WRAPPER: Final = """\
def make(function, plan, watch):
    {head} wrapper(*args, **kwargs):
        {straight}
        {general}
"""

GENERAL: Final = """\
{begun}
while True:
    if call.again is not None:
        {again}
    {path}
"""

BEGUN: Final = """\
current, call = plan, None
try:
    current = watch.current_plan()
    if TELLING and not current.is_empty and watch.is_unobserved():
        current = watch.silent_plan()
    if not current.is_empty:
        call = called(current, args, kwargs)
        if current.tracks:
            {placed}
            call.tags = None
except Exception as fault:
    report(fault)
if call is None:
    {through}
{before}
"""

AGAIN: Final = """\
{waited}
{raised}
try:
    call = call.next_attempt()
except Exception as fault:
    report(fault)
    {given_up}
{raised}
{attempted}
{raised}
"""

# The current call is put back inside the `try`: Ctrl-C between the two must not leave this one in its place.
BODY: Final = """\
{begun}
{alarmed}
{started}
try:
    {entered}
    {inner}
    {run}
    {in_time}
    {stopped}
    {left}
except BaseException as error:
    {stopped}
    {left}
    {too_late}
    {failed}
{after}
"""

GENERATOR_BODY: Final = """\
{begun}
{alarmed}
{started}
resumed, running, items, first = started, 0.0, 0, None
try:
    inner = function(*args, **kwargs)
    {inner}
    step, sent = inner.{send}, None
    while True:
        {entered_step}
        {wound}
        item = {awaiting}step(sent)
        sent = None
        {paused}
        {left_step}
        {in_time}
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
    {at_last}
except BaseException as error:
    sent = step = None  # what was thrown in must not be held by the frame in its traceback
    {paused}
    {elapsed}
    {left}
    {too_late}
    {failed}
{paused}
{elapsed}
{left}
{after}
"""

RELAY: Final = """\
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

FAILED: Final = """\
{made}
call.elapsed = elapsed
{facts}
{captured}
{driven}
{again}
{raised}
{released}
if not call.handled:
    del call
    raise
{returned}
"""

# A plain function is given to another thread.
RUN_IN_TIME: Final = """\
if current.deadline is None:
    value = function(*args, **kwargs)
else:
    job = current.deadline.run(function, args, kwargs)
    error = job.taken()
    if error is not None:
        raise error
    value = job.value
"""

SET_ALARM: Final = """\
if current.deadline is not None:
    alarm = current.deadline.task_alarm({})
    await alarm.start()
"""

STOPPED_ALARM: Final = """\
if alarm is not None:
    await alarm.stop()
"""

LATE_TASK: Final = """\
if alarm is not None:
    caught, error = error, await alarm.stop(error)
    call.expired, alarm = alarm.expired, None
    call.stands_in = None if error is caught else error
    caught = None
"""

LATE_JOB: Final = """\
if job is not None:
    job.hand_over(error)
    call.expired, job = job.expired, None
"""

STEP_IN_TIME: Final = """\
if current.deadline is not None and running > current.deadline.limit:
    expired, resumed = current.deadline.expired(inner), paused
    raise expired
"""

RELEASED: Final = """\
try:
    call.release()
except Exception as fault:
    report(fault)
"""

RAISED: Final = """\
if call.problem is not None:
    problem, call.problem = call.problem, None
    {released}
    try:
        raise problem
    finally:
        del problem, call
"""

CONTAINED: Final = """\
try:
    {statement}
except Exception as fault:
    {otherwise}
    report(fault)
"""

MARKED: Final = """\
{thread}
failure, at = None, 0
{unasked}
try:
    enter(thread)
    {told}
except BaseException as error:
    failure = error
finally:
    leave(thread)
"""

UNMARKED: Final = """\
failure, at = None, 0
{unasked}
try:
    {told}
except BaseException as error:
    failure = error
"""

LOOP: Final = """\
for at, (known, tell, shown) in enumerate(current.loops[{state}], {base}):
    if known.active: tell(call if shown is None else ExecutionContext({state}, call, shown))
"""

CALLS: Final = {
    "update": "{name}(ExecutionContext({state}, call, {name}_listener))",
    "tell": "{name}(call)",
    "begin": "{name}()",
    "end": "{name}(elapsed, value, None, BODY_RETURNED)",
}

ASKED: Final = """\
at = {at}
if {name}_registration.active:
    held_{at} = None
    held_{at} = {name}(args, kwargs)
if held_{at} is not None and (type(held_{at}) is StopProcessing or isinstance(held_{at}, Wait)):
    decision, held_{at} = held_{at}, None
    {answered}
else:
    {rest}
"""

# Everybody who is to hear of an answer is called with plain values: nothing else is left to do.
ANSWERED: Final = """\
if type(decision) is StopProcessing and decision.value is not NO_VALUE:
    value, answered = decision.value, at
    {told}
    answered = DONE
"""

MADE: Final = "call = Call()\ncall.plan, call.args, call.kwargs = current, args, kwargs\n"
# The innermost call of this thread or task is a context variable. It is put back by `set`, not by its token: a body
# may be resumed, and end, in another context.
PLACED: Final = """\
outer, here = CURRENT.get(), CurrentCall()
call.outer, call.here, here._depth = outer, here, outer._depth + 1
here._call = here._call_id = None
"""
PLACE_TAKEN: Final = """\
here = call.here if current.tracks else None
if here is not None:
    outer, here._call, here._tags = call.outer, call, call.tags
"""
PLACE_TAKEN_FIRST: Final = "here._call, here._tags = call, None\n"
ENTERED: Final = "CURRENT.set(here)\n"
ENTERED_STEP: Final = "outer = CURRENT.get()\nCURRENT.set(here)\n"
LEFT_STEP: Final = "CURRENT.set(outer)\n"
LEFT: Final = f"{LEFT_STEP}call.tags, here._call, here._tags = here._tags, None, None\n"
IF_PLACED: Final = "if here is not None:\n"
GENERATOR_FACTS: Final = "call.items, call.time_to_first_item, call.lifetime = items, first, paused - started\n"


def filled(template: str, **parts: str) -> str:
    """Fill in a template: a part alone on its line keeps the line's indentation, an empty one takes the line away."""
    lines = []
    for line in template.splitlines(keepends=True):
        spaces = len(line) - len(line.lstrip())
        name = line.strip()[1:-1]
        if line.strip() != f"{{{name}}}" or not name.isidentifier():
            lines.append(line.format_map(parts))
        elif part := parts[name]:
            lines.append(indented(part if part.endswith("\n") else f"{part}\n", spaces))
    return "".join(lines)


def contained(statement: str, otherwise: str = "") -> str:
    """Write a statement whose failure is reported and has no other effect."""
    return filled(CONTAINED, statement=statement, otherwise=otherwise)
