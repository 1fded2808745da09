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


# The reference names functions and parameters as the standard does and finds the rank in its arguments, so
# they are wrappers as they stand; only the gradient of a convolution without bias needs a default.
_OTHERS: Mapping[str, Callable[..., Any]] = {"conv.backward": _conv_backward}


def _make() -> Adapter:
    adapter = Adapter("reference", dtypes=FLOATS + INTEGERS, version=version("convform"))
    for operator in OPERATORS.values():
        name = operator.family.replace(".", "_")
        claims = {"padding": "low-high"} if "padding" in operator.parameters else {}
        adapter.implements(
            operator.name,
            **claims,
            dtypes=FLOATS if operator.row.divides else None,  # an average of integers is no integer
            indices="indices" in operator.outputs,
        )(_OTHERS.get(operator.family) or getattr(reference, name))
    return adapter


adapter = _make()
