"""The operators in JAX's windows."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax import lax

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
