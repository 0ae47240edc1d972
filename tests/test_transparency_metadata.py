"""What can be asked about a decorated function is what could be asked about the function itself."""

from __future__ import annotations

import asyncio
import doctest
import functools
import inspect
import pydoc
import sys
import types
import typing

import pytest

from callpyback import CallPyBack, FunctionKind, handle
from kinds import BoundWitness, Witness


def typical(a: int, b=2, /, *rest: str, c: Later = 3, **options: float) -> list[int]:
    """Say what is given.

    >>> typical(1, 2)
    (1, 2, (), 3, {})
    """
    return a, b, rest, c, options


class Later:
    """Named in an annotation above, before it exists."""


typical.tag = "a note on the function"


def undocumented():
    return None


class Holder:
    """A class with a method, for its qualified name."""

    def method(self, x: int = 1) -> int:
        """Give x."""
        return x


METADATA = ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__", "__defaults__", "__kwdefaults__")


@pytest.mark.parametrize("function", [typical, undocumented, Holder.method, lambda x=3: x])
def test_metadata_is_that_of_the_function(observed, function):  # T01
    decorated = observed(function)
    assert {name: getattr(decorated, name) for name in METADATA} == {name: getattr(function, name) for name in METADATA}


def test_attributes_of_the_function_are_there_and_new_ones_stay_apart(observed):  # T01
    def function():
        """Carry a note."""

    function.tag = "a note"
    decorated = observed(function)
    assert decorated.tag == "a note"
    decorated.other = 1
    assert not hasattr(function, "other")


def test_a_decorated_function_is_a_function(observed):
    assert isinstance(observed(undocumented), types.FunctionType)
    assert inspect.isfunction(observed(undocumented))
    assert not inspect.ismethod(observed(undocumented))


def test_type_parameters_stay():
    if sys.version_info < (3, 12):
        pytest.skip("type parameter lists are new in 3.12")
    namespace = {}
    exec("def first[T](items: list[T]) -> T: return items[0]", namespace)
    assert CallPyBack()(namespace["first"]).__type_params__ == namespace["first"].__type_params__


def test_unwrap_finds_the_function(observed):  # T02
    assert inspect.unwrap(observed(typical)) is typical
    assert observed(typical).__wrapped__ is typical


def test_unwrap_finds_the_function_below_several_decorators(observed):  # T02
    twice = CallPyBack()(observed(typical))
    assert twice.__wrapped__.__wrapped__ is typical
    assert inspect.unwrap(twice) is typical


PARAMETERS = [
    "",
    "a, /, b, *args, c=3, **kw",
    "a: 'Nowhere', b: 'int' = 2",
    "*, only",
    "*args, **kwargs",
    "this, cls, func",
]


def test_signature_is_that_of_the_function(kind, observed):  # T03
    for parameters in PARAMETERS:
        bare = kind.make(print, parameters=parameters)
        assert inspect.signature(kind.make(print, observed, parameters)) == inspect.signature(bare)


def test_signature_follows_the_functions_own_signature_attribute(observed):  # T03
    def function(*args):
        return args

    function.__signature__ = inspect.Signature([inspect.Parameter("shown", inspect.Parameter.POSITIONAL_ONLY)])
    assert str(inspect.signature(observed(function))) == "(shown, /)"


def test_forward_references_resolve_in_the_module_of_the_function(observed):  # T06
    module = types.ModuleType("elsewhere")
    source = "def function(x: 'Later') -> 'Later': return x\nclass Later: pass"
    exec(compile(source, "elsewhere", "exec", dont_inherit=True), vars(module))
    decorated = observed(module.function)
    assert typing.get_type_hints(decorated) == {"x": module.Later, "return": module.Later}
    assert inspect.get_annotations(inspect.unwrap(decorated), eval_str=True)["x"] is module.Later


class Explosive:
    """An annotation or default that must not be looked at more than the interpreter does."""

    def refuse(self, *_):
        raise AssertionError("this object was looked into")

    __repr__ = __str__ = __eq__ = __hash__ = __bool__ = __len__ = __iter__ = __call__ = refuse

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)  # as an object without it has, the interpreter's own look-ups included
        self.refuse()


def test_annotations_are_never_evaluated(kind, observed):  # T07, as far as Pythons before 3.14 go
    decorated = kind.make(lambda x: x, observed, "x: 'NotDefined.Anywhere[1]' = 3")
    assert kind.call(decorated, 1) == 1
    assert kind.call(decorated) == 3
    [annotation] = handle(decorated).signature.annotations.values()
    assert annotation == "NotDefined.Anywhere[1]"


def test_annotations_and_defaults_are_never_looked_into(kind, observed):  # T07
    explosive = Explosive()
    decorated = kind.make(lambda x: x, observed, "x: explosive = explosive", explosive=explosive)
    assert kind.call(decorated) is explosive


PREDICATES = (
    inspect.iscoroutinefunction,
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
    inspect.isfunction,
    inspect.ismethod,
    inspect.isroutine,
    inspect.isawaitable,
    callable,
)


def recognised(function):
    return {predicate.__name__: predicate(function) for predicate in PREDICATES}


def test_the_kind_is_recognised(kind, observed):  # T31, T32, T33
    assert recognised(kind.make(print, observed)) == recognised(kind.make(print))


def test_the_kind_is_recognised_after_observers_came_and_went(kind):  # T31, T32, T33
    decorated = kind.make(lambda: None, CallPyBack())
    expected = recognised(kind.make(print))
    for observer in (Witness(), BoundWitness(), Witness(), Witness()):
        handle(decorated).add_observer(observer)
        kind.call(decorated)
        assert recognised(decorated) == expected
    for observer in handle(decorated).observers:
        handle(decorated).remove_observer(observer)
        assert recognised(decorated) == expected


@pytest.mark.filterwarnings("ignore:.*asyncio.iscoroutinefunction:DeprecationWarning")
def test_asyncio_recognises_coroutine_functions(kind, observed):  # T31
    assert asyncio.iscoroutinefunction(kind.make(print, observed)) == asyncio.iscoroutinefunction(kind.make(print))


def test_the_signature_for_observers_tells_the_kind(kind):
    assert handle(kind.make(print, CallPyBack())).signature.kind is kind.function_kind


def test_functions_marked_as_coroutine_functions_stay_marked(observed):  # T31
    if not hasattr(inspect, "markcoroutinefunction"):
        pytest.skip("inspect.markcoroutinefunction is new in 3.12")

    async def inner():
        return 5

    def function():
        return inner()

    decorated = observed(inspect.markcoroutinefunction(function))
    assert inspect.iscoroutinefunction(decorated)
    assert asyncio.run(decorated()) == 5


def test_generators_made_awaitable_by_types_coroutine_stay_awaitable(observed):
    @observed
    @types.coroutine
    def pause(x):
        yield
        return x

    async def main():
        return await pause(5)

    assert asyncio.run(main()) == 5


def test_generators_made_awaitable_above_the_decorator_stay_awaitable(observed):
    @types.coroutine
    @observed
    def pause(x):
        yield
        return x

    async def main():
        return await pause(5)

    assert asyncio.run(main()) == 5


def test_doctest_finds_the_examples_of_decorated_functions(observed, monkeypatch):  # T43
    module = types.ModuleType("with_examples", "No examples here.")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec("def double(n):\n    '''\n    >>> double(2)\n    4\n    '''\n    return 2 * n", vars(module))
    module.double = observed(module.double)
    finder = doctest.DocTestFinder(exclude_empty=False)
    tests = {test.name: test for test in finder.find(module, globs=vars(module))}
    assert doctest.DocTestRunner(verbose=False).run(tests["with_examples.double"]) == (0, 1)


def test_getsource_gives_the_source_of_the_function(observed):  # T43
    assert inspect.getsource(observed(typical)) == inspect.getsource(typical)
    assert inspect.getsourcelines(observed(typical))[1] == inspect.getsourcelines(typical)[1]


def test_help_shows_what_it_shows_of_the_function(observed):  # T43
    assert pydoc.render_doc(observed(typical)) == pydoc.render_doc(typical)


def test_repr_names_the_function(observed):
    assert repr(observed(typical)).startswith("<function typical at ")


def test_code_names_the_function_in_tracebacks_and_profiles(kind, observed):
    bare = inspect.unwrap(kind.make(print)).__code__
    code = kind.make(lambda: None, observed).__code__
    assert code.co_name == bare.co_name


def test_functools_wraps_over_a_decorated_function_works(observed):
    decorated = observed(typical)

    @functools.wraps(decorated)
    def outer(*args, **kwargs):
        return decorated(*args, **kwargs)

    assert inspect.unwrap(outer) is typical
    assert inspect.signature(outer) == inspect.signature(typical)
    assert outer(1) == typical(1)


def test_functions_made_by_exec_have_usable_names(observed):  # T50
    namespace = {}
    exec("def made(x): return x", namespace)
    decorated = observed(namespace["made"])
    assert decorated(5) == 5
    signature = handle(decorated).signature
    assert (signature.name, signature.qualname) == ("made", "made")
    assert isinstance(signature.module, str)


def test_functions_without_a_module_have_usable_names(observed):  # T50
    decorated = observed(types.FunctionType(compile("5", "nowhere", "eval"), {}))
    assert decorated() == 5
    assert handle(decorated).signature.name == "<module>"


def test_functions_of_main_and_of_notebooks_are_named_by_their_module(observed):  # T50
    namespace = {"__name__": "__main__"}
    exec(compile("def cell(x): return x", "<ipython-input-1-0123456789ab>", "exec"), namespace)
    decorated = observed(namespace["cell"])
    assert decorated(5) == 5
    assert handle(decorated).signature.module == "__main__"


def test_lambdas_have_usable_names(observed):  # T50
    decorated = observed(lambda x: x)
    assert decorated(5) == 5
    assert handle(decorated).signature.name == "<lambda>"


def test_names_that_were_changed_by_hand_are_the_names_shown():
    def function():
        """Be renamed."""

    function.__name__, function.__qualname__ = "shown", "Place.shown"
    witness = Witness()
    CallPyBack([witness])(function)()
    signature = witness.last.function_signature
    assert (signature.name, signature.qualname, signature.kind) == ("shown", "Place.shown", FunctionKind.FUNCTION)
