"""Inference: a homework file goes in, an adapter that the judge accepts comes out."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from convform.adapters import AdapterError, find, load
from convform.conformance import check
from convform.conformance.doors.cli import main
from convform.conformance.inference import infer
from convform.conformance.inference.homework import Hangs, Homework
from convform.conformance.inference.infer import infer_adapter, infer_file
from convform.conformance.inference.layouts import fit_columns, fit_order, grouped, leaves
from convform.conformance.inference.names import operator_named, parameters_of

EXAMPLES = Path(str(files("convform.examples")))
SHAPES = sorted(path.name for path in EXAMPLES.glob("shape_*.py") if path.name < "shape_18")

# Claims of a hand-written adapter that no experiment can find out, by example.
NOT_RECOVERED = {
    "shape_15_six_scalars.py": "its col2im has no parameter for the dilation that its adapter claims",
}


def facts(implementation):
    """Layouts and claims of an implementation.

    Whether a default stride is written out in the wrapper, and how much padding a pool is asked for, are
    choices of whoever writes the adapter, so they are no facts about a homework.
    """
    claims = implementation.claims
    layouts = {
        name: str(layout)
        for name, layout in implementation.layouts.items()
        if name in implementation.takes or name in ("y", "cols")
    }
    forms = (claims.stride, claims.padding, claims.dilation, claims.kernel, claims.dialects)
    return implementation.takes, layouts, forms, claims.bias_optional


def recovered(name):
    """Whether every adapter in an example is matched by an inferred one in every operator that it has."""
    inferred = infer_file(EXAMPLES / name).adapters

    def matches(hand, own):
        return all(
            operator in own.implementations and facts(own.implementations[operator]) == facts(implementation)
            for operator, implementation in hand.implementations.items()
        )

    return all(any(matches(hand, own) for own in inferred) for hand in find(str(EXAMPLES / name)))


def test_inference_recovers_the_handwritten_adapters_of_16_of_17_shapes(capsys):
    found = {name: recovered(name) for name in SHAPES}
    with capsys.disabled():
        print(f"\ninfer: layouts and claims recovered in {sum(found.values())} of {len(found)} shapes")
    assert len(found) == 17
    assert {name for name, right in found.items() if not right} == set(NOT_RECOVERED)


@pytest.mark.parametrize("name", ["lab_conv.py", "lab_grad.py", "lab_pool.py", "channels_last.py"])
def test_inference_recovers_the_handwritten_adapters_of_the_labs(name):
    assert recovered(name)


# ------------------------------------------------------------------------------------- written by strangers

NAMED_LAYERS = """
import numpy as np

class Box:
    def __init__(self, value):
        self.value, self.grad = value, np.zeros_like(value)

class ConvolutionalLayer:
    def __init__(self, in_channels, out_channels, filter_size, padding):
        self.f, self.p = filter_size, padding
        self.W = Box(np.random.randn(filter_size, filter_size, in_channels, out_channels))
        self.B = Box(np.zeros(out_channels))

    def forward(self, X):
        f, p, W = self.f, self.p, self.W.value
        self.X = np.pad(X, ((0, 0), (p, p), (p, p), (0, 0)))
        oh, ow = self.X.shape[1] - f + 1, self.X.shape[2] - f + 1
        out = np.zeros((len(X), oh, ow, W.shape[3]), dtype=X.dtype)
        for y in range(oh):
            for x in range(ow):
                out[:, y, x] = np.tensordot(self.X[:, y : y + f, x : x + f], W, axes=3)
        return out + self.B.value

    def backward(self, d_out):
        f, p = self.f, self.p
        dX, dW = np.zeros_like(self.X), np.zeros_like(self.W.value)
        for y in range(d_out.shape[1]):
            for x in range(d_out.shape[2]):
                g = d_out[:, y, x]
                dW += np.tensordot(self.X[:, y : y + f, x : x + f], g, axes=([0], [0]))
                dX[:, y : y + f, x : x + f] += np.tensordot(g, self.W.value, axes=([1], [3]))
        self.W.grad, self.B.grad = dW, d_out.sum(axis=(0, 1, 2))
        return dX[:, p : dX.shape[1] - p, p : dX.shape[2] - p]
"""

COURSE_FUNCTIONS = """
import numpy as np

def conv_forward(A_prev, W, b, hparameters):
    s, p = hparameters["stride"], hparameters["pad"]
    f = W.shape[0]
    A = np.pad(A_prev, ((0, 0), (p, p), (p, p), (0, 0)))
    oh, ow = (A.shape[1] - f) // s + 1, (A.shape[2] - f) // s + 1
    Z = np.zeros((len(A), oh, ow, W.shape[3]), dtype=A.dtype)
    for i in range(oh):
        for j in range(ow):
            Z[:, i, j] = np.tensordot(A[:, i * s : i * s + f, j * s : j * s + f], W, axes=3)
    return Z + b, (A_prev, W, hparameters)

def conv_backward(dZ, cache):
    A_prev, W, hparameters = cache
    s, p = hparameters["stride"], hparameters["pad"]
    f = W.shape[0]
    A = np.pad(A_prev, ((0, 0), (p, p), (p, p), (0, 0)))
    dA, dW = np.zeros_like(A), np.zeros_like(W)
    for i in range(dZ.shape[1]):
        for j in range(dZ.shape[2]):
            here = (slice(None), slice(i * s, i * s + f), slice(j * s, j * s + f))
            dW += np.tensordot(A[here], dZ[:, i, j], axes=([0], [0]))
            dA[here] += np.tensordot(dZ[:, i, j], W, axes=([1], [3]))
    dA = dA[:, p : dA.shape[1] - p, p : dA.shape[2] - p]
    return dA, dW, dZ.sum(axis=(0, 1, 2), keepdims=True)
"""

UNUSUAL_DEFAULTS = """
import numpy as np

def im2col(x, field_height, field_width, padding=1, stride=1):
    N, C, H, W = x.shape
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    oh, ow = (H + 2 * padding - field_height) // stride + 1, (W + 2 * padding - field_width) // stride + 1
    col = np.zeros((oh, ow, N, field_height, field_width, C), dtype=x.dtype)
    for i in range(oh):
        for j in range(ow):
            window = x[:, :, i * stride : i * stride + field_height, j * stride : j * stride + field_width]
            col[i, j] = window.transpose(0, 2, 3, 1)
    return col.reshape(oh * ow * N, -1).T
"""

MIRRORED = '''
import numpy as np

def conv2d(image, kernel):
    """{doc}"""
    k = kernel[::-1, ::-1]
    oh, ow = image.shape[0] - k.shape[0] + 1, image.shape[1] - k.shape[1] + 1
    return np.array(
        [[(image[i : i + k.shape[0], j : j + k.shape[1]] * k).sum() for j in range(ow)] for i in range(oh)]
    )
'''


def stranger(tmp_path, source, name="stranger.py"):
    file = tmp_path / name
    file.write_text(source)
    return file


def layouts(adapter, operator):
    implementation = adapter.implementations[operator]
    return {name: str(layout) for name, layout in implementation.layouts.items()}


def test_layers_with_boxes_and_channels_last(tmp_path):
    adapter = infer_file(stranger(tmp_path, NAMED_LAYERS)).adapter
    assert set(adapter.implementations) == {"conv2d", "conv2d.backward"}
    assert layouts(adapter, "conv2d")["w"] == "kh kw i o"
    assert check(adapter).verdict == "conforms"


def test_functions_with_a_dict_of_parameters_and_a_cache(tmp_path):
    adapter = infer_file(stranger(tmp_path, COURSE_FUNCTIONS)).adapter
    assert layouts(adapter, "conv2d.backward") == {
        "x": "n h w c", "w": "kh kw i o", "b": "1 1 1 o", "dy": "n oh ow o",
        "dx": "n h w c", "dw": "kh kw i o", "db": "1 1 1 o",
    }  # fmt: skip
    claims = adapter.implementations["conv2d"].claims
    assert (claims.kernel, claims.stride, claims.padding) == ("square", "scalar", "scalar")
    assert check(adapter).verdict == "conforms"


def test_a_default_padding_of_one_is_found_and_passed_by(tmp_path):
    adapter = infer_file(stranger(tmp_path, UNUSUAL_DEFAULTS)).adapter
    assert layouts(adapter, "im2col")["cols"] == "(kh kw c) (oh ow n)"
    assert adapter.implementations["im2col"].takes == {"x", "kernel", "padding", "stride"}
    assert check(adapter).verdict == "conforms"


@pytest.mark.parametrize(
    ("doc", "verdict"), [("The kernel is mirrored.", "conforms"), ("Slide a kernel.", "violates")]
)
def test_a_mirrored_kernel_is_a_dialect_only_where_the_homework_says_so(tmp_path, doc, verdict):
    inferred = infer_file(stranger(tmp_path, MIRRORED.format(doc=doc)))
    assert ("certain", "conv2d (conv2d): the kernel is mirrored") in inferred.notes
    assert check(inferred.adapter).verdict == verdict


POOL_WITH_INDICES = """
import numpy as np

def maxpool(x, k, stride=2, pad=0):
    if pad > k // 2:
        raise ValueError("too much padding")
    if x.dtype != np.float64:
        raise TypeError("doubles only")
    n, c, h, w = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), constant_values=-np.inf)
    oh, ow = (h + 2 * pad - k) // stride + 1, (w + 2 * pad - k) // stride + 1
    y, where = np.zeros((n, c, oh, ow)), np.zeros((n, c, oh, ow), dtype=int)
    for i in range(oh):
        for j in range(ow):
            window = padded[:, :, i * stride : i * stride + k, j * stride : j * stride + k].reshape(n, c, -1)
            row, column = np.divmod(window.argmax(axis=2), k)
            y[:, :, i, j] = window.max(axis=2)
            where[:, :, i, j] = (i * stride - pad + row) * w + j * stride - pad + column
    return y, where
"""

GRADIENTS_ALONE = """
import numpy as np

def max_pool_backward(dout, x, size):
    dx = np.zeros_like(x)
    for i in range(dout.shape[1]):
        for j in range(dout.shape[2]):
            here = np.s_[:, i * size : (i + 1) * size, j * size : (j + 1) * size]
            n, h, w, c = x[here].shape
            flat = x[here].reshape(n, h * w, c)
            chosen = np.arange(h * w)[:, None] == flat.argmax(axis=1)[:, None]
            dx[here] = (chosen * dout[:, i, j][:, None]).reshape(n, h, w, c)
    return dx

def conv_backward(dout, X, W, stride=1):
    dX, dW = np.zeros_like(X), np.zeros_like(W)
    k = len(W)
    for i in range(dout.shape[1]):
        for j in range(dout.shape[2]):
            here = np.s_[:, i * stride : i * stride + k, j * stride : j * stride + k]
            dX[here] += np.tensordot(dout[:, i, j], W, axes=([1], [3]))
            dW += np.tensordot(X[here], dout[:, i, j], axes=([0], [0]))
    return dX, dW
"""


def test_what_a_pool_does_besides_pooling_is_found(tmp_path):
    claims = infer_file(stranger(tmp_path, POOL_WITH_INDICES)).adapter.implementations["max_pool2d"].claims
    assert (claims.indices, claims.max_padding, claims.dtypes) == (True, "half-kernel", ("float64",))
    assert (claims.stride, claims.kernel, claims.default_stride) == ("scalar", "square", False)


def test_gradients_are_found_without_a_forward_pass(tmp_path):
    adapter = infer_file(stranger(tmp_path, GRADIENTS_ALONE)).adapter
    assert list(adapter.implementations) == ["max_pool2d.backward", "conv2d.backward"]
    assert layouts(adapter, "conv2d.backward")["dw"] == "kh kw i o"
    assert adapter.implementations["conv2d.backward"].claims.kernel == "square"
    assert check(adapter).verdict == "conforms"


# ------------------------------------------------------------------------------------- bare functions, errors


def test_a_call_that_hangs_is_given_up_and_then_its_function(monkeypatch):
    homework = Homework(None, call_seconds=0.02)
    hanging = ["while True:", "    try: pass", "    except: pass"]
    assert homework.run([], hanging, {}) is None
    assert homework.run([], ["answer = 1"], {}) == {"answer": 1}
    assert homework.run([], hanging, {}) is None
    with pytest.raises(Hangs):
        homework.run([], hanging, {})

    def conv(x, w):
        while True:
            pass

    monkeypatch.setattr(infer, "Homework", lambda module: Homework(module, call_seconds=0.02))
    with pytest.raises(AdapterError, match="conv2d: 3 calls on tiny arrays hung, so it was given up"):
        infer_adapter({"conv2d": conv})


def test_a_function_that_always_raises_is_quoted():
    def conv(x, w):
        raise RuntimeError("to be done")

    with pytest.raises(AdapterError, match="every call raised, the first one RuntimeError: to be done"):
        infer_adapter({"conv2d": conv})


def test_inference_leaves_no_trace(capsys):
    def im2col(x, kh, kw):
        print("looking at", x.shape)
        np.seterr(all="raise")
        np.set_printoptions(precision=1)
        raise SystemExit

    before = np.geterr(), np.get_printoptions()
    with pytest.raises(AdapterError, match="SystemExit"):
        infer_adapter({"im2col": im2col})
    assert (np.geterr(), np.get_printoptions()) == before
    assert capsys.readouterr().out == ""


def test_bare_functions_are_inferred_on_the_fly():
    def my_conv(x, w):
        oh, ow = x.shape[2] - w.shape[2] + 1, x.shape[3] - w.shape[3] + 1
        taps = np.ndindex(*w.shape[2:])
        return sum(
            np.einsum("nchw,oc->nohw", x[:, :, i : i + oh, j : j + ow], w[:, :, i, j]) for i, j in taps
        )

    def my_conv_1d(signal, kernel):
        return np.correlate(signal, kernel, mode="valid")

    adapter = infer_adapter({"conv2d": my_conv, "conv1d": my_conv_1d})
    assert set(adapter.implementations) == {"conv2d", "conv1d"}
    assert layouts(adapter, "conv1d")["x"] == "w"
    assert check(adapter).verdict == "conforms"


def test_a_bare_function_that_answers_something_else_is_refused():
    with pytest.raises(AdapterError, match="never answered like the operator"):
        infer_adapter({"im2col": lambda x: x})
    with pytest.raises(AdapterError, match="there is no operator 'conv4d'"):
        infer_adapter({"conv4d": lambda x, w: x})


def test_a_file_without_candidates_says_which_names_were_looked_for(tmp_path):
    file = stranger(tmp_path, "def solve(a): return a\n")
    result = CliRunner().invoke(main, ["infer", str(file)])
    assert result.exit_code == 2
    said = " ".join(result.stderr.split())
    assert "im2col, col2im, maxpool, avgpool, conv" in said
    assert "it has solve" in said


def test_a_name_that_the_file_does_not_have(tmp_path):
    file = stranger(tmp_path, UNUSUAL_DEFAULTS)
    with pytest.raises(AdapterError, match="there is no function or class 'conv'"):
        infer_file(file, "conv")


# -------------------------------------------------------------------------------------------- command line


@pytest.mark.parametrize("name", ["lab_conv.py", "lab_pool.py", "shape_14_optimizer_callback.py"])
def test_the_printed_file_is_an_adapter(tmp_path, name):
    homework = stranger(tmp_path, (EXAMPLES / name).read_text(), name)
    result = CliRunner().invoke(main, ["infer", str(homework)])
    assert result.exit_code == 0
    written = stranger(tmp_path, result.stdout, "inferred.py")
    hand, own = find(str(homework))[0], load(str(written))
    assert set(hand.implementations) <= set(own.implementations)


def test_the_output_may_lie_in_another_folder_but_not_over_the_homework(tmp_path):
    homework = stranger(tmp_path, UNUSUAL_DEFAULTS)
    (tmp_path / "elsewhere").mkdir()
    output = tmp_path / "elsewhere" / "adapter.py"
    assert CliRunner().invoke(main, ["infer", str(homework), "--output", str(output)]).exit_code == 0
    assert list(load(str(output)).implementations) == ["im2col"]
    result = CliRunner().invoke(main, ["infer", str(homework), "--output", str(homework)])
    assert result.exit_code == 2
    assert homework.read_text() == UNUSUAL_DEFAULTS


def test_a_strangers_file_is_judged_with_one_command(tmp_path):
    file = stranger(tmp_path, UNUSUAL_DEFAULTS)
    result = CliRunner().invoke(main, ["check", str(file)])
    assert result.exit_code == 0
    assert "1 conforms" in result.stdout
    assert "convform infer" in " ".join(result.stderr.split())


def test_what_is_not_recognised_is_said_and_not_skipped_silently(tmp_path):
    file = stranger(tmp_path, f"{UNUSUAL_DEFAULTS}\ndef conv2d(x, w): raise NotImplementedError\n")
    result = CliRunner().invoke(main, ["check", str(file)])
    assert result.exit_code == 0
    assert "not judged: conv2d: it never answered like conv2d" in " ".join(result.stderr.split())


# ------------------------------------------------------------------------------------------------ the parts


@pytest.mark.parametrize(
    ("name", "operator"),
    [
        ("im2col_indices", "im2col"),
        ("Col2Im", "col2im"),
        ("conv_backward_naive", "conv2d.backward"),
        ("MaxPool3D", "max_pool3d"),
        ("average_pooling", "avg_pool2d"),
        ("Conv1dLayer", "conv1d"),
        ("conv_transpose", None),
        ("conv_output_size", None),
        ("softmax", None),
    ],
)
def test_operators_are_recognised_by_name(name, operator):
    assert operator_named(name) == operator


def test_parameters_are_recognised_by_name():
    def im2col(img, HH, fw, step=1, pad=0, dy=1, dx=1): ...

    roles = [parameter.roles[0] for parameter in parameters_of(im2col, arrays=True)]
    assert roles == ["x", "kernel_h", "kernel_w", "stride", "padding", "dilation_h", "dilation_w"]


def test_axis_orders_are_solved_for():
    values = np.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    fit = fit_order(values.transpose(3, 0, 2, 1), values, "n c h w")
    assert (fit.pattern, fit.agreement) == ("w n h c", 1.0)


def test_columns_are_solved_for_order_and_grouping():
    values = np.arange(2 * 3 * 2 * 3 * 4 * 5.0).reshape(2, 3, 2, 3, 4, 5)
    native = values.transpose(3, 2, 1, 4, 5, 0).reshape(18, 4, 10)
    assert fit_columns(native, values, "n c kh kw oh ow").pattern == "(kw kh c) oh (ow n)"


def test_grouping_that_does_not_fit_is_none():
    assert grouped(["a", "b"], [2, 3], (6,)) == "(a b)"
    assert grouped(["a", "b"], [2, 3], (3, 2)) is None


def test_arrays_are_found_wherever_a_homework_keeps_them():
    class Layer:
        def __init__(self):
            self.params = {"W": np.ones(2)}
            self.inner = [np.zeros(3)]

    assert [path for path, _ in leaves(Layer())] == [".params['W']", ".inner[0]"]


def test_sources_name_no_variable_that_they_do_not_use(tmp_path):
    source = infer_file(EXAMPLES / "lab_conv.py").text
    for name in ("result", "grads"):
        for body in re.split(r"\ndef ", source)[1:]:
            assert len(re.findall(rf"\b{name}\b", body)) != 1
