"""All operators, written once against the array API standard, for any library that speaks it.

The operators are ours; what is judged is a library's arrays under them. They pad with explicit borders,
gather each tap of the kernel as one strided slice, and scatter by adding to the same slices, for any
spatial rank. Each takes the namespace `xp` first and calls nothing outside it. The standard has float32 and
float64 and integers, so these are the dtypes claimed; functions that one of the libraries below lacks
under the standard's name (``permute_dims``, ``matrix_transpose``, ``astype``) are not needed.

Nothing is imported until an adapter is asked whether it is available.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from convform.adapters.adapter import Adapter
from convform.adapters.backends import array_api_convolution as convolution
from convform.adapters.backends import array_api_pooling as pooling
from convform.adapters.backends.array_api_window import XArray
from convform.adapters.layout import Array
from convform.spec.operators import OPERATORS

_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "im2col": convolution.im2col,
    "col2im": convolution.col2im,
    "conv": convolution.conv,
    "conv.backward": convolution.conv_backward,
    "max_pool": pooling.max_pool,
    "max_pool.backward": pooling.max_pool_backward,
    "avg_pool": pooling.avg_pool,
    "avg_pool.backward": pooling.avg_pool_backward,
}


@dataclass(frozen=True)
class _Library:
    """A library that speaks the array API.

    Attributes
    ----------
    module, distribution
        Name to import, and name to install.
    to_numpy
        Given the module and one of its arrays, the same array in NumPy.
    problem
        Given the module, why it cannot run here; None where it can.
    """

    module: str
    distribution: str
    to_numpy: Callable[[ModuleType, XArray], Array] = lambda xp, array: np.asarray(array)
    problem: Callable[[ModuleType], str | None] = lambda xp: None

    @property
    def xp(self) -> ModuleType:
        """The namespace, imported when it is needed."""
        return importlib.import_module(self.module)

    @property
    def version(self) -> str | None:
        """The installed version, without an import."""
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return None

    def unavailable(self) -> str | None:
        """Say why the library cannot run here."""
        try:
            return self.problem(self.xp)
        except ImportError:
            return f"the module {self.module!r} is not installed"


def make(name: str, library: _Library, install: str) -> Adapter:
    """Describe the operators on one library's arrays.

    Parameters
    ----------
    name
        What reports call it.
    library
        The library.
    install
        What to type to install it.

    Returns
    -------
    Adapter
        Every operator of the standard, in float64, float32 and signed integers.
    """
    adapter = Adapter(
        name,
        dtypes=("float64", "float32", "int64", "int32", "int16", "int8"),
        version=library.version,
        available=library.unavailable,
        install=install,
    )
    for operator in (operator for operator in OPERATORS.values() if operator.family in _FUNCTIONS):
        adapter.implements(
            operator.name,
            padding="low-high",
            dtypes=("float64", "float32") if operator.row.divides else None,
            indices="indices" in operator.outputs,
        )(_wrapper(_FUNCTIONS[operator.family], library, operator.rank))
    return adapter


def _wrapper(function: Callable[..., Any], library: _Library, rank: int) -> Callable[..., Any]:
    """Take arrays to the library and back; the wrapper has the parameters of `function` without `xp`."""

    @functools.wraps(function)
    def wrapper(**given: Any) -> Any:
        xp = library.xp
        # The library gets memory of its own: some look at NumPy's, and read no negative strides.
        taken = {
            name: xp.asarray(value.copy()) if isinstance(value, np.ndarray) else value
            for name, value in given.items()
        }
        returned = function(xp, **taken)
        if isinstance(returned, tuple):
            return tuple(library.to_numpy(xp, array) for array in returned)
        return library.to_numpy(xp, returned)

    signature = inspect.signature(function)
    parameters = [value for name, value in signature.parameters.items() if name != "xp"]
    wrapper.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return wrapper


def _problem_of_numpy(xp: ModuleType) -> str | None:
    return None if hasattr(xp, "concat") else f"NumPy {xp.__version__} lacks the array API, 2.1 has it"


def _problem_of_cupy(xp: ModuleType) -> str | None:
    try:
        devices = xp.cuda.runtime.getDeviceCount()
    except xp.cuda.runtime.CUDARuntimeError:
        devices = 0
    return None if devices else "no CUDA device"


strict = make(
    "array-api-strict",
    _Library("array_api_strict", "array-api-strict"),
    "pip install 'convform[array-api-strict]'",
)
numpy = make(
    "array-api-numpy", _Library("numpy", "numpy", problem=_problem_of_numpy), "pip install 'numpy>=2.1'"
)
torch = make("array-api-torch", _Library("torch", "torch"), "pip install 'convform[torch]'")
cupy = make(
    "cupy",
    _Library(
        "cupy",
        "cupy-cuda12x",
        to_numpy=lambda xp, array: xp.asnumpy(array),
        problem=_problem_of_cupy,
    ),
    "pip install 'convform[cupy]'",
)
