"""ONNX: the standard's own evaluator, ``onnx.reference.ReferenceEvaluator``, written in NumPy.

`MaxPool` is asked for values alone: its indices are right only where strides or dilations are not all 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from onnx.reference import ReferenceEvaluator

from convform.adapters.adapter import Adapter
from convform.adapters.backends import onnx_models
from convform.adapters.layout import Array
from convform.spec.operators import OPERATORS

_RUNNING = """\
returned = onnx.reference.ReferenceEvaluator(model).run(None, feeds)"""


def make() -> Adapter:
    """Describe ONNX's reference evaluator.

    Padding a maximum and rounding up in an average go wrong for any number of axes, in the same code, and
    then most laws meet them. They are claimed for two axes alone, so that the other operators say something.
    """
    adapter = Adapter(
        "onnx",
        dtypes=("float64", "float32", "float16"),
        version=onnx.__version__,
        install="pip install 'convform[onnx]'",
        script=script,
    )
    bound: dict[str, dict[str, Any]] = {}
    for rank in (1, 3):
        bound[f"max_pool{rank}d"] = {"padding": ((0, 0),) * rank}
        bound[f"avg_pool{rank}d"] = {"ceil_mode": False}
    families: dict[str, dict[str, Any]] = {"col2im": {}, "conv": {}, "max_pool": {}, "avg_pool": {}}
    onnx_models.register(adapter, _run, families, indices=False, bound=bound)
    _known_limits(adapter)
    return adapter


def script(operator: str, parameters: Mapping[str, Any]) -> str | None:
    """Write a call as a program of its own; see `convform.adapters.Adapter`."""
    return onnx_models.script(operator, parameters, "onnx.reference", _RUNNING, indices=False)


def _run(model: Any, feeds: Mapping[str, Array]) -> Sequence[Array]:
    returned: Sequence[Array] = ReferenceEvaluator(model).run(None, dict(feeds))
    return returned


_OPS = "https://github.com/onnx/onnx/blob/main/onnx/reference/ops/"

# family: (clauses, what happens, where)
_LIMITS: Mapping[str, tuple[tuple[tuple[str, ...], str, str], ...]] = {
    "col2im": (
        (("COL2IM-1",), "float16 is added up in float16.", _OPS + "op_col2im.py"),
        (("CONTRACT-7",), "A batch without samples has no result.", _OPS + "op_col2im.py"),
        (
            ("WINDOW-6",),
            "Negative padding is accepted, though ONNX allows none.",
            "https://onnx.ai/onnx/operators/onnx__Col2Im.html",
        ),
    ),
    "conv": (
        (("CONV-7",), "A bias of one element is added to all channels.", _OPS + "op_conv.py"),
        (("CONTRACT-6",), "NumPy promotes dtypes that ONNX wants to be equal.", _OPS + "op_conv.py"),
        (("WINDOW-6",), "A kernel without taps is accepted.", _OPS + "op_conv.py"),
    ),
    "max_pool": (
        (
            ("MAXPOOL-4",),
            "NaN stands for padding, so it is dropped, and a window of NaN alone raises.",
            _OPS + "_op_common_pool.py",
        ),
        (
            ("WINDOW-6",),
            "A kernel that does not fit gives an empty output or raises, depending on stride and dilation.",
            _OPS + "op_max_pool.py",
        ),
    ),
    "avg_pool": ((("WINDOW-6",), "A kernel without taps is accepted.", _OPS + "op_pool_common.py"),),
}

_LIMITS_OF_ONE: Mapping[str, tuple[tuple[tuple[str, ...], str, str], ...]] = {
    "max_pool2d": (
        (
            ("WINDOW-3", "WINDOW-7", "WINDOW-8"),
            "Where stride and dilation are 1, pads are read as if both ends of an axis stood side by side, "
            "and not all beginnings before all ends.",
            _OPS + "_op_common_pool.py",
        ),
        (("MAXPOOL-3",), "A window without a real element is 0 or raises.", _OPS + "op_max_pool.py"),
    ),
    "max_pool3d": (
        (("CONTRACT-9",), "An input without samples and channels is pooled.", _OPS + "op_max_pool.py"),
    ),
    "avg_pool2d": (
        (
            ("WINDOW-2", "WINDOW-4", "WINDOW-5", "WINDOW-7", "AVGPOOL-4"),
            "Under ceil rounding half of the overhang is put before the input, which moves all windows.",
            _OPS + "op_pool_common.py",
        ),
    ),
}


def _known_limits(adapter: Adapter) -> None:
    """Declare what ONNX 1.23 answers otherwise than its own standard or ours, each with a link."""
    for name in adapter.implementations:
        limits = (*_LIMITS[OPERATORS[name].family], *_LIMITS_OF_ONE.get(name, ()))
        for clauses, reason, link in limits:
            for clause in clauses:
                adapter.known_limit(name, clause, reason=reason, link=link)
        if OPERATORS[name].family == "conv":
            adapter.known_limit(
                name,
                "CONV-5",
                reason="float16 is multiplied and added up in float16.",
                link=_OPS + "op_conv.py",
                dtypes=("float16",),
                always=False,  # the numbers drawn decide
            )


adapter = make()
