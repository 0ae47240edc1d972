"""Answering for an error: the caller gets a value in its place, and observers see both."""

import json
from pathlib import Path
from typing import Any

from callpyback import CallPyBack, Outcome, factory, on_completion


def show(outcome: Outcome, exception: Exception, returned: object) -> None:
    """Print what happened, and what the caller got."""
    print(f"  [{outcome.name}: {type(exception).__name__}, returned {returned!r}]")


@CallPyBack(observers=[on_completion(show)], exception_classes=[OSError], default_return=factory(dict))
def settings(file: Path) -> dict[str, Any]:
    """Read settings. That the file is missing is expected; anything else is not."""
    return dict(json.loads(file.read_text(encoding="utf-8")))


print("a missing file:", settings(Path("no such file.json")))
try:
    settings(Path(__file__))
except ValueError as error:
    print("this is no JSON, so the error goes on:", error)
