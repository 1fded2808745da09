"""JAX: ``lax.conv_general_dilated`` and ``lax.reduce_window``, ``jax.vjp`` for their gradients, on the CPU.

JAX has windows and leaves the operators to its users. What is asked of it here is what neural network
libraries on top of it ask: a convolution, which has no bias; a maximum over windows, which has no indices;
a sum over windows, in float32 at least, divided by the taps of the kernel or by a sum of ones; patches, and
their transposition.
Padding is ``(low, high)`` for each axis, a negative one crops, and a kernel that does not fit leaves an
empty output.

Two settings hold during a call and not beyond it: float64 is allowed, which it is not by default; and since
every new shape is compiled, and hardly any is used twice, the compiler spends little time on optimising.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from convform.adapters.adapter import Adapter
from convform.adapters.backends import jax_functions as functions
from convform.spec.operators import OPERATORS

_FLOATS = ("float64", "float32", "float16")
_NUMBERS = (*_FLOATS, "int64", "int32", "int16", "int8")

# family: (functions, of which the first is called, dtypes); nothing is derived in integers
_FAMILIES: Mapping[str, tuple[tuple[Callable[..., Any], ...], tuple[str, ...]]] = {
    "im2col": ((functions.patches,), _NUMBERS),
    "col2im": ((functions.patches_transposed, functions.patches), _FLOATS),
    "conv": ((functions.conv,), _NUMBERS),
    "conv.backward": ((functions.conv_gradients, functions.conv), _FLOATS),
    "max_pool": ((functions.max_pool,), _NUMBERS),
    "max_pool.backward": ((functions.max_pool_gradient, functions.max_pool), _FLOATS),
    "avg_pool": ((functions.avg_pool,), _FLOATS),
    "avg_pool.backward": ((functions.avg_pool_gradient, functions.avg_pool), _FLOATS),
}


def make() -> Adapter:
    """Describe JAX on the CPU, in floating point and, where nothing is derived, in integers."""
    adapter = Adapter(
        "jax",
        columns="n (c kd kh kw) od oh ow",
        version=jax.__version__,
        install="pip install 'convform[jax]'",
        script=script,
    )
    for operator in (operator for operator in OPERATORS.values() if operator.family in _FAMILIES):
        (function, *_), dtypes = _FAMILIES[operator.family]
        # The gradient of a maximum does not crop: it refuses negative padding.
        crops = operator.family != "max_pool.backward"
        claims: dict[str, Any] = {"padding": "low-high crop" if crops else "low-high", "oversize": "empty"}
        if operator.is_pooling:
            claims["default_stride"] = False
        if operator.name in ("conv1d.backward", "col2im1d", "col2im"):
            # Beyond that they read outside of their input, as conv2d.backward does (see the known limits);
            # but here nearly always zeros, and so no two runs need agree.
            claims["max_padding"] = "below-kernel"
        adapter.implements(operator.name, dtypes=dtypes, **claims)(_compiled(function))
    return adapter


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function for every shape that it meets; what it returns are arrays in memory of their own."""
    compiled = jax.jit(
        function,
        static_argnames=[name for name in inspect.signature(function).parameters if name not in _ARRAYS],
        compiler_options={"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False},
    )

    @functools.wraps(function)
    def call(**arguments: Any) -> Any:
        with jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
            return jax.tree.map(np.array, compiled(**arguments))

    return call


_ARRAYS = ("x", "w", "dy", "cols")


def script(operator: str, parameters: Mapping[str, Any]) -> str | None:
    """Write a call as a program that needs JAX and NumPy only; see `convform.adapters.Adapter`."""
    called, _ = _FAMILIES[OPERATORS[operator].family]
    takes = inspect.signature(called[0]).parameters
    arguments = [name if name in _ARRAYS else f"{name}={parameters[name]!r}" for name in takes]
    outputs = list(OPERATORS[operator].outputs)[: 2 if len(OPERATORS[operator].outputs) == 3 else 1]
    source = "\n\n".join(inspect.getsource(function) for function in reversed(called))
    returned = f"{called[0].__name__}({', '.join(arguments)})"
    return (
        "from typing import Any\n\nimport jax\nimport numpy as np\nfrom jax import lax\n\n"
        'jax.config.update("jax_enable_x64", True)\n'
        "Size = Pairs = tuple\n\n\n"
        f"{source.replace('  # noqa: D103', '')}\n\n"
        f"returned = {returned}\n"
        f"answer = dict(zip({outputs}, returned if isinstance(returned, tuple) else [returned]))\n"
    )


adapter = make()

# What JAX 0.10 answers otherwise than the standard.
# fmt: off
known = adapter.known_limit
known("im2col*", "IM2COL-3", shows="values",
      reason="Patches are cut out by a convolution with ones and zeros, and 0 · ∞ is NaN.",
      link="https://github.com/jax-ml/jax/issues/9972")
known("conv2d.backward", "WINDOW-3", when="padding reaches the kernel",
      reason="Where padding exceeds the kernel, dx is a convolution with negative padding, which reads "
             "beyond its input.",
      link="https://github.com/openxla/xla/issues/48713")
known("conv2d.backward", "WINDOW-3", when="stride > 1", shows="crashed", always=False,
      reason="Some strided gradients abort the process in XLA's simplifier.",
      link="https://github.com/openxla/xla/issues/48713")
known("max_pool?d.backward", "special_values", shows="values",
      reason="Padding is −∞ as well, and where it comes first in a window of −∞ it is selected.",
      link="https://openxla.org/xla/operation_semantics#selectandscatter")
# fmt: on
