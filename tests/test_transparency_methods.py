"""Decorated methods, and the decorator above and below what classes do to functions."""

from __future__ import annotations

import abc
import copy
import dataclasses
import functools
import gc
import inspect
import typing
import weakref

import pytest

from callpyback import CallPyBack, ConfigurationError, handle
from kinds import WAYS, Witness, ended


def test_methods_bind_as_functions_do(observed):  # T17
    class A:
        @observed
        def m(self, x: int) -> tuple:
            return self, x

    a = A()
    assert a.m(1) == (a, 1)
    assert A.m(a, 2) == (a, 2)
    assert a.m.__self__ is a
    assert a.m.__func__ is A.__dict__["m"]
    assert inspect.ismethod(a.m)
    assert str(inspect.signature(a.m)) == "(x: 'int') -> 'tuple'"
    assert a.m == a.m
    assert A.m.__qualname__.endswith("A.m")


def test_the_instance_is_apart_from_the_arguments():  # T17
    witness = Witness()

    class A:
        @CallPyBack([witness])
        def m(self, x):
            return x

    a = A()
    a.m(1)
    assert witness.last.instance is a
    assert witness.last.arguments == {"x": 1}
    A.m(a, x=2)
    assert witness.last.instance is a
    assert witness.last.arguments == {"x": 2}


def test_an_unusual_first_name_is_recognised_as_the_instance():
    witness = Witness()

    class A:
        @CallPyBack([witness])
        def m(this, x):
            return x

    a = A()
    a.m(1)
    assert witness.last.instance is a
    assert witness.last.arguments == {"x": 1}


@pytest.mark.parametrize("above", [True, False], ids=["above", "below"])
def test_classmethods_work_on_class_instance_and_subclass(observed, above):  # T18, T21
    def m(cls, x):
        """Tell the class."""
        return cls, x

    class A:
        method = observed(classmethod(m)) if above else classmethod(observed(m))

    class B(A):
        pass

    assert A.method(1) == (A, 1)
    assert A().method(2) == (A, 2)
    assert B.method(x=3) == (B, 3)
    assert B().method(4) == (B, 4)
    assert A.method.__self__ is A
    assert A.method.__doc__ == "Tell the class."
    assert str(inspect.signature(A.method)) == "(x)"
    assert isinstance(inspect.getattr_static(A, "method"), classmethod)


def test_the_class_of_a_classmethod_is_its_instance():  # T18
    witness = Witness()
    decorator = CallPyBack([witness])

    class A:
        @decorator
        @classmethod
        def above(cls, x):
            return x

        @classmethod
        @decorator
        def below(cls, x):
            return x

        @decorator
        @classmethod
        def unusual(klass, x):
            return x

    class B(A):
        pass

    for method in (B.above, B().below, B.unusual, A.__dict__["unusual"].__get__(None, B)):
        method(1)
        assert witness.last.instance is B
        assert witness.last.arguments == {"x": 1}


def test_an_instance_given_by_keyword_is_apart_from_the_arguments():
    witness = Witness()

    class A:
        @CallPyBack([witness])
        def m(self, x):
            return x

    a = A()
    A.m(x=1, self=a)
    assert witness.last.instance is a
    assert witness.last.arguments == {"x": 1}


def test_a_parameter_called_self_outside_a_class_is_an_argument():
    witness = Witness()
    CallPyBack([witness])(lambda self, x: x)(1, 2)
    assert witness.last.instance is None
    assert witness.last.arguments == {"self": 1, "x": 2}


@pytest.mark.parametrize("above", [True, False], ids=["above", "below"])
def test_staticmethods_work_on_class_instance_and_subclass(observed, above):  # T19, T21
    def m(x, y=2):
        """Tell the arguments."""
        return x, y

    class A:
        method = observed(staticmethod(m)) if above else staticmethod(observed(m))

    class B(A):
        pass

    assert A.method(1) == A().method(1) == B.method(1) == B().method(1) == (1, 2)
    assert A().method(x=1, y=3) == (1, 3)
    assert A.method.__doc__ == "Tell the arguments."
    assert isinstance(inspect.getattr_static(A, "method"), staticmethod)


@pytest.mark.parametrize("above", [True, False], ids=["above", "below"])
def test_staticmethods_have_no_instance(above):  # T19
    witness = Witness()
    decorator = CallPyBack([witness])

    def m(x):
        return x

    class A:
        method = decorator(staticmethod(m)) if above else staticmethod(decorator(m))

    argument = A()
    A().method(argument)
    assert witness.last.instance is None
    assert witness.last.arguments == {"x": argument}


@pytest.mark.parametrize("above", [True, False], ids=["above", "below"])
def test_properties_work(observed, above):  # T20, T21
    def get(self):
        """The size."""
        return self._size

    def set_(self, value):
        self._size = value

    def delete(self):
        del self._size

    class A:
        _size = 1
        if above:
            size = observed(property(get, set_, delete))
        else:
            size = property(observed(get), observed(set_), observed(delete))

    a = A()
    assert a.size == 1
    a.size = 2
    assert a.size == 2
    del a.size
    assert a.size == 1
    assert A.size.__doc__ == "The size."
    assert isinstance(A.size, property)


def test_a_property_can_be_completed_below_the_decorator(observed):  # T20
    class A:
        @observed
        @property
        def size(self):
            return self._size

        @size.setter
        def size(self, value):
            self._size = value

    a = A()
    a.size = 5
    assert a.size == 5


@pytest.mark.parametrize("above", [True, False], ids=["above", "below"])
def test_cached_properties_are_computed_once(observed, above):  # T20, T21
    computed = []

    def get(self):
        """The answer."""
        computed.append(self)
        return 42

    class A:
        answer = observed(functools.cached_property(get)) if above else functools.cached_property(observed(get))

    a = A()
    assert (a.answer, a.answer, computed) == (42, 42, [a])
    assert A.answer.__doc__ == "The answer."
    assert a.__dict__["answer"] == 42
    del a.answer
    assert a.answer == 42
    assert len(computed) == 2


class Lazy(property):
    """A property of a house's own: `__get__` does something more."""

    def __get__(self, instance, owner=None):
        return self if instance is None else ("lazy", super().__get__(instance, owner))


class Remembering(functools.cached_property):
    """A cached property of a house's own."""

    def __get__(self, instance, owner=None):
        return self if instance is None else ("remembered", super().__get__(instance, owner))


class Registered(staticmethod):
    """A static method that is made in another way."""

    def __init__(self, function, registry):
        super().__init__(function)
        registry.append(function)


@pytest.mark.parametrize(
    "wrap", [Lazy, Remembering, lambda function: Registered(function, [])], ids=["Lazy", "Remembering", "Registered"]
)
def test_a_descriptor_of_another_class_is_kept_or_refused(wrap):  # T19, T20
    bare = wrap(lambda self=None: 5)
    decorated = ended(lambda: CallPyBack()(bare))
    if decorated.exception is not None:
        assert isinstance(decorated.exception, ConfigurationError)
        assert "below" in str(decorated.exception)
    else:
        assert type(decorated.value) is type(bare)


def test_a_cached_property_may_be_decorated_after_its_class_was_made(monkeypatch):  # T20
    class A:
        @functools.cached_property
        def answer(self):
            return 42

    monkeypatch.setattr(A, "answer", CallPyBack()(vars(A)["answer"]))
    a = A()
    assert (a.answer, vars(a)) == (42, {"answer": 42})


@pytest.mark.parametrize(
    "wrap", [classmethod, staticmethod, property, functools.cached_property], ids=lambda wrap: wrap.__name__
)
@pytest.mark.parametrize("above", [True, False], ids=["above", "below"])
def test_what_classes_make_of_functions_is_observed_once(wrap, above):
    witness = Witness()
    decorator = CallPyBack([witness])

    def method(self=None):
        return 5

    class A:
        attribute = decorator(wrap(method)) if above else wrap(decorator(method))

    A.attribute.__set_name__(A, "attribute") if wrap is functools.cached_property else None
    found = A().attribute
    assert (found if found == 5 else found()) == 5
    assert witness.told == ["PRE_EXECUTION", "POST_SUCCESS", "COMPLETED"]


@pytest.mark.parametrize("above", [True, False], ids=["above", "below"])
def test_abstract_methods_stay_abstract(observed, above):  # T22
    def run(self):
        """Do it."""

    class Base(abc.ABC):
        method = observed(abc.abstractmethod(run)) if above else abc.abstractmethod(observed(run))

    assert Base.method.__isabstractmethod__
    assert Base.__abstractmethods__ == {"method"}
    with pytest.raises(TypeError, match="abstract"):
        Base()

    class Concrete(Base):
        @observed
        def method(self):
            return super().method(), 5

    assert Concrete().method() == (None, 5)


@pytest.mark.parametrize("wrap", [classmethod, staticmethod, property], ids=lambda wrap: wrap.__name__)
def test_abstract_classmethods_and_properties_stay_abstract(observed, wrap):  # T22
    class Base(abc.ABC):
        attribute = observed(wrap(abc.abstractmethod(lambda *_: None)))

    assert Base.__abstractmethods__ == {"attribute"}
    with pytest.raises(TypeError, match="abstract"):
        Base()


def test_super_and_the_class_cell_work(observed):  # T23
    class A:
        @observed
        def who(self):
            return ["A"]

        @observed
        def cell(self):
            return __class__

    class B(A):
        @observed
        def who(self):
            return [*super().who(), "B"]

    assert B().who() == ["A", "B"]
    assert B().cell() is A


def test_an_override_that_calls_super_is_two_calls():  # T49
    witness = Witness()
    decorator = CallPyBack([witness])

    class A:
        @decorator
        def run(self):
            return 1

    class B(A):
        @decorator
        def run(self):
            return super().run() + 1

    assert B().run() == 2
    names = [(c.function_signature.qualname.rpartition("<locals>.")[2], c.state.name) for c in witness.contexts]
    assert names == [
        ("B.run", "PRE_EXECUTION"),
        ("A.run", "PRE_EXECUTION"),
        ("A.run", "POST_SUCCESS"),
        ("A.run", "COMPLETED"),
        ("B.run", "POST_SUCCESS"),
        ("B.run", "COMPLETED"),
    ]
    assert len({context.call_id for context in witness.contexts}) == 2


def test_two_methods_of_one_name_are_told_apart():  # T47
    witness = Witness()
    decorator = CallPyBack([witness])

    class A:
        @decorator
        def run(self):
            return "a"

    class B:
        @decorator
        def run(self):
            return "b"

    A().run()
    B().run()
    first, second = (witness.contexts[index].function_signature for index in (0, -1))
    assert first.name == second.name == "run"
    assert first != second
    assert (first.qualname[-5:], second.qualname[-5:]) == ("A.run", "B.run")
    assert handle(A.run) is not handle(B.run)


def test_slots_init_call_and_other_special_methods_work(observed):  # T23
    class Counter:
        __slots__ = ("count",)

        @observed
        def __init__(self, count=0):
            self.count = count

        @observed
        def __call__(self, step):
            return self.count + step

        @observed
        def __eq__(self, other):
            return self.count == other.count

        @observed
        def __hash__(self):
            return hash(self.count)

        @observed
        def __len__(self):
            return self.count

        @observed
        def __getitem__(self, index):
            return index

        @observed
        def __enter__(self):
            return self

        @observed
        def __exit__(self, *exc_info):
            return True

        @observed
        def __iter__(self):
            yield from range(self.count)

        @observed
        def __repr__(self):
            return f"Counter({self.count})"

    counter = Counter(3)
    assert counter(4) == 7
    assert counter == Counter(3)
    assert hash(counter) == hash(3)
    assert (len(counter), counter[5], list(counter), repr(counter)) == (3, 5, [0, 1, 2], "Counter(3)")
    with counter as entered:
        assert entered is counter
        raise ValueError


def test_new_and_init_subclass_and_class_getitem_work(observed):  # T23
    class Base:
        made: typing.ClassVar = []

        @observed
        def __new__(cls, x):
            made = super().__new__(cls)
            made.x = x
            return made

        @observed
        @classmethod
        def __init_subclass__(cls, **options):
            super().__init_subclass__(**options)
            Base.made.append(cls)

        @observed
        @classmethod
        def __class_getitem__(cls, item):
            return item

    class Sub(Base):
        pass

    assert Base(5).x == Sub(5).x == 5
    assert Base.made == [Sub]
    assert Base[3] == 3


def test_dataclass_methods_work(observed):  # T23
    @dataclasses.dataclass
    class Point:
        x: int
        y: int = 2
        total: int = dataclasses.field(init=False)

        @observed
        def __post_init__(self):
            self.total = self.x + self.y

        @observed
        def scaled(self, by: int):
            return dataclasses.replace(self, x=self.x * by)

    assert Point(1).total == 3
    assert Point(1).scaled(5) == Point(5)
    assert copy.deepcopy(Point(1)) == Point(1)


def test_slotted_dataclasses_work(observed):  # T23
    @dataclasses.dataclass(slots=True, frozen=True)
    class Point:
        x: int

        @observed
        def double(self):
            return self.x * 2

    assert Point(2).double() == 4


def test_runtime_protocols_recognise_decorated_methods(observed):  # T23
    @typing.runtime_checkable
    class Runs(typing.Protocol):
        @observed
        def run(self) -> int: ...

    class Runner:
        @observed
        def run(self) -> int:
            return 5

    class Explicit(Runs):
        def run(self) -> int:
            return 6

    assert isinstance(Runner(), Runs)
    assert isinstance(Explicit(), Runs)
    assert not isinstance(object(), Runs)
    assert Runner().run() == 5


def test_set_name_and_descriptors_that_are_called_work(observed):
    class Field:
        @observed
        def __set_name__(self, owner, name):
            self.name = name

        @observed
        def __get__(self, instance, owner=None):
            return self.name

    class A:
        field = Field()

    assert A.field == A().field == "field"


@pytest.mark.parametrize("above", [True, False], ids=["above", "below"])
def test_partialmethods_work(observed, above):  # T25
    def move(self, dx, *, dy=0):
        return self, dx, dy

    class A:
        if above:
            right = observed(functools.partialmethod(move, 1))
            up = observed(functools.partialmethod(move, 0, dy=1))
        else:
            _observed = observed(move)
            right = functools.partialmethod(_observed, 1)
            up = functools.partialmethod(_observed, 0, dy=1)

    a = A()
    assert a.right() == (a, 1, 0)
    assert a.right(dy=2) == (a, 1, 2)
    assert a.up() == (a, 0, 1)
    assert A.right(a) == (a, 1, 0)
    assert str(inspect.signature(a.right)) == "(*, dy=0)"


@pytest.mark.parametrize("above", [True, False], ids=["above", "below"])
def test_singledispatch_works(observed, above):
    def show(x):
        return "object", x

    if above:
        dispatched = observed(functools.singledispatch(show))
        generic = dispatched
    else:
        generic = dispatched = functools.singledispatch(observed(show))

    @generic.register
    @observed
    def _(x: int):
        return "int", x

    assert dispatched("a") == ("object", "a")
    assert dispatched(1) == ("int", 1)
    assert generic.dispatch(bool)(True) == ("int", True)
    assert dispatched.__name__ == "show"


def test_singledispatchmethods_work(observed):
    class A:
        @functools.singledispatchmethod
        @observed
        def show(self, x):
            return "object", x

        @show.register
        @observed
        def _(self, x: int):
            return "int", x

    assert A().show("a") == ("object", "a")
    assert A().show(1) == ("int", 1)


def test_a_singledispatchmethod_below_the_decorator_works_or_says_so(observed):
    dispatched = functools.singledispatchmethod(lambda self, x: ("object", x))
    with pytest.raises(ConfigurationError, match=r"put @CallPyBack\(\) below"):
        observed(dispatched)


def test_handles_are_reached_through_every_sort_of_method():
    decorator = CallPyBack()

    class A:
        @decorator
        def plain(self): ...

        @decorator
        @classmethod
        def of_class(cls): ...

        @staticmethod
        @decorator
        def static(): ...

        @decorator
        @property
        def prop(self): ...

        @decorator
        @functools.cached_property
        def cached(self): ...

    a = A()
    assert handle(a.plain) is handle(A.plain)
    assert handle(a.of_class) is handle(A.of_class) is handle(vars(A)["of_class"])
    assert handle(a.static) is handle(A.static) is handle(vars(A)["static"])
    for name in ("plain", "of_class", "static", "prop", "cached"):
        assert handle(vars(A)[name]).signature.name == name


def test_hooks_are_reached_through_methods():
    class A:
        @CallPyBack()
        def method(self, x):
            return x

    seen = []
    A.method.on_success(lambda value: seen.append(value))
    a = A()
    a.method.on_success(lambda arguments: seen.append(arguments))
    assert a.method(5) == 5
    assert seen == [5, {"x": 5}]


def test_methods_are_shared_by_all_instances_and_hold_none(observed):
    class A:
        @observed
        def method(self):
            return 5

    a = A()
    assert a.method() == 5
    reference = weakref.ref(a)
    for kept in observed.observers:
        vars(kept).get("contexts", []).clear()
    del a
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("decorate", WAYS.values(), ids=WAYS)
def test_monkeypatched_methods_work(decorate, monkeypatch):
    class A:
        def method(self, x):
            return self, x

    monkeypatch.setattr(A, "method", decorate()(A.method))
    a = A()
    assert a.method(1) == (a, 1)


def test_nested_classes_and_metaclasses_work(observed):
    class Meta(type):
        @observed
        def __call__(cls, *args):
            return super().__call__(*args)

        @observed
        def describe(cls):
            return cls.__name__

    class A(metaclass=Meta):
        class Inner:
            @observed
            def method(self):
                return 5

        def __init__(self, x):
            self.x = x

    assert A(3).x == 3
    assert A.describe() == "A"
    assert A.Inner().method() == 5
