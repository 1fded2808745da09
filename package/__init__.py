"""Judges implementations of im2col, convolution and pooling against a written standard.

>>> import convform
>>> convform.check(convform.load("reference"), operators=["im2col"]).verdict
'conforms'
"""

from __future__ import annotations

import sys

if sys.argv[:1] == ["-m"] and not sys.flags.safe_path:
    # `python -m convform` looks into the working directory first: what lies there is judged, not imported.
    del sys.path[0]

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convform.adapters import Adapter, load
    from convform.conformance import check

    __version__: str

__all__ = ["Adapter", "__version__", "check", "load"]

_HOMES = {"Adapter": "convform.adapters", "check": "convform.conformance", "load": "convform.adapters"}


def __getattr__(name: str) -> Any:
    """Import on first use: every module of the package loads this one first."""
    if name == "__version__":
        from importlib.metadata import version

        return version("convform")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
