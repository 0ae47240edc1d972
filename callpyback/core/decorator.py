"""`CallPyBack`: check the configuration, wrap callables, hold the observers they share."""

from __future__ import annotations

import bisect
import contextlib
import functools
import threading
import types
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from callpyback.core import configuration
from callpyback.core.forks import reset_after_fork
from callpyback.core.handle import FunctionHandle
from callpyback.core.health import Ward
from callpyback.core.hooks import HOOKS
from callpyback.core.known import Known, found
from callpyback.core.ordering import in_order, refuse_if_required
from callpyback.core.policy import ErrorPolicy
from callpyback.core.registration import Registration
from callpyback.core.safe_repr import safe_repr
from callpyback.core.subscription import Subscription, subscribed
from callpyback.core.time_sources import SYSTEM, Sleeper, SystemTimeSource
from callpyback.errors import NO_VALUE, ConfigurationError

if TYPE_CHECKING:
    from callpyback.core.visitors import Visitor

T = TypeVar("T")


class CallPyBack:
    """Decorates callables so that observers see, and may steer, every call.

    One instance may decorate many functions; its observers watch them all. What is decorated stays what it was:
    same kind, signature, name, pickling. With nobody listening it costs what an empty wrapper costs.

    Members that `docs/reference/decorator.md` does not list serve the rest of the library and may change.

    Args:
        observers: Who is told: observers, or a `Subscription` of one; the highest priority first, equal priorities in
            this order, and what one requires before it.
        variable_names: The local variables to capture at the end of each call, for those who ask for them.
        exception_classes: The errors that are expected. Any other ends the call in ERROR instead of COMPLETED. All
            of them go on to the caller, unless `default_return` or `error_handler` answers for them.
        default_return: What the caller gets in place of an (expected) error. A list, dict or set is copied each
            time; `factory(make)` makes it anew.
        max_execution_time: Seconds the body may run, in each attempt; then the caller gets an `ExecutionTimeout`.
            What that can promise for each kind of callable is told in `docs/explanation/deadlines.md`.
        enable_async_observers: Hand what happens to a background thread, one for each observer, so that the caller
            waits for none. Guards, critical observers and counters that are bound stay in the caller's thread.
        max_observer_failures: An observer that fails in so many calls in a row is paused for 30 s, then tried once.
        time_source: Where timestamps and durations come from; the system's clocks by default.
        variable_extractor: How local variables are captured; `TracingVariableExtractor` by default.
        error_handler: An object with `handle_error(error, context)`, such as a chain of handlers, asked before
            `default_return` is used.
        retry: A `Retry`: whether, and after which wait, a body that failed is run again; asked before the handler.
        metadata: Shown to observers as `context.metadata`.

    Raises:
        ConfigurationError: Something is wrong with an argument; the message says what, and the way out.

    Example:
        >>> from callpyback import CallPyBack, on_success
        >>> seen = []
        >>> @CallPyBack(observers=[on_success(lambda value: seen.append(value))])
        ... def double(n):
        ...     return 2 * n
        >>> double(21), seen
        (42, [42])
    """

    def __init__(
        self,
        observers: Iterable[Any] = (),
        *,
        variable_names: Iterable[str] = (),
        exception_classes: type[Exception] | Iterable[type[Exception]] = (),
        default_return: Any = NO_VALUE,
        max_execution_time: float | None = None,
        enable_async_observers: bool = False,
        max_observer_failures: int = 5,
        time_source: Any = None,
        variable_extractor: Any = None,
        error_handler: Any = None,
        retry: Any = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.max_execution_time = (
            None
            if max_execution_time is None
            else configuration.checked_seconds("max_execution_time", max_execution_time)
        )
        self.delivers_in_background = configuration.checked_switch("enable_async_observers", enable_async_observers)
        self.variable_names = configuration.checked_variable_names(variable_names)
        self.max_observer_failures = configuration.checked_count("max_observer_failures", max_observer_failures)
        self.clocks = configuration.checked_clocks(time_source)
        self.time_source = time_source
        self.sleeper = Sleeper(time_source)
        self.uses_system_time = time_source is None or type(time_source) is SystemTimeSource
        self.variable_extractor = configuration.checked_extractor(variable_extractor)
        self._metadata = configuration.checked_metadata(metadata)
        self.has_default = default_return is not NO_VALUE
        self.policy = ErrorPolicy(
            configuration.checked_exception_classes(exception_classes),
            configuration.checked_error_handler(error_handler),
            default_return,
            configuration.checked_retry(retry),
        )
        self.ward = Ward(self.clocks[1], self.max_observer_failures)
        self.is_shut_down = False
        self._registrations: list[Registration] = []
        self._known = Known()
        self._has_requirements = self._is_set_up = False
        self._visits: weakref.WeakKeyDictionary[Registration, Registration] = weakref.WeakKeyDictionary()
        self._handles: weakref.WeakSet[FunctionHandle] = weakref.WeakSet()
        self._lock = threading.RLock()
        reset_after_fork(self)
        for observer in configuration.checked_observers(observers):
            self.add_observer(observer)
        self._is_set_up = True
        if self._has_requirements:
            self._registrations = in_order(self._registrations)

    def __new__(cls, *_: Any, **kwargs: Any) -> Self:
        """Refuse unknown keywords by the nearest known name."""
        configuration.refuse_unknown_keywords(cls.__init__, kwargs)
        return super().__new__(cls)

    def __call__(self, function: T, /) -> T:
        """Decorate a callable, or what `classmethod`, `staticmethod`, `property` and their like made of one.

        Raises:
            ConfigurationError: It is a class, or nothing that can be called.
        """
        target: Any = function
        rewrap = _REWRAPPED.get(type(target))
        if rewrap is not None:
            return cast("T", rewrap(self, target))
        configuration.refuse_undecoratable(target)
        known = getattr(target, "callpyback", None)
        if isinstance(known, FunctionHandle) and known.decorator is self and known.wrapper is target:
            return function  # a second time would tell every observer everything twice
        return cast("T", self._observed(target))

    def _observed(self, function: Any) -> Any:
        handle = FunctionHandle(self, function)
        self.adopt(handle)
        if not isinstance(function, types.FunctionType):
            from callpyback.core.proxies import observed_callable  # noqa: PLC0415 - brings wrapt, which few need

            return observed_callable(handle, function)
        wrapper: Any = handle.wrapper
        for name in HOOKS:
            setattr(wrapper, name, getattr(handle, name))
        wrapper.callpyback = handle
        return wrapper

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What is shown to observers as `context.metadata`."""
        return types.MappingProxyType(self._metadata)

    @property
    def observers(self) -> tuple[Any, ...]:
        """The observers of all functions, in the order they are told."""
        return tuple(registration.observer for registration in self.registrations)

    @property
    def registrations(self) -> tuple[Registration, ...]:
        """The registrations behind `observers`, in their order."""
        return tuple(known for known in self._registrations if not known.retired)

    def was_here(self, name: str) -> bool:
        """Return whether an observer of this name is registered here, or was until it was collected."""
        return self._known.remembers(name)

    def adopt(self, handle: FunctionHandle) -> None:
        """Let a function hear of observers that come and go."""
        with self._lock:
            self._handles.add(handle)

    def register(self, asked: Subscription) -> Registration:
        """Check an observer and return its registration, not yet told anything."""
        if self.ward.lost:
            self._forget_lost()
        deliver = _in_background if self.delivers_in_background else None
        return Registration(asked, self.ward, deliver=deliver)

    def visit(self, visitor: Visitor) -> Registration | None:
        """Return the registration here of an observer that hears of functions on which nobody registered it.

        It is told in the caller's thread, since nobody here would wait for the end of its delivery. None once it left.
        """
        # No lock: a function's handle, which holds its own, asks for it. Of two made at once one is used.
        key = visitor.registration
        known = None if key is None else self._visits.get(key)
        if key is not None and known is None:
            made = visitor.registered(self.ward)
            known = None if made is None else self._visits.setdefault(key, made)
        return known

    def _forget_lost(self) -> None:
        """Drop the weakly held observers that are gone, here and on every function."""
        self.ward.lost = False
        self._registrations = [known for known in self._registrations if not known.retired]
        for handle in tuple(self._handles):
            handle.forget_lost()

    def add_observer(self, observer: Any, states: Any = None, **asked: Any) -> None:
        """Tell one more observer about every function decorated by this instance, now and later.

        Args:
            observer: An object with `update(context)` and `priority`; or a `Subscription`.
            states: What it is told, in place of its own `states`.
            asked: `when`, `match`, `name`, `priority`, `requires`, `required_by`, `weak` and `options`, as of
                `Subscription`.

        Raises:
            ConfigurationError: It is no observer, is registered already, or does not fit a decorated function; or,
                once there is one, it requires an observer that is not there.
        """
        subscription = subscribed(observer, states=states, **asked)
        with self._lock:
            self._known.refuse_twice(subscription.observer)
            registration = self.register(subscription)
            handles = tuple(self._handles)
            self._known.give_name(registration, subscription.name, (handle.known for handle in handles))
            told = self._told_with(registration)
            listening: list[FunctionHandle] = []
            try:
                for handle in handles:
                    handle.listen(registration)
                    listening.append(handle)
            except BaseException:
                for handle in listening:
                    handle.forget(registration)
                raise
            self._registrations = told
            self._known.add(registration)

    def _told_with(self, registration: Registration) -> list[Registration]:
        """Return the registrations in order, with one more."""
        self._has_requirements |= bool(registration.requires or registration.required_by)
        if self._has_requirements and self._is_set_up:
            return in_order([*self.registrations, registration])
        told = self._registrations.copy()
        bisect.insort(told, registration, key=lambda known: known.sort_key)
        return told

    def remove_observer(self, observer: Any) -> None:
        """Stop telling an observer, given itself or its name.

        Raises:
            ConfigurationError: It is not registered here, or another one here requires it.
        """
        with self._lock:
            registration = found(observer, self._registrations, "on this decorator")
            handles = tuple(self._handles)
            if self._has_requirements or any(handle.has_requirements for handle in handles):
                for place in (self.registrations, *(handle.registrations for handle in handles)):
                    refuse_if_required(registration, place)
            registration.retire()
            self._registrations.remove(registration)
            self._known.discard(registration)
            for handle in handles:
                handle.forget(registration)

    def get_metrics(self) -> dict[str, Any]:
        """Return `observer_count`, and `"<name>_metrics"` of every observer that has `get_metrics`.

        With `enable_async_observers=True` these are what `BackgroundObserver.get_metrics()` gives, with the observer's
        own under "observer".
        """
        told = {known.name: known.told for known in self.registrations}
        measured = {name: known for name, known in told.items() if callable(getattr(known, "get_metrics", None))}
        return {"observer_count": len(told), **{f"{name}_metrics": one.get_metrics() for name, one in measured.items()}}

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was handed to observers in the background so far is done.

        Args:
            timeout: Seconds to wait at most; None waits as long as it takes.

        Returns:
            Whether everything is done. Without observers in the background that is so at once.
        """
        with self._lock:
            own = [known for handle in tuple(self._handles) for known in handle.own_registrations]
            told = [known.told for known in (*self.registrations, *own)]
        end = None if timeout is None else SYSTEM.monotonic() + timeout
        flushes = [observer.flush for observer in told if callable(getattr(observer, "flush", None))]
        done = [flush(None if end is None else max(0.0, end - SYSTEM.monotonic())) for flush in flushes]
        return all(done)

    def shutdown(self) -> None:
        """Tell nobody any more, and close every observer that has `close()`. The functions run on, unobserved."""
        with self._lock:
            if self.is_shut_down:
                return
            self.is_shut_down = True
            handles = tuple(self._handles)
            for handle in handles:
                handle.renew()
            closable = [known for handle in handles for known in handle.own_registrations]
            for registration in [*self.registrations, *closable]:
                self._close(registration)

    def _close(self, registration: Registration) -> None:
        close = getattr(registration.told, "close", None)
        if callable(close):
            try:
                close()
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - the others are to be closed too
                registration.count_failure(error, "close()", again=True)

    def __enter__(self) -> Self:
        """Use as a context manager: `shutdown` at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def reset_after_fork(self) -> None:
        """Make the lock anew: another thread may have held it."""
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        # Locks stay behind, and so do the functions: each unpickled handle registers itself again.
        return {**self.__dict__, "_lock": None, "_handles": None, "_known": None, "_visits": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()
        self._handles = weakref.WeakSet()
        self._visits = weakref.WeakKeyDictionary()
        self._known = Known()
        for registration in self._registrations:
            registration.renumber()
            self._known.add(registration)
        reset_after_fork(self)

    def __repr__(self) -> str:
        return f"<CallPyBack with {len(self._registrations)} observers on {len(self._handles)} functions>"


def _in_background(observer: Any) -> Any:
    from callpyback.delivery.background import BackgroundObserver  # noqa: PLC0415 - most programs have no use for it

    return BackgroundObserver(observer)


def handle(function: Any) -> FunctionHandle:
    """Return the handle on a decorated function: its observers, their health, hooks, pausing.

    Raises:
        ConfigurationError: The function is not decorated by `CallPyBack`.
    """
    with contextlib.suppress(Exception):  # a hostile object, which is not decorated either
        for known in (getattr(function, "callpyback", None), getattr(_inside(function), "callpyback", None)):
            if isinstance(known, FunctionHandle):
                return known
    shown = safe_repr(function)
    message = f"handle({shown}): expected a callable decorated by CallPyBack; decorate it with @CallPyBack()"
    raise ConfigurationError(message)


def _inside(function: Any) -> Any:
    """Return the function in a method, `classmethod`, `property` or the like."""
    if isinstance(function, property):
        return function.fget
    if isinstance(function, functools.cached_property | functools.partialmethod):
        return function.func
    return getattr(function, "__func__", function)


def _rewrapped_method(decorate: CallPyBack, target: Any) -> Any:
    return type(target)(decorate(target.__func__))


def _rewrapped_property(decorate: CallPyBack, target: Any) -> Any:
    parts: Any = (part if part is None else decorate(part) for part in (target.fget, target.fset, target.fdel))
    fget, fset, fdel = parts
    return property(fget, fset, fdel, target.__doc__)


def _rewrapped_cached_property(decorate: CallPyBack, target: Any) -> Any:
    made: Any = functools.cached_property(decorate(target.func))
    if target.attrname is not None:  # it is in a class already
        made.__set_name__(None, target.attrname)
    return made


def _rewrapped_partialmethod(decorate: CallPyBack, target: Any) -> Any:
    return functools.partialmethod(decorate(target.func), *target.args, **target.keywords)


# Of these classes alone: a subclass may behave in its own way, which a new object would lose.
_REWRAPPED: dict[type, Callable[[CallPyBack, Any], Any]] = {
    staticmethod: _rewrapped_method,
    classmethod: _rewrapped_method,
    property: _rewrapped_property,
    functools.cached_property: _rewrapped_cached_property,
    functools.partialmethod: _rewrapped_partialmethod,
}
