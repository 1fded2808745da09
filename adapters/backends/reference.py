"""The reference as a subject: the judge must find that it conforms, in both lanes and at every level."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

from convform import reference
from convform.adapters.adapter import Adapter
from convform.adapters.layout import Array
from convform.reference.window import Padding, PerAxis
from convform.spec.operators import OPERATORS

FLOATS = ("float64", "float32", "float16")
INTEGERS = ("int64", "int32")


def _conv_backward(
    x: Array,
    w: Array,
    dy: Array,
    b: Array | None = None,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> reference.Gradients:
    return reference.conv_backward(
        x, w, b, dy, stride=stride, padding=padding, dilation=dilation, groups=groups
    )


# The reference names its parameters as the standard does and finds the rank in its arguments, so its
# functions are wrappers as they stand; only the gradient of a convolution without bias needs a default.
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "im2col": reference.im2col,
    "col2im": reference.col2im,
    "conv": reference.conv,
    "conv.backward": _conv_backward,
    "max_pool": reference.max_pool,
    "max_pool.backward": reference.max_pool_backward,
    "avg_pool": reference.avg_pool,
    "avg_pool.backward": reference.avg_pool_backward,
}


def _make() -> Adapter:
    adapter = Adapter("reference", dtypes=FLOATS + INTEGERS, version=version("convform"))
    for operator in OPERATORS.values():
        averages = operator.family.startswith("avg_pool")  # an average of integers is no integer
        adapter.implements(
            operator.name,
            padding="low-high",
            dtypes=FLOATS if averages else None,
            indices=operator.family == "max_pool",
        )(_FUNCTIONS[operator.family])
    return adapter


adapter = _make()
