"""Correct in unusual ways: whatever does what the standard says conforms, however it does it.

None of these looks at its arguments before it computes, so only what the standard *refuses* may be
found missing; every law about values, memory and dtypes must hold.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from convform import reference
from convform.adapters import Adapter
from convform.conformance import check
from convform.conformance.running import judge

UNUSUAL = {}


@pytest.fixture(autouse=True)
def _no_diagnosis(monkeypatch):
    """What is refused too little needs no name here."""
    monkeypatch.setattr(judge, "diagnosed", lambda subject, results, seed: list(results))


def unusual(make):
    """Collect an adapter by the name of the function that describes it."""
    UNUSUAL[make.__name__] = make
    return make


def windows_of(x, kernel, stride, padding, fill=0):
    """View x as n c oh ow kh kw: NumPy's own windows, every stride-th of them."""
    ph, pw = padding
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=fill)
    return sliding_window_view(padded, kernel, (2, 3))[:, :, :: stride[0], :: stride[1]]


@unusual
def by_einsum():
    """Windows as a view, one einsum for everything."""
    adapter = Adapter("einsum", dtypes=("float64", "float32", "int64"))

    @adapter.implements("conv2d")
    def conv(x, w, stride, padding, b=None):
        y = np.einsum("nchwij,ocij->nohw", windows_of(x, w.shape[2:], stride, padding), w, optimize=True)
        return y.astype(x.dtype) if b is None else (y + b[:, None, None]).astype(x.dtype)

    @adapter.implements("conv2d.backward")
    def gradients(x, w, dy, stride, padding):
        windows = windows_of(x, w.shape[2:], stride, padding)
        dw = np.einsum("nchwij,nohw->ocij", windows, dy)
        # dx one element at a time: the windows that an element takes part in are found by a search.
        dx = np.zeros_like(x)
        (sh, sw), (ph, pw) = stride, padding
        for h, v in np.ndindex(x.shape[2:]):
            for i, j in np.ndindex(w.shape[2:]):
                (oh, rest_h), (ow, rest_w) = divmod(h + ph - i, sh), divmod(v + pw - j, sw)
                if rest_h == rest_w == 0 and 0 <= oh < dy.shape[2] and 0 <= ow < dy.shape[3]:
                    dx[:, :, h, v] += dy[:, :, oh, ow] @ w[:, :, i, j]
        return {"dw": dw, "dx": dx}

    return adapter


@unusual
def by_fourier():
    """A product of spectra: not exact even on integers, and declared so."""
    adapter = Adapter("fourier")

    @adapter.implements("conv2d", arithmetic="transform")
    def conv(x, w, stride, padding, b=None):
        (ph, pw), (sh, sw) = padding, stride
        x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
        rows, columns = x.shape[2] - w.shape[2] + 1, x.shape[3] - w.shape[3] + 1
        if rows < 1 or columns < 1:
            raise ValueError("kernel larger than image")
        product = np.einsum(
            "nchw,ochw->nohw", np.fft.rfft2(x), np.conj(np.fft.rfft2(w, x.shape[2:])), optimize=True
        )
        y = np.fft.irfft2(product, x.shape[2:])[:, :, :rows, :columns][:, :, ::sh, ::sw]
        y = y if b is None else y + b[:, None, None]
        return np.ascontiguousarray(y.astype(x.dtype))

    return adapter


@unusual
def in_fortran_order():
    """Answers lie in memory the other way round."""
    adapter = Adapter("fortran")

    @adapter.implements("conv2d")
    def conv(x, w, stride, padding):
        y = np.tensordot(windows_of(x, w.shape[2:], stride, padding), w, ((1, 4, 5), (1, 2, 3)))
        return np.asfortranarray(y.transpose(0, 3, 1, 2))

    @adapter.implements("im2col", columns="n c kh kw oh ow")
    def gather(x, kernel, stride, padding):
        return np.array(windows_of(x, kernel, stride, padding).transpose(0, 1, 4, 5, 2, 3), order="F")

    return adapter


@unusual
def wider_inside():
    """Adds up in double precision and rounds once."""
    adapter = Adapter("wider", dtypes=("float32", "float16"))

    @adapter.implements("conv2d")
    def conv(x, w, b, stride, padding):
        windows = windows_of(x.astype(np.float64), w.shape[2:], stride, padding)
        return (np.einsum("nchwij,ocij->nohw", windows, w) + b[:, None, None]).astype(x.dtype)

    @adapter.implements("avg_pool2d", max_padding="half-kernel")
    def mean(x, kernel, stride, padding):
        stride = stride or kernel
        return windows_of(x.astype(np.float64), kernel, stride, padding).mean(axis=(4, 5)).astype(x.dtype)

    return adapter


@unusual
def one_column_of_a_larger_array():
    """The answer is fresh memory, but not contiguous: every second element of a buffer."""
    adapter = Adapter("strided answers")

    @adapter.implements("conv2d")
    def conv(x, w, stride, padding):
        y = np.einsum("nchwij,ocij->nohw", windows_of(x, w.shape[2:], stride, padding), w)
        buffer = np.full((*y.shape, 2), 77, y.dtype)
        buffer[..., 1] = y
        view = buffer[..., 1]
        view.flags.writeable = False
        return view

    return adapter


@unusual
def plain_loops():
    """Seven nested loops over Python numbers, nothing else."""
    adapter = Adapter("loops")

    @adapter.implements("conv2d")
    def conv(x, w, stride, padding, dilation, b=None):
        (n, _, height, width), (o, c, kh, kw) = x.shape, w.shape
        (sh, sw), (ph, pw), (dh, dw) = stride, padding, dilation
        y = np.zeros(
            (
                n,
                o,
                (height + 2 * ph - dh * (kh - 1) - 1) // sh + 1,
                (width + 2 * pw - dw * (kw - 1) - 1) // sw + 1,
            ),
            x.dtype,
        )
        for sample, filt, row, column in np.ndindex(y.shape):
            total = x.dtype.type(0) if b is None else b[filt]
            for channel, i, j in itertools.product(range(c), range(kh), range(kw)):
                h, v = row * sh - ph + i * dh, column * sw - pw + j * dw
                if 0 <= h < height and 0 <= v < width:
                    total = total + x[sample, channel, h, v] * w[filt, channel, i, j]
            y[sample, filt, row, column] = total
        return y

    return adapter


def padded_slices(x, kernel, stride, padding, dilation, fill=0):
    """Yield, for any rank, the elements that each tap meets in all windows."""
    rank = x.ndim - 2
    padded = np.pad(x, [(0, 0), (0, 0), *padding], constant_values=fill)
    sizes = [
        (size - d * (k - 1) - 1) // s + 1
        for size, k, s, d in zip(padded.shape[2:], kernel, stride, dilation, strict=True)
    ]
    for tap in np.ndindex(*kernel):
        at = (tap[i] * dilation[i] for i in range(rank))
        cut = tuple(
            slice(start, start + (o - 1) * s + 1, s) for start, o, s in zip(at, sizes, stride, strict=True)
        )
        yield tap, padded[(slice(None), slice(None), *cut)]


@unusual
def any_rank():
    """One path for rank 1 and 3, tap by tap, with uneven padding and groups."""
    adapter = Adapter("any rank", dtypes=("float64", "int32"))

    def conv(x, w, stride, padding, dilation, groups, b=None):
        y = 0
        for tap, part in padded_slices(x, w.shape[2:], stride, padding, dilation):
            n, c, *size = part.shape
            blocks = part.reshape(n, groups, c // groups, math.prod(size))
            weights = w[(..., *tap)].reshape(groups, len(w) // groups, c // groups)
            y = y + (weights @ blocks).reshape(n, len(w), *size)
        return y if b is None else y + b.reshape(-1, *[1] * (x.ndim - 2))

    for rank in (1, 3):
        adapter.implements(f"conv{rank}d", padding="low-high")(conv)
    return adapter


@unusual
def channels_last_with_odd_columns():
    """Channels last, output channels first in the weights, columns kept in an order nobody else has."""
    adapter = Adapter("channels last", input="h w n c", weight="o kw kh i", columns="(kw oh c) (n ow kh)")

    @adapter.implements("conv2d")
    def conv(x, w, b, stride, padding):
        x, w = x.transpose(2, 3, 0, 1), w.transpose(0, 3, 2, 1)
        y = np.einsum("nchwij,ocij->hwno", windows_of(x, w.shape[2:], stride, padding), w) + b
        return np.ascontiguousarray(y)

    @adapter.implements("im2col")
    def gather(x, kernel, stride, padding):
        windows = windows_of(x.transpose(2, 3, 0, 1), kernel, stride, padding)
        n, c, oh, ow, kh, kw = windows.shape
        return windows.transpose(5, 2, 1, 0, 3, 4).reshape(kw * oh * c, n * ow * kh)

    return adapter


@unusual
def a_single_image():
    """One image without channels, as a first lab has it; samples and channels do not exist."""
    adapter = Adapter("single image", input="h w", weight="kh kw", bias="", columns="(oh ow) (kh kw)")

    @adapter.implements("conv2d")
    def conv(x, w, b, stride):
        windows = sliding_window_view(x, w.shape)[:: stride[0], :: stride[1]]
        return (windows * w).sum(axis=(2, 3)) + b

    @adapter.implements("im2col", kernel="square")
    def gather(x, kernel):
        windows = sliding_window_view(x, (kernel, kernel))
        return windows.reshape(-1, kernel * kernel).copy()

    @adapter.implements("max_pool2d", kernel="square")
    def pool(x, kernel):
        h, w = x.shape[0] // kernel * kernel, x.shape[1] // kernel * kernel
        return x[:h, :w].reshape(h // kernel, kernel, w // kernel, kernel).max(axis=(1, 3))

    return adapter


@unusual
def transposed_outputs():
    """Outputs in another layout than inputs, channels and samples swapped in both."""
    adapter = Adapter("transposed", input="c n h w", output="oh o ow n", weight="i kh o kw")

    @adapter.implements("conv2d")
    def conv(x, w, stride):
        windows = sliding_window_view(x, (w.shape[1], w.shape[3]), (2, 3))[:, :, :: stride[0], :: stride[1]]
        return np.einsum("cnhwij,cioj->hown", windows, w)

    return adapter


@unusual
def whole_numbers():
    """Integers only, the smallest ones included."""
    adapter = Adapter("integers", dtypes=("int8", "int16", "int64"))

    @adapter.implements("conv2d")
    def conv(x, w, stride, padding, b=None):
        windows = windows_of(x.astype(object), w.shape[2:], stride, padding)
        y = np.tensordot(windows, w.astype(object), ((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2)
        return (y if b is None else y + b[:, None, None]).astype(x.dtype)

    @adapter.implements("max_pool2d", max_padding="half-kernel")
    def pool(x, kernel, stride, padding):
        lowest = np.iinfo(x.dtype).min
        return windows_of(x, kernel, stride or kernel, padding, lowest).max(axis=(4, 5))

    return adapter


@unusual
def one_axis_after_the_other():
    """Max pooling along rows, then along columns; -inf stands for what is not there."""
    adapter = Adapter("separable", dtypes=("float64", "float32", "float16"))

    @adapter.implements("max_pool2d", padding="low-high")
    def pool(x, kernel, stride, padding, dilation):
        stride = stride or kernel
        for axis in (2, 3):
            x = np.moveaxis(x, axis, -1)
            k, s, d, low_high = kernel[axis - 2], stride[axis - 2], dilation[axis - 2], padding[axis - 2]
            x = np.pad(x, [(0, 0)] * 3 + [low_high], constant_values=-np.inf)
            x = sliding_window_view(x, d * (k - 1) + 1, -1)[..., ::s, ::d]
            x = np.moveaxis(np.maximum.reduce(x, axis=-1), -1, axis)
        return np.array(x)

    return adapter


@unusual
def sorted_windows():
    """The maximum is the last of the sorted taps, and the index is found afterwards."""
    adapter = Adapter("sorted")

    def flat_windows(x, kernel, stride, padding, fill):
        windows = windows_of(x, kernel, stride or kernel, padding, fill)
        return windows.reshape(*windows.shape[:4], math.prod(kernel))

    @adapter.implements("max_pool2d", indices=True, max_padding="half-kernel")
    def pool(x, kernel, stride, padding):
        windows = flat_windows(x, kernel, stride, padding, -np.inf)
        plane = np.arange(x.shape[2] * x.shape[3]).reshape(1, 1, *x.shape[2:])
        places = np.broadcast_to(flat_windows(plane, kernel, stride, padding, -1), windows.shape)
        y = np.sort(windows, axis=-1)[..., -1]
        first = np.argmax((windows == y[..., None]) & (places >= 0), axis=-1)
        indices = np.take_along_axis(places, first[..., None], -1)[..., 0]
        return y, indices.astype(np.int16)

    @adapter.implements("max_pool2d.backward", max_padding="half-kernel")
    def gradient(x, dy, kernel, stride, padding):
        _, indices = pool(x, kernel, stride, padding)
        dx = np.zeros((*x.shape[:2], x.shape[2] * x.shape[3]), dy.dtype)
        for n, c in np.ndindex(x.shape[:2]):
            dx[n, c] = np.bincount(indices[n, c].ravel(), dy[n, c].ravel(), dx.shape[-1])
        return dx.reshape(x.shape)

    return adapter


@unusual
def averages_by_fractions():
    """Exact rational arithmetic, rounded at the very end; window by window, ceil rounding and all."""
    adapter = Adapter("fractions")

    def spans(size, k, s, p, ceil_mode):
        """Real taps, and taps that are no overhang, of every window along one axis."""
        count = Fraction(size + 2 * p - k, s)
        starts = [i * s - p for i in range((math.ceil(count) if ceil_mode else math.floor(count)) + 1)]
        starts = [start for start in starts if start < size] if ceil_mode else starts
        return [(range(max(a, 0), min(a + k, size)), range(a, min(a + k, size + p))) for a in starts]

    @adapter.implements("avg_pool2d")
    def pool(x, kernel, stride, padding, ceil_mode, count_include_pad):
        axes = [
            spans(size, k, s, p, ceil_mode)
            for size, k, s, p in zip(x.shape[2:], kernel, stride or kernel, padding, strict=True)
        ]
        y = np.empty((*x.shape[:2], *map(len, axes)), x.dtype)
        for n, c, row, column in np.ndindex(y.shape):
            (rows, all_rows), (columns, all_columns) = axes[0][row], axes[1][column]
            total = sum((Fraction(float(x[n, c, i, j])) for i in rows for j in columns), Fraction(0))
            counted = len(all_rows) * len(all_columns) if count_include_pad else len(rows) * len(columns)
            y[n, c, row, column] = float(total / counted)
        return y

    return adapter


@unusual
def averages_by_convolution():
    """Average pooling as a convolution with weights 1/k: rounds twice, within the bound."""
    adapter = Adapter("reciprocal")

    @adapter.implements("avg_pool2d", max_padding="half-kernel")
    def pool(x, kernel, stride, padding):
        weight = x.dtype.type(1 / math.prod(kernel))
        return (windows_of(x, kernel, stride or kernel, padding) * weight).sum(axis=(4, 5))

    return adapter


@unusual
def scatter_by_bincount():
    """Adds overlapping windows up with one histogram over flat positions."""
    adapter = Adapter("bincount", columns="(n oh ow) (c kh kw)")

    @adapter.implements("col2im")
    def scatter(cols, input_size, kernel, stride, padding):
        n, c, h, w = input_size
        flat = np.arange(1, n * c * h * w + 1).reshape(input_size)  # 0 is what fell into the padding
        places = windows_of(flat, kernel, stride, padding).transpose(0, 2, 3, 1, 4, 5)
        sums = np.bincount(places.ravel(), cols.ravel(), flat.size + 1)
        return sums[1:].reshape(input_size).astype(cols.dtype)

    return adapter


@unusual
def complex_arithmetic():
    """Works in the complex plane and answers the real part."""
    adapter = Adapter("complex")

    @adapter.implements("conv2d")
    def conv(x, w, stride, padding):
        y = np.einsum("nchwij,ocij->nohw", windows_of(x + 0j, w.shape[2:], stride, padding), w)
        return y.real.astype(x.dtype)

    return adapter


@unusual
def summed_backwards_and_compensated():
    """Adds the taps from the last to the first, in pieces, with Kahan's correction."""
    adapter = Adapter("kahan", dtypes=("float32", "float64"))

    @adapter.implements("conv2d")
    def conv(x, w, stride, padding, b=None):
        windows = windows_of(x, w.shape[2:], stride, padding)
        total = correction = np.zeros((len(x), len(w), *windows.shape[2:4]), x.dtype)
        for c, i, j in reversed(list(np.ndindex(w.shape[1:]))):
            term = windows[:, c, None, :, :, i, j] * w[:, c, i, j, None, None] - correction
            new = total + term
            total, correction = new, (new - total) - term
        return total if b is None else total + b[:, None, None]

    return adapter


# -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", UNUSUAL)
def test_an_unusual_implementation_conforms(name):
    report = check(UNUSUAL[name](), seed=len(name), level="strict")
    assert all(operator.cases > 100 for operator in report.operators)
    found = {
        f"{operator.name} {law.law}": law.violation.says if law.status == "violated" else law.reason
        for operator in report.operators
        for law in operator.laws
        if law.status in ("violated", "error") and not law.law.startswith("refuses")
    }
    assert found == {}


def test_the_form_with_a_batch_is_unspecified_where_none_is_claimed():
    """One axis more than declared is then a batch, which libraries accept as well (CONTRACT-9)."""
    adapter = Adapter("one sample", input="c h w")

    @adapter.implements("max_pool2d")
    def pool(x, kernel):
        y, _ = reference.max_pool(x if x.ndim == 4 else x[np.newaxis], kernel)
        return y if x.ndim == 4 else y[0]

    assert check(adapter, level="strict").verdict == "conforms"
