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
from jax import lax

from convform.adapters.adapter import Adapter
from convform.spec.operators import OPERATORS

Size = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]

# These functions need JAX and NumPy alone: a reproducer prints them as they stand.


def patches(x: Any, kernel: Size, stride: Size, padding: Pairs, dilation: Size) -> Any:  # noqa: D103
    return lax.conv_general_dilated_patches(x, kernel, stride, padding, rhs_dilation=dilation)


def patches_transposed(  # noqa: D103
    cols: Any, input_size: Size, kernel: Size, stride: Size, padding: Pairs, dilation: Size
) -> Any:
    x = jax.ShapeDtypeStruct(input_size, cols.dtype)
    transposed = jax.linear_transpose(lambda x: patches(x, kernel, stride, padding, dilation), x)
    return transposed(cols)[0]


def conv(x: Any, w: Any, stride: Size, padding: Pairs, dilation: Size, groups: int) -> Any:  # noqa: D103
    return lax.conv_general_dilated(x, w, stride, padding, rhs_dilation=dilation, feature_group_count=groups)


def conv_gradients(  # noqa: D103
    x: Any, w: Any, dy: Any, stride: Size, padding: Pairs, dilation: Size, groups: int
) -> Any:
    return jax.vjp(lambda x, w: conv(x, w, stride, padding, dilation, groups), x, w)[1](dy)


def max_pool(x: Any, kernel: Size, stride: Size, padding: Pairs, dilation: Size) -> Any:  # noqa: D103
    lowest = -np.inf if x.dtype.kind == "f" else np.array(np.iinfo(x.dtype).min, x.dtype)
    around = ((0, 0), (0, 0), *padding)
    return lax.reduce_window(
        x, lowest, lax.max, (1, 1, *kernel), (1, 1, *stride), around, window_dilation=(1, 1, *dilation)
    )


def max_pool_gradient(x: Any, dy: Any, kernel: Size, stride: Size, padding: Pairs) -> Any:  # noqa: D103
    undilated = (1,) * len(kernel)
    return jax.vjp(lambda x: max_pool(x, kernel, stride, padding, undilated), x)[1](dy)[0]


def avg_pool(  # noqa: D103
    x: Any, kernel: Size, stride: Size, padding: Pairs, dilation: Size, count_include_pad: bool
) -> Any:
    def sums(x: Any) -> Any:
        around = ((0, 0), (0, 0), *padding)
        return lax.reduce_window(
            x, 0.0, lax.add, (1, 1, *kernel), (1, 1, *stride), around, window_dilation=(1, 1, *dilation)
        )

    wide = x.astype(np.promote_types(x.dtype, np.float32))
    count = np.prod(kernel).astype(wide.dtype) if count_include_pad else sums(lax.full_like(wide, 1))
    return (sums(wide) / count).astype(x.dtype)


def avg_pool_gradient(  # noqa: D103
    x: Any, dy: Any, kernel: Size, stride: Size, padding: Pairs, dilation: Size, count_include_pad: bool
) -> Any:
    average = lambda x: avg_pool(x, kernel, stride, padding, dilation, count_include_pad)  # noqa: E731
    return jax.vjp(average, x)[1](dy)[0]


_FLOATS = ("float64", "float32", "float16")
_NUMBERS = (*_FLOATS, "int64", "int32", "int16", "int8")

# family: (functions, of which the first is called, dtypes); nothing is derived in integers
_FAMILIES: Mapping[str, tuple[tuple[Callable[..., Any], ...], tuple[str, ...]]] = {
    "im2col": ((patches,), _NUMBERS),
    "col2im": ((patches_transposed, patches), _FLOATS),
    "conv": ((conv,), _NUMBERS),
    "conv.backward": ((conv_gradients, conv), _FLOATS),
    "max_pool": ((max_pool,), _NUMBERS),
    "max_pool.backward": ((max_pool_gradient, max_pool), _FLOATS),
    "avg_pool": ((avg_pool,), _FLOATS),
    "avg_pool.backward": ((avg_pool_gradient, avg_pool), _FLOATS),
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
    for operator in OPERATORS.values():
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
    functions, _ = _FAMILIES[OPERATORS[operator].family]
    takes = inspect.signature(functions[0]).parameters
    arguments = [name if name in _ARRAYS else f"{name}={parameters[name]!r}" for name in takes]
    outputs = list(OPERATORS[operator].outputs)[: 2 if len(OPERATORS[operator].outputs) == 3 else 1]
    source = "\n\n".join(inspect.getsource(function) for function in reversed(functions))
    returned = f"{functions[0].__name__}({', '.join(arguments)})"
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
             "beyond its input; and some strided gradients abort the process in XLA's simplifier.",
      link="https://github.com/openxla/xla/issues/48713")
known("max_pool?d.backward", "special_values", shows="values",
      reason="Padding is −∞ as well, and where it comes first in a window of −∞ it is selected.",
      link="https://openxla.org/xla/operation_semantics#selectandscatter")
# fmt: on
