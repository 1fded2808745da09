"""The subjects: how an implementation is described (`Adapter`), found (`find`) and called."""

from __future__ import annotations

from convform.adapters.adapter import Adapter
from convform.adapters.claims import Claims, Switch
from convform.adapters.errors import (
    AdapterError,
    BrokenFile,
    NotFound,
    ReturnedWrong,
    ShapeMismatch,
    Unavailable,
)
from convform.adapters.find import Installed, find, installed, load
from convform.adapters.implementation import Implementation
from convform.adapters.layers import Layer
from convform.adapters.layout import Layout
from convform.adapters.limits import KnownLimit

__all__ = [
    "Adapter",
    "AdapterError",
    "BrokenFile",
    "Claims",
    "Implementation",
    "Installed",
    "KnownLimit",
    "Layer",
    "Layout",
    "NotFound",
    "ReturnedWrong",
    "ShapeMismatch",
    "Switch",
    "Unavailable",
    "find",
    "installed",
    "load",
]
