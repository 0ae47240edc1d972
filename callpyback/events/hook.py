"""A typed hook: callbacks are connected to it, and each is called in turn when it is emitted."""

from __future__ import annotations

import inspect
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, ParamSpec, Self, TypeVar, overload

from callpyback.core.configuration import checked_clocks, checked_count, looking_at, refuse
from callpyback.core.dispatch import belongs_to_program
from callpyback.core.time_sources import SYSTEM
from callpyback.errors import NO_VALUE, ConfigurationError
from callpyback.events.connection import NotAwaitedError
from callpyback.events.connections import Connections, check_name, merged
from callpyback.events.emissions import emits, is_inside_an_emission
from callpyback.events.instance_place import MAKING, InstancePlace
from callpyback.observers.callback_parameters import name_of

if TYPE_CHECKING:
    from typing_extensions import ParamSpec as ParamSpecWithDefault

    from callpyback.core.health import ObserverHealth
    from callpyback.events.connection import Connection
    from callpyback.events.connections import Told
    from callpyback.protocols import TimeSource

    # A hook without annotation emits no arguments. At run time Python has such defaults from 3.13 on.
    P = ParamSpecWithDefault("P", default=[])
else:
    P = ParamSpec("P")

Q = ParamSpec("Q")
T = TypeVar("T")

_NOBODY: Final = Connections(SYSTEM.monotonic, sys.maxsize)
"""Who hears, on the class, of a hook that belongs to no instance."""


class EventHook(Generic[P]):
    """Something that happens: connect callbacks to it, emit it, and each of them is called in turn.

    `hook: EventHook[str, int] = EventHook()` says what is emitted, and type checkers hold `emit`, `connect` and
    `@observes(hook)` to it. `EventHook()` alone emits nothing but the fact, `EventHook[...]` anything. Keyword
    arguments work too; `EventHook.like` has them checked.

    Callbacks are called in the emitting thread, those with a higher priority first, equal ones in the order they were
    connected. What a callback raises is logged at most once a minute, counted, and changes nothing for the emitter and
    the other callbacks; after `max_observer_failures` failures in a row a callback is paused for 30 seconds, then
    tried once. Ctrl-C passes, and so does a RecursionError in an emission from inside an emission, to the outermost
    one. Callbacks belong to the program: calls that they make of decorated functions are observed.

    An emission tells those that are connected when it begins; one that is disconnected meanwhile is told no more.
    Callbacks may connect, disconnect and emit. Any thread may do anything at any time; emitting waits for no lock.

    As a class attribute it is one hook an instance, made when it is first asked for, and gone with the instance. The
    class itself gives the hook of the class: its callbacks are told what any instance emits, in one order with those of
    the instance. Instances keep their hook in their `__dict__`; a class with `__slots__` and a hook `moved` needs a
    slot `_moved_hook`. In a dataclass, annotate a hook as `ClassVar[EventHook[int]]`.

    A copy, and what comes out of a pickle, has nothing connected, since callbacks belong to where they were connected.
    A hook is true, connected or not.

    Args:
        name: How it is shown; by default `Class.attribute` of a class attribute.
        errors: "isolate", or "raise": the emitter gets the first exception once every callback has been told, and no
            callback is paused.
        max_observer_failures: How often in a row a callback may fail before it is paused.
        time_source: What measures the pauses; the system's clock by default.

    Raises:
        ConfigurationError: A parameter is none of these.

    Example:
        >>> from callpyback import EventHook
        >>> class Telescope:
        ...     moved: EventHook[float, float] = EventHook()
        >>> telescope = Telescope()
        >>> @telescope.moved.connect
        ... def show(ascension, declination):
        ...     print("now at", ascension, declination)
        >>> telescope.moved.emit(5.5, -5.4)
        now at 5.5 -5.4
        >>> Telescope().moved.emit(0.0, 0.0)
    """

    __slots__ = (
        "__weakref__",
        "_attribute",
        "_clock",
        "_connections",
        "_limit",
        "_name",
        "_of_class",
        "_owner",
        "_raises",
        "_time_source",
    )

    def __init__(
        self,
        name: str | None = None,
        *,
        errors: Literal["isolate", "raise"] = "isolate",
        max_observer_failures: int = 5,
        time_source: TimeSource | None = None,
    ) -> None:
        check_name(name, "the name of the class attribute")
        with looking_at("errors", errors):
            if errors not in ("isolate", "raise"):
                refuse("errors", errors, '"isolate" or "raise"')
        self._name = name
        self._raises = errors == "raise"
        self._limit = checked_count("max_observer_failures", max_observer_failures)
        _, self._clock = checked_clocks(time_source)
        self._time_source = time_source
        self._attribute = ""
        self._of_class = _NOBODY
        self._owner: Callable[[], object] | None = None
        self._connections = self._nobody()

    @classmethod
    def like(cls, function: Callable[Q, object]) -> EventHook[Q]:
        """Make a hook that emits what a function takes, keyword arguments included, and is called like it.

        Args:
            function: Never called; its signature is for type checkers.

        Example:
            >>> @EventHook.like
            ... def moved(x: float, *, slowly: bool = False): ...
            >>> @moved.connect
            ... def show(x, *, slowly=False):
            ...     print(x, slowly)
            >>> moved.emit(1.5, slowly=True)
            1.5 True
        """
        with looking_at("function", function):
            if not callable(function):
                refuse("function", function, "a function with the parameters that are to be emitted")
            return EventHook(name_of(function))

    @emits
    def emit(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Call every callback with these arguments.

        Async callbacks can't be awaited here: each is counted as skipped, and logged; see `aemit`.
        """
        problem: BaseException | None = None
        snapshot = self._connections.snapshot
        for connection in snapshot[0] if snapshot and not self._of_class.by_key else self._told():
            if connection.active or (connection.may_retry() and not connection.retired):
                try:
                    connection.call(*args, **kwargs)
                except BaseException as error:  # noqa: BLE001 - isolation is the purpose; `_judge` says what passes
                    problem = self._judge(connection, error, problem)
                else:
                    if connection.condition.in_a_row:
                        connection.recover()
        if problem is not None:
            try:
                raise problem
            finally:
                del problem  # whose traceback holds this frame

    @emits
    async def aemit(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Call every callback with these arguments, one after the other, and await those that are async.

        A cancellation of the task passes: those that come later are not told.
        """
        problem: BaseException | None = None
        for connection in self._told():
            if connection.active or (connection.may_retry() and not connection.retired):
                try:
                    answer = connection.acall(*args, **kwargs)
                    if answer is not None and inspect.isawaitable(answer):
                        await answer
                except BaseException as error:
                    # GeneratorExit: the coroutine that awaits this one is being closed.
                    if isinstance(error, GeneratorExit) or belongs_to_program(error):
                        raise
                    problem = self._judge(connection, error, problem)
                else:
                    if connection.condition.in_a_row:
                        connection.recover()
        if problem is not None:
            try:
                raise problem
            finally:
                del problem  # whose traceback holds this frame

    def _told(self) -> Told:
        """Return who is told by an emission that begins now: callbacks of the instance and of its class."""
        told = self._connections.told()
        if not self._of_class.by_key or self._connections.is_paused:
            return told
        return merged(told, self._of_class.told())

    def _judge(
        self, connection: Connection, error: BaseException, problem: BaseException | None
    ) -> BaseException | None:
        """Count what a callback raised, and return what the emitter is to get in the end."""
        if belongs_to_program(error) or (isinstance(error, RecursionError) and is_inside_an_emission()):
            # If callbacks emit without end, going on with the next callback at every depth would never end either.
            raise error
        where = f"emit of {self.name}"
        if isinstance(error, NotAwaitedError):
            connection.pass_over(error, where)
        else:
            connection.count_failure(error, where, again=False)
        return (problem or error) if self._raises else None

    def _nobody(self) -> Connections:
        return Connections(self._clock, sys.maxsize if self._raises else self._limit)

    @overload
    def connect(
        self, callback: Callable[P, T], *, priority: float = 0, name: str | None = None, weak: bool = False
    ) -> Callable[P, T]: ...
    @overload
    def connect(
        self, callback: None = None, *, priority: float = 0, name: str | None = None, weak: bool = False
    ) -> Callable[[Callable[P, T]], Callable[P, T]]: ...
    def connect(
        self, callback: Any = NO_VALUE, *, priority: float = 0, name: str | None = None, weak: bool = False
    ) -> Any:
        """Have a callback called by every emission from now on; as a decorator, with or without parentheses.

        Args:
            callback: What to call; given back unchanged. A coroutine function is awaited by `aemit`.
            priority: Higher is called earlier.
            name: How it is shown and found; by default its qualified name, followed by `#2`, `#3`, ... if that is
                taken.
            weak: For a bound method: let its object be collected; it is then told no more.

        Raises:
            ConfigurationError: It can't be called, is connected already, or the name is taken.
        """

        def connect(given: Callable[P, T]) -> Callable[P, T]:
            self._connections.add(given, self, priority=priority, name=name, weak=weak)
            return given

        return connect if callback is NO_VALUE else connect(callback)

    def disconnect(self, callback: Callable[..., Any] | str) -> None:
        """Call a callback no more, given itself or its name; emissions under way in this thread included.

        Raises:
            ConfigurationError: It is not connected.
        """
        self._connections.forget(self._connections.found(callback, self))

    def clear(self) -> None:
        """Disconnect every callback."""
        for connection in self._connections.in_order():
            self._connections.forget(connection)

    def enable(self, callback: Callable[..., Any] | str) -> None:
        """Call a callback again that was paused for failing too often.

        Raises:
            ConfigurationError: It is not connected.
        """
        self._connections.found(callback, self).recover()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Have emissions that begin inside a `with` tell nobody, in every thread."""
        self._connections.pause()
        try:
            yield
        finally:
            self._connections.resume()

    @property
    def name(self) -> str:
        """How it is shown."""
        return self._name or "EventHook"

    @property
    def connected(self) -> tuple[Callable[..., Any], ...]:
        """The callbacks in the order they are called, those that are paused included."""
        callbacks = (connection.callback for connection in self._connections.in_order())
        return tuple(callback for callback in callbacks if callback is not None)

    @property
    def health(self) -> dict[str, ObserverHealth]:
        """How each callback is doing, by name."""
        return {connection.name: connection.health for connection in self._connections.in_order()}

    def __len__(self) -> int:
        return len(self._connections)

    def __bool__(self) -> bool:
        return True

    def __contains__(self, callback: object) -> bool:
        return self._connections.find(callback) is not None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name or hex(id(self))}: {len(self)} connected>"

    def _unconnected(self) -> Self:
        made = object.__new__(type(self))
        made._name, made._attribute = self._name, self._attribute
        made._raises, made._limit = self._raises, self._limit
        made._clock, made._time_source = self._clock, self._time_source
        made._of_class, made._owner = _NOBODY, None
        made._connections = made._nobody()
        return made

    def __copy__(self) -> Self:
        return self._unconnected()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self._unconnected()

    def __reduce__(self) -> tuple[Any, ...]:
        errors = "raise" if self._raises else "isolate"
        return _restored, (type(self), self._name, errors, self._limit, self._time_source)

    def __set_name__(self, owner: type, name: str) -> None:
        if self._attribute not in ("", name):
            message = f"{self!r} is {self._attribute!r} already, and can't be {name!r} too; make an EventHook for each"
            raise ConfigurationError(message)
        self._attribute = name
        if self._name is None:
            self._name = f"{owner.__qualname__}.{name}"

    def __get__(self, instance: object, owner: type | None = None) -> Self:
        if instance is None:
            return self
        try:
            hook: Self = instance.__dict__[self._attribute]
            if hook._owner() is instance:  # type: ignore[misc]  # a copied instance has that of the original
                return hook
        except (AttributeError, KeyError, TypeError):
            pass
        return self._made_for(instance)

    def __set__(self, instance: object, value: EventHook[P]) -> None:
        # A dataclass stores the default that it has found on the class; an unpickler what was in the pickle.
        given: Any = value
        is_harmless = given is self or (isinstance(given, EventHook) and not (given._owner or given.connected))  # noqa: SLF001
        if not is_harmless:
            message = f"the hook {self.name} can't be replaced; connect callbacks to it"
            raise AttributeError(message)

    def _made_for(self, instance: object) -> Self:
        """Return the hook of an instance, made if it is not there yet."""
        place = InstancePlace(instance, self._attribute or self._found_name(type(instance)))
        with MAKING.lock:
            known: Any = place.read()
            if known is not None and known._owner is not None and known._owner() is instance:  # noqa: SLF001
                return known  # type: ignore[no-any-return]
            made = self._unconnected()
            made._of_class = self._connections  # noqa: SLF001
            made._owner = _reference_to(instance)  # noqa: SLF001
            place.write(made)
        return made

    def _found_name(self, owner: type) -> str:
        """Look up the name of a hook that became an attribute after its class was made."""
        for cls in owner.__mro__:
            for name, value in tuple(vars(cls).items()):
                if value is self:
                    self.__set_name__(cls, name)
                    return name
        message = f"{self!r} is no attribute of {owner.__name__}"
        raise AttributeError(message)


def _reference_to(instance: object) -> Callable[[], object]:
    try:
        return weakref.ref(instance)
    except TypeError:  # slots without __weakref__: a circle that the garbage collector sees
        return lambda: instance


def _restored(
    cls: type[EventHook[...]],
    name: str | None,
    errors: Literal["isolate", "raise"],
    limit: int,
    time_source: TimeSource | None,
) -> EventHook[...]:
    return cls(name, errors=errors, max_observer_failures=limit, time_source=time_source)
