"""Subtly wrong: each answers most calls correctly, and a law about its fault catches it in profile quick.

Every function is correct but for what its docstring says. The catalogue of misreadings holds what people
are known to get wrong; this is a second list, made up to find gaps in the suite.
"""

from __future__ import annotations

import numpy as np
import pytest

from convform import reference
from convform.adapters import Adapter
from convform.conformance.laws.index import laws_of
from convform.conformance.laws.law import QUICK
from convform.conformance.running.smoke import smoke
from convform.conformance.running.trial import Effort, run_law

NASTY = {}


def nasty(operator, *laws, **claims):
    """Collect a wrapper with the laws that must catch it."""

    def collect(wrapper):
        NASTY[wrapper.__name__] = (operator, laws, claims, wrapper)
        return wrapper

    return collect


def conv(x, w, b, **window):
    return reference.conv(x, w, b, **window)


# ------------------------------------------------------------------------------------------ convolution


@nasty("conv2d", "together", "long_axes")
def forgets_the_third_sample(x, w, b, stride, padding):
    """Answers the second sample's result for the third."""
    y = conv(x, w, b, stride=stride, padding=padding)
    y[2:] = y[1:2]
    return y


@nasty("conv2d", "channels", "together", "sweep")
def sums_two_channels(x, w, b, stride, padding):
    """Leaves out every input channel from the third on."""
    return conv(x[:, :2], w[:, :2], b, stride=stride, padding=padding)


@nasty("conv2d", "stride", "sweep")
def strides_within_the_kernel(x, w, b, stride, padding):
    """Never steps farther than the kernel is long."""
    y = conv(x, w, b, stride=stride, padding=padding)
    shorter = tuple(map(min, stride, w.shape[2:]))
    dense = conv(x, w, b, stride=shorter, padding=padding)
    return np.ascontiguousarray(dense[:, :, : y.shape[2], : y.shape[3]])


@nasty("conv2d", "padding", "sweep")
def wide_border(x, w, b, stride, padding):
    """Answers 0 in the first column where the padding is at least as long as the kernel."""
    y = conv(x, w, b, stride=stride, padding=padding)
    if padding[1] >= w.shape[3]:
        y[..., 0] = 0
    return y


@nasty("conv2d", "groups", "together")
def last_of_three_groups(x, w, b, stride, padding, groups):
    """Is right for two groups and wrong for three."""
    y = conv(x, w, b, stride=stride, padding=padding, groups=groups)
    if groups == 3:
        y[:, -1] = y[:, 0]
    return y


@nasty("conv2d", "bias")
def bias_where_it_fits(x, w, b, stride, padding):
    """Adds the bias along the width where the width happens to be the number of filters."""
    y = conv(x, w, None, stride=stride, padding=padding)
    return y + b if y.shape[1] == y.shape[3] else y + b[:, None, None]


@nasty("conv2d", "padding")
def shortcut_for_single_taps(x, w, b, stride, padding):
    """Takes a 1×1 kernel for a matrix product, and gets its border wrong."""
    y = conv(x, w, b, stride=stride, padding=padding)
    if w.shape[2:] == stride == (1, 1) and padding[0]:
        y[:, :, 0] += 1
    return y


@nasty("conv2d", "worked_examples")
def fast_path_for_three_by_three(x, w, b, stride, padding):
    """Transposes the kernel in the most common case of all: 3×3, stride 1, padding 1."""
    if w.shape[2:] == (3, 3) and stride == padding == (1, 1):
        w = w.transpose(0, 1, 3, 2)
    return conv(x, w, b, stride=stride, padding=padding)


@nasty("conv2d", "long_axes")
def tail_of_the_filters(x, w, b, stride, padding):
    """Leaves out what does not fill a block of eight filters, from the second block on."""
    y = conv(x, w, b, stride=stride, padding=padding)
    y[:, max(8, len(w) // 8 * 8) :] = 0
    return y


@nasty("conv2d", "long_sums")
def half_precision_for_long_sums(x, w, b, stride, padding):
    """Rounds long kernels to half precision."""
    if w[0].size > 1000:
        x, w = x.astype(np.float16).astype(x.dtype), w.astype(np.float16).astype(w.dtype)
    return conv(x, w, b, stride=stride, padding=padding)


@nasty("conv2d", "values")
def clips(x, w, b, stride, padding):
    """Takes everything beyond a million for a million."""
    return np.clip(conv(x, w, b, stride=stride, padding=padding), -1e6, 1e6).astype(x.dtype)


@nasty("conv2d", "views")
def bias_from_the_front(x, w, b, stride, padding):
    """Reads the memory of a reversed bias forwards."""
    b = b[::-1] if b.strides[0] < 0 else b
    return conv(x, w, b, stride=stride, padding=padding)


@nasty("conv2d", "inputs_unmodified")
def clears_the_bias(x, w, b, stride, padding):
    """Sets the bias to zero when it is done with it."""
    y = conv(x, w, b, stride=stride, padding=padding)
    if b.flags.writeable:
        b[...] = 0
    return y


@nasty("conv3d", "padding", "sweep")
def depth_and_height_swapped_for_cubes(x, w, b, padding):
    """Swaps the first two paddings where shapes do not tell."""
    if x.shape[2] == x.shape[3] and w.shape[2] == w.shape[3]:
        padding = (padding[1], padding[0], padding[2])
    return conv(x, w, b, padding=padding)


def gradients(x, w, dy, **window):
    return reference.conv_backward(x, w, None, dy, **window)


@nasty("conv2d.backward", "floor", "sweep")
def last_tap_of_a_rest(x, w, dy, stride, padding):
    """Forgets the last taps in dw where windows leave a rest."""
    dx, dw, db = gradients(x, w, dy, stride=stride, padding=padding)
    dw = dw.copy()
    if (x.shape[3] + 2 * padding[1] - w.shape[3]) % stride[1]:
        dw[..., -1] = 0
    return dx, dw, db


@nasty("conv2d.backward", "channels")
def transposed_where_it_fits(x, w, dy, stride, padding):
    """Exchanges input and output channels in dx where there are as many of both."""
    dx, dw, db = gradients(x, w, dy, stride=stride, padding=padding)
    if w.shape[0] == w.shape[1]:
        dx, _, _ = gradients(x, w.transpose(1, 0, 2, 3), dy, stride=stride, padding=padding)
    return dx, dw, db


@nasty("conv2d.backward", "padding", "sweep")
def shifted_by_a_padding_of_two(x, w, dy, stride, padding):
    """Cuts padding of two off on the wrong side."""
    dx, dw, db = gradients(x, w, dy, stride=stride, padding=padding)
    return (np.roll(dx, 1, axis=2) if padding[0] == 2 else dx), dw, db


# ---------------------------------------------------------------------------------------------- pooling


@nasty("max_pool2d", "default_stride")
def default_stride_from_the_height(x, kernel, stride, padding):
    """Takes the height of the kernel for the default stride along both axes."""
    stride = (kernel[0],) * 2 if stride is None else stride
    return reference.max_pool(x, kernel, stride=stride, padding=padding)[0]


@nasty("max_pool2d", "ceil", "sweep")
def starts_in_the_padding(x, kernel, stride, padding, ceil_mode):
    """Keeps a last window that would start in the padding."""
    if ceil_mode:
        sizes = zip(x.shape[2:], kernel, stride or kernel, padding, strict=True)
        padding = tuple((p, p + -(n + 2 * p - k) % s) for n, k, s, p in sizes)
    return reference.max_pool(x, kernel, stride=stride, padding=padding)[0]


@nasty("max_pool2d", "padding", "indices", indices=True)
def index_in_the_padded_plane(x, kernel, stride, padding):
    """Counts positions with the padded width."""
    y, indices = reference.max_pool(x, kernel, stride=stride, padding=padding)
    row, column = np.divmod(indices, x.shape[3])
    return y, np.where(indices < 0, indices, row * (x.shape[3] + 2 * padding[1]) + column)


@nasty("max_pool2d", "long_axes", indices=True, max_padding="half-kernel")
def index_in_a_byte(x, kernel, stride, padding):
    """Keeps positions in bytes, which are too small for planes of more than 256 elements."""
    y, indices = reference.max_pool(x, kernel, stride=stride, padding=padding)
    return y, indices.astype(np.uint8)


@nasty("max_pool2d", "special_values")
def nan_alone(x, kernel, stride, padding):
    """Answers NaN only where nothing else is in the window."""
    with_nan = reference.max_pool(x, kernel, stride=stride, padding=padding)[0]
    without = reference.max_pool(np.where(np.isnan(x), -np.inf, x), kernel, stride=stride, padding=padding)[0]
    return np.where(np.isnan(with_nan) & np.isinf(without), np.nan, without).astype(x.dtype)


@nasty("max_pool2d", "special_channels")
def nan_lost_in_blocks(x, kernel, stride, padding):
    """Compares sixteen channels at once, in a way that loses NaN."""
    block = x if x.shape[1] % 16 else np.where(np.isnan(x), -np.inf, x).astype(x.dtype)
    return reference.max_pool(block, kernel, stride=stride, padding=padding)[0]


@nasty("max_pool2d", "no_shared_memory")
def nothing_to_do(x, kernel, stride, padding):
    """Returns a view of the input where the kernel has a single tap."""
    if kernel == (1, 1) and padding == (0, 0):
        step = stride or kernel
        return x[:, :, :: step[0], :: step[1]]
    return reference.max_pool(x, kernel, stride=stride, padding=padding)[0]


@nasty("max_pool2d.backward", "values", "together")
def whole_gradients(x, dy, kernel, stride, padding):
    """Cuts fractions off, as a buffer of integers does."""
    return np.trunc(reference.max_pool_backward(x, dy, kernel, stride=stride, padding=padding))


@nasty("max_pool2d.backward", "values")
def no_gradient_for_zero(x, dy, kernel, stride, padding):
    """Takes a maximum of zero for a unit that is switched off."""
    return reference.max_pool_backward(x, dy, kernel, stride=stride, padding=padding) * (x != 0)


@nasty("avg_pool2d", "dtype")
def counts_in_double(x, kernel, stride, padding, count_include_pad):
    """Divides by float64 counts where padding does not count."""
    y = reference.avg_pool(x, kernel, stride=stride, padding=padding, count_include_pad=count_include_pad)
    return y if count_include_pad else y.astype(np.float64)


@nasty("avg_pool2d.backward", "exclude_padding", "sweep")
def corner_counted_twice(x, dy, kernel, stride, padding, count_include_pad):
    """Divides by half of what it should in one corner, where padding does not count."""
    dx = reference.avg_pool_backward(
        x, dy, kernel, stride=stride, padding=padding, count_include_pad=count_include_pad
    )
    if not count_include_pad and min(padding):
        dx = dx.copy()
        dx[:, :, 0, 0] *= 2
    return dx


# ---------------------------------------------------------------------------------------------- columns


@nasty("im2col", "special_values")
def positive_zeros(x, kernel, stride, padding):
    """Turns −0 into 0 by adding to it."""
    return reference.im2col(x + 0.0, kernel, stride=stride, padding=padding)


@nasty("col2im", "dilation", "sweep")
def mirrored_for_dilation_three(cols, input_size, kernel, stride, padding, dilation):
    """Mirrors the image for the one dilation that nobody tries."""
    x = reference.col2im(cols, input_size, kernel, stride=stride, padding=padding, dilation=dilation)
    return x[..., ::-1].copy() if dilation[1] == 3 else x


# -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NASTY)
def test_a_subtle_fault_is_caught_by_a_law_about_it(name):
    operator, wanted, claims, wrapper = NASTY[name]
    adapter = Adapter(name)
    adapter.implements(operator, **claims)(wrapper)
    subject, result = smoke(adapter.implementations[operator])
    assert subject is not None, result.reason
    laws = {law.name: law for law in laws_of(subject.operator)}
    for law in wanted:
        assert run_law(subject, laws[law], QUICK, seed=3, effort=Effort(shrink=False)).status == "violated", (
            law
        )
