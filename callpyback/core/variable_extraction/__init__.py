"""Capture of a call's local variables, by name, at its return or raise.

Start at `extractors.py`; what a decorated function holds is a `Binding` (`binding.py`). The mechanisms are in
`frames.py` (the traceback, suspended calls), `monitoring.py` (Python 3.12 and later) and `prologue.py` (3.11).
"""

from callpyback.core.variable_extraction.adapter import bind_extractor
from callpyback.core.variable_extraction.binding import Binding
from callpyback.core.variable_extraction.extractors import NoOpVariableExtractor, TracingVariableExtractor
from callpyback.core.variable_extraction.null_variable import NullVariable

__all__ = ["Binding", "NoOpVariableExtractor", "NullVariable", "TracingVariableExtractor", "bind_extractor"]
