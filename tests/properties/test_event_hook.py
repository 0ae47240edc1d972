"""EventHook is a list in order: whatever is connected, disconnected, paused, copied and emitted, and whoever fails."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from callpyback import ConfigurationError, EventHook, MockTimeSource

LIMIT = 3
COOL_DOWN = 30


@pytest.fixture(autouse=True, scope="module")
def quiet():
    logger = logging.getLogger("callpyback")
    logger.disabled = True
    yield
    logger.disabled = False


class Callback:
    """Notes that it is called; fails when it is told to; may connect, disconnect and emit meanwhile."""

    def __init__(self, model, number):
        self.model = model
        self.number = number
        self.fails = False
        self.meanwhile = None

    def method(self, value):
        self.model.called.append((self.number, value))
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        if self.fails:
            raise ValueError(value)


class HookModel(RuleBasedStateMachine):
    """Beside the hook, a plain list of what is connected; and what was called."""

    callbacks = Bundle("callbacks")

    def __init__(self):
        super().__init__()
        self.clock = MockTimeSource()
        self.hook = EventHook("hook", max_observer_failures=LIMIT, time_source=self.clock)
        self.connected = []  # (negative priority, order, callback)
        self.in_a_row = {}
        self.retry_at = {}
        self.called = []
        self.order = 0
        self.paused = []

    @rule(target=callbacks, priority=st.integers(-2, 2), is_named=st.booleans())
    def connect(self, priority, is_named):
        self.order += 1
        callback = Callback(self, self.order)
        name = f"callback {self.order}" if is_named else None
        method = callback.method
        assert self.hook.connect(method, priority=priority, name=name) is method
        self.connected.append((-priority, self.order, callback))
        self.in_a_row[callback] = 0
        return callback

    @rule(callback=callbacks)
    def connect_again(self, callback):
        if callback in self.in_a_row:
            with pytest.raises(ConfigurationError):
                self.hook.connect(callback.method)

    @rule(callback=consumes(callbacks))
    def disconnect(self, callback):
        self.hook.disconnect(callback.method)
        self._forget(callback)
        with pytest.raises(ConfigurationError):
            self.hook.disconnect(callback.method)

    @rule(callback=callbacks, fails=st.booleans())
    def let_fail(self, callback, fails):
        callback.fails = fails

    @rule(value=st.integers())
    def emit(self, value):
        expected = self._expected(value)
        self.called.clear()
        self.hook.emit(value)
        assert self.called == expected

    @rule(value=st.integers(), one=callbacks, other=consumes(callbacks))
    def disconnect_while_emitting(self, value, one, other):
        if one is other or not {one, other} <= set(self._told()):
            self._drop(other)
            return
        one.meanwhile = lambda: self.hook.disconnect(other.method)
        comes_later = self._told().index(other) > self._told().index(one)
        state = (self.in_a_row.get(other), self.retry_at.get(other))
        expected = self._expected(value)
        if comes_later:
            expected.remove((other.number, value))
            self.in_a_row[other], self.retry_at[other] = state
        self.called.clear()
        self.hook.emit(value)
        assert self.called == expected
        self._forget(other)

    @rule(target=callbacks, value=st.integers(), one=callbacks, priority=st.integers(-2, 2))
    def connect_while_emitting(self, value, one, priority):
        if one not in self._told():
            return multiple()
        made = []
        one.meanwhile = lambda: made.append(self.connect_one(priority))
        expected = self._expected(value)
        self.called.clear()
        self.hook.emit(value)
        assert self.called == expected
        return made[0]

    @rule(seconds=st.sampled_from([1, 10, COOL_DOWN]))
    def wait(self, seconds):
        self.clock.advance(seconds)

    @rule(callback=callbacks)
    def enable(self, callback):
        self.hook.enable(callback.method)
        self.in_a_row[callback] = 0
        self.retry_at.pop(callback, None)

    @rule()
    def pause(self):
        pausing = self.hook.paused()
        pausing.__enter__()
        self.paused.append(pausing)

    @rule()
    def resume(self):
        if self.paused:
            self.paused.pop(0).__exit__(None, None, None)

    @invariant()
    def it_shows_what_is_connected(self):
        in_order = [callback for _, _, callback in sorted(self.connected, key=lambda known: known[:2])]
        assert list(self.hook.connected) == [callback.method for callback in in_order]
        assert len(self.hook) == len(self.hook.health) == len(in_order)
        assert all(callback.method in self.hook for callback in in_order)
        paused = [health.paused for health in self.hook.health.values()]
        assert paused == [callback in self.retry_at for callback in in_order]

    def connect_one(self, priority):
        self.order += 1
        callback = Callback(self, self.order)
        self.hook.connect(callback.method, priority=priority)
        self.connected.append((-priority, self.order, callback))
        self.in_a_row[callback] = 0
        return callback

    def _drop(self, callback):
        self.hook.disconnect(callback.method)
        self._forget(callback)

    def _forget(self, callback):
        self.connected = [known for known in self.connected if known[2] is not callback]
        del self.in_a_row[callback]
        self.retry_at.pop(callback, None)

    def _told(self):
        """Return who would be called now, in order."""
        if self.paused:
            return []
        in_order = [callback for _, _, callback in sorted(self.connected, key=lambda known: known[:2])]
        return [known for known in in_order if self.clock.now() >= self.retry_at.get(known, 0)]

    def _expected(self, value):
        """Return the calls of one emission, and note what becomes of those who fail."""
        told = self._told()
        for callback in told:
            if callback.fails:
                self.in_a_row[callback] += 1
                if self.in_a_row[callback] >= LIMIT:
                    self.retry_at[callback] = self.clock.now() + COOL_DOWN
            else:
                self.in_a_row[callback] = 0
                self.retry_at.pop(callback, None)
        return [(callback.number, value) for callback in told]


HookModel.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestHookModel = HookModel.TestCase

ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.lists(st.integers(), max_size=2),
    st.sampled_from([print, int, object(), EventHook, EventHook(), ValueError(), MockTimeSource(), MockTimeSource]),
)


@given(st.dictionaries(st.sampled_from(["name", "errors", "max_observer_failures", "time_source"]), ANYTHING))
def test_any_value_for_any_parameter_makes_a_hook_or_is_refused(parameters):  # F19
    try:
        hook = EventHook(**parameters)
    except ConfigurationError:
        return
    hook.emit(1)


@given(ANYTHING, st.dictionaries(st.sampled_from(["priority", "name", "weak"]), ANYTHING))
def test_any_value_for_any_parameter_is_connected_or_is_refused(callback, parameters):  # F19
    hook = EventHook()
    try:
        hook.connect(callback, **parameters)
    except ConfigurationError:
        assert len(hook) == 0
