"""Where PyTorch's tensors live, the way there and back, and the settings that change what is computed."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from convform.adapters.claims import Switch
from convform.adapters.layout import Array

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


def problem_of(place: Place) -> str | None:
    """Say why nothing can be computed there."""
    if place.on_gpu and not torch.cuda.is_available():
        return "no CUDA device"
    return None


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
