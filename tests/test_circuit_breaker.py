"""The circuit breaker around functions: keys, what it tells, what is done by hand, processes, configuration.

What one circuit does is in test_circuit. Of the case list: C20 (forks), M03 and M06 (what is kept), M04 (many keys).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import os
import pickle
import threading
import weakref

import pytest

from callpyback import CallPyBack, ConfigurationError, MockTimeSource, handle
from callpyback.errors import CircuitOpen
from callpyback.guards.circuit_board import CircuitChange, CircuitState
from callpyback.guards.circuit_breaker import CircuitBreakerObserver
from callpyback.guards.circuits import OVERFLOW
from kinds import Kind, Witness, ended
from tripping import GENERATOR, PLAIN, Probed, answer, ask, begun, down, fail, in_threads, is_refused, name_of
from watching import run_python

CLOSED, OPEN, HALF_OPEN = CircuitState


@pytest.fixture
def clock() -> MockTimeSource:
    return MockTimeSource(1000.0)


@pytest.fixture
def breaker() -> CircuitBreakerObserver:
    return CircuitBreakerObserver(failure_threshold=3, recovery_time=10, on=ConnectionError)


def keyed(**options) -> CircuitBreakerObserver:
    return CircuitBreakerObserver(2, 10, key=lambda arguments: arguments["user"], **options)


def test_each_key_has_its_own_circuit(kind, clock):
    breaker = keyed()
    function = kind.make(ask, CallPyBack([breaker], time_source=clock), parameters="given, user")
    fail(kind, function, 2, "ann")
    assert is_refused(kind, function, "value", "ann")
    assert kind.call(function, "value", "ben") == "value"
    assert breaker.state(function, key="ann") is OPEN
    assert breaker.state(function, key="ben") is breaker.state(function, key="never called") is CLOSED
    clock.advance(10)
    assert kind.call(function, "value", "ann") == "value"
    assert breaker.state(function, key="ann") is CLOSED


def test_the_key_may_be_read_from_the_instance_of_a_method_and_does_not_keep_it_alive(clock):
    breaker = CircuitBreakerObserver(1, key=lambda arguments, instance: instance.host)

    class Client:
        def __init__(self, host):
            self.host = host

        @CallPyBack([breaker], time_source=clock)
        def get(self, given):
            return answer(given)

    one, other = Client("one"), Client("other")
    fail(PLAIN, one.get, 1)
    assert is_refused(PLAIN, one.get, "page")
    assert other.get("page") == "page"
    assert breaker.state(Client.get, key="one") is breaker.state(one.get, key="one") is OPEN
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None


def test_a_key_that_fails_is_a_failure_of_the_breaker_and_the_call_goes_on(kind, clock):
    for key in (lambda arguments: arguments["nobody"], lambda arguments: []):
        breaker = CircuitBreakerObserver(1, key=key)
        function = kind.make(ask, CallPyBack([breaker], time_source=clock), parameters="given, user")
        fail(kind, function, 3, "ann")
        [health] = handle(function).health.values()
        assert health.failures == 3


def test_with_critical_a_key_that_fails_refuses_the_call(kind, clock):
    breaker = CircuitBreakerObserver(key=lambda arguments: arguments["nobody"], critical=True)
    function = kind.make(ask, CallPyBack([breaker], time_source=clock), parameters="given, user")
    assert type(kind.ended(function, "value", "ann").exception) is KeyError


def test_thousands_of_keys_are_kept_apart_and_none_that_is_open_is_forgotten(clock):
    breaker = keyed(max_keys=5000)
    function = CallPyBack([breaker], time_source=clock)(ask)
    broken = range(0, 20_000, 7)
    for user in range(20_000):
        if user % 7 == 0:
            fail(PLAIN, function, 2, user)
        else:
            function("value", user)
    assert [user for user in range(20_000) if breaker.state(key=user) is OPEN] == list(broken)
    metrics = breaker.get_metrics()["functions"][name_of(ask)]
    assert metrics["opened"] == metrics["not_closed"] == len(broken)
    assert len(metrics["circuits"]) == 100
    assert metrics["circuits"][1] == {
        "key": "7",
        "state": "open",
        "failures_in_a_row": 2,
        "seconds_until_probe": 10.0,
    }


def test_the_circuits_of_healthy_keys_are_forgotten(clock):
    breaker = keyed()
    function = CallPyBack([breaker], time_source=clock)(ask)
    for user in range(20_000):
        function("value", user)
    assert breaker.get_metrics()["functions"][name_of(ask)]["keys"] < 100


def test_beyond_the_greatest_number_of_keys_the_others_share_a_circuit(clock, caplog):
    changes = []
    breaker = keyed(max_keys=10, on_state_change=changes.append)
    function = CallPyBack([breaker], time_source=clock)(ask)
    for user in range(10):
        fail(PLAIN, function, 2, user)
    fail(PLAIN, function, 1, "ann")
    assert function("value", "ben") == "value"  # ends the run that ann's failure began
    fail(PLAIN, function, 1, "ann")
    fail(PLAIN, function, 1, "ben")
    assert is_refused(PLAIN, function, "value", "someone else")
    assert [change.key for change in changes] == [*range(10), OVERFLOW]
    assert "max_keys" in caplog.text


def test_where_keys_are_many_open_circuits_make_room_once_their_recovery_time_has_passed(clock):
    breaker = keyed(max_keys=10)
    function = CallPyBack([breaker], time_source=clock)(ask)
    for user in range(10):
        fail(PLAIN, function, 2, user)
    clock.advance(10)
    for user in range(10, 20):
        fail(PLAIN, function, 2, user)
    assert [user for user in range(20) if breaker.state(key=user) is OPEN] == list(range(10, 20))


def pass_by(function) -> None:
    """Call with so many other keys that circuits which can be forgotten are."""
    for user in range(100):
        GENERATOR.call(function, "value", user)


def test_a_failure_counts_for_a_circuit_that_was_forgotten_while_the_call_was_under_way(clock):
    breaker = CircuitBreakerObserver(1, 10, key=lambda arguments: arguments["user"])
    function = GENERATOR.make(ask, CallPyBack([breaker], time_source=clock), parameters="given, user")
    under_way = [begun(function, error := down(), "ann")]
    pass_by(function)
    assert ended(lambda: list(under_way.pop())).exception is error
    gc.collect()
    pass_by(function)
    assert breaker.state(key="ann") is OPEN


def test_while_there_is_room_a_circuit_whose_recovery_time_has_passed_is_not_forgotten(clock):
    breaker = CircuitBreakerObserver(1, 10, key=lambda arguments: arguments["user"])
    function = GENERATOR.make(ask, CallPyBack([breaker], time_source=clock), parameters="given, user")
    fail(GENERATOR, function, 1, "ann")
    clock.advance(86_400)
    pass_by(function)
    gc.collect()
    assert breaker.state(key="ann") is HALF_OPEN


def test_a_call_admitted_before_a_circuit_opened_does_not_count_after_it_was_forgotten(clock):
    breaker = CircuitBreakerObserver(1, 10, key=lambda arguments: arguments["user"])
    function = GENERATOR.make(ask, CallPyBack([breaker], time_source=clock), parameters="given, user")
    late = begun(function, down(), "ann")
    fail(GENERATOR, function, 1, "ann")
    clock.advance(10)
    assert GENERATOR.call(function, "value", "ann") == "value"
    pass_by(function)
    ended(lambda: list(late))
    assert breaker.state(key="ann") is CLOSED


def test_a_circuit_that_is_tripped_while_others_are_made_is_not_forgotten():
    class Clock:
        is_busy = False

        def now(self):
            if self.is_busy:
                self.is_busy = False
                pass_by(function)
            return 0.0

    clock, breaker = Clock(), keyed()
    function = GENERATOR.make(ask, CallPyBack([breaker], time_source=clock), parameters="given, user")
    clock.is_busy = True
    breaker.trip(key="ann")
    assert not clock.is_busy
    gc.collect()
    assert breaker.state(key="ann") is OPEN


def test_every_key_admits_exactly_one_of_sixteen_threads(clock):
    breaker, bodies = keyed(), {user: Probed() for user in range(20)}
    function = CallPyBack([breaker], time_source=clock)(lambda given, user: bodies[user](given))

    def work(_):
        ends = []
        for user, body in bodies.items():
            end = PLAIN.ended(function, "answer", user)
            if isinstance(end.exception, CircuitOpen):
                body.refused.release()
            else:
                ends.append(user)
        return ends

    for user in bodies:
        fail(PLAIN, function, 2, user)
    clock.advance(10)
    admitted = [user for users in in_threads(work) for user in users]
    assert sorted(admitted) == list(bodies)


def lines_of(caplog) -> list[tuple[int, str]]:
    return [(record.levelno, record.getMessage()) for record in caplog.records if record.name == "callpyback"]


def test_each_change_is_one_line_of_the_log(breaker, clock, caplog):
    caplog.set_level(logging.INFO, "callpyback")
    function = CallPyBack([breaker], time_source=clock)(answer)
    fail(PLAIN, function)
    is_refused(PLAIN, function)
    clock.advance(10)
    fail(PLAIN, function, 1)
    clock.advance(10)
    function()
    start = f"circuit of {name_of(answer)}: "
    assert lines_of(caplog) == [
        (logging.WARNING, start + "closed -> open, failures in a row: 3, the last: ConnectionError"),
        (logging.INFO, start + "open -> half-open, a probe is admitted"),
        (logging.WARNING, start + "half-open -> open, the probe failed with ConnectionError"),
        (logging.INFO, start + "open -> half-open, a probe is admitted"),
        (logging.INFO, start + "half-open -> closed, the probe was answered"),
    ]


def test_the_log_shows_keys_in_one_bounded_line_and_nothing_of_the_exception(clock, caplog):
    breaker = CircuitBreakerObserver(1, key=lambda arguments: arguments["user"])
    function = CallPyBack([breaker], time_source=clock)(ask)
    key = "ann\nadmin" + "x" * 10_000
    ended(lambda: function(ConnectionError("password=1234"), key))
    [(_, line)] = lines_of(caplog)
    assert line.startswith(f"circuit of {name_of(ask)} for key 'ann\\nadminxxx")
    assert "\n" not in line
    assert len(line) < 500
    assert "1234" not in line


def test_a_callback_is_told_each_change_in_order(clock):
    changes = []
    breaker = keyed(on_state_change=changes.append)
    function = CallPyBack([breaker], time_source=clock)(ask)
    fail(PLAIN, function, 2, "ann")
    clock.advance(10)
    function("value", "ann")
    breaker.trip(key="ann")
    breaker.reset(key="ann")
    name = name_of(ask)
    assert changes == [
        CircuitChange(name, "ann", CLOSED, OPEN, "failures in a row: 2, the last: ConnectionError"),
        CircuitChange(name, "ann", OPEN, HALF_OPEN, "a probe is admitted"),
        CircuitChange(name, "ann", HALF_OPEN, CLOSED, "the probe was answered"),
        CircuitChange(name, "ann", CLOSED, OPEN, "tripped by hand"),
        CircuitChange(name, "ann", OPEN, CLOSED, "reset by hand"),
    ]


@pytest.mark.parametrize("error", [RuntimeError("of the callback"), SystemExit(3), asyncio.CancelledError()], ids=repr)
def test_a_callback_that_fails_is_logged_and_changes_nothing(kind, clock, caplog, error):
    breaker = CircuitBreakerObserver(1, 10, on_state_change=lambda change: answer(error))
    function = kind.make(answer, CallPyBack([breaker], time_source=clock))
    fail(kind, function, 1)
    assert is_refused(kind, function)
    clock.advance(10)
    assert kind.call(function) == "answer"
    assert sum("on_state_change" in line for _, line in lines_of(caplog)) == 3


def test_ctrl_c_in_a_callback_goes_to_the_program_and_the_place_of_the_probe_is_free(kind, clock):
    interrupts = iter([None, KeyboardInterrupt(), None, None])
    breaker = CircuitBreakerObserver(1, 10, on_state_change=lambda change: answer(next(interrupts)))
    function = kind.make(answer, CallPyBack([breaker], time_source=clock))
    fail(kind, function, 1)
    clock.advance(10)
    assert type(kind.ended(function).exception) is KeyboardInterrupt
    assert kind.call(function) == "answer"


def test_a_callback_may_use_the_breaker_and_is_told_what_that_changes(clock):
    told = []

    def on_state_change(change):
        told.append(change.after)
        if change.after is OPEN:
            breaker.reset()
            assert told[-1] is OPEN  # told when this one returns

    breaker = CircuitBreakerObserver(1, on_state_change=on_state_change)
    function = CallPyBack([breaker], time_source=clock)(answer)
    fail(PLAIN, function, 2)
    assert told == [OPEN, CLOSED, OPEN, CLOSED]
    assert function() == "answer"


def test_metrics_show_the_circuit_and_what_became_of_calls(breaker, clock):
    function = CallPyBack([breaker], time_source=clock)(answer)

    def metrics():
        [known] = breaker.get_metrics()["functions"].values()
        return tuple(known.values())

    [known] = breaker.get_metrics()["functions"].values()
    assert list(known) == ["state", "failures_in_a_row", "seconds_until_probe", "opened", "refused", "probes"]
    assert metrics() == ("closed", 0, None, 0, 0, 0)
    fail(PLAIN, function, 2)
    assert metrics() == ("closed", 2, None, 0, 0, 0)
    fail(PLAIN, function, 1)
    clock.advance(4)
    ended(function)
    assert metrics() == ("open", 3, 6.0, 1, 1, 0)
    clock.advance(6)
    assert metrics() == ("half-open", 3, 0.0, 1, 1, 0)
    fail(PLAIN, function, 1)
    assert metrics() == ("open", 4, 10.0, 2, 1, 1)
    clock.advance(10)
    function()
    assert metrics() == ("closed", 0, None, 2, 1, 2)


def test_a_tripped_circuit_is_open_for_the_recovery_time(kind, breaker, clock):
    function = kind.make(answer, CallPyBack([breaker], time_source=clock))
    breaker.trip(function)
    assert kind.ended(function).exception.retry_after == 10.0
    clock.advance(6)
    breaker.trip(function)
    assert kind.ended(function).exception.retry_after == 10.0
    clock.advance(10)
    assert kind.call(function) == "answer"
    assert breaker.state(function) is CLOSED


def test_a_reset_circuit_is_closed_and_has_no_failures(kind, breaker, clock):
    function = kind.make(answer, CallPyBack([breaker], time_source=clock))
    fail(kind, function)
    breaker.reset(function)
    assert kind.call(function) == "answer"
    fail(kind, function, 2)
    breaker.reset()
    fail(kind, function, 2)
    assert breaker.state(function) is CLOSED


@pytest.mark.parametrize("by_hand", ["trip", "reset"])
def test_a_probe_under_way_decides_nothing_after_a_hand_has(breaker, clock, by_hand):
    function = GENERATOR.make(answer, CallPyBack([breaker], time_source=clock))
    fail(GENERATOR, function)
    clock.advance(10)
    probe = begun(function, "answer" if by_hand == "trip" else down())
    getattr(breaker, by_hand)(function)
    state = breaker.state(function)
    ended(lambda: list(probe))
    assert breaker.state(function) is state is (OPEN if by_hand == "trip" else CLOSED)


def test_by_hand_one_function_is_chosen_or_all(clock):
    breaker = CircuitBreakerObserver()
    decorator = CallPyBack([breaker], time_source=clock)
    functions = [PLAIN.make(answer, decorator), decorator(answer), Kind("method").make(answer, decorator)]
    breaker.trip(functions[0])
    breaker.trip(name_of(functions[2]))
    assert [breaker.state(function) for function in functions] == [OPEN, CLOSED, OPEN]
    breaker.trip()
    breaker.reset(functions[2])
    assert [breaker.state(function) for function in functions] == [OPEN, OPEN, CLOSED]
    breaker.reset()
    assert {breaker.state(function) for function in functions} == {CLOSED}


def test_functions_of_one_name_are_told_apart(breaker, clock):
    one, other = (CallPyBack([breaker], time_source=clock)(answer) for _ in range(2))
    breaker.trip(other)
    assert (breaker.state(one), breaker.state(other)) == (CLOSED, OPEN)
    name = name_of(answer)
    states = {function: known["state"] for function, known in breaker.get_metrics()["functions"].items()}
    assert sorted(states) == [name, f"{name}#2"]
    assert {breaker.state(shown) for shown, state in states.items() if state == "open"} == {OPEN}


def test_by_hand_one_key_is_chosen_and_reset_takes_all(clock):
    breaker = keyed()
    function = CallPyBack([breaker], time_source=clock)(ask)
    breaker.trip(key="ann")
    breaker.trip(function, key="ben")
    breaker.reset(key="ann")
    assert [str(breaker.state(key=key)) for key in ("ann", "ben", "cem")] == ["closed", "open", "closed"]
    breaker.reset()
    assert breaker.state(key="ben") is CLOSED


def test_what_is_not_guarded_is_refused_by_name(breaker):
    with pytest.raises(LookupError, match="0 functions"):
        breaker.state()
    decorator = CallPyBack([breaker])
    one, _other = decorator(answer), decorator(ask)
    with pytest.raises(LookupError, match="2 functions are guarded, say which"):
        breaker.state()
    with pytest.raises(LookupError, match=rf"'tripping\.anser' .* did you mean '{name_of(one)}'"):
        breaker.trip("tripping.anser")
    with pytest.raises(LookupError, match="fail"):
        breaker.reset(fail)
    with pytest.raises(ConfigurationError, match=r"key='ann'.*without key="):
        breaker.trip(one, key="ann")


def test_where_there_are_keys_one_must_be_named():
    breaker = keyed()
    kept = CallPyBack([breaker])(ask)
    for by_hand in (breaker.state, breaker.trip):
        with pytest.raises(ConfigurationError, match="with key="):
            by_hand(kept)


def test_each_function_has_its_own_circuit(breaker, clock):
    decorator = CallPyBack([breaker], time_source=clock)
    one, other = decorator(answer), decorator(lambda: "other")
    fail(PLAIN, one)
    assert (breaker.state(one), breaker.state(other)) == (OPEN, CLOSED)


def test_a_circuit_stays_as_it_is_when_other_observers_come_and_go(breaker, clock):
    function = CallPyBack([breaker], time_source=clock)(answer)
    fail(PLAIN, function)
    watching = Witness()
    handle(function).add_observer(watching)
    assert is_refused(PLAIN, function)
    handle(function).remove_observer(watching)
    assert is_refused(PLAIN, function)


def test_a_guarded_function_is_not_kept_alive(breaker):
    function = CallPyBack([breaker])(lambda: None)
    function()
    gone = weakref.ref(function)
    del function
    gc.collect()
    assert gone() is None
    assert breaker.get_metrics() == {"functions": {}}


def test_an_open_circuit_keeps_nothing_of_the_calls_that_failed(breaker):
    class Local:
        pass

    kept = []

    def body():
        local = Local()
        kept.append(weakref.ref(local))
        raise ConnectionError(local)

    function = CallPyBack([breaker])(body)
    for _ in range(4):
        ended(function)
    gc.collect()
    assert [reference() for reference in kept] == [None] * 3


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")


def in_child(work) -> str:
    """Return `str(work())` as a forked child sees it, without letting it run any of pytest."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, str(work()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text


class Elsewhere:
    """Runs something in another thread, which gets a function to wait by until the test is over or says so."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.threads = []

    def __call__(self, work) -> None:
        begun = threading.Event()
        thread = threading.Thread(target=lambda: work(lambda: (begun.set(), self.done.wait(30))))
        self.threads.append(thread)
        thread.start()
        assert begun.wait(30)


@pytest.fixture
def elsewhere():
    elsewhere = Elsewhere()
    yield elsewhere
    elsewhere.done.set()
    for thread in elsewhere.threads:
        thread.join()


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("with_key", [False, True], ids=["one circuit", "keyed"])
def test_a_forked_child_keeps_the_state_and_frees_the_probe_of_another_thread(clock, elsewhere, with_key):
    breaker = CircuitBreakerObserver(2, 10, key=(lambda arguments: "key") if with_key else None)
    options = {"key": "key"} if with_key else {}
    function = CallPyBack([breaker], time_source=clock)(lambda given: given() if callable(given) else answer(given))
    fail(PLAIN, function, 2)
    assert in_child(lambda: (breaker.state(**options), is_refused(PLAIN, function, "value"))) == str((OPEN, True))
    clock.advance(10)
    elsewhere(function)
    assert is_refused(PLAIN, function, "value")
    assert in_child(lambda: (function("value"), str(breaker.state(**options)))) == "('value', 'closed')"
    assert is_refused(PLAIN, function, "value")


@needs_fork
def test_a_probe_that_forks_goes_on_in_both_processes(breaker, clock):
    seen = []

    def body(given):
        if given == "fork":
            seen.append(in_child(lambda: is_refused(PLAIN, function, "value")))
        return answer(given)

    function = CallPyBack([breaker], time_source=clock)(body)
    fail(PLAIN, function)
    clock.advance(10)
    assert function("fork") == "fork"
    assert seen == ["True"]
    assert breaker.state(function) is CLOSED


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_in_the_middle_of_a_change_hangs_nothing(clock, elsewhere):
    wait_here = []
    breaker = CircuitBreakerObserver(1, 10, on_state_change=lambda change: [wait() for wait in wait_here])
    function = CallPyBack([breaker], time_source=clock)(answer)
    function()

    def hold(wait):
        with breaker._found(None)[0].board.lock:
            wait_here.append(wait)
            breaker.trip()

    elsewhere(hold)
    wait_here.clear()

    def work():
        breaker.reset()
        fail(PLAIN, function, 1)
        clock.advance(10)
        return function()

    assert in_child(work) == "answer"


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_change_that_waits_to_be_told_at_a_fork_is_told_by_the_parent_alone(clock, elsewhere):
    told, wait_here = [], []

    def on_state_change(change):
        told.append(change.reason)
        while wait_here:
            wait_here.pop()()

    breaker = CircuitBreakerObserver(1, 10, on_state_change=on_state_change)
    function = CallPyBack([breaker], time_source=clock)(answer)
    done = threading.Event()

    def trip(wait):
        wait_here.append(wait)
        breaker.trip(function)
        done.set()

    elsewhere(trip)
    breaker.reset(function)  # told by the other thread, when that comes to it
    assert told == ["tripped by hand"]
    assert in_child(lambda: (breaker.trip(function), told)) == "(None, ['tripped by hand', 'tripped by hand'])"
    elsewhere.done.set()
    assert done.wait(30)
    assert told == ["tripped by hand", "reset by hand"]


@needs_fork
def test_a_callback_may_fork(clock):
    seen = []
    breaker = CircuitBreakerObserver(1, 10, on_state_change=lambda change: seen.append(os.fork()))
    function = CallPyBack([breaker], time_source=clock)(answer)
    came = PLAIN.ended(function, error := down())
    if seen == [0]:  # as everything below, without letting the child run any of pytest
        failures = [health.failures for health in handle(function).health.values()]
        os._exit(7 if (came.exception, failures, breaker.state()) == (error, [0], OPEN) else 1)
    assert came.exception is error
    assert os.waitstatus_to_exitcode(os.waitpid(seen[0], 0)[1]) == 7


@needs_fork
def test_children_forked_while_threads_trip_and_reset_never_hang():
    assert run_python("""
        import os, threading, warnings
        from callpyback import CallPyBack
        from callpyback.guards.circuit_breaker import CircuitBreakerObserver

        warnings.simplefilter("ignore")
        breaker = CircuitBreakerObserver(2, recovery_time=0, key=lambda arguments: arguments["user"])

        @CallPyBack([breaker])
        def function(user, fails):
            if fails:
                raise ConnectionError

        def work(number):
            turn = 0
            while not done.is_set():
                turn += 1
                try:
                    function(turn % 50, (turn + number) % 3)
                except Exception:
                    pass

        done = threading.Event()
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        codes = set()
        for turn in range(100):
            child = os.fork()
            if child == 0:
                for user in range(50):
                    breaker.trip(key=user)
                    function(user, False)
                    assert breaker.state(key=user) == "closed"
                os._exit(7)
            codes.add(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        done.set()
        print(codes)
    """).endswith("{7}")


def test_a_pickled_breaker_starts_closed(clock):
    breaker = CircuitBreakerObserver(2, 7, on=LookupError, key=ask_key, priority=3, name="ours")
    function = CallPyBack([breaker], time_source=clock)(ask)
    breaker.trip(key="ann")
    copied = pickle.loads(pickle.dumps(breaker))
    assert (copied.priority, copied.name, copied.get_metrics()) == (3, "ours", {"functions": {}})
    again = CallPyBack([copied], time_source=clock)(ask)
    for _ in range(2):
        ended(lambda: again(KeyError(), "ann"))
    assert ended(lambda: again("value", "ann")).exception.retry_after == 7.0
    assert again("value", "ben") == "value"
    assert function("value", "ben") == "value"


def ask_key(arguments):
    return arguments["user"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"failure_threshold": 0}, "failure_threshold=0"),
        ({"failure_threshold": 2.5}, "failure_threshold=2.5"),
        ({"failure_threshold": True}, "failure_threshold=True"),
        ({"recovery_time": -1}, "recovery_time=-1"),
        ({"recovery_time": math.nan}, "recovery_time=nan"),
        ({"recovery_time": math.inf}, "recovery_time=inf"),
        ({"recovery_time": "30"}, "recovery_time='30'"),
        ({"on": ()}, "at least one"),
        ({"on": "ValueError"}, "on='ValueError'"),
        ({"on": ValueError("instance")}, "on=ValueError"),
        ({"on": KeyboardInterrupt}, "KeyboardInterrupt"),
        ({"on": (ValueError, int)}, "int"),
        ({"key": "user"}, "key='user'"),
        ({"on_state_change": 5}, "on_state_change=5"),
        ({"max_keys": 0}, "max_keys=0"),
        ({"priority": "high"}, "priority='high'"),
        ({"name": 5}, "name=5"),
        ({"critical": 1}, "critical=1"),
    ],
)
def test_a_mistake_is_refused_when_the_breaker_is_made(options, text):
    with pytest.raises(ConfigurationError) as raised:
        CircuitBreakerObserver(**options)
    assert text in str(raised.value)


def test_a_callback_that_would_have_to_be_awaited_is_refused():
    async def on_state_change(change):
        pass

    with pytest.raises(ConfigurationError, match=r"on_state_change=.*a plain function"):
        CircuitBreakerObserver(on_state_change=on_state_change)


def test_a_breaker_is_a_guard_that_is_asked_early():
    breaker = CircuitBreakerObserver()
    assert (breaker.guard, breaker.priority, breaker.name) == (True, 80, "CircuitBreakerObserver")
    assert CircuitBreakerObserver(priority=5, name="ours").priority == 5
