"""Captured locals: what the variables of a function were when it raised. Only those named are captured."""

from typing import Any

from callpyback import CallPyBack, NullVariable, on_failure


def report(exception: Exception, local_variables: dict[str, Any]) -> None:
    """Show the variables; one that had no value yet is NullVariable."""
    print(f"{type(exception).__name__}: {exception}")
    for name, value in local_variables.items():
        print(f"  {name} = {'(not set)' if value is NullVariable else repr(value)}")


@CallPyBack(observers=[on_failure(report)], variable_names=["line", "price", "total"], default_return=None)
def total_of(lines: list[str]) -> float:
    """Add up prices."""
    total = 0.0
    for line in lines:
        price = line.split(";")[1]
        total += float(price)
    return total


print("total:", total_of(["tea;2.50", "bread;3.20"]))
print("total:", total_of(["tea;2.50", "bread;3.2O", "milk;1.10"]))
print("total:", total_of(["tea"]))
