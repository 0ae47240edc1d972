"""First steps: a decorated function, and callbacks hung on it. They are told; the function does not change."""

from callpyback import CallPyBack, Outcome


@CallPyBack()
def divide(a: float, b: float) -> float:
    """Divide, as any function might."""
    return a / b


@divide.on_call
def announce(arguments: dict[str, float]) -> None:
    """Before the body runs. A callback takes what its parameters name."""
    print("called with", arguments)


@divide.on_success
def celebrate(value: float, execution_time: float) -> None:
    """When the body has returned."""
    print(f"gave {value} in less than a second: {execution_time < 1}")


@divide.on_failure
def lament(exception: Exception, arguments: dict[str, float]) -> None:
    """When the body has raised. The exception goes on to the caller all the same."""
    print(f"raised {exception!r} for b={arguments['b']}")


@divide.on_completion
def finish(outcome: Outcome) -> None:
    """Last, once for every call, however it ended."""
    print("ended:", outcome.name)


divide(6, 3)
print()
try:
    divide(1, 0)
except ZeroDivisionError as error:
    print("and the caller got", repr(error))
