"""All operators, written once against the array API standard, for any library that speaks it.

The operators are ours; what is judged is a library's arrays under them. They pad with explicit borders,
gather each tap of the kernel as one strided slice, and scatter by adding to the same slices, for any
spatial rank. Each takes the namespace `xp` first and calls nothing outside it. The standard has float32 and
float64 and integers, so these are the dtypes claimed; functions that one of the libraries below lacks
under the standard's name (``permute_dims``, ``matrix_transpose``, ``astype``) are not needed. Nothing is
imported until an adapter is asked whether it is available.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from types import ModuleType
from typing import Any

import numpy as np

from convform.adapters.adapter import Adapter
from convform.adapters.backends import array_api_convolution as convolution
from convform.adapters.backends import array_api_pooling as pooling
from convform.adapters.backends.array_api_window import Window, XArray
from convform.adapters.backends.library import taking
from convform.adapters.layout import Array
from convform.spec.operators import OPERATORS, Operator

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
class _Namespace:
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
    def version(self) -> str | None:
        """The installed version, without an import."""
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return None

    def unavailable(self) -> str | None:
        """Say why the library cannot run here."""
        try:
            return self.problem(import_module(self.module))
        except ImportError:
            return f"the module {self.module!r} is not installed"

    def adapter(self, name: str, install: str) -> Adapter:
        """Describe every operator on the library's arrays, in float64, float32 and signed integers."""
        adapter = Adapter(
            name,
            dtypes=("float64", "float32", "int64", "int32", "int16", "int8"),
            version=self.version,
            available=self.unavailable,
            install=install,
        )
        for operator in (operator for operator in OPERATORS.values() if operator.family in _FUNCTIONS):
            wrapper, indices = self._wrapper(operator), "indices" in operator.outputs
            dtypes = adapter.dtypes[:2] if operator.row.divides else None
            adapter.implements(operator.name, padding="low-high", dtypes=dtypes, indices=indices)(wrapper)
        return adapter

    def _wrapper(self, operator: Operator) -> Callable[..., Any]:
        """Take arrays to the library and back, and the other arguments as one window."""

        def wrapper(**given: Any) -> Any:
            xp = import_module(self.module)
            arrays = {name: given.pop(name) for name in operator.inputs}
            # The library gets memory of its own: some look at NumPy's, and read no negative strides.
            taken = {n: None if array is None else xp.asarray(array.copy()) for n, array in arrays.items()}
            returned = _FUNCTIONS[operator.family](xp, **taken, window=Window(**given))
            outputs = returned if isinstance(returned, tuple) else (returned,)
            return {n: self.to_numpy(xp, array) for n, array in zip(operator.outputs, outputs, strict=True)}

        return taking((*operator.inputs, *operator.parameters), wrapper)


def _problem_of_numpy(xp: ModuleType) -> str | None:
    return None if hasattr(xp, "concat") else f"NumPy {xp.__version__} lacks the array API, 2.1 has it"


def _problem_of_cupy(xp: ModuleType) -> str | None:
    try:
        return None if xp.cuda.runtime.getDeviceCount() else "no CUDA device"
    except xp.cuda.runtime.CUDARuntimeError:
        return "no CUDA device"


strict = _Namespace("array_api_strict", "array-api-strict").adapter(
    "array-api-strict", "pip install 'convform[array-api-strict]'"
)
numpy = _Namespace("numpy", "numpy", problem=_problem_of_numpy).adapter(
    "array-api-numpy", "pip install 'numpy>=2.1'"
)
torch = _Namespace("torch", "torch").adapter("array-api-torch", "pip install 'convform[torch]'")
cupy = _Namespace(
    "cupy", "cupy-cuda12x", to_numpy=lambda xp, array: xp.asnumpy(array), problem=_problem_of_cupy
).adapter("cupy", "pip install 'convform[cupy]'")
