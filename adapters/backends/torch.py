"""PyTorch: ``torch.nn.functional`` for the operators, autograd for their gradients.

`adapter` runs on the CPU; `channels_last` as well, with the channels of images and weights last in memory;
`cuda` on the first GPU; `make` takes any other device. Every array is moved to the device once and every
answer back once.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 — everybody's name for it

from convform.adapters.adapter import Adapter
from convform.adapters.claims import Switch
from convform.adapters.layout import Array
from convform.spec.operators import OPERATORS, RANKS

Size = tuple[int, ...]

FLOATS = ("float64", "float32", "float16", "bfloat16")

# Threads pay on larger arrays than the judge's. On small ones they only wait for each other: measured, a
# convolution of 6×6 takes 0.02 ms on one thread, and 0.9 ms on two while the cores are busy.
if "OMP_NUM_THREADS" not in os.environ:
    torch.set_num_threads(1)


@dataclass(frozen=True)
class Place:
    """Where tensors live, and in which order in memory.

    Attributes
    ----------
    device
        What `torch.device` accepts: ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
    channels_last
        Whether images and weights with two or three spatial axes have their channels last in memory.
    """

    device: str = "cpu"
    channels_last: bool = False

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU of Nvidia's."""
        return self.device.startswith("cuda")

    def tensor(self, array: Array) -> torch.Tensor:
        """Move an array to the device, without a copy on the CPU wherever torch can read NumPy's memory."""
        if not array.flags.writeable or any(stride < 0 for stride in array.strides):
            array = array.copy()
        if array.dtype.name == "bfloat16":
            tensor = torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        else:
            tensor = torch.from_numpy(array)
        tensor = tensor.to(self.device)
        memory_format = self.memory_format(array.ndim - 2)
        return tensor.to(memory_format=memory_format) if memory_format else tensor

    def memory_format(self, rank: int) -> torch.memory_format | None:
        """Order in memory of an image with so many spatial axes; None for the usual one."""
        formats = {2: torch.channels_last, 3: torch.channels_last_3d}
        return formats.get(rank) if self.channels_last else None

    def exact_products(self) -> AbstractContextManager[Any]:
        """Keep cuDNN from rounding float32 factors to TF32, which convolutions do unless told otherwise."""
        return torch.backends.cudnn.flags(allow_tf32=False) if self.on_gpu else nullcontext()


def array_of(tensor: torch.Tensor) -> Array:
    """Bring a tensor back; NumPy knows bfloat16 from ml_dtypes, and torch does not know that."""
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        halves: Array = tensor.view(torch.int16).numpy().view("bfloat16")
        return halves
    array: Array = tensor.numpy()
    return array


def make(device: str = "cpu", *, channels_last: bool = False) -> Adapter:
    """Describe PyTorch on one device.

    Parameters
    ----------
    device
        What `torch.device` accepts: ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
    channels_last
        Whether the channels of images and weights are last in memory; operators with one spatial axis,
        for which torch has no such order, are then left out.

    Returns
    -------
    Adapter
        Named ``torch``, ``torch-channels-last``, ``torch-cuda`` and so on.
    """
    place = Place(device, channels_last)
    adapter = Adapter(
        "torch" + ("" if device == "cpu" else f"-{device}") + ("-channels-last" if channels_last else ""),
        dtypes=FLOATS,
        optional_dtypes=("bfloat16",),
        version=torch.__version__,
        available=lambda: _problem(place),
        install="pip install 'convform[torch]'",
        isolated=device == "cpu",  # convolutions of half types crash, see below
        script=lambda operator, parameters: script(operator, parameters, place),
        switches=lambda: switches(place),
    )
    if not channels_last:
        _columns(adapter, place)
    for rank in RANKS:
        if rank > 1 or not channels_last:
            _convolution(adapter, place, rank)
            _max_pooling(adapter, place, rank)
            _average_pooling(adapter, place, rank)
    _known_limits(adapter, place)
    return adapter


def _problem(place: Place) -> str | None:
    if place.on_gpu and not torch.cuda.is_available():
        return "no CUDA device"
    return None


ARGUMENTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "im2col": ("x", "kernel", "dilation", "padding", "stride"),
        "col2im": ("cols", "output_size", "kernel", "dilation", "padding", "stride"),
        "conv": ("x", "w", "b", "stride", "padding", "dilation", "groups"),
        "max_pool": ("x", "kernel", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
        "avg_pool": ("x", "kernel", "stride", "padding", "ceil_mode", "count_include_pad"),
    }
)
"""What torch's functions take, by operator family and in torch's order, under the standard's names."""


def function_of(operator: str) -> str:
    """Name of torch's function for an operator, or for the forward pass of a gradient."""
    forward = OPERATORS[operator].forward
    return {"im2col": "unfold", "col2im": "fold"}.get(forward, forward)


def _call(operator: str, **values: Any) -> Any:
    """Call torch's function for an operator."""
    function: Callable[..., Any] = getattr(F, function_of(operator))
    return function(*(values[name] for name in ARGUMENTS[OPERATORS[OPERATORS[operator].forward].family]))


def _gradients(y: torch.Tensor, inputs: Sequence[torch.Tensor], dy: torch.Tensor) -> list[Array]:
    return [array_of(gradient) for gradient in torch.autograd.grad(y, inputs, dy)]


def _columns(adapter: Adapter, place: Place) -> None:
    @adapter.implements("im2col")
    def unfold(x: Array, kernel: Size, stride: Size, padding: Size, dilation: Size) -> Array:
        window = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
        return array_of(_call("im2col", x=place.tensor(x), **window))

    @adapter.implements("col2im")
    def fold(
        cols: Array, input_size: Size, kernel: Size, stride: Size, padding: Size, dilation: Size
    ) -> Array:
        window = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
        x = _call("col2im", cols=place.tensor(cols), output_size=input_size[2:], **window)
        # torch is told the spatial sizes only; the others follow from the columns and must agree.
        if tuple(x.shape) != input_size:
            raise ValueError(f"columns of shape {cols.shape} do not belong to an input of size {input_size}")
        return array_of(x)


def _convolution(adapter: Adapter, place: Place, rank: int) -> None:
    name = f"conv{rank}d"

    @adapter.implements(name)
    def forward(
        x: Array, w: Array, stride: Size, padding: Size, dilation: Size, groups: int, b: Array | None = None
    ) -> Array:
        window = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        bias = None if b is None else place.tensor(b)
        with place.exact_products():
            return array_of(_call(name, x=place.tensor(x), w=place.tensor(w), b=bias, **window))

    @adapter.implements(f"{name}.backward")
    def backward(
        x: Array,
        w: Array,
        dy: Array,
        stride: Size,
        padding: Size,
        dilation: Size,
        groups: int,
        b: Array | None = None,
    ) -> list[Array]:
        window = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        # db is the same whatever the bias was, and there is one without a bias, too (CONVGRAD-3).
        b = np.zeros(len(w), w.dtype) if b is None else b
        image, weight, bias = (place.tensor(array).requires_grad_() for array in (x, w, b))
        with place.exact_products():
            y = _call(name, x=image, w=weight, b=bias, **window)
            return _gradients(y, [image, weight, bias], place.tensor(dy))


def _max_pooling(adapter: Adapter, place: Place, rank: int) -> None:
    name = f"max_pool{rank}d"

    @adapter.implements(name, indices=True, max_padding="half-kernel")
    def forward(
        x: Array, kernel: Size, stride: Size | None, padding: Size, dilation: Size, ceil_mode: bool
    ) -> tuple[Array, Array]:
        window = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
        y, indices = _call(name, x=place.tensor(x), ceil_mode=ceil_mode, return_indices=True, **window)
        return array_of(y), array_of(indices)

    @adapter.implements(f"{name}.backward", max_padding="half-kernel")
    def backward(
        x: Array, dy: Array, kernel: Size, stride: Size | None, padding: Size, dilation: Size, ceil_mode: bool
    ) -> Array:
        image = place.tensor(x).requires_grad_()
        given: dict[str, Any] = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
        given |= {"ceil_mode": ceil_mode, "return_indices": False}
        if any(padding) and any(step > 1 for step in dilation):
            # torch takes such a window's index from outside the plane, and its gradient then writes
            # outside the array (https://github.com/pytorch/pytorch/issues/114216). MAXPOOL-3 allows to
            # refuse; the forward call shows the wrong index, which harms nobody.
            blank = _call(name, x=torch.zeros_like(image), **given)
            if torch.isinf(blank).any():
                raise ValueError(f"padding={padding}, dilation={dilation}: a window without a real element")
        return _gradients(_call(name, x=image, **given), [image], place.tensor(dy))[0]


def _average_pooling(adapter: Adapter, place: Place, rank: int) -> None:
    name = f"avg_pool{rank}d"
    # avg_pool3d is implemented for no half type on the CPU.
    dtypes = FLOATS if rank < 3 or place.on_gpu else FLOATS[:2]

    @adapter.implements(name, dtypes=dtypes, max_padding="half-kernel")
    def forward(
        x: Array,
        kernel: Size,
        stride: Size | None,
        padding: Size,
        ceil_mode: bool,
        count_include_pad: bool,
    ) -> Array:
        given: dict[str, Any] = {"kernel": kernel, "stride": stride, "padding": padding}
        given |= {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
        return array_of(_call(name, x=place.tensor(x), **given))

    @adapter.implements(f"{name}.backward", dtypes=dtypes, max_padding="half-kernel")
    def backward(
        x: Array,
        dy: Array,
        kernel: Size,
        stride: Size | None,
        padding: Size,
        ceil_mode: bool,
        count_include_pad: bool,
    ) -> Array:
        image = place.tensor(x).requires_grad_()
        given: dict[str, Any] = {"kernel": kernel, "stride": stride, "padding": padding}
        given |= {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
        return _gradients(_call(name, x=image, **given), [image], place.tensor(dy))[0]


_SCRIPT = """\
import numpy as np
import torch
import torch.nn.functional as F


def tensor(array):
    if array.dtype.name == "bfloat16":
        return tensor(array.astype(np.float32)).bfloat16()
    return torch.from_numpy(np.array(array, order="C")){moved}


def numpy(tensor):
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


{body}"""


def script(operator: str, parameters: Mapping[str, Any], place: Place | None = None) -> str:
    """Write a call as Python that needs NumPy and torch alone; see `convform.adapters.Adapter`."""
    place, row = place or Place(), OPERATORS[operator]
    values = {name: repr(value) for name, value in parameters.items()}
    values |= {"output_size": repr(tuple(parameters.get("input_size", ())[2:])), "return_indices": "False"}
    inputs = ["x", "w", "b"] if "w" in row.inputs else [next(iter(row.inputs))]
    moved = "" if place.device == "cpu" else f".to({place.device!r})"
    memory_format = place.memory_format(row.rank)
    lines = ["torch.backends.cudnn.allow_tf32 = False"] if place.on_gpu else []
    lines += [f"{name}_ = tensor({name})" for name in inputs if name != "b"]
    if memory_format:
        lines += [f"{name}_ = {name}_.to(memory_format={memory_format})" for name in inputs if name != "b"]
    if row.name != row.forward:
        lines += ["b_ = tensor(np.zeros(len(w), w.dtype) if b is None else b)"] if "b" in inputs else []
        lines += [f"{name}_.requires_grad_()" for name in inputs]
    elif "b" in inputs:
        lines.append("b_ = None if b is None else tensor(b)")
    if row.name == row.forward and row.family == "max_pool":
        values["return_indices"] = "True"
    family = OPERATORS[row.forward].family
    given = ", ".join(f"{name}_" if name in inputs else values[name] for name in ARGUMENTS[family])
    called = f"F.{function_of(operator)}({given})"
    if row.name != row.forward:
        listed, named = ", ".join(f"{name}_" for name in inputs), ", ".join(f'"d{name}"' for name in inputs)
        dy = "tensor(dy)" + (f".to(memory_format={memory_format})" if memory_format else "")
        lines += [f"gradients = torch.autograd.grad({called}, [{listed}], {dy})"]
        lines += [f"answer = dict(zip([{named}], map(numpy, gradients)))"]
    elif row.family == "max_pool":
        lines += [f"y, indices = {called}", 'answer = {"y": numpy(y), "indices": numpy(indices)}']
    else:
        lines.append(f'answer = {{"{next(iter(row.outputs))}": numpy({called})}}')
    return textwrap.dedent(_SCRIPT).format(moved=moved, body="\n".join(lines) + "\n")


def switches(place: Place) -> list[Switch]:
    """Read the global settings that decide how torch calculates on a device."""
    found = [
        Switch("threads", torch.get_num_threads()),
        Switch("deterministic algorithms", torch.are_deterministic_algorithms_enabled()),
    ]
    products = torch.get_float32_matmul_precision()
    coarse = None if products == "highest" else "matrix products may round their float32 factors"
    found.append(Switch("torch.get_float32_matmul_precision()", products, coarse))
    if place.on_gpu:
        # TF32 in cuDNN is switched off around every convolution, whatever its switch says.
        return found
    mode = os.environ.get("ONEDNN_DEFAULT_FPMATH_MODE")
    rounds = None if mode in (None, "STRICT") else f"oneDNN may round float32 factors ({mode})"
    found.append(Switch("ONEDNN_DEFAULT_FPMATH_MODE", mode, rounds))
    by_operator = getattr(torch.backends.mkldnn, "conv", None)  # older releases have none
    precision = None if by_operator is None else str(by_operator.fp32_precision)
    rounds = f"convolutions round float32 factors to {precision}" if precision in ("bf16", "tf32") else None
    found.append(Switch("torch.backends.mkldnn.conv.fp32_precision", precision, rounds))
    # Measured: without oneDNN, batches of 16 and more go through Winograd's transforms.
    enabled = bool(torch.backends.mkldnn.enabled)
    transforms = None if enabled else "large batches go through Winograd's transforms, which round integers"
    found.append(Switch("torch.backends.mkldnn.enabled", enabled, transforms))
    return found


HOME = "https://github.com/pytorch/pytorch/"
SOURCE = f"{HOME}blob/v2.13.0/aten/src/ATen/native"
HALVES = FLOATS[2:]


def _known_limits(adapter: Adapter, place: Place) -> None:
    """Declare what PyTorch 2.13 answers otherwise than the standard, each with a link."""
    for operator in adapter.implementations:
        row = OPERATORS[operator]
        if row.family.startswith("conv"):
            adapter.known_limit(
                operator,
                "CONV-6",
                reason="Without input channels the output has no channels either, whatever the weights say.",
                link=f"{HOME}issues/56998",
            )
        if row.family == "max_pool":
            adapter.known_limit(
                operator,
                "MAXPOOL-3",
                reason="The index of a window without a real element is no element of the plane, and not -1.",
                link=f"{HOME}issues/114216",
            )
        if row.forward == "max_pool3d" and place.channels_last:
            adapter.known_limit(
                operator,
                "MAXPOOL-4",
                reason="With channels last, the index of a window of −∞ is that of its tap at depth 0.",
                link=f"{SOURCE}/cpu/MaxPoolKernel.cpp",
            )
        if row.name != row.forward:
            adapter.known_limit(
                operator,
                "CONTRACT-6",
                reason="Autograd converts a dy of another dtype instead of refusing it.",
                link=f"{HOME}pull/22273",
            )
        if row.forward == "avg_pool3d":
            adapter.known_limit(
                operator,
                "WINDOW-7",
                reason="An input smaller than the kernel is refused, though padding or ceil mode makes room.",
                link=f"{SOURCE}/Pool.h",
            )
        if not place.on_gpu:
            _known_limits_of_halves(adapter, operator, place)


def _known_limits_of_halves(adapter: Adapter, operator: str, place: Place) -> None:
    """Declare what the CPU does to half types; convolutions of them are oneDNN's."""
    row = OPERATORS[operator]
    if row.family.startswith("conv"):
        for dtype in FLOATS[1:] if place.channels_last else HALVES:
            adapter.known_limit(
                operator,
                "crashed",
                reason="A small image under much padding can end the process.",
                link="https://github.com/uxlfoundation/oneDNN/issues/5942",
                dtypes=(dtype,),  # one at a time, so that each is looked for
                always=False,
            )
    if row.family == "conv" and row.rank > 1:
        for clause in ("WINDOW-1", "WINDOW-2", "WINDOW-7"):
            adapter.known_limit(
                operator,
                clause,
                reason="Where the output has one column, rows are apart by the product of both strides.",
                link=f"{SOURCE}/mkldnn/Conv.cpp",
                dtypes=("bfloat16",),
                always=False,
            )
    if operator.startswith("conv") and operator.endswith(".backward"):
        adapter.known_limit(
            operator,
            "CONV-5",
            reason="On processors for which oneDNN has no float16, gradients are added up in half.",
            link=f"{SOURCE}/NaiveDilatedConvolution.cpp",
            dtypes=("float16",),
            always=False,
        )
    if operator == "conv1d.backward":
        for clause in ("CONVGRAD-2", "WINDOW-7", "CONTRACT-3", "CONTRACT-4"):
            adapter.known_limit(
                operator,
                clause,
                reason="dw is not initialised where a tap of the kernel sees nothing but padding.",
                link=f"{SOURCE}/mkldnn/Conv.cpp",
                dtypes=("bfloat16",),
                always=False,
            )
    if row.name == "col2im":
        adapter.known_limit(
            operator,
            "large_and_small",
            reason="Half types are added up in half.",
            link=f"{SOURCE}/im2col.h",
            dtypes=HALVES,
        )
    if row.forward in ("avg_pool1d", "avg_pool2d") and row.name != row.forward:
        adapter.known_limit(
            operator,
            "rounding",
            reason="The gradients of overlapping windows are added up in half.",
            link=f"{SOURCE}/cpu/AvgPoolKernel.cpp",
            dtypes=HALVES,
            always=False,
        )


adapter = make()
channels_last = make(channels_last=True)
cuda = make("cuda")
