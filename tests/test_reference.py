"""The reference: three formulations that agree, and what the fast operators promise and refuse."""

from __future__ import annotations

import inspect
import re
import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convform.reference as reference
from convform.reference import (
    avg_pool,
    avg_pool_backward,
    col2im,
    conv,
    conv_backward,
    definition,
    gather,
    im2col,
    max_pool,
    max_pool_backward,
    max_pool_values,
    scatter,
)
from convform.reference import selection as matrix
from convform.reference.blocks import tiles
from convform.reference.call import Call
from convform.reference.misreadings.misreading import misread
from convform.reference.window import Window
from convform.spec.clauses import clauses
from convform.spec.operators import FAMILIES, OPERATORS

FLOATS = ("float64", "float32", "float16")
DTYPES = (*FLOATS, "int64", "int8", ">f8", ">i4")


def rng(seed=0):
    return np.random.default_rng(seed)


def small(shape, dtype="float64", seed=0, high=3):
    """Integers so small that every sum is exact in every dtype."""
    return rng(seed).integers(-high, high, shape, endpoint=True).astype(dtype)


@st.composite
def calls(draw, operator, dtypes=DTYPES):
    """A valid call of an operator with arrays of small integers: inputs and parameters."""
    entry = OPERATORS[operator]
    rank = entry.rank
    room = 3 if rank < 3 else 1

    def axes(low, high):
        return tuple(draw(st.lists(st.integers(low, high), min_size=rank, max_size=rank)))

    kernel, stride, dilation = axes(1, 3), axes(1, 3), axes(1, 2)
    padding = tuple(zip(axes(0, 2), axes(0, 2), strict=True))
    ceil_mode = draw(st.booleans()) if entry.is_pooling else False
    extent = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    size = tuple(
        max(1, e - low - high) + extra
        for e, (low, high), extra in zip(extent, padding, axes(0, room), strict=True)
    )
    groups = draw(st.integers(1, 2))
    n, c, o = draw(st.integers(0, 2)), groups * draw(st.integers(0, 2)), groups * draw(st.integers(1, 2))
    if entry.is_pooling and draw(st.booleans()):
        stride = None
    output = Window.of(kernel, stride, padding, dilation, ceil_mode).output_size(size)
    channels = c if entry.is_pooling else o
    shapes = {
        "x": (n, c, *size),
        "w": (o, c // groups, *kernel),
        "b": (o,),
        "dy": (n, channels, *output),
        "cols": (n, c, *kernel, *output),
    }
    values = {
        "input_size": shapes["x"],
        "kernel": kernel,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "ceil_mode": ceil_mode,
        "count_include_pad": draw(st.booleans()),
    }
    dtype = draw(st.sampled_from([d for d in dtypes if entry.family[:3] != "avg" or "f" in d]))
    seed = draw(st.integers(0, 99))
    inputs = {name: small(shapes[name], dtype, seed + i) for i, name in enumerate(entry.inputs)}
    if entry.family == "avg_pool.backward":
        inputs["dy"] *= np.dtype(dtype).type(12**rank)  # divisible by every divisor
    if "b" in inputs and draw(st.booleans()):
        del inputs["b"]
    return inputs, {name: values[name] for name in entry.parameters}


def assert_same(outputs, expected):
    """The same names, shapes and values; what is exact is rounded once."""
    assert list(outputs) == list(expected)
    for name, value in outputs.items():
        assert value.shape == expected[name].shape, name
        np.testing.assert_array_equal(value, expected[name].astype(value.dtype), err_msg=name)


@pytest.mark.parametrize("operator", OPERATORS)
def test_definition_matrices_and_fast_operators_agree_bit_for_bit(operator):
    @settings(max_examples=30, deadline=None, derandomize=True, database=None)
    @given(calls(operator))
    def agree(asked):
        inputs, parameters = asked
        fast = reference.evaluate(operator, inputs, parameters)
        call = Call.of(OPERATORS[operator], inputs, parameters)
        assert call == call.again(OPERATORS[operator].family, inputs)
        assert hash(call) is not None
        for evaluate in (reference.evaluate, definition.evaluate, matrix.evaluate, misread()):
            assert_same(fast, evaluate(operator, inputs, call))
        assert_same(fast, definition.evaluate(operator, inputs, parameters))
        dtype = inputs["cols" if "cols" in inputs else "x"].dtype
        for name, value in fast.items():
            assert value.dtype == (np.int64 if name == "indices" else dtype)
            assert value.flags.c_contiguous
            assert value.flags.writeable
            assert not any(np.shares_memory(value, given) for given in inputs.values())

    agree()


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(call=calls("conv2d", dtypes=("float64",)))
def test_convolution_agrees_with_torch(call):
    torch = pytest.importorskip("torch")
    inputs, parameters = call
    (n, c, *_), w = inputs["x"].shape, inputs["w"]
    if min(n, c) == 0:  # torch gives other shapes there
        return
    symmetric = {**parameters, "padding": tuple(max(pair) for pair in parameters["padding"])}
    x, w, b = (
        None if name not in inputs else torch.tensor(inputs[name], requires_grad=True) for name in "xwb"
    )
    y = torch.nn.functional.conv2d(x, w, b, **symmetric)
    np.testing.assert_array_equal(reference.evaluate("conv2d", inputs, symmetric)["y"], y.detach().numpy())
    dy = small(tuple(y.shape), seed=9)
    y.backward(torch.tensor(dy))
    gradients = reference.evaluate("conv2d.backward", {**inputs, "dy": dy}, symmetric)
    for name, tensor in (("dx", x), ("dw", w), ("db", b)):
        if tensor is not None:
            np.testing.assert_array_equal(gradients[name], tensor.grad.numpy())


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(call=calls("avg_pool2d", dtypes=("float64",)))
def test_pooling_agrees_with_torch(call):
    torch = pytest.importorskip("torch")
    inputs, parameters = call
    x = inputs["x"]
    if x.size == 0:  # torch refuses
        return
    window = {
        "stride": parameters["stride"],
        # torch accepts at most half the kernel, and knows no dilation of averages
        "padding": tuple(
            min(low, k // 2) for (low, _), k in zip(parameters["padding"], parameters["kernel"], strict=True)
        ),
        "ceil_mode": parameters["ceil_mode"],
    }
    kernel, counted = parameters["kernel"], {"count_include_pad": parameters["count_include_pad"]}
    try:
        Window.of(kernel, padding=window["padding"]).output_size(x.shape[2:])
    except ValueError:
        return
    functional = torch.nn.functional
    t = torch.tensor(x, requires_grad=True)
    y, indices = functional.max_pool2d(t, kernel, **window, return_indices=True)
    values, positions = max_pool(x, kernel, **window)
    np.testing.assert_array_equal(values, y.detach().numpy())
    np.testing.assert_array_equal(positions, indices.numpy())
    dy = 144 * small(values.shape, seed=9)
    y.backward(torch.tensor(dy))
    np.testing.assert_array_equal(max_pool_backward(x, dy, kernel, **window), t.grad.numpy())
    t.grad = None
    y = functional.avg_pool2d(t, kernel, **window, **counted)
    np.testing.assert_array_equal(avg_pool(x, kernel, **window, **counted), y.detach().numpy())
    y.backward(torch.tensor(dy))
    np.testing.assert_array_equal(avg_pool_backward(x, dy, kernel, **window, **counted), t.grad.numpy())


# Adjoints: ⟨A x, y⟩ = ⟨x, Aᵀ y⟩


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(call=calls("im2col", dtypes=("int64",)))
def test_col2im_is_the_adjoint_of_im2col(call):
    inputs, parameters = call
    x = inputs["x"]
    cols = im2col(x, **parameters)
    y = small(cols.shape, "int64", seed=5)
    assert (cols * y).sum() == (x * col2im(y, x.shape, **parameters)).sum()


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(call=calls("conv2d.backward", dtypes=("int64",)))
def test_gradients_of_convolution_are_its_adjoints(call):
    inputs, parameters = call
    x, w, dy = inputs["x"], inputs["w"], inputs["dy"]
    product = (conv(x, w, **parameters) * dy).sum()
    gradients = conv_backward(x, w, None, dy, **parameters)
    assert product == (x * gradients.dx).sum() == (w * gradients.dw).sum()
    assert gradients.db.tolist() == dy.sum((0, 2, 3)).tolist()


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(call=calls("avg_pool2d.backward", dtypes=("float64",)))
def test_gradient_of_the_average_is_its_adjoint(call):
    inputs, parameters = call
    x, dy = inputs["x"] * 144, inputs["dy"]
    y = avg_pool(x, **parameters)
    real = ~np.isnan(y)  # a window in which nothing counts
    dx = avg_pool_backward(x, dy, **parameters)
    assert (y[real] * dy[real]).sum() == (x * dx).sum()


# What the operators promise

CALLS = {
    "im2col": lambda x, w, dy: im2col(x, 3, padding=1),
    "gather": lambda x, w, dy: gather(x, 3, stride=2),
    "col2im": lambda x, w, dy: col2im(x.reshape(len(x), 12, 5)[:, :, :4], (len(x), 3, 3, 3), 2),
    "scatter": lambda x, w, dy: scatter(x[:, :, :2, :2, None, None], (len(x), 3, 2, 2), 2),
    "conv": lambda x, w, dy: conv(x, w, w[:, 0, 0, 0], padding=1),
    "conv_backward": lambda x, w, dy: conv_backward(x, w, None, dy, padding=1),
    "max_pool": lambda x, w, dy: max_pool(x, 3, stride=1, padding=1),
    "max_pool_values": lambda x, w, dy: max_pool_values(x, 3, stride=1, padding=1),
    "max_pool_backward": lambda x, w, dy: max_pool_backward(x, x, 3, stride=1, padding=1),
    "avg_pool": lambda x, w, dy: avg_pool(x, 3, stride=1, padding=1),
    "avg_pool_backward": lambda x, w, dy: avg_pool_backward(x, x, 3, stride=1, padding=1),
}
VIEWS = {
    "fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "mirrored": lambda a: a[..., ::-1].copy()[..., ::-1],
    "transposed": lambda a: a.swapaxes(0, -1).copy().swapaxes(0, -1),
}


def results(value):
    return value if isinstance(value, tuple) else (value,)


def arrays(dtype="float64"):
    return small((2, 3, 4, 5), dtype), small((2, 3, 3, 3), dtype, 1), small((2, 2, 4, 5), dtype, 2)


def test_every_operator_is_called_below():
    public = {name for name in reference.__all__ if inspect.isfunction(getattr(reference, name))}
    assert public == {*CALLS, "evaluate"}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("operator", CALLS)
def test_views_give_what_their_copies_give(operator, view):
    expected = CALLS[operator](*arrays())
    given = [VIEWS[view](array) for array in arrays()]
    for array in given:
        array.flags.writeable = False
    for actual, value in zip(results(CALLS[operator](*given)), results(expected), strict=True):
        np.testing.assert_array_equal(actual, value)


@pytest.mark.parametrize("operator", CALLS)
def test_broadcast_inputs_are_read_like_any_other(operator):
    given = [np.broadcast_to(array[..., :1], array.shape) for array in arrays()]
    expected = CALLS[operator](*(array.copy() for array in given))
    for actual, value in zip(results(CALLS[operator](*given)), results(expected), strict=True):
        np.testing.assert_array_equal(actual, value)


@pytest.mark.parametrize("operator", CALLS)
def test_inputs_are_neither_modified_nor_shared(operator):
    given = arrays()
    before = [array.copy() for array in given]
    outputs = results(CALLS[operator](*given))
    for array, copy in zip(given, before, strict=True):
        np.testing.assert_array_equal(array, copy)
        assert not any(np.shares_memory(array, output) for output in outputs)


@pytest.mark.parametrize("operator", CALLS)
def test_an_empty_batch_gives_empty_outputs(operator):
    full = results(CALLS[operator](*arrays()))
    x, w, dy = arrays()
    for name, empty, value in zip(
        ("first", "dw", "db"), results(CALLS[operator](x[:0], w, dy[:0])), full, strict=False
    ):
        shape = value.shape if name in ("dw", "db") and operator == "conv_backward" else (0, *value.shape[1:])
        assert empty.shape == shape
        assert not empty.any()


@pytest.mark.parametrize("shape", [(2, 3, 40, 40), (40, 3, 4, 200), (1, 2, 3, 400, 11), (70, 5, 300)])
@pytest.mark.parametrize("padding", [0, 1])
def test_convolution_in_blocks_is_the_convolution(monkeypatch, shape, padding):
    x, w = small(shape), small((4, shape[1], *[3] * (len(shape) - 2)), seed=1)
    whole = conv(x, w, padding=padding)
    dy = small(whole.shape, seed=2)
    gradients = conv_backward(x, w, None, dy, padding=padding)
    for size in (1, 3000, 70000):
        monkeypatch.setattr("convform.reference.convolution.COLUMN_BYTES", size)
        np.testing.assert_array_equal(conv(x, w, padding=padding), whole)
        if size > 1:
            for part, expected in zip(conv_backward(x, w, None, dy, padding=padding), gradients, strict=True):
                np.testing.assert_array_equal(part, expected)


def test_threads_give_what_one_stretch_gives(monkeypatch):
    calls = (
        lambda x: im2col(x, 3, padding=1),
        lambda x: col2im(im2col(x, 3), x.shape, 3),
        lambda x: max_pool_values(x, 3, stride=2, padding=1),
        lambda x: avg_pool(x, 3, stride=2, padding=1),
    )
    x = small((7, 3, 12, 13))
    expected = [call(x) for call in calls]
    monkeypatch.setattr("convform.reference.blocks.THREAD_BYTES", 1)
    monkeypatch.setattr("convform.reference.blocks.MOST_THREADS", 3)
    monkeypatch.setattr("convform.reference.pooling.BLOCK_BYTES", 5000)
    for call, value in zip(calls, expected, strict=True):
        np.testing.assert_array_equal(call(x), value)


def test_tiles_cover_every_place_once_and_are_whole_behind_the_first_cut():
    for shape in ((4,), (3, 4), (2, 3, 4), (0, 3), ()):
        for most in range(1, 30):
            seen = np.zeros(shape, int)
            for box in tiles(shape, most):
                assert seen[box].size <= most
                seen[box] += 1
            assert (seen == 1).all()


def test_convolution_takes_little_more_memory_than_its_output():
    x, w = np.ones((8, 64, 56, 56)), np.ones((64, 64, 3, 3))
    tracemalloc.start()
    try:
        y = conv(x, w, padding=1)
        extra = tracemalloc.get_traced_memory()[1] - y.nbytes
    finally:
        tracemalloc.stop()
    assert extra < 64 << 20


# Special values


def test_columns_are_copies_of_the_bits():
    x = np.array([[[np.nan, -np.nan, np.inf, -np.inf, -0.0, 5e-324]]])
    cols = gather(x, 1)
    assert cols.tobytes() == x.tobytes()


@pytest.mark.parametrize("pool", [max_pool, lambda *a, **k: (max_pool_values(*a, **k), None)])
@pytest.mark.parametrize("dtype", FLOATS)
def test_nan_wins_and_infinities_count(pool, dtype):
    x = np.array([[[1, np.nan, 3, -np.inf, -np.inf, np.inf, np.nan]]], dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y, _ = pool(x, 2, stride=1)
    np.testing.assert_array_equal(y[0, 0], [np.nan, np.nan, 3, -np.inf, np.inf, np.nan])
    assert y.dtype == dtype


@pytest.mark.parametrize("pool", [max_pool, lambda *a, **k: (max_pool_values(*a, **k), None)])
def test_of_two_zeros_the_first_is_selected(pool):
    x = np.array([[[-0.0, 0.0, -0.0, 0.0, -0.0, -1.0]]])
    signs = np.signbit(pool(x, 2, stride=1)[0])
    assert signs[0, 0].tolist() == [True, False, True, False, True]
    y = definition.evaluate("max_pool1d", {"x": x}, {"kernel": 2, "stride": 1})["y"]
    assert y.astype(float).tobytes() == pool(x, 2, stride=1)[0].tobytes()


@pytest.mark.parametrize(("dtype", "least"), [("float32", -np.inf), ("int8", -128), ("uint16", 0)])
def test_a_window_without_a_real_element_is_the_least_value_and_has_no_index(dtype, least):
    x = np.array([[[7]]], dtype)
    window = {"stride": 1, "padding": (1,), "dilation": 2}
    y, indices = max_pool(x, 2, **window)
    assert y.tolist() == [[[least]]]
    assert max_pool_values(x, 2, **window).tolist() == [[[least]]]
    assert indices.tolist() == [[[-1]]]
    assert max_pool_backward(x, np.ones_like(x), 2, **window).tolist() == [[[0]]]


def test_the_least_value_itself_is_selected_with_its_index():
    assert max_pool(np.full((1, 1, 3), -np.inf), 2, padding=(1,))[1].tolist() == [[[0, 1]]]


def test_nan_in_one_window_stays_there():
    x = np.array([[[np.nan, 1.0, 2.0, 4.0]]])
    np.testing.assert_array_equal(avg_pool(x, 2)[0, 0], [np.nan, 3])
    np.testing.assert_array_equal(conv(x, np.ones((1, 1, 2)), stride=2)[0, 0], [np.nan, 6])


def test_an_average_over_nothing_is_nan_and_gives_nothing_back():
    x = np.array([[[7.0]]])
    window = {"stride": 1, "padding": (1,), "dilation": 2, "count_include_pad": False}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(avg_pool(x, 2, **window)).all()
        assert avg_pool_backward(x, np.ones_like(x), 2, **window).tolist() == [[[0]]]


def test_zero_input_channels_give_the_bias():
    y = conv(np.zeros((2, 0, 4, 4)), np.zeros((3, 0, 3, 3)), np.array([1.0, 2.0, 3.0]), padding=1)
    assert y.shape == (2, 3, 4, 4)
    np.testing.assert_array_equal(y, np.broadcast_to(np.array([1.0, 2.0, 3.0])[:, None, None], y.shape))
    assert conv(np.zeros((2, 0, 4)), np.zeros((3, 0, 3))).tolist() == np.zeros((2, 3, 2)).tolist()


@pytest.mark.parametrize("operator", ["sum of columns", "convolution", "average", "gradient"])
def test_half_precision_is_added_up_in_single_precision(operator):
    # In float16, 2048 + 1 = 2048.
    taps = np.ones((1, 1, 4096), np.float16)
    taps[0, 0, 0] = 2048
    total = np.float16(2048 + 4095)
    if operator == "sum of columns":
        assert col2im(taps.reshape(1, 4096, 1), (1, 1, 4096), 4096)[0, 0, 1] == 1
        assert col2im(np.ones((1, 3, 4096), np.float16), (1, 1, 4098), 3).max() == 3
    elif operator == "convolution":
        assert conv(taps, np.ones((1, 1, 4096), np.float16))[0, 0, 0] == total
    elif operator == "average":
        assert avg_pool(taps, 4096)[0, 0, 0] == np.float16((2048 + 4095) / 4096)
    else:
        assert conv_backward(0 * taps, 0 * taps[..., :1], None, taps).db[0] == total


def test_integers_are_exact_where_the_result_is():
    x, w = np.full((1, 2, 3), 100, np.int8), np.array([[[1, 1, -1], [1, -1, -1]]], np.int8)
    assert conv(x, w).tolist() == [[[0]]]


# What is refused

X, W, B = np.ones((2, 4, 5, 5)), np.ones((6, 4, 3, 3)), np.ones(6)
DY = np.ones((2, 6, 3, 3))
KHW = np.ones((1, 1, 2, 3, 1, 1))
REFUSED = [
    ("x is a list", TypeError, "x is a list", lambda: im2col([[[1.0]]], 1)),
    ("booleans", TypeError, "x has dtype bool", lambda: max_pool(X > 0, 2)),
    ("complex", TypeError, "x has dtype complex128", lambda: avg_pool(X + 0j, 2)),
    ("objects", TypeError, "w has dtype object", lambda: conv(X, W.astype(object))),
    ("mixed dtypes", TypeError, r"w: float32.*CONTRACT-6", lambda: conv(X, W.astype(np.float32))),
    ("mixed bias", TypeError, r"b: float32.*CONTRACT-6", lambda: conv(X, W, B.astype(np.float32))),
    ("mixed gradient", TypeError, "dy: int64", lambda: conv_backward(X, W, B, DY.astype(int))),
    ("unbatched", ValueError, r"x has shape \(5, 5\).*CONTRACT-9", lambda: max_pool(X[0, 0], 2)),
    ("rank of w", ValueError, r"w has shape.*CONTRACT-9", lambda: conv(X, W[..., 0])),
    ("channels", ValueError, r"w has shape.*CONV-7", lambda: conv(X, W[:, :3])),
    ("groups and C", ValueError, r"groups=3.*CONV-7", lambda: conv(X, W[:, :1], groups=3)),
    ("groups and O", ValueError, r"groups=4.*CONV-7", lambda: conv(X, W[:, :1], groups=4)),
    ("no groups", ValueError, "groups=0", lambda: conv(X, W, groups=0)),
    ("half a group", TypeError, "groups=1.5", lambda: conv(X, W, groups=1.5)),
    ("length of b", ValueError, r"b has shape \(5,\).*CONV-7", lambda: conv(X, W, B[:5])),
    ("shape of b", ValueError, r"b has shape \(6, 1\)", lambda: conv(X, W, B[:, None])),
    ("dy of conv", ValueError, r"dy has shape.*CONVGRAD-5", lambda: conv_backward(X, W, B, DY[:1])),
    ("dy of max", ValueError, r"dy has shape.*MAXGRAD-3", lambda: max_pool_backward(X, X, 2)),
    ("dy of avg", ValueError, r"dy has shape.*AVGGRAD-2", lambda: avg_pool_backward(X, X, 2)),
    ("columns", ValueError, r"cols has shape.*COL2IM-3", lambda: col2im(np.ones((1, 4, 9)), (1, 1, 5, 5), 2)),
    (
        "kernel axes",
        ValueError,
        r"cols.*COL2IM-3",
        lambda: scatter(KHW, (1, 1, 3, 2), (3, 2)),
    ),
    ("input size", ValueError, r"input_size=\(5, 5\)", lambda: col2im(np.ones((1, 4, 16)), (5, 5), 2)),
    ("negative size", ValueError, "input_size", lambda: col2im(np.ones((1, 4, 16)), (-1, 1, 5), 2)),
    ("oversized kernel", ValueError, r"kernel=\(6, 6\).*WINDOW-6", lambda: im2col(X, 6)),
    ("oversized by dilation", ValueError, "WINDOW-6", lambda: conv(X, W, dilation=3)),
    ("no kernel", ValueError, r"kernel=\(0, 0\)", lambda: max_pool(X, 0)),
    ("stride 0", ValueError, r"stride=\(0, 0\).*WINDOW-6", lambda: conv(X, W, stride=0)),
    ("dilation 0", ValueError, r"dilation=\(0, 0\).*WINDOW-6", lambda: conv(X, W, dilation=0)),
    ("negative padding", ValueError, r"padding=.*WINDOW-6", lambda: avg_pool(X, 2, padding=-1)),
    ("no stride", TypeError, "stride=None.*POOL-1", lambda: im2col(X, 2, stride=None)),
    ("three strides", ValueError, "stride=", lambda: im2col(X, 2, stride=(1, 1, 1))),
    ("average of integers", TypeError, "x has dtype int64.*AVGPOOL-1", lambda: avg_pool(X.astype(int), 2)),
    ("counting mode", TypeError, "count_include_pad=1", lambda: avg_pool(X, 2, count_include_pad=1)),
    ("rounding", TypeError, "ceil_mode='yes'", lambda: max_pool(X, 2, ceil_mode="yes")),
    ("operator", ValueError, "operator='conv4d'", lambda: reference.evaluate("conv4d", {}, {})),
    ("input", ValueError, "inputs", lambda: reference.evaluate("conv2d", {"x": X}, {})),
    ("parameter", ValueError, "'pad'", lambda: reference.evaluate("im2col", {"x": X}, {"pad": 1})),
    ("no kernel given", ValueError, "no kernel", lambda: reference.evaluate("im2col", {"x": X}, {})),
    (
        "one axis more",
        ValueError,
        "CONTRACT-9",
        lambda: reference.evaluate("conv1d", {"x": X, "w": W}, {}),
    ),
]


@pytest.mark.parametrize(
    ("error", "message", "call"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_refusals_name_the_argument_and_the_rule(error, message, call):
    with pytest.raises(error, match=message):
        call()


# Documentation

MODULES = (reference, definition, matrix)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_family_has_a_function_of_a_call_and_the_arrays_of_the_table(module):
    assert tuple(module.FUNCTIONS) == FAMILIES
    for operator in OPERATORS.values():
        names = tuple(inspect.signature(module.FUNCTIONS[operator.family]).parameters)
        assert names == ("call", *operator.inputs)


DOORS = {family: getattr(reference, family.replace(".", "_")) for family in FAMILIES}


def test_every_family_has_a_door_with_the_parameters_of_the_table():
    for operator in OPERATORS.values():
        names = tuple(inspect.signature(DOORS[operator.family]).parameters)
        assert names == (*operator.inputs, *operator.parameters)


def public_functions():
    for module in MODULES:
        for name, function in vars(module).items():
            if inspect.isfunction(function) and not name.startswith("_"):
                if module is reference and name not in reference.__all__:
                    continue
                if module is reference or function.__module__ == module.__name__:
                    yield pytest.param(function, id=f"{module.__name__}.{name}")


@pytest.mark.parametrize("function", list(public_functions()))
def test_docstrings_say_shapes_dtypes_errors_and_the_clause(function):
    text = inspect.getdoc(function)
    cited = re.findall(r"\b[A-Z0-9]*[A-Z][A-Z0-9]*-\d+\b", text)
    assert [clause for clause in cited if clause not in clauses()] == []
    if any(function is family for module in (definition, matrix) for family in module.FUNCTIONS.values()):
        assert cited
    if function in (*DOORS.values(), reference.gather, reference.scatter):
        assert cited
        assert re.search(r'"n c (h w|kh kw oh ow|oh ow)"', text)
        assert "dtype" in text
        assert "Returns\n-------" in text
        assert "Raises\n------" in text
        for name in inspect.signature(function).parameters:
            assert re.search(rf"^(\w+, )*{name}(, \w+)*$", text, re.MULTILINE), name
