"""A state for each observed function, for a bounded number of functions, found again by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from callpyback.core.safe_repr import one_line

if TYPE_CHECKING:
    from callpyback.core.functions import FunctionSignature

S = TypeVar("S")

OVERFLOW: Final = "<overflow>"
"""The name shared by all functions beyond the greatest number of those told apart."""


class Named(Protocol):
    """What is called as a function is."""

    name: str
    qualname: str
    module: str


class FunctionName:
    """What one function, or several that share module and qualified name, is called.

    Attributes:
        name: The bare name.
        qualname: The name inside the module.
        full_name: `module.qualname`.
    """

    __slots__ = ("full_name", "module", "name", "qualname")

    def __init__(self, name: str, qualname: str, module: str) -> None:
        self.name, self.qualname, self.module = one_line(name), one_line(qualname), one_line(module)
        self.full_name = f"{self.module}.{self.qualname}" if module else self.qualname


class ByFunction(Generic[S]):
    """A state for each function, told apart by module and qualified name.

    Beyond `max_functions` all others share one state, `"<overflow>"`, so that totals stay right. Finding a state takes
    no lock: it is for the time of registration, or for one look at a dictionary in a call.

    Args:
        make: Makes the state of a function.
        max_functions: The greatest number of functions told apart.

    Example:
        >>> from callpyback import FunctionSignature
        >>> calls = ByFunction(lambda name: [name.full_name], max_functions=100)
        >>> calls.of(FunctionSignature("pay", qualname="Shop.pay", module="shop"))
        ['shop.Shop.pay']
        >>> list(calls.named()), list(calls.named("Shop.pay")), list(calls.named("look"))
        (['pay'], ['pay'], [])
    """

    def __init__(self, make: Callable[[FunctionName], S], max_functions: int) -> None:
        self._make = make
        self._max_functions = max_functions
        self._states: dict[tuple[str, str], tuple[FunctionName, S]] = {}

    def of(self, signature: FunctionSignature | Named) -> S:
        """Return the state of a function; make it if there is none."""
        found = self._states.get((signature.module, signature.qualname))
        return self._made(signature) if found is None else found[1]

    def named(self, name: str | None = None) -> dict[str, S]:
        """Return the states, each by the shortest name that tells it apart: bare, qualified or full.

        Args:
            name: Only those of this bare, qualified or full name.
        """
        every = list(self._states.values())
        bare, qualified = Counter(known.name for known, _ in every), Counter(known.qualname for known, _ in every)
        named: dict[str, S] = {}
        for known, state in every:
            names = [known.name] * (bare[known.name] == 1) + [known.qualname] * (qualified[known.qualname] == 1)
            names += [known.full_name, f"{known.module}:{known.qualname}"]
            shown = next((candidate for candidate in names if candidate not in named), names[-1])
            if name is None or name in (shown, *names, known.name, known.qualname):
                named[shown] = state
        return named

    def copied(self, copy_state: Callable[[S], S], make: Callable[[FunctionName], S] | None = None) -> ByFunction[S]:
        """Return another one with copies of the states, that makes further ones in the same or another way."""
        copied = ByFunction(self._make if make is None else make, self._max_functions)
        copied._states = {key: (name, copy_state(state)) for key, (name, state) in list(self._states.items())}
        return copied

    def clear(self) -> None:
        """Forget all functions."""
        self._states.clear()

    def __iter__(self) -> Iterator[S]:
        return iter([state for _, state in list(self._states.values())])

    def __len__(self) -> int:
        return len(self._states)

    def _made(self, signature: FunctionSignature | Named) -> S:
        key = (signature.module, signature.qualname)
        name = FunctionName(signature.name, signature.qualname, signature.module)
        if len(self._states) >= self._max_functions:
            key, name = ("", OVERFLOW), FunctionName(OVERFLOW, OVERFLOW, "")
            if key in self._states:
                return self._states[key][1]
        # Two threads may have come so far: one step in C decides whose state it is.
        return self._states.setdefault(key, (name, self._make(name)))[1]
