"""A call site is where the caller stands, whatever lies between; it holds no frame."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from pathlib import Path

import callpyback
from callpyback import BaseObserver, CallPyBack, ExecutionState, FunctionSignature
from callpyback.observers.parts.call_sites import CallSite


class Sites(BaseObserver):
    states = ExecutionState.PRE_EXECUTION

    def __init__(self):
        super().__init__()
        self.seen = []

    def update(self, context):
        self.seen.append(CallSite(context.function_signature))


def test_a_call_site_is_that_of_the_caller_for_every_kind(kind):
    sites = Sites()
    function = kind.make(lambda: 1, CallPyBack([sites, *(Sites() for _ in range(10))]))
    kind.call(function)
    [site] = sites.seen
    assert site.shown()["call_site"].startswith(__file__.replace("test_call_sites", "kinds"))


def test_the_line_is_that_of_the_call():
    sites = Sites()

    @CallPyBack([sites])
    def work():
        pass

    line = 1 + test_the_line_is_that_of_the_call.__code__.co_firstlineno + 7
    work()
    work()
    assert [site.shown()["call_site"] for site in sites.seen] == [
        f"{__file__}:{n} in test_the_line_is_that_of_the_call" for n in (line, line + 1)
    ]


def test_the_library_between_a_wrapper_and_the_program_is_no_call_site():
    sites = Sites()
    inside = str(Path(callpyback.__file__).parent / "core" / "between.py")
    namespace = {}
    exec(compile("def between(function):\n    return function()\n", inside, "exec"), namespace)
    namespace["between"](CallPyBack([sites])(lambda: None))
    [site] = sites.seen
    assert site.shown()["call_site"].startswith(f"{__file__}:")


def test_what_a_thread_or_an_event_loop_calls_has_no_call_site():
    sites = Sites()
    watch = CallPyBack([sites])
    thread = threading.Thread(target=watch(lambda: None), name="worker")
    thread.start()
    thread.join()

    async def main():
        @watch
        async def work():
            pass

        await asyncio.create_task(work(), name="job")

    asyncio.run(main())
    in_thread, in_task = (site.shown() for site in sites.seen)
    assert (in_thread["call_site"], in_thread["task"]) == (None, None)
    assert in_thread["thread"] in ("worker", f"thread {thread.ident}")
    assert (in_task["call_site"], in_task["task"]) == (None, "job")


def test_runners_are_told_apart_by_thread_and_task():
    sites = []

    def note():
        sites.append(CallSite(FunctionSignature("f")))

    async def task():
        note()

    async def main():
        await asyncio.gather(task(), task())

    note()
    note()
    asyncio.run(main())
    thread = threading.Thread(target=note)
    thread.start()
    thread.join()
    one, same, first, second, other = sites
    assert one.is_same_runner(same)
    assert not any(one.is_same_runner(site) for site in (first, second, other))
    assert not first.is_same_runner(second)


def test_a_call_site_keeps_nothing_of_its_caller_alive():
    class Local:
        pass

    def caller():
        local = Local()
        return CallSite(FunctionSignature("f")), weakref.ref(local)

    site, alive = caller()
    gc.collect()
    assert alive() is None
    assert site.shown()["defined_at"] is None
