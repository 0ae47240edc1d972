"""Overlaps: two calls at once on one instance or key are reported with both places, and nothing else is."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import json
import logging
import os
import pickle
import threading
import weakref
from pathlib import Path

import pytest

from callpyback import (
    CallPyBack,
    CallVetoed,
    ConcurrencyLimitObserver,
    ConfigurationError,
    MockTimeSource,
    Retry,
)
from callpyback.observers.overlap import OverlapObserver
from kinds import ended

LIMIT = 20


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.CRITICAL, "callpyback")


class Meeting:
    """Bodies that wait for each other, so that calls overlap for certain."""

    def __init__(self):
        self.inside = threading.Event()
        self.leave = threading.Event()

    def body(self, *_):
        self.inside.set()
        assert self.leave.wait(LIMIT)


@contextlib.contextmanager
def running(function, *args, **kwargs):
    """Call in a thread of its own; the block runs while the body does."""
    meeting, problems = Meeting(), []

    def call():
        try:
            function(meeting, *args, **kwargs)
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=call, name="the other")
    thread.start()
    assert meeting.inside.wait(LIMIT)
    try:
        yield
    finally:
        meeting.leave.set()
        thread.join(LIMIT)
    assert problems == []


def boxed(observer, **options):
    watch = CallPyBack(observers=[observer], **options)

    class Box:
        @watch
        def put(self, meeting=None):
            if meeting is not None:
                meeting.body()
            return "put"

        @watch
        def take(self, meeting=None):
            if meeting is not None:
                meeting.body()
            return "taken"

    return Box


def test_two_calls_on_one_instance_at_once_are_reported_with_both_places():
    observer = OverlapObserver(time_source=MockTimeSource(100.0))
    box = boxed(observer)()
    with running(box.put):
        assert box.take() == "taken"
    [report] = observer.reports
    line = next(n for n, text in enumerate(Path(__file__).read_text().splitlines(), 1) if "box.take() ==" in text)
    first, second = report.pop("first"), report.pop("second")
    prefix = f"{__name__}.boxed.<locals>.Box"
    assert (first["function"], second["function"]) == (f"{prefix}.put", f"{prefix}.take")
    here = "test_two_calls_on_one_instance_at_once_are_reported_with_both_places"
    assert second["call_site"] == f"{__file__}:{line} in {here}"
    assert first["call_site"].endswith("in running.<locals>.call")
    assert (first["thread"], second["thread"]) == ("the other", threading.current_thread().name)
    assert (first["task"], second["task"]) == (None, None)
    assert second["defined_at"].startswith(f"{__file__}:")
    assert second["defined_at"].endswith("in boxed.<locals>.Box.take")
    message = report.pop("message")
    assert first["call_site"] in message
    assert second["call_site"] in message
    assert report == {
        "timestamp": 100.0,
        "type": "OVERLAP",
        "severity": "HIGH",
        "key": f"<Box at {id(box):#x}>",
        "repeats": 0,
        "last_timestamp": 100.0,
        "refused": False,
    }
    assert json.dumps(observer.reports)


def test_other_instances_do_not_overlap_nor_do_calls_one_after_the_other():
    observer = OverlapObserver()
    box_class = boxed(observer)
    box, other = box_class(), box_class()
    with running(box.put):
        other.put()
    box.put()
    box.put()
    assert (observer.reports, observer.overlaps, observer.running) == ([], 0, 0)


def test_a_function_excludes_itself_and_no_other():
    observer = OverlapObserver()
    watch = CallPyBack(observers=[observer])
    one, two = watch(lambda meeting=None: meeting and meeting.body()), watch(lambda: None)
    with running(one):
        two()
        assert observer.overlaps == 0
        one()
        assert observer.overlaps == 1


def test_a_key_divides_and_joins_what_is_observed():
    observer = OverlapObserver(key=lambda arguments: arguments["account"])
    watch = CallPyBack(observers=[observer])

    @watch
    def deposit(meeting, account):
        meeting.body()

    @watch
    def withdraw(account):
        pass

    with running(deposit, "ann"):
        withdraw("bob")
        assert observer.overlaps == 0
        withdraw("ann")
    assert [report["key"] for report in observer.reports] == ["'ann'"]


def test_per_function_only_calls_of_one_function_exclude_each_other():
    observer = OverlapObserver(per_function=True)
    box = boxed(observer)()
    with running(box.put):
        box.take()
        assert observer.overlaps == 0
        box.put()
    assert observer.overlaps == 1


def test_a_key_may_ask_for_the_instance():
    observer = OverlapObserver(key=lambda arguments, instance: instance)
    box_class = boxed(observer)
    box, other = box_class(), box_class()
    with running(box.put):
        other.put()
        assert observer.overlaps == 0
        box.put()
    assert observer.overlaps == 1


def test_recursion_is_no_overlap_unless_it_is_asked_for():
    for recursion, expected in ((False, 0), (True, 3)):
        observer = OverlapObserver(recursion=recursion)

        @CallPyBack(observers=[observer])
        def factorial(n):
            return n * factorial(n - 1) if n > 1 else 1

        assert factorial(3) == 6
        assert observer.overlaps == expected


def test_an_overlap_is_reported_once_and_then_counted():
    told = []
    observer = OverlapObserver(on_overlap=told.append)
    box = boxed(observer)()
    with running(box.put):
        for _ in range(5):
            box.take()
    assert ([report["repeats"] for report in observer.reports], len(told), observer.overlaps) == ([4], 1, 5)
    assert observer.get_metrics() == {"overlaps": 5, "reports": 1, "running": 0, "failed_callbacks": 0}


def test_reports_are_bounded():
    observer = OverlapObserver(max_reports=3)
    watch = CallPyBack(observers=[observer])
    for _ in range(10):
        box = boxed(observer)()
        namespace = {"watch": watch}
        exec("@watch\ndef f(meeting=None):\n    meeting and meeting.body()", namespace)
        namespace["f"].__wrapped__.__module__ = str(id(box))
        with running(namespace["f"]):
            namespace["f"]()
    assert observer.overlaps == 10
    assert len(observer.reports) <= 3
    assert len(observer._known) <= 3


def test_with_veto_the_second_call_is_refused():
    observer = OverlapObserver(veto=True)
    box = boxed(observer)()
    with running(box.put):
        refused = ended(box.take).exception
        assert isinstance(refused, CallVetoed)
        assert "Box.take is refused: <Box at" in str(refused)
    assert box.take() == "taken"
    assert [report["refused"] for report in observer.reports] == [True]
    assert observer.running == 0


def test_with_veto_recursion_is_allowed():
    observer = OverlapObserver(veto=True)

    @CallPyBack(observers=[observer])
    def factorial(n):
        return n * factorial(n - 1) if n > 1 else 1

    assert factorial(5) == 120


def test_threads_that_a_limit_lets_in_one_by_one_do_not_overlap():
    observer = OverlapObserver()

    @CallPyBack(observers=[observer, ConcurrencyLimitObserver(1, wait=LIMIT)])
    def work():
        return sum(range(50))

    def hammer():
        for _ in range(300):
            work()

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert (observer.overlaps, observer.running) == (0, 0)


def test_threads_that_hammer_are_all_told_apart_and_leave_nothing_behind():
    observer = OverlapObserver(veto=True)
    inside, seen = [0], []

    @CallPyBack(observers=[observer])
    def work():
        inside[0] += 1
        seen.append(inside[0])
        inside[0] -= 1

    def hammer():
        for _ in range(500):
            ended(work)

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert set(seen) == {1}
    assert observer.running == 0
    assert observer._running == {}


def test_tasks_of_one_thread_overlap_and_their_names_are_told():
    observer = OverlapObserver()

    class Box:
        @CallPyBack(observers=[observer])
        async def put(self):
            await asyncio.sleep(0)

    async def main():
        box = Box()
        await asyncio.gather(*(asyncio.create_task(box.put(), name=name) for name in ("ann", "bob")))
        await box.put()
        await box.put()

    asyncio.run(main())
    [report] = observer.reports
    assert (report["first"]["task"], report["second"]["task"]) == ("ann", "bob")
    assert (report["first"]["call_site"], observer.overlaps, observer.running) == (None, 1, 0)


def test_a_coroutine_that_is_awaited_by_another_has_a_call_site():
    observer = OverlapObserver(recursion=True)

    @CallPyBack(observers=[observer])
    async def inner(n):
        if n:
            await outer(n - 1)

    async def outer(n):
        await inner(n)

    asyncio.run(outer(1))
    assert observer.reports[0]["second"]["call_site"].endswith(".<locals>.outer")


@pytest.mark.parametrize("end", [None, ValueError, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
def test_a_call_has_left_however_it_ended(kind, end):
    observer = OverlapObserver()

    def body():
        if end is not None:
            raise end

    kind.ended(kind.make(body, CallPyBack([observer])))
    assert (observer.running, observer._running) == (0, {})


def test_a_generator_that_is_dropped_half_way_has_left():
    observer = OverlapObserver()

    @CallPyBack(observers=[observer])
    def numbers():
        yield 1
        yield 2

    items = numbers()
    assert observer.running == 0
    next(items)
    assert observer.running == 1
    del items
    gc.collect()
    assert observer.running == 0


def test_generators_of_two_threads_overlap_while_they_are_open():
    observer = OverlapObserver()

    @CallPyBack(observers=[observer])
    def numbers():
        yield 1
        yield 2

    mine = numbers()
    next(mine)
    thread = threading.Thread(target=lambda: list(numbers()))
    thread.start()
    thread.join(LIMIT)
    assert observer.overlaps == 1
    mine.close()


def test_a_call_that_a_later_guard_refused_never_ran():
    observer = OverlapObserver()
    limit = ConcurrencyLimitObserver(1)

    @CallPyBack(observers=[observer, limit])
    def work(meeting=None):
        if meeting is not None:
            meeting.body()

    with running(work):
        assert isinstance(ended(work).exception, CallVetoed)
    assert (observer.overlaps, observer.running) == (0, 0)


def test_a_retried_body_runs_again_in_the_eyes_of_the_others():
    observer, attempts = OverlapObserver(), []

    @CallPyBack(observers=[observer], retry=Retry(attempts=3, on=ValueError, wait=0.0))
    def work(meeting=None):
        attempts.append(observer.running)
        if meeting is not None:
            if len(attempts) < 3:
                raise ValueError
            meeting.body()

    with running(work):
        work()
    assert (attempts, observer.overlaps, observer.running) == ([1, 1, 1, 2], 1, 0)


def test_an_observer_that_is_removed_during_a_call_forgets_it():
    observer = OverlapObserver()

    watch = CallPyBack(observers=[observer])

    @watch
    def work(meeting=None):
        if meeting is not None:
            meeting.body()

    with running(work):
        watch.remove_observer(observer)
        assert observer.running == 1
    assert observer.running == 0


def test_instances_are_not_kept_alive():
    observer = OverlapObserver()
    box = boxed(observer)()
    alive = weakref.ref(box)
    with running(box.put):
        box.take()
    del box
    gc.collect()
    assert (alive(), len(observer.reports)) == (None, 1)


def test_a_bad_key_pauses_nothing_and_refuses_nothing():
    observer = OverlapObserver(key=lambda arguments: arguments["account"])

    @CallPyBack(observers=[observer])
    def work(account):
        return account

    for _ in range(10):
        assert work([]) == []
    assert (work("ann"), observer.running) == ("ann", 0)


def test_what_the_callback_raises_hurts_no_call():
    def fail(_):
        raise RuntimeError

    observer = OverlapObserver(on_overlap=fail)
    box = boxed(observer)()
    with running(box.put):
        assert box.take() == "taken"
    assert observer.get_metrics()["failed_callbacks"] == 1


def test_overlaps_are_logged(caplog):
    caplog.set_level(logging.WARNING, "callpyback")
    box = boxed(OverlapObserver())()
    with running(box.put):
        box.take()
    [line] = caplog.messages
    assert line.startswith("OVERLAP: ")
    assert "\n" not in line


def test_reset_forgets_reports_but_not_what_runs():
    observer = OverlapObserver()
    box = boxed(observer)()
    with running(box.put):
        box.take()
        observer.reset()
        assert (observer.reports, observer.overlaps, observer.running) == ([], 0, 1)
        box.take()
    assert observer.overlaps == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_in_a_forked_child_the_calls_of_other_threads_do_not_go_on():
    observer = OverlapObserver()
    box = boxed(observer)()
    with running(box.put):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                box.take()
                status = observer.overlaps + observer.running
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("again", [lambda o: pickle.loads(pickle.dumps(o)), copy.deepcopy, copy.copy])
def test_a_copy_has_the_reports_and_goes_its_own_way(again):
    observer = OverlapObserver()
    box, twins = boxed(observer)(), []
    with running(box.put):
        for _ in range(2):
            box.take()
            twins.append(again(observer))
    twin = twins[0]
    assert (twin.running, twin.overlaps, len(twin.reports)) == (0, 1, 1)
    assert (observer.reports[0]["repeats"], twin.reports[0]["repeats"]) == (1, 0)


BAD = {
    "key": ["user", 3, lambda: 1],
    "on_overlap": [3],
    "veto": [1],
    "per_function": ["yes"],
    "recursion": [None],
    "max_reports": [0, True],
    "time_source": [3],
}


@pytest.mark.parametrize(
    ("parameter", "value"), [(p, v) for p, values in BAD.items() for v in values], ids=lambda v: ""
)
def test_other_values_are_refused(parameter, value):
    with pytest.raises(ConfigurationError, match=f"{parameter}="):
        OverlapObserver(**{parameter: value})
