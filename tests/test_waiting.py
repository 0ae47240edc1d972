"""What a call waits by: event loops that run or don't, clocks that are real or frozen, in the caller's own task."""

from __future__ import annotations

import asyncio
import threading
import time

import freezegun
import pytest
import trio
import trio.testing

from callpyback import Wait
from callpyback.core.waiting import (
    call_later,
    called_soon,
    is_time_frozen,
    running_loop,
    running_trio,
    slept,
)
from kinds import drive
from watching import run_python

SHORT = 0.01
REAL_CLOCKS = (time.perf_counter,)  # freezegun replaces the names of modules, and does not look into tuples


@pytest.fixture(params=["real", "frozen", "frozen but for asyncio"])
def clock(request):
    """Python's clocks as they are, or as freezegun replaces them; the timers of an event loop ring in all cases."""
    if request.param == "real":
        yield
    else:
        with freezegun.freeze_time("2030-01-01", real_asyncio=request.param != "frozen"):
            yield


@pytest.fixture
def stopwatch():
    """Real seconds since the test began, whatever the clocks show."""
    [now] = REAL_CLOCKS
    began = now()
    return lambda: now() - began


class TestWait:
    def test_a_wait_must_say_how_a_thread_waits(self):
        with pytest.raises(NotImplementedError):
            Wait().block()

    def test_a_wait_must_say_how_a_task_waits(self):
        with pytest.raises(NotImplementedError):
            drive(Wait().wait())

    def test_a_wait_need_hold_nothing(self):
        with pytest.raises(AttributeError):
            Wait().__dict__  # noqa: B018 - there is none


class TestRunning:
    def test_outside_every_loop_none_runs(self):
        assert running_loop() is None
        assert running_trio() is None

    def test_asyncio_is_known_inside_asyncio_alone(self):
        async def look():
            return running_loop() is asyncio.get_running_loop(), running_trio()

        assert asyncio.run(look()) == (True, None)

    def test_trio_is_known_inside_trio_alone(self):
        async def look():
            return running_loop(), running_trio()

        assert trio.run(look) == (None, trio)

    def test_the_loop_of_another_thread_is_not_mine(self):
        found = []

        async def look():
            await asyncio.to_thread(lambda: found.append((running_loop(), running_trio())))

        asyncio.run(look())
        assert found == [(None, None)]

    def test_looking_imports_no_loop(self):
        script = """
            import sys
            from callpyback.core.waiting import running_loop, running_trio
            print(running_loop(), running_trio(), "asyncio" in sys.modules, "trio" in sys.modules)
        """
        assert run_python(script) == "None None False False"


class TestFrozen:
    def test_pythons_own_clock_is_not_frozen(self):
        assert not is_time_frozen()

    def test_freezegun_is_noticed_while_it_lasts(self):
        with freezegun.freeze_time("2030-01-01"):
            assert is_time_frozen()
        assert not is_time_frozen()

    def test_a_replaced_clock_is_noticed(self, monkeypatch):
        monkeypatch.setattr(time, "monotonic", lambda: 5.0)
        assert is_time_frozen()


class TestSlept:
    @pytest.mark.usefixtures("clock")
    def test_a_task_of_asyncio_sleeps_and_others_run(self, stopwatch):
        order = []

        async def other():
            order.append("other")

        async def main():
            task = asyncio.create_task(other())
            await slept(SHORT)
            order.append("woken")
            await task

        asyncio.run(main())
        assert order == ["other", "woken"]
        assert stopwatch() >= SHORT

    @pytest.mark.usefixtures("clock")
    def test_no_time_is_a_turn_for_others(self):
        order = []

        async def other():
            order.append("other")

        async def main():
            task = asyncio.create_task(other())
            await slept(0)
            order.append("woken")
            await task

        asyncio.run(main())
        assert order == ["other", "woken"]

    def test_a_task_of_trio_sleeps_by_its_clock(self):
        async def main():
            began = trio.current_time()
            await slept(3600)
            return trio.current_time() - began

        assert trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0)) == pytest.approx(3600)

    def test_a_coroutine_driven_by_hand_blocks_its_thread(self, stopwatch):
        drive(slept(SHORT))
        assert stopwatch() >= SHORT

    @pytest.mark.usefixtures("clock")
    def test_a_sleeping_task_can_be_cancelled(self):
        async def main():
            task = asyncio.create_task(slept(3600))
            await asyncio.sleep(0)
            task.cancel("why")
            with pytest.raises(asyncio.CancelledError, match="why"):
                await task

        before = threading.active_count()
        asyncio.run(main())
        for thread in threading.enumerate()[before:]:
            thread.join(30)
        assert threading.active_count() == before

    def test_a_cancelled_sleep_in_trio_ends(self):
        async def main():
            with trio.move_on_after(SHORT) as scope:
                await slept(3600)
            return scope.cancelled_caught

        assert trio.run(main)


class TestCallLater:
    @pytest.mark.usefixtures("clock")
    def test_the_callback_comes_in_the_thread_of_the_loop(self, stopwatch):
        async def main():
            loop = asyncio.get_running_loop()
            woken = loop.create_future()
            call_later(loop, SHORT, lambda: woken.set_result(threading.get_ident()))
            return await woken

        assert asyncio.run(main()) == threading.get_ident()
        assert stopwatch() >= SHORT

    @pytest.mark.usefixtures("clock")
    def test_a_callback_called_off_never_comes(self):
        called = []

        async def main():
            loop = asyncio.get_running_loop()
            before = threading.enumerate()
            alarm = call_later(loop, 0, lambda: called.append("called off"))
            for thread in threading.enumerate():  # frozen, a thread rings, and may have done so already
                if thread not in before:
                    thread.join(20)
            alarm.cancel()
            for _ in range(3):
                await asyncio.sleep(0)

        asyncio.run(main())
        assert called == []

    @pytest.mark.usefixtures("clock")
    def test_a_callback_may_be_called_off_after_it_came(self):
        async def main():
            loop = asyncio.get_running_loop()
            woken = loop.create_future()
            alarm = call_later(loop, 0, lambda: woken.set_result("came"))
            came = await woken
            alarm.cancel()
            return came

        assert asyncio.run(main()) == "came"

    def test_a_callback_for_a_loop_that_is_gone_is_dropped(self):
        alarms = []

        async def main():
            with freezegun.freeze_time("2030-01-01"):
                alarms.append(call_later(asyncio.get_running_loop(), SHORT, pytest.fail))

        asyncio.run(main())
        [timer] = alarms
        timer._timer.join(30)  # an exception in the thread would be an error of this test
        assert not timer._timer.is_alive()


class TestCalledSoon:
    def test_another_thread_is_heard(self):
        async def main():
            loop = asyncio.get_running_loop()
            woken = loop.create_future()
            threading.Thread(target=called_soon, args=(loop, lambda: woken.set_result("heard"))).start()
            return await woken

        assert asyncio.run(main()) == "heard"

    def test_a_closed_loop_hears_nothing(self):
        loop = asyncio.new_event_loop()
        loop.close()
        called = []
        called_soon(loop, lambda: called.append("called"))
        assert called == []
