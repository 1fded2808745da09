"""ONNX Runtime: models of one node, run by the CPU execution provider.

`adapter` asks `MaxPool` for its indices, `plain` for values alone, which takes other code; `same` pads in
words (``auto_pad``). Shapes are written into the models, as in models that
are exported from elsewhere, and a session is kept for each. What ONNX Runtime has no kernel for it converts:
half precision is computed in float32.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import onnxruntime

from convform.adapters.adapter import Adapter
from convform.adapters.backends import onnx_models
from convform.adapters.layout import Array
from convform.spec.operators import OPERATORS

_RUNNING = """\
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
returned = session.run(None, feeds)"""


_MAX_POOL = ("float64", "float32", "float16", "int8")


def make(name: str = "onnxruntime", *, indices: bool = True) -> Adapter:
    """Describe ONNX Runtime on the CPU, padding in numbers.

    Parameters
    ----------
    name
        What reports call it.
    indices
        Whether to ask `MaxPool` for indices.
    """
    adapter = _adapter(name, indices)
    below = {"max_padding": "below-kernel"}  # https://github.com/microsoft/onnxruntime/issues/801
    families: dict[str, dict[str, Any]] = {"max_pool": {"dtypes": _MAX_POOL, **below}}
    if indices:
        families |= {"col2im": {}, "conv": {}, "avg_pool": below}
    onnx_models.register(adapter, _run, families, indices=indices)
    _known_limits(adapter)
    return adapter


def make_same() -> Adapter:
    """Describe ONNX Runtime on the CPU, padding in words."""
    adapter = _adapter("onnxruntime-same", indices=False)
    onnx_models.register_same(adapter, _run, {"conv": {}, "max_pool": {"dtypes": _MAX_POOL}})
    _known_limits(adapter)
    for clause in ("WINDOW-1", "WINDOW-2", "WINDOW-7", "WINDOW-8"):
        adapter.known_limit(
            "conv2d",
            clause,
            reason="A stride beyond the kernel gives SAME a negative padding, which cuts off the beginning.",
            link=_SOURCE + "conv_attributes.h",
            always=False,
        )
    # Any law can meet such a dilation: those after WINDOW-8 are about something else.
    for clause in (
        "WINDOW-4",
        "WINDOW-7",
        "WINDOW-8",
        *(f"CONTRACT-{number}" for number in (1, 2, 3, 4, 5, 7)),
    ):
        adapter.known_limit(
            "max_pool2d",
            clause,
            reason="SAME is computed for the kernel without its dilation.",
            link=_SOURCE + "pool_attributes.h",
            always=clause == "WINDOW-4",
        )
    return adapter


def _adapter(name: str, indices: bool) -> Adapter:
    def script(operator: str, parameters: Mapping[str, Any]) -> str | None:
        return onnx_models.script(operator, parameters, "onnxruntime", _RUNNING, indices)

    return Adapter(
        name,
        dtypes=("float32", "float16"),
        version=onnxruntime.__version__,
        install="pip install 'convform[onnxruntime]'",
        script=script,
    )


def _run(model: Any, feeds: Mapping[str, Array]) -> Sequence[Array]:
    returned: Sequence[Array] = _session(model.SerializeToString()).run(None, dict(feeds))
    return returned


@functools.lru_cache(maxsize=256)
def _session(model: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # a thread pool for every session would wait for nothing
    options.log_severity_level = 4  # what it refuses it raises, too
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


_SOURCE = "https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/core/providers/cpu/nn/"
_ISSUES = "https://github.com/microsoft/onnxruntime/issues/"


def _known_limits(adapter: Adapter) -> None:
    """Declare what ONNX Runtime 1.31 answers otherwise than the standard, each with a link."""
    for name in adapter.implementations:
        family, rank = OPERATORS[name].family, OPERATORS[name].rank
        if family == "col2im":
            adapter.known_limit(
                name,
                "WINDOW-6",
                reason="Negative padding crops, though ONNX allows none.",
                link="https://onnx.ai/onnx/operators/onnx__Col2Im.html",
            )
            for clause in ("WINDOW-4", "WINDOW-7", "WINDOW-8", "COL2IM-1") if rank != 2 else ():
                adapter.known_limit(
                    name,
                    clause,
                    reason="With one or three axes, windows are counted without regard to the dilation.",
                    link=_ISSUES + "18156",
                )
        if family in ("max_pool", "avg_pool"):
            adapter.known_limit(
                name,
                "WINDOW-6",
                reason="The output size is truncated toward zero: a kernel that does not fit has a window.",
                link=_ISSUES + "25234",
            )
        if family == "max_pool":
            adapter.known_limit(
                name,
                "MAXPOOL-4",
                reason="The maximum starts from the lowest finite number, and whether a NaN counts depends on"
                " where it is, on the number of channels and on whether indices are asked for.",
                link=_ISSUES + "24819",
            )
            adapter.known_limit(
                name,
                "special_channels",
                reason="Without indices, sixteen channels go to a kernel for blocks of them, in which NaN "
                "wins where it loses in one channel alone.",
                link=_ISSUES + "24819",
                always=False,
            )
            adapter.known_limit(
                name,
                "MAXPOOL-3",
                reason="A window without a real element has the lowest finite number and an index outside of "
                "the tensor.",
                link=_SOURCE + "pool_functors.h",
            )


adapter = make()
plain = make("onnxruntime-plain", indices=False)
same = make_same()
