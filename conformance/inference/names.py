"""Names by which homework calls operators and parameters, and what they usually mean.

Recognition by name only proposes; `convform.conformance.inference.search` finds out by calling.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from convform.spec.operators import ROWS

# A function with weights may name what it is made of, too: its own names come last.
_ROWS = tuple(sorted((row for row in ROWS.values() if row.names), key=lambda row: row.has_weights))

BACKWARD = ("backward", "backprop", "bprop", "grad", "gradient", "bwd", "back", "vjp", "derivative")
FORWARD = ("forward", "fprop", "fwd", "pass", "prop")
FORWARD_METHODS = ("forward", "forward_pass", "fprop", "__call__", "call", "apply", "predict")
BACKWARD_METHODS = ("backward", "backward_pass", "bprop", "backprop", "backpropagate", "back", "grad")

# Names that mean something else although they contain an operator's name.
_OTHERS = re.compile(r"transpose|deconv|depthwise|separable|adaptive|global|unpool|shape|size|test|init")

ROLE_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "x": "x z a a_prev aprev input inputs inp image images img imgs data batch x_in input_data arr array "
        "tensor input_tensor im feature_map signal input_image in_data xs features a_in",
        "w": "w weight weights kernels filter filters wt theta k_weights weight_matrix ws kern",
        "b": "b bias biases beta",
        "dy": "dout dy dz d_out grad grad_output grad_out upstream delta dl_dy dldy da g gy gradient "
        "out_grad "
        "output_grad dl_dout dldout accum_grad d_y grad_y upstream_grad dl d_output gout error grads eta gz",
        "cols": "col cols columns x_col xcol x_cols matrix patches rows col_matrix",
        "input_size": "x_shape input_shape xshape im_shape image_shape img_shape input_size shape in_shape "
        "x_size image_size original_shape insize",
        "kernel": "kernel kernel_size k ksize kernels_shape ks pool_size size filter_size f "
        "kernel_shape filter_shape "
        "window window_size poolsize kern_size pool field pool_shape kernels_size",
        "kernel_h": "kh kernel_h kernel_height filter_h filter_height fh hh k_h pool_h pool_height "
        "field_height "
        "window_h ph_size kheight h_k h_filter ky r",
        "kernel_w": "kw kernel_w kernel_width filter_w filter_width fw ww k_w pool_w pool_width field_width "
        "window_w kwidth w_k w_filter kx",
        "stride": "stride s step strides st steps hop",
        "stride_h": "sh stride_h sy stride_y s_h stride_height dh_stride",
        "stride_w": "sw stride_w sx stride_x s_w stride_width",
        "padding": "padding pad p pads padd zero_padding padding_size pad_size zeropad",
        "padding_h": "ph pad_h py pad_y p_h padding_h pad_height",
        "padding_w": "pw pad_w px pad_x p_w padding_w pad_width",
        "dilation": "dilation dil dilate dilation_rate rate dilations",
        "dilation_h": "dilation_h dil_h dilation_y d_h",
        "dilation_w": "dilation_w dil_w dilation_x d_w",
        "groups": "groups group n_groups num_groups",
        "ceil_mode": "ceil_mode cover_all ceil",
        "count_include_pad": "count_include_pad include_pad",
        "in_channels": "in_channels in_ch c_in in_c n_in num_channels input_channels channels nin "
        "in_features "
        "n_c_prev cin ic in_planes n_channels in_depth input_depth channels_in inchannels depth c",
        "out_channels": "out_channels num_filters n_filters out_ch c_out out_c n_out output_channels nout "
        "out_features n_c cout oc num_kernels n_kernels channels_out outchannels out_planes out_depth o "
        "filter_num n_f nf output_depth out",
        "cache": "cache ctx context saved memo state",
        "config": "params conv_param pool_param hparameters hparams config cfg options opts settings "
        "param conf "
        "hyperparameters hyper",
        "init_w": "weight_init init initializer w_init weight_initializer kernel_initializer kernel_init "
        "initialiser weight_initialiser init_w init_weight init_weights weights_init",
        "init_b": "bias_init b_init bias_initializer bias_initialiser init_b init_bias",
        "optimizer": "optimizer optimiser opt",
        "rate": "lr learning_rate alpha learn_rate",
        "indices": "indices idx argmax mask max_idx switches",
    }
)
"""How each role is called, in lower case; a name that is in several lists has the first role."""

_ROLE_OF = {
    name: role for role, names in reversed(list(ROLE_NAMES.items())) for name in reversed(names.split())
}

_ARRAYS = frozenset({"x", "w", "b", "dy", "cols"})


@dataclass(frozen=True)
class Parameter:
    """A parameter of a homework function, as its name and default describe it.

    Attributes
    ----------
    name
        Its name.
    roles
        What it may mean, likeliest first; empty where the name says nothing.
    required
        Whether it has no default.
    default
        The default, or None.
    keys
        For a parameter that holds a dict: the keys that the source reads from it.
    """

    name: str
    roles: tuple[str, ...]
    required: bool
    default: object
    keys: tuple[str, ...] = ()


def role_of(name: str) -> str | None:
    """Return what a name usually stands for, or None."""
    lower = name.lower().strip("_")
    return _ROLE_OF.get(lower) or _ROLE_OF.get(lower.replace("_", ""))


def words(name: str) -> list[str]:
    """Split an identifier into lower-case words: ``"maxPool2dBackward"`` is max, pool2d, backward."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z0-9]+|[A-Z0-9]+", name)]


def operator_named(name: str) -> str | None:
    """Return the operator that an identifier seems to name, such as ``"conv2d.backward"``, or None."""
    flat = "".join(words(name))
    if _OTHERS.search(flat):
        return None
    row = next((row for row in _ROWS if any(word in flat for word in row.names)), None)
    row = row or next((row for row in _ROWS if any(word in flat for word in row.vague_names)), None)
    if row is None:
        return None
    gradient = next((other for other in ROWS.values() if other.gradient_of == row.name), None)
    rest = [word for word in words(name) if word in BACKWARD or word.startswith("backward")]
    if gradient is not None and (rest or "backward" in flat or "backprop" in flat):
        row = gradient
    return row.named(next((int(digit) for digit in "13" if f"{digit}d" in flat), 2))


def parameters_of(function: Callable[..., Any], *, arrays: bool) -> list[Parameter] | None:
    """Describe the parameters of a function or class; None where it has no signature or takes ``*args``.

    Parameters
    ----------
    function
        A function, bound method or class.
    arrays
        Whether a name such as ``filters`` is more likely an array than a number: True for functions.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    described = []
    for name, parameter in signature.parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        required = parameter.default is parameter.empty
        default = None if required else parameter.default
        described.append(
            Parameter(name, _roles(name, default, arrays), required, default, _keys(function, name))
        )
    return described


def _roles(name: str, default: object, arrays: bool) -> tuple[str, ...]:
    lower = name.lower().strip("_")
    number = isinstance(default, int | tuple) and not isinstance(default, bool)
    if number and lower in ("dy", "dx"):  # dilation along y and x, where they are numbers
        return ("dilation_h",) if lower == "dy" else ("dilation_w",)
    role = role_of(name)
    if name in ("K", "F") or lower in ("kernel", "filter", "filters", "kernels", "k", "f"):
        both: tuple[str, ...] = ("w", "kernel") if arrays or name in ("K", "F") else ("kernel", "w")
        if lower in ("filters", "kernels", "f") and not arrays:
            both = ("out_channels", *both)
        return ("kernel",) if number else both
    if lower in ("c", "d", "depth", "channels", "o", "out") and arrays:
        return ("cols",) if lower == "c" else ("dilation",) if lower == "d" else ()
    if lower in ("h", "w") and arrays and (name.islower() or number):
        sizes = (f"size_{lower}", f"kernel_{lower}")
        return ("w", *sizes) if lower == "w" and not number else sizes
    if lower == "n_c" or role is None:
        return () if role is None else (role,)
    if role == "input_size":
        return ("input_size",)
    if role in _ARRAYS and (number or isinstance(default, bool)):
        return ()
    return (role,)


def _keys(function: Callable[..., Any], name: str) -> tuple[str, ...]:
    """Keys that the source reads from a dict parameter."""
    target = function.__init__ if inspect.isclass(function) else function
    try:
        source = inspect.getsource(target)
    except (OSError, TypeError):
        return ()
    found = re.findall(rf"\b{re.escape(name)}\s*(?:\.get\(|\[)\s*['\"](\w+)['\"]", source)
    return tuple(dict.fromkeys(found))


def names_looked_for() -> str:
    """Say which names of functions and classes are recognised."""
    return ", ".join(row.names[0] for row in _ROWS)


def backward_stem(name: str) -> str:
    """What is left of a name without the words for forward and backward, to pair functions."""
    return "".join(word for word in words(name) if word not in (*BACKWARD, *FORWARD))


def first_of(candidates: Sequence[str], of: object) -> str | None:
    """Return the first name that is a callable attribute of an object's class."""
    return next((name for name in candidates if callable(getattr(of, name, None))), None)
