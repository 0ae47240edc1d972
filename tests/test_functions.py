"""What is known about a decorated callable: its kind, its names, its parameters, how arguments are named."""

from __future__ import annotations

import copy
import functools
import inspect
import pickle
import types

import pytest

from callpyback import CallPyBack, ConfigurationError, FunctionKind, FunctionSignature, handle
from callpyback.core.functions import ArgumentBinder, kind_of, signature_of


def bound(function, *args, **kwargs):
    """Return the arguments by name and the instance, as a call of the decorated function would show them."""
    return ArgumentBinder(function, FunctionSignature.of(function)).bind(function, args, kwargs)


def named(function, *args, **kwargs):
    return bound(function, *args, **kwargs)[0]


def test_arguments_are_named_in_the_order_of_the_signature():
    def function(a, /, b, *rest, c, d=4, **options): ...

    arguments = named(function, 1, 2, 3, c=5, z=6, y=7)
    assert list(arguments.items()) == [("a", 1), ("b", 2), ("rest", (3,)), ("c", 5), ("d", 4), ("z", 6), ("y", 7)]


def test_arguments_given_by_name_are_named_in_the_order_of_the_signature():
    def function(a, b=2, *, c=3): ...

    assert list(named(function, c=30, a=10).items()) == [("a", 10), ("b", 2), ("c", 30)]


def test_defaults_are_filled_in():
    default = object()

    def function(a=1, /, b=default, *, c=None): ...

    assert named(function) == {"a": 1, "b": default, "c": None}
    assert named(function)["b"] is default


def test_variable_positional_arguments_stay_together_and_keywords_are_flattened():
    def function(*args, **kwargs): ...

    assert named(function) == {"args": ()}
    assert named(function, 1, 2, x=3) == {"args": (1, 2), "x": 3}


def test_a_keyword_that_collides_with_a_positional_only_name_stays_under_the_name_of_the_rest():
    def function(a, /, **options): ...

    assert named(function, 1, a=2, b=3) == {"a": 1, "b": 3, "options": {"a": 2}}
    assert named(function, 1, options=2, b=3) == {"a": 1, "b": 3, "options": {"options": 2}}


def test_a_keyword_called_like_the_rest_stays_under_its_name():
    def function(*args, **kwargs): ...

    assert named(function, 1, args=2) == {"args": (1,), "kwargs": {"args": 2}}
    assert named(function, kwargs=2) == {"args": (), "kwargs": {"kwargs": 2}}


def test_the_dictionary_is_new_each_time_and_the_keywords_are_not_changed():
    def function(**options): ...

    binder = ArgumentBinder(function, FunctionSignature.of(function))
    given = {"a": 1}
    first, second = binder.bind(function, (), given)[0], binder.bind(function, (), given)[0]
    assert first == second == {"a": 1}
    assert first is not second
    assert first is not given


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ((), {}, {"b": 2}),
        ((1, 2, 3), {}, {"a": 1, "b": 2}),
        ((1,), {"a": 5}, {"a": 1, "b": 2, "kwargs": {"a": 5}}),
        ((1,), {"z": 5}, {"a": 1, "b": 2, "z": 5}),
    ],
    ids=["one too few", "one too many", "twice", "unknown"],
)
def test_wrong_calls_are_named_as_far_as_they_go(args, kwargs, expected):
    def function(a, b=2): ...

    assert named(function, *args, **kwargs) == expected


def test_names_follow_the_signature_attribute():
    def function(*args): ...

    function.__signature__ = inspect.signature(lambda a, b=2: None)
    assert named(function, 1) == {"a": 1, "b": 2}


def test_names_follow_what_a_decorator_wraps():
    def inner(a, b=2): ...

    @functools.wraps(inner)
    def outer(*args, **kwargs): ...

    assert named(outer, 1) == {"a": 1, "b": 2}


def test_a_callable_that_does_not_tell_its_parameters_has_args():
    assert named(max, 3, 9, key=len) == {"args": (3, 9), "key": len}


def test_a_partial_names_what_is_left():
    def function(a, b, *, c): ...

    assert named(functools.partial(function, 1, c=3), 2) == {"b": 2, "c": 3}
    assert named(functools.partial(function, 1, c=3), 2, c=4) == {"b": 2, "c": 4}


class Host:
    """Methods with every sort of first parameter."""

    def usual(self, x): ...

    def unusual(this, x): ...

    @classmethod
    def of_class(cls, x): ...

    @staticmethod
    def static(x): ...

    def nothing(*args): ...

    def only_self(self): ...


@pytest.mark.parametrize("name", ["usual", "unusual"])
def test_the_instance_of_a_method_is_apart(name):
    host, function = Host(), vars(Host)[name]
    assert bound(function, host, 5) == ({"x": 5}, host)
    assert bound(function, host, x=5) == ({"x": 5}, host)


def test_the_instance_of_a_method_without_arguments_is_apart():
    host = Host()
    assert bound(Host.only_self, host) == ({}, host)


def test_a_static_method_has_no_instance():
    host = Host()
    assert bound(Host.static, host) == ({"x": host}, None)


def test_the_class_of_a_class_method_is_its_instance():
    assert bound(Host.of_class.__func__, Host, 5) == ({"x": 5}, Host)


def test_a_bound_method_has_its_instance():
    host = Host()
    assert bound(host.usual, 5) == ({"x": 5}, host)
    assert bound(Host.of_class, 5) == ({"x": 5}, Host)


def test_a_method_of_a_builtin_object_has_that_as_its_instance():
    items = [1]
    assert bound(items.append, 2) == ({"object": 2}, items)


def test_a_builtin_function_has_no_instance():
    assert bound(len, [1]) == ({"obj": [1]}, None)


def test_a_function_with_a_parameter_called_self_has_no_instance():
    def function(self, x): ...

    assert bound(function, 1, 2) == ({"self": 1, "x": 2}, None)
    assert bound(lambda self: None, 1) == ({"self": 1}, None)


def test_a_function_that_is_called_with_an_object_that_has_a_method_of_its_name_has_no_instance():
    def usual(host, x): ...

    host = Host()
    assert bound(usual, host, 5) == ({"host": host, "x": 5}, None)


def test_finding_the_instance_reads_no_attribute_of_the_arguments():
    class Guarded:
        def __getattribute__(self, name):
            raise AssertionError(f"{name} was read")

    def function(anything, x=1): ...

    guarded = Guarded()
    arguments, instance = bound(function, guarded)
    assert arguments["anything"] is guarded
    assert instance is None


def kinds():
    async def coroutine(): ...

    def generator():
        yield

    async def async_generator():
        yield

    return {
        FunctionKind.FUNCTION: lambda: None,
        FunctionKind.COROUTINE: coroutine,
        FunctionKind.GENERATOR: generator,
        FunctionKind.ASYNC_GENERATOR: async_generator,
    }


@pytest.mark.parametrize(("kind", "function"), kinds().items(), ids=kinds())
def test_the_kind_of_functions_methods_partials_and_objects_is_known(kind, function):
    called = type("Called", (), {"__call__": lambda self: None})
    if kind is not FunctionKind.FUNCTION:
        called.__call__ = function
    assert kind_of(function) is kind
    assert kind_of(functools.partial(function)) is kind
    assert kind_of(types.MethodType(function, 5)) is kind
    assert kind_of(called()) is kind


def test_the_kind_of_a_class_is_that_of_a_function():
    class Made:
        async def __call__(self): ...

    assert kind_of(Made) is FunctionKind.FUNCTION


@pytest.mark.parametrize(
    "function", [max, 5, type("Odd", (), {"__signature__": 5, "__call__": print})()], ids=["builtin", "int", "odd"]
)
def test_where_there_is_no_signature_there_is_none(function):
    assert signature_of(function) is None


def test_a_signature_describes_the_function():
    def function(a: int, *, b: Undefined = 2) -> str: ...  # noqa: F821 - never evaluated

    signature = FunctionSignature.of(function)
    assert (signature.name, signature.module) == ("function", __name__)
    assert signature.qualname.endswith("<locals>.function")
    assert signature.kind is FunctionKind.FUNCTION
    assert list(signature.parameters) == ["a", "b"]
    assert signature.annotations == {"a": "int", "b": "Undefined", "return": "str"}
    assert signature.parameters["b"].default == 2


def test_a_signature_is_built_by_hand_from_a_name():
    signature = FunctionSignature("checkout")
    assert (signature.name, signature.qualname, signature.module) == ("checkout", "checkout", "")
    assert (dict(signature.parameters), dict(signature.annotations)) == ({}, {})
    assert signature.kind is FunctionKind.FUNCTION


def test_parameters_and_annotations_cannot_be_changed():
    signature = FunctionSignature.of(Host.usual)
    for mapping in (signature.parameters, signature.annotations):
        with pytest.raises(TypeError):
            mapping["new"] = None


def test_equal_signatures_are_equal_and_hash_alike():
    assert FunctionSignature.of(Host.usual) == FunctionSignature.of(Host.usual)
    assert hash(FunctionSignature.of(Host.usual)) == hash(FunctionSignature.of(Host.usual))
    assert FunctionSignature.of(Host.usual) != FunctionSignature.of(Host.unusual)
    assert FunctionSignature("a") != FunctionSignature("a", module="m")
    assert FunctionSignature("a") != "a"


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_signature_travels_without_its_function(make):
    def function(a, /, b=lambda: None, *rest, c: lambda: None = 3, **options): ...

    original = FunctionSignature.of(function)
    there = make(original)
    assert there == original
    assert [(p.name, p.kind) for p in there.parameters.values()] == [
        (p.name, p.kind) for p in original.parameters.values()
    ]


def test_a_signature_can_be_read_in_a_copy_of_a_copy():
    def function(a, *, b): ...

    original = FunctionSignature.of(function)
    assert list(pickle.loads(pickle.dumps(copy.deepcopy(original))).parameters) == ["a", "b"]


def test_repr_names_the_function_and_its_kind():
    assert repr(FunctionSignature("f", qualname="A.f", module="m")) == "<FunctionSignature m.A.f (function)>"


@pytest.mark.parametrize(
    ("function", "name", "qualname"),
    [
        (Host.usual, "usual", "Host.usual"),
        (Host().usual, "usual", "Host.usual"),
        (functools.partial(Host.usual, 1), "usual", "Host.usual"),
        (functools.partial(functools.partial(Host.usual, 1)), "usual", "Host.usual"),
        (len, "len", "len"),
        ("abc".upper, "upper", "str.upper"),
        (type("Made", (), {"__call__": print})(), "Made", "Made"),
        (functools.partial(type("Made", (), {"__call__": print})()), "Made", "Made"),
    ],
    ids=["function", "bound method", "partial", "partial of one", "builtin", "builtin method", "object", "its partial"],
)
def test_names_are_those_of_what_is_called(function, name, qualname):
    signature = handle(CallPyBack()(function)).signature
    assert (signature.name, signature.qualname) == (name, qualname)


def test_names_that_are_no_text_are_not_used():
    class Odd:
        __name__ = property(lambda self: 5)

        def __call__(self): ...

    signature = handle(CallPyBack()(Odd())).signature
    assert signature.name == "Odd"


def test_a_refused_class_is_named():
    with pytest.raises(ConfigurationError, match="the class Host"):
        CallPyBack()(Host)
