"""The subjects: how an implementation is described (`Adapter`), found (`find`) and called."""

from __future__ import annotations

from convform.adapters.adapter import Adapter, Claims, Implementation, KnownLimit, Switch
from convform.adapters.errors import (
    AdapterError,
    BrokenFile,
    NotFound,
    ReturnedWrong,
    ShapeMismatch,
    Unavailable,
)
from convform.adapters.find import Installed, find, installed, load
from convform.adapters.layers import Layer
from convform.adapters.layout import Layout

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
