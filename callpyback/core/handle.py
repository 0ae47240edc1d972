"""The handle on one decorated function: its observers, their health, pausing."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from callpyback.core.audience import Audience, Hearing
from callpyback.core.everywhere import HANDLES
from callpyback.core.forks import reset_after_fork
from callpyback.core.functions import FunctionKind, FunctionSignature, Target
from callpyback.core.hooks import Hook
from callpyback.core.known import Known, found, named_apart
from callpyback.core.ordering import refuse_if_required
from callpyback.core.plan import STALE, Plan
from callpyback.core.state_machine import TERMINAL_STATES, ExecutionState, Notice
from callpyback.core.subscription import subscribed
from callpyback.core.telling import is_inside_observer
from callpyback.core.visitors import VISITORS, inside
from callpyback.core.wrappers import fit, make_wrapper
from callpyback.errors import ConfigurationError

if TYPE_CHECKING:
    from callpyback.core.deadlines import Deadline
    from callpyback.core.decorator import CallPyBack
    from callpyback.core.health import ObserverHealth
    from callpyback.core.registration import Registration
    from callpyback.core.visitors import Visitor

_MADE_AT_ONCE = 16
"""Up to so many observers, a change makes the new plan at once."""


class FunctionHandle:
    """What can be asked and changed about one decorated function while the program runs.

    Reached as `function.callpyback`, or typed as `callpyback.handle(function)`. Changes apply to calls that
    begin afterwards; an observer that is removed is told nothing more, in calls under way too.

    Members that `docs/reference/decorator.md` does not list serve the rest of the library and may change.

    Example:
        >>> from callpyback import CallPyBack, handle
        >>> @CallPyBack()
        ... def greet(name):
        ...     return f"hello {name}"
        >>> @greet.on_success
        ... def show(value):
        ...     print("->", value)
        >>> greet("ann")
        -> hello ann
        'hello ann'
        >>> with handle(greet).paused():
        ...     greet("bob")
        'hello bob'
    """

    def __init__(self, decorator: CallPyBack, function: Callable[..., Any]) -> None:
        self._decorator = decorator
        self._target = Target(function, dict(decorator.metadata))
        self._refuse_answers_for_generators()
        self._refuse_awaiting()
        self._deadline = self._made_deadline()
        self._own: list[Registration] = []
        self._audience = Audience(decorator, self._target, self._deadline)
        self._is_paused = False
        self._version = 0
        self._silent: Plan | None = None
        self._plans: weakref.WeakKeyDictionary[Registration, Plan] = weakref.WeakKeyDictionary()
        self._outside: Plan | None = None
        self._lock = threading.RLock()
        self.unobserved = 0
        self.on_call = Hook(self, ExecutionState.PRE_EXECUTION)
        self.on_success = Hook(self, ExecutionState.POST_SUCCESS)
        self.on_failure = Hook(self, ExecutionState.POST_FAILURE)
        self.on_completion = Hook(self, *TERMINAL_STATES)
        self.on_error = Hook(self, ExecutionState.ERROR)
        self.on_retry = Hook(self, Notice.RETRY)
        self.on_progress = Hook(self, Notice.PROGRESS)
        self._cell, self._function = make_wrapper(self._target, self)
        self._target.stand_for(self._function)
        reset_after_fork(self)
        HANDLES.add(self)
        self.listen(*decorator.registrations)

    def _refuse_answers_for_generators(self) -> None:
        if self._target.kind in (FunctionKind.GENERATOR, FunctionKind.ASYNC_GENERATOR) and self._decorator.has_default:
            message = (
                f"default_return on {self._target.signature.qualname}: a {self._target.kind} has no single value to "
                "replace; drop default_return, or catch the error where the items are consumed"
            )
            raise ConfigurationError(message)

    def _refuse_awaiting(self) -> None:
        kind = self._target.kind
        if self._decorator.policy.is_async and kind in (FunctionKind.FUNCTION, FunctionKind.GENERATOR):
            message = (
                f"error_handler on {self._target.signature.qualname}: it is async, and there is nothing to await it "
                f"around a {kind}; make it a plain function, or decorate a coroutine function"
            )
            raise ConfigurationError(message)

    def _made_deadline(self) -> Deadline | None:
        limit = self._decorator.max_execution_time
        if limit is None:
            return None
        from callpyback.core.deadlines import Deadline  # noqa: PLC0415 - most programs have none

        return Deadline(self._target.signature, limit, self._decorator.time_source)

    @property
    def wrapper(self) -> Callable[..., Any]:
        """The decorated function itself."""
        wrapper: Callable[..., Any] = self._target.wrapper
        return wrapper

    def stand_in(self, proxy: Any) -> None:
        """Let a proxy be what stands for the callable."""
        self._target.stand_for(proxy)

    @property
    def signature(self) -> FunctionSignature:
        """Name and shape of the function."""
        return self._target.signature

    @property
    def own_registrations(self) -> tuple[Registration, ...]:
        """Those added here, without the decorator's."""
        return tuple(self._own)

    @property
    def decorator(self) -> CallPyBack:
        """The `CallPyBack` that decorated the function."""
        return self._decorator

    @property
    def observers(self) -> tuple[Any, ...]:
        """The observers of this function, the decorator's included, in the order they are told."""
        return tuple(registration.observer for registration in self.registrations)

    @property
    def registrations(self) -> tuple[Registration, ...]:
        """The registrations behind `observers`, in their order."""
        return tuple(self._audience.registrations)

    @property
    def has_requirements(self) -> bool:
        """Whether an observer of this function may require another."""
        return self._audience.has_requirements

    @property
    def known(self) -> Known:
        """The observers of this function, by themselves and by name."""
        return self._audience.known

    @property
    def health(self) -> dict[str, ObserverHealth]:
        """How each observer is doing, by name, those that were registered globally included."""
        return named_apart((known.name, known.health) for known in self._audience.everybody(inside.get()))

    def explain(self) -> list[Hearing]:
        """Return which observer hears what of this function, in the order they are told; last those that hear nothing.

        Those that were registered globally, or for a scope around this line, are among them.

        Example:
            >>> from callpyback import CallPyBack, MetricsObserver, Subscription, handle, on_success
            >>> @CallPyBack(observers=[MetricsObserver(), Subscription(on_success(print), match="shop.*")])
            ... def work():
            ...     return 1
            >>> for hearing in handle(work).explain():
            ...     print(hearing)
            MetricsObserver hears COMPLETED, ERROR, RETRY
            print hears nothing: its states, `match` or @want leave this function out
        """
        with self._lock:
            return self._audience.hearings(inside.get())

    def add_observer(self, observer: Any, states: Any = None, **asked: Any) -> None:
        """Tell one more observer about this function.

        Args:
            observer: An object with `update(context)` and `priority`, see `callpyback.Observer`; or a `Subscription`.
            states: What it is told, in place of its own `states`.
            asked: `when`, `match`, `name`, `priority`, `requires`, `required_by`, `weak` and `options`, as of
                `Subscription`.

        Raises:
            ConfigurationError: It is no observer, is registered here already, does not fit the function, or requires an
                observer that is not there.
        """
        subscription = subscribed(observer, states=states, **asked)
        with self._lock:
            self.known.refuse_twice(subscription.observer)
            registration = self._decorator.register(subscription)
            self.known.give_name(registration, subscription.name)
            self.listen(registration)
            self._own.append(registration)

    def remove_observer(self, observer: Any) -> None:
        """Stop telling an observer, given itself or its name.

        Raises:
            ConfigurationError: It is not registered on this function, where one of the decorator's is removed from the
                decorator; or another one requires it.
        """
        with self._lock:
            registration = found(observer, self._own, f"on {self._target.signature.qualname}")
            refuse_if_required(registration, self._audience.registrations)
            registration.retire()
            self._own.remove(registration)
            self.forget(registration)

    def enable_observer(self, observer: Any) -> None:
        """Tell an observer again that was paused for failing too often.

        Raises:
            ConfigurationError: It is not registered on this function.
        """
        found(observer, self._audience.everybody(inside.get()), f"on {self._target.signature.qualname}").recover()

    def pause(self) -> None:
        """Run the function unobserved until `resume`. Its error handling stays."""
        self._is_paused = True
        self.renew()

    def resume(self) -> None:
        """Observe calls again."""
        self._is_paused = False
        self.renew()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Run the function unobserved inside a `with`, in every thread."""
        before = self._is_paused
        self.pause()
        try:
            yield
        finally:
            if not before:
                self.resume()

    def listen(self, *registrations: Registration) -> None:
        """Add registrations, the decorator's or our own: all of them, or none."""
        with self._lock:
            self._audience.join(*registrations)
            self.renew()

    def forget_lost(self) -> None:
        """Drop the weakly held observers that are gone."""
        with self._lock:
            self._own = [known for known in self._own if not known.retired]
            self._audience.drop_lost()

    def forget(self, registration: Registration) -> None:
        """Drop a registration, the decorator's or one of our own."""
        with self._lock:
            self._audience.drop(registration)
            self.renew()

    def renew(self) -> None:
        """Have a new plan made: at once for a few observers, by the next call for many that come one by one."""
        self.expire()
        if len(self._audience.listeners) <= _MADE_AT_ONCE:
            self.current_plan()

    def expire(self) -> None:
        """Have a new plan made by the next call."""
        self._version += 1
        self._silent = self._outside = None
        self._plans = weakref.WeakKeyDictionary()
        self._cell.cell_contents = STALE

    def current_plan(self) -> Plan:
        """Return the plan for a call that begins now, making it and its code first if something has changed."""
        while (plan := self._cell.cell_contents) is STALE:
            if VISITORS.open_scopes:
                return self._plan_within(inside.get())
            version = self._version
            made = self._audience.plan(is_silent=self._is_silent)
            fit(made, self._target, self._function)
            self._cell.cell_contents = made
            if self._version != version or VISITORS.open_scopes:
                self._cell.cell_contents = STALE
        return cast("Plan", plan)

    def _plan_within(self, scopes: tuple[Visitor, ...]) -> Plan:
        """Return the plan for calls inside some scopes; it has no code of its own."""
        plans = self._plans
        # The innermost scope tells which are around it; the plan goes with it, even if a thread keeps the scope.
        innermost = next((scope.registration for scope in reversed(scopes) if scope.registration is not None), None)
        plan = self._outside if innermost is None else plans.get(innermost)
        if plan is None:
            version = self._version
            plan = self._audience.plan(scopes, is_silent=self._is_silent)
            if self._version == version:
                if innermost is not None:
                    plans[innermost] = plan
                else:
                    self._outside = plan
        return plan

    def silent_plan(self) -> Plan:
        """Return the plan for a call that an observer makes: nobody is told; error handling and deadline stay."""
        if self._silent is None:
            self._silent = self._audience.plan(is_silent=True)
        return self._silent

    @property
    def _is_silent(self) -> bool:
        return self._is_paused or self._decorator.is_shut_down

    def is_unobserved(self) -> bool:
        """Return whether the call that begins now comes from inside an observer; count it if so."""
        if is_inside_observer():
            self.unobserved += 1
            return True
        return False

    def reset_after_fork(self) -> None:
        """Make the lock anew: another thread may have held it."""
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        dropped = dict.fromkeys(("_lock", "_audience", "_plans", "_outside", "_silent"))
        return {**self.__dict__, **dropped}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()
        self._plans = weakref.WeakKeyDictionary()
        for registration in self._own:
            registration.renumber()
        self._audience = Audience(self._decorator, self._target, self._deadline)
        # Listeners are made anew: what an observer's bind() gave belongs to the observer that was left behind.
        self.listen(*self._decorator.registrations, *self._own)
        self._decorator.adopt(self)
        HANDLES.add(self)
        reset_after_fork(self)

    def __repr__(self) -> str:
        return f"<FunctionHandle of {self._target.signature.qualname}: {len(self._audience.listeners)} observers>"
