"""The canonical semantics in NumPy, three times.

- Here, the fast operators: `im2col`, `col2im`, `conv`, `max_pool`, `avg_pool` and the gradients, for any
  spatial rank (it comes from the array), as loops over taps and matrix products block by block.
- `convform.reference.definition`: the equations, literally, on exact numbers.
- `convform.reference.selection`: the operators as products with selection matrices.

Each has an `evaluate` that takes the names, axes and parameters of the operator table.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from convform.reference.call import Call
from convform.reference.columns import col2im, gather, gathered, im2col, scatter, scattered
from convform.reference.convolution import Gradients, conv, conv_backward, convolved, convolved_backward
from convform.reference.evaluation import Functions, Outputs, Parameters, evaluate_with
from convform.reference.pooling import (
    averaged,
    averaged_backward,
    avg_pool,
    avg_pool_backward,
    max_pool,
    max_pool_backward,
    max_pool_values,
    selected,
    selected_backward,
)
from convform.reference.window import Window

__all__ = [
    "FUNCTIONS",
    "Call",
    "Gradients",
    "Window",
    "avg_pool",
    "avg_pool_backward",
    "col2im",
    "conv",
    "conv_backward",
    "evaluate",
    "gather",
    "im2col",
    "max_pool",
    "max_pool_backward",
    "max_pool_values",
    "scatter",
]

FUNCTIONS: Functions = MappingProxyType(
    {
        "im2col": gathered,
        "col2im": scattered,
        "conv": convolved,
        "conv.backward": convolved_backward,
        "max_pool": selected,
        "max_pool.backward": selected_backward,
        "avg_pool": averaged,
        "avg_pool.backward": averaged_backward,
    }
)
"""The function of each operator family: of a call, and of arrays with the axes of the operator table."""


def evaluate(operator: str, inputs: Mapping[str, Any], parameters: Parameters) -> Outputs:
    """Evaluate an operator of the standard by name.

    Parameters
    ----------
    operator
        A name of the operator table, such as ``"conv2d.backward"``.
    inputs
        Arrays by name, with the axes of the table and nothing merged: x is "n c h w", cols is
        "n c kh kw oh ow". Any float or integer dtype, bfloat16 (of ml_dtypes) included; ``b`` may be
        missing or None.
    parameters
        Any of the operator's parameters; the others have the defaults of the table (stride 1, padding 0,
        …). A pooling stride of None is the kernel size (clause POOL-1). Or the `Call` that was made of these
        inputs: then nothing is parsed or checked again.

    Returns
    -------
    outputs
        Every output of the operator by name, the dtype of the inputs (indices: int64).

    Raises
    ------
    TypeError, ValueError
        For an unknown operator, input or parameter, an array of another rank than the operator's (clause
        CONTRACT-9), and whatever the operator refuses.

    Examples
    --------
    >>> import numpy as np
    >>> evaluate("max_pool1d", {"x": np.array([[[1, 3, 2]]])}, {"kernel": 2})["y"].tolist()
    [[[3, 3]]]
    """
    return evaluate_with(FUNCTIONS, operator, inputs, parameters)
