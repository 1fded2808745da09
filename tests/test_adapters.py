"""Adapters: wrappers say what they take, the judge converts, and every slip gets one clear sentence."""

from __future__ import annotations

import functools
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convform.adapters import (
    Adapter,
    AdapterError,
    BrokenFile,
    Implementation,
    KnownLimit,
    NotFound,
    ReturnedWrong,
    ShapeMismatch,
    Unavailable,
    find,
    installed,
    load,
)
from convform.spec.operators import OPERATORS

SIZES = {"n": 2, "c": 3, "o": 4, "i": 3, "h": 5, "w": 6, "kh": 2, "kw": 3, "oh": 4, "ow": 4}
EXAMPLES = Path(__file__).parent.parent / "examples"


def numbered(operator: str, name: str, **sizes: int) -> np.ndarray:
    """Build a canonical array of distinct values for one array of an operator."""
    row = OPERATORS[operator]
    axes = {**row.inputs, **row.outputs}[name].split()
    shape = [(SIZES | sizes)[axis] for axis in axes]
    return np.arange(np.prod(shape), dtype=float).reshape(shape)


def registered(operator: str, function: Callable[..., Any], **claims: Any) -> Implementation:
    """Register one wrapper with a fresh adapter."""
    adapter = Adapter("hw")
    adapter.implements(operator, **claims)(function)
    return adapter.implementations[operator]


# ------------------------------------------------------------------------------------------ signatures
def test_a_wrapper_is_returned_unchanged() -> None:
    def wrapper(x: Any, w: Any) -> None: ...

    adapter = Adapter("hw")
    assert adapter.implements("conv2d")(wrapper) is wrapper
    assert adapter["conv2d"] is wrapper
    assert repr(adapter) == "<Adapter hw: conv2d>"


def test_a_wrapper_takes_what_its_parameters_are_called() -> None:
    def by_position(x: Any, w: Any, stride: Any) -> None: ...
    def by_name(x: Any, *, w: Any, stride: Any = 1) -> None: ...
    def everything(x: Any, w: Any, stride: Any, padding: Any) -> None: ...

    class Layer:
        def __call__(self, x: Any, w: Any, stride: Any) -> None: ...

        def method(self, x: Any, w: Any, stride: Any) -> None: ...

    wrappers: list[Callable[..., Any]] = [
        by_position,
        by_name,
        lambda x, w, stride: None,
        functools.partial(everything, padding=0),
        functools.wraps(by_position)(lambda *args, **kwargs: None),
        Layer(),
        Layer().method,
    ]
    for wrapper in wrappers:
        assert registered("conv2d", wrapper).takes == {"x", "w", "stride"}


def test_a_bias_that_may_be_none_claims_calls_without_one() -> None:
    assert not registered("conv2d", lambda x, w, b: None).claims.bias_optional
    assert registered("conv2d", lambda x, w, b=None: None).claims.bias_optional
    assert registered("conv2d", lambda x, w: None).claims.bias_optional


def _unknown(x: Any, w: Any, strides: Any) -> None: ...
def _foreign(x: Any, w: Any, kernel: Any) -> None: ...
def _variadic(x: Any, w: Any, *args: Any) -> None: ...
def _keywords(x: Any, w: Any, **kwargs: Any) -> None: ...
def _positional(x: Any, /, w: Any) -> None: ...
def _no_weight(x: Any) -> None: ...


class _Layer:
    def __init__(self, x: Any, w: Any) -> None: ...


@pytest.mark.parametrize(
    ("wrapper", "sentence", "hint"),
    [
        (
            _unknown,
            "hw: the wrapper of conv2d takes 'strides', which is no parameter of the standard; "
            "conv2d has x, w, b, stride, padding, dilation, groups",
            "did you mean 'stride'?",
        ),
        (
            _foreign,
            "hw: the wrapper of conv2d takes 'kernel', which conv2d does not have; "
            "conv2d has x, w, b, stride, padding, dilation, groups",
            None,
        ),
        (
            _variadic,
            "hw: the wrapper of conv2d takes *args, expected named parameters",
            "parameters are x, w, b, stride, padding, dilation, groups",
        ),
        (
            _keywords,
            "hw: the wrapper of conv2d takes **kwargs, expected named parameters",
            "parameters are x, w, b, stride, padding, dilation, groups",
        ),
        (
            _positional,
            "hw: the wrapper of conv2d takes 'x' by position only, "
            "expected a parameter that can be passed by name",
            "remove the '/' from its signature",
        ),
        (
            _no_weight,
            "hw: the wrapper of conv2d does not take 'w', without which conv2d means nothing",
            None,
        ),
        (
            _Layer,
            "hw: the wrapper of conv2d is the class _Layer, expected a function",
            "write a function that builds the layer and returns what its forward returns",
        ),
        (3, "hw: the wrapper of conv2d is 3, expected a function", None),
    ],
)
def test_a_wrong_signature_is_explained(wrapper: Any, sentence: str, hint: str | None) -> None:
    with pytest.raises(AdapterError) as caught:
        registered("conv2d", wrapper)
    assert (str(caught.value), caught.value.hint) == (sentence, hint)


def test_only_arrays_that_can_be_missed_may_be_left_out() -> None:
    assert registered("conv2d.backward", lambda x, w, dy: None).takes == {"x", "w", "dy"}
    assert "input_size" in registered("avg_pool2d.backward", lambda dy, input_size, kernel: None).takes
    for operator, wrapper in (
        ("avg_pool2d.backward", lambda dy, kernel: None),
        ("max_pool2d.backward", lambda dy, input_size, kernel: None),
        ("max_pool2d", lambda x: None),
        ("col2im", lambda cols, kernel: None),
        ("conv2d.backward", lambda x, w: None),
    ):
        with pytest.raises(AdapterError, match="does not take"):
            registered(operator, wrapper)


# ---------------------------------------------------------------------------------------------- claims
@pytest.mark.parametrize(
    ("operator", "claims", "sentence", "hint"),
    [
        ("conv2", {}, "hw: there is no operator 'conv2'", "did you mean 'conv2d' or 'conv3d' or 'conv1d'?"),
        (
            "conv2d",
            {"strides": "scalar"},
            "hw: conv2d: there is no claim 'strides'; claims are stride, dilation, padding, kernel, "
            "max_padding, rounding, arithmetic, indices, default_stride, dtypes",
            "did you mean 'stride'?",
        ),
        (
            "conv2d",
            {"stride": "scaler"},
            "hw: conv2d: stride='scaler', expected one of 'pair', 'scalar'",
            "did you mean 'scalar'?",
        ),
        (
            "conv2d",
            {"padding": 1},
            "hw: conv2d: padding=1, expected one of 'pair', 'scalar', 'low-high', 'string'",
            None,
        ),
        ("conv2d", {"indices": True}, "hw: conv2d: indices=True, but only max pooling returns indices", None),
        ("max_pool2d", {"indices": "yes"}, "hw: max_pool2d: indices='yes', expected True or False", None),
        (
            "conv2d",
            {"padding": "scalar"},
            "hw: conv2d: claims padding='scalar', but the wrapper takes no 'padding'",
            "add 'padding' to the wrapper's parameters, or leave the claim out",
        ),
        (
            "conv2d",
            {"dtypes": "float32"},
            "hw: conv2d: dtypes='float32', expected a tuple of names",
            "dtypes=('float32',)",
        ),
        (
            "conv2d",
            {"dtypes": ("float23",)},
            "hw: conv2d: there is no dtype 'float23'; "
            "dtypes are float64, float32, float16, bfloat16, int64, int32, int16, int8",
            "did you mean 'float32' or 'float64' or 'float16'?",
        ),
        (
            "conv2d",
            {"input": "n h w k"},
            "hw: conv2d: input layout 'n h w k': there is no axis 'k'; axes of an input are n, c, d, h, w",
            None,
        ),
        (
            "conv3d",
            {"input": "n h w c"},
            "hw: conv3d: input layout 'n h w c' has no axis 'd', along which conv3d slides its window",
            "name every spatial axis, as in 'n c d h w'",
        ),
    ],
)
def test_a_wrong_claim_is_explained(
    operator: str, claims: dict[str, Any], sentence: str, hint: str | None
) -> None:
    with pytest.raises(AdapterError) as caught:
        registered(operator, lambda x, w: None, **claims)
    assert (str(caught.value), caught.value.hint) == (sentence, hint)


def test_an_operator_has_one_wrapper() -> None:
    adapter = Adapter("hw")
    adapter.implements("conv2d")(lambda x, w: None)
    with pytest.raises(AdapterError, match="hw: conv2d is registered already"):
        adapter.implements("conv2d")
    with pytest.raises(AdapterError, match="hw does not implement im2col; it implements conv2d"):
        adapter["im2col"]
    with pytest.raises(AdapterError, match="hw: there is no operator 'conv'"):
        adapter["conv"]


def test_the_kernel_of_a_convolution_can_be_claimed_square() -> None:
    assert registered("conv2d", lambda x, w: None, kernel="square").claims.kernel == "square"


def test_dtypes_of_an_operator_override_those_of_the_adapter() -> None:
    adapter = Adapter("hw", dtypes=("float32",))
    adapter.implements("conv2d")(lambda x, w: None)
    adapter.implements("conv1d", dtypes=("int64",))(lambda x, w: None)
    assert adapter.implementations["conv2d"].claims.dtypes == ("float32",)
    assert adapter.implementations["conv1d"].claims.dtypes == ("int64",)


def test_known_limits_are_data() -> None:
    adapter = Adapter("hw")
    adapter.known_limit("conv2d", "CONV-6", reason="No channels, no output.", link="https://example.org/1")
    assert adapter.known_limits == [
        KnownLimit(("conv2d",), ("CONV-6",), "No channels, no output.", "https://example.org/1")
    ]
    with pytest.raises(AdapterError, match="there is no operator 'conv'"):
        adapter.known_limit("conv", "CONV-6", reason="r", link="l")
    with pytest.raises(AdapterError, match="reason=''"):
        adapter.known_limit("conv2d", "CONV-6", reason="", link="l")


@pytest.mark.parametrize("name", ["", " ", None, 3])
def test_an_adapter_has_a_name(name: Any) -> None:
    with pytest.raises(AdapterError, match="expected a name"):
        Adapter(name)


# --------------------------------------------------------------------------------------------- layouts
def layouts(adapter: Adapter, operator: str) -> dict[str, str]:
    return {name: str(layout) for name, layout in adapter.implementations[operator].layouts.items()}


def test_layouts_are_canonical_unless_named() -> None:
    adapter = Adapter("hw")
    adapter.implements("conv1d")(lambda x, w: None)
    adapter.implements("im2col3d")(lambda x, kernel: None)
    adapter.implements("max_pool2d")(lambda x, kernel: None)
    assert layouts(adapter, "conv1d") == {"x": "n c w", "w": "o i kw", "b": "o", "y": "n o ow"}
    assert layouts(adapter, "im2col3d") == {"x": "n c d h w", "cols": "n (c kd kh kw) (od oh ow)"}
    assert layouts(adapter, "max_pool2d") == {"x": "n c h w", "y": "n c oh ow", "indices": "n c oh ow"}


def test_outputs_follow_inputs_and_gradients_follow_what_they_belong_to() -> None:
    adapter = Adapter("hw", input="n d h w c", weight="kd kh kw i o", bias="1 1 o")
    adapter.implements("conv2d.backward")(lambda x, w, b, dy: None)
    adapter.implements("max_pool1d.backward")(lambda x, dy, kernel: None)
    assert layouts(adapter, "conv2d.backward") == {
        "x": "n h w c",
        "w": "kh kw i o",
        "b": "1 1 o",
        "dy": "n oh ow o",
        "dx": "n h w c",
        "dw": "kh kw i o",
        "db": "1 1 o",
    }
    assert layouts(adapter, "max_pool1d.backward") == {"x": "n w c", "dy": "n ow c", "dx": "n w c"}


def test_c_is_another_name_for_input_channels_of_a_weight_and_for_channels_of_an_output() -> None:
    adapter = Adapter("hw", weight="c kh kw o", output="n oh ow c")
    adapter.implements("conv2d")(lambda x, w: None)
    adapter.implements("avg_pool2d")(lambda x, kernel: None)
    assert layouts(adapter, "conv2d")["w"] == "i kh kw o"
    assert layouts(adapter, "conv2d")["y"] == "n oh ow o"
    assert layouts(adapter, "avg_pool2d")["y"] == "n oh ow c"
    with pytest.raises(AdapterError, match=r"axis 'c' stands twice \(as 'i'\)"):
        Adapter("hw", weight="o i c kh kw")


def test_an_operator_may_have_its_own_layout() -> None:
    adapter = Adapter("hw", input="n h w c")
    adapter.implements("im2col", input="h w", columns="(kh kw) (oh ow)")(lambda x, kernel: None)
    implementation = adapter.implementations["im2col"]
    assert layouts(adapter, "im2col") == {"x": "h w", "cols": "(kh kw) (oh ow)"}
    assert implementation.size_one_axes == {"n", "c"}


# -------------------------------------------------------------------------------------- calls: the way in
def test_arguments_arrive_in_the_wrappers_layout_and_nothing_else_arrives() -> None:
    adapter = Adapter("hw", input="n h w c", weight="kh kw i o")
    adapter.implements("conv2d", stride="scalar")(lambda x, w, stride: None)
    x, w = numbered("conv2d", "x"), numbered("conv2d", "w")
    arguments = adapter.implementations["conv2d"].native_arguments(
        {"x": x, "w": w, "b": None},
        {"stride": (2, 2), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1},
    )
    assert set(arguments) == {"x", "w", "stride"}
    assert np.array_equal(arguments["x"], x.transpose(0, 2, 3, 1))
    assert np.array_equal(arguments["w"], w.transpose(2, 3, 1, 0))
    assert arguments["stride"] == 2
    assert all(not np.shares_memory(arguments[name], array) for name, array in (("x", x), ("w", w)))


@pytest.mark.parametrize(
    ("claims", "given", "arrives"),
    [
        ({}, {"padding": 1}, (1, 1)),
        ({}, {"padding": (1, 2)}, (1, 2)),
        ({}, {"padding": ((1, 1), (2, 2))}, (1, 2)),
        ({"padding": "scalar"}, {"padding": ((3, 3), (3, 3))}, 3),
        ({"padding": "low-high"}, {"padding": ((0, 1), (2, 3))}, ((0, 1), (2, 3))),
        ({"padding": "low-high"}, {"padding": 2}, ((2, 2), (2, 2))),
        ({"padding": "low-high"}, {}, ((0, 0), (0, 0))),
        ({"padding": "scalar"}, {"padding": -1}, -1),
    ],
)
def test_padding_arrives_in_the_form_that_is_claimed(
    claims: dict[str, Any], given: dict[str, Any], arrives: Any
) -> None:
    implementation = registered("max_pool2d", lambda x, kernel, padding: None, **claims)
    arguments = implementation.native_arguments(
        {"x": numbered("max_pool2d", "x")}, {"kernel": (2, 2), **given}
    )
    assert arguments["padding"] == arrives


def test_numpy_integers_arrive_as_python_integers() -> None:
    implementation = registered(
        "max_pool2d", lambda x, kernel, stride: None, kernel="square", stride="scalar"
    )
    arguments = implementation.native_arguments(
        {"x": numbered("max_pool2d", "x")}, {"kernel": np.array([2, 2]), "stride": np.int64(3)}
    )
    assert (type(arguments["kernel"]), type(arguments["stride"])) == (int, int)


def test_the_default_stride_of_pooling_stays_none_and_a_missing_parameter_has_its_default() -> None:
    implementation = registered("avg_pool3d", lambda x, kernel, stride, padding, count_include_pad: None)
    x = np.zeros((1, 1, 2, 2, 2))
    arguments = implementation.native_arguments({"x": x}, {"kernel": (2, 2, 2), "stride": None})
    assert arguments["stride"] is None
    assert arguments["padding"] == (0, 0, 0)
    assert arguments["count_include_pad"] is True


def test_what_is_not_claimed_is_not_converted() -> None:
    implementation = registered(
        "max_pool2d", lambda x, kernel, padding: None, kernel="square", padding="scalar"
    )
    x = numbered("max_pool2d", "x")
    with pytest.raises(ValueError, match=r"kernel=\(2, 3\): differs between axes"):
        implementation.native_arguments({"x": x}, {"kernel": (2, 3)})
    with pytest.raises(ValueError, match="not the same before and after"):
        implementation.native_arguments({"x": x}, {"kernel": 2, "padding": ((0, 1), (0, 1))})
    with pytest.raises(ValueError, match="input 'x' is missing"):
        implementation.native_arguments({}, {"kernel": 2})


def test_input_size_is_the_shape_of_x_in_the_wrappers_layout() -> None:
    adapter = Adapter("hw", input="n h w c")
    adapter.implements("col2im")(lambda cols, input_size, kernel: None)
    adapter.implements("avg_pool2d.backward")(lambda dy, input_size, kernel: None)
    scatter = adapter.implementations["col2im"].native_arguments(
        {"cols": numbered("col2im", "cols")}, {"input_size": (2, 3, 5, 6), "kernel": (2, 3)}
    )
    assert scatter["input_size"] == (2, 5, 6, 3)
    spread = adapter.implementations["avg_pool2d.backward"].native_arguments(
        {"x": np.zeros((2, 3, 5, 6)), "dy": np.zeros((2, 3, 4, 4))}, {"kernel": (2, 3)}
    )
    assert spread["input_size"] == (2, 5, 6, 3)


def test_a_bias_may_be_absent() -> None:
    implementation = registered("conv2d", lambda x, w, b=None: None)
    inputs = {"x": numbered("conv2d", "x"), "w": numbered("conv2d", "w")}
    assert implementation.native_arguments(inputs, {})["b"] is None


def test_a_bias_may_be_a_number() -> None:
    adapter = Adapter("hw", input="h w", weight="kh kw", bias="")
    adapter.implements("conv2d.backward")(lambda x, w, b, dy: None)
    one = {"n": 1, "c": 1, "o": 1, "i": 1}
    implementation = adapter.implementations["conv2d.backward"]
    inputs = {name: numbered("conv2d.backward", name, **one) for name in ("x", "w", "b", "dy")}
    assert implementation.native_arguments(inputs, {})["b"].shape == ()
    outputs = implementation.canonical_outputs({"db": np.float64(7.0)}, SIZES | one)
    assert outputs["db"].tolist() == [7.0]


# ------------------------------------------------------------------------------------ calls: the way out
def test_answers_come_back_in_canonical_axes() -> None:
    adapter = Adapter("hw", input="n h w c", columns="(n oh ow) (kh kw c)")
    adapter.implements("conv2d")(lambda x, w: None)
    adapter.implements("im2col")(lambda x, kernel: None)
    y, cols = numbered("conv2d", "y"), numbered("im2col", "cols")
    conv, gather = adapter.implementations["conv2d"], adapter.implementations["im2col"]
    returned = np.ascontiguousarray(y.transpose(0, 2, 3, 1))
    outputs = conv.canonical_outputs(returned, SIZES)
    assert np.array_equal(outputs["y"], y)
    assert np.shares_memory(outputs["y"], returned)
    rows = cols.transpose(0, 4, 5, 2, 3, 1).reshape(2 * 4 * 4, 2 * 3 * 3)
    assert np.array_equal(gather.canonical_outputs(rows, SIZES)["cols"], cols)
    assert gather.native_shape("cols", SIZES) == (32, 18)


DX, DW, DB = (numbered("conv2d.backward", name) for name in ("dx", "dw", "db"))


@pytest.mark.parametrize(
    ("returned", "names"),
    [
        (DX, {"dx"}),
        ((DX, DW), {"dx", "dw"}),
        ((DX, DW, DB), {"dx", "dw", "db"}),
        ([DX, DW, DB], {"dx", "dw", "db"}),
        ((None, DW, None), {"dw"}),
        ({"db": DB, "dw": DW}, {"dw", "db"}),
        ({"dx": DX, "dw": None}, {"dx"}),
    ],
)
def test_any_subset_of_the_gradients_is_an_answer(returned: Any, names: set[str]) -> None:
    implementation = registered("conv2d.backward", lambda x, w, b, dy: None)
    assert set(implementation.canonical_outputs(returned, SIZES)) == names


def test_indices_are_read_where_they_are_claimed() -> None:
    y = numbered("max_pool2d", "y")
    with_indices = registered("max_pool2d", lambda x, kernel: None, indices=True)
    without = registered("max_pool2d", lambda x, kernel: None)
    assert set(with_indices.canonical_outputs((y, y.astype(int)), SIZES)) == {"y", "indices"}
    assert set(without.canonical_outputs(y, SIZES)) == {"y"}


@pytest.mark.parametrize(
    ("operator", "claims", "returned", "sentence", "hint"),
    [
        ("conv2d", {}, None, "None, expected the array y", "does the wrapper end with 'return'?"),
        ("conv2d", {}, "done", "a str, expected the array y", "return a NumPy array"),
        ("conv2d", {}, 3.0, "a float, expected the array y", "return a NumPy array"),
        (
            "conv2d",
            {},
            np.array(["a"]),
            "a ndarray, expected the array y",
            "its dtype is <U1, expected numbers",
        ),
        (
            "conv2d",
            {},
            (DX, "cache"),
            "a tuple of 2, expected the array y",
            "is the second a cache? return the array alone",
        ),
        (
            "conv2d",
            {},
            {"Y": DX},
            "a dict with the key 'Y', expected the array y",
            "did you mean 'y'?",
        ),
        (
            "max_pool2d",
            {},
            (DX, DX),
            "a tuple of 2, expected the array y",
            "if the second is the indices, claim them: indices=True",
        ),
        (
            "max_pool2d",
            {"indices": True},
            DX,
            "y without indices, expected the tuple (y, indices)",
            "leave indices=True out, or return (y, indices)",
        ),
        ("conv2d.backward", {}, (1, 2, 3, 4), "a tuple of 4, expected a dict or tuple of dx, dw, db", None),
        (
            "conv2d.backward",
            {},
            {"dW": DW},
            "a dict with the key 'dW', expected a dict or tuple of dx, dw, db",
            "did you mean 'dw'?",
        ),
        (
            "conv2d.backward",
            {},
            {"dw": [1.0]},
            "a list as dw, expected a dict or tuple of dx, dw, db",
            "return a NumPy array",
        ),
        (
            "conv2d.backward",
            {},
            (None, None),
            "nothing but None, expected a dict or tuple of dx, dw, db",
            "does the layer keep its gradients under another name?",
        ),
    ],
)
def test_what_is_no_answer_is_explained(
    operator: str, claims: dict[str, Any], returned: Any, sentence: str, hint: str | None
) -> None:
    wrappers: dict[str, Callable[..., Any]] = {
        "conv2d": lambda x, w: None,
        "conv2d.backward": lambda x, w, dy: None,
        "max_pool2d": lambda x, kernel: None,
    }
    implementation = registered(operator, wrappers[operator], **claims)
    with pytest.raises(ReturnedWrong) as caught:
        implementation.canonical_outputs(returned, SIZES)
    assert str(caught.value) == f"hw: the wrapper of {operator} returned {sentence}"
    assert caught.value.hint == hint


def test_a_wrong_shape_is_an_answer_and_a_wrong_one() -> None:
    implementation = registered("conv2d", lambda x, w: None)
    with pytest.raises(ShapeMismatch, match=r"y has shape \(2, 4, 4\), expected \(2, 4, 4, 4\)"):
        implementation.canonical_outputs(np.zeros((2, 4, 4)), SIZES)


# --------------------------------------------------------------------------------------------- finding
@pytest.fixture
def homework(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Write a homework file, and leave no trace of it in the interpreter."""
    before, path = set(sys.modules), list(sys.path)

    def write(text: str, name: str = "hw.py") -> Path:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(textwrap.dedent(text), encoding="utf-8")
        return file

    yield write
    assert sys.path == path
    for name in set(sys.modules) - before:
        del sys.modules[name]


ONE = """
    from convform.adapters import Adapter
    hw = Adapter("my-homework")
    @hw.implements("conv2d")
    def _(x, w):
        return x
"""


def test_an_adapter_is_found_in_a_file_by_variable_and_by_name(homework: Callable[..., Path]) -> None:
    file = homework(ONE + "    second = Adapter('other')\n    same = hw\n    number = 3\n")
    assert [adapter.name for adapter in find(str(file))] == ["my-homework", "other"]
    assert load(f"{file}:hw").name == load(f"{file}:my-homework").name == "my-homework"
    assert load(f"{file}:other").name == "other"
    with pytest.raises(AdapterError, match="holds 2 adapters: my-homework, other; expected one"):
        load(str(file))
    with pytest.raises(
        NotFound, match=r"there is no adapter 'othr' in .*hw.py; adapters are hw, second"
    ) as one:
        load(f"{file}:othr")
    assert one.value.hint == "did you mean 'other'?"
    with pytest.raises(AdapterError, match=r"'number' in .* is an int, expected an Adapter"):
        load(f"{file}:number")


def test_a_file_is_read_afresh_and_may_import_its_neighbours(homework: Callable[..., Path]) -> None:
    homework("NAME = 'a'", "layers.py")
    importing = "from convform.adapters import Adapter\nimport layers\nhw = Adapter(layers.NAME)\n"
    file = homework(importing)
    assert load(str(file)).name == "a"
    homework("NAME = 'b'", "layers.py")
    assert load(str(file)).name == "b"
    homework("NAME = 'other'", "second/layers.py")
    assert load(str(homework(importing, "second/hw.py"))).name == "other"
    homework("from convform.adapters import Adapter\nhw = Adapter('edited')\n")
    assert load(str(file)).name == "edited"
    assert not list(file.parent.rglob("__pycache__"))


def test_a_file_called_like_a_library_does_not_replace_it(homework: Callable[..., Path]) -> None:
    file = homework(ONE, "numpy.py")
    assert load(str(file)).name == "my-homework"
    assert sys.modules["numpy"] is np


def test_a_file_may_use_dataclasses_and_annotations(homework: Callable[..., Path]) -> None:
    text = """
        from __future__ import annotations
        from dataclasses import dataclass
        from convform.adapters import Adapter
        @dataclass
        class Layer:
            stride: int
        hw = Adapter("hw")
        @hw.implements("conv2d", stride="scalar")
        def _(x: np.ndarray, w: np.ndarray, stride: int) -> np.ndarray:
            return Layer(stride)
    """
    assert load(str(homework(text))).implementations["conv2d"].takes == {"x", "w", "stride"}


@pytest.mark.parametrize(
    ("text", "kind", "sentence", "hint"),
    [
        ("x = (1,\n", BrokenFile, "{file}:1: syntax error, '(' was never closed: x = (1,", None),
        ("x = 1\ny = 1 / 0\n", BrokenFile, "{file}:2: raised ZeroDivisionError while it was imported", None),
        (
            "import sys\nsys.exit(3)\n",
            BrokenFile,
            "{file}:2: raised SystemExit while it was imported: 3",
            None,
        ),
        (
            "import no_such_library\n",
            Unavailable,
            "{file}:1: the module 'no_such_library' is not installed",
            "pip install no_such_library",
        ),
        ("import hww\n", BrokenFile, "{file}:1: there is no module 'hww'", "did you mean 'hw'?"),
        ("x = 1\n", AdapterError, "there is no adapter in {file}", 'hw = Adapter("my-homework") makes one'),
        (
            "from convform.adapters import Adapter\n\nAdapter('hw').implements('conv2')\n",
            AdapterError,
            "{file}:3: hw: there is no operator 'conv2'",
            "did you mean 'conv2d' or 'conv3d' or 'conv1d'?",
        ),
    ],
)
def test_a_broken_file_is_explained_with_its_line(
    homework: Callable[..., Path], text: str, kind: type[AdapterError], sentence: str, hint: str | None
) -> None:
    file = homework(text)
    with pytest.raises(kind) as caught:
        find(str(file))
    assert str(caught.value).startswith(sentence.format(file=file))
    assert caught.value.hint == hint


def test_a_file_that_is_not_there_is_explained(
    homework: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = homework(ONE, "homework.py")
    monkeypatch.chdir(file.parent)
    (file.parent / "homework.txt").write_text("{}")
    for target, sentence, hint in (
        ("homwork.py", "there is no file homwork.py", "did you mean 'homework.py'?"),
        ("no/homework.py", "there is no folder no, so no file no/homework.py", None),
        ("./", "", "it holds homework.py"),
        ("./homework.txt", "homework.txt is no .py file", "an adapter is a Python file, such as hw.py"),
        (
            "homework",
            "no adapter is installed under the name 'homework'",
            "did you mean the file homework.py?",
        ),
        ("torhc", "no adapter is installed under the name 'torhc'", "did you mean 'torch'?"),
        ("no.such.module", "there is no module 'no.such.module'", "a file is named with its ending: hw.py"),
        ("homework.py:", "'homework.py:' ends with a colon", "homework.py"),
    ):
        with pytest.raises(NotFound) as caught:
            find(target)
        assert sentence in str(caught.value)
        assert caught.value.hint == hint


def test_an_adapter_is_found_by_installed_name_and_in_a_module() -> None:
    assert load("reference").name == "reference"
    assert load("reference:adapter") is load("convform.adapters.backends.reference")
    assert load("convform.adapters.backends.reference:adapter") is load("reference")
    assert [offer.name for offer in installed()] == sorted(offer.name for offer in installed())
    assert {"reference", "torch"} <= {offer.name for offer in installed()}
    assert all((offer.adapter is None) != (offer.problem is None) for offer in installed())


def test_an_installed_name_comes_before_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "reference").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load("reference").name == "reference"


def test_a_backend_that_is_not_installed_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "convform.adapters.backends.torch", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)  # what Python does for a module that cannot be imported
    with pytest.raises(Unavailable) as caught:
        load("torch")
    assert str(caught.value) == "adapter 'torch': the module 'torch' is not installed"
    assert caught.value.hint == "pip install 'convform[torch]'"
    problems = {offer.name: offer.problem for offer in installed()}
    assert isinstance(problems["torch"], Unavailable)
    assert problems["reference"] is None


# ------------------------------------------------------------------------------------- our own adapters
def test_the_reference_offers_every_operator_with_everything_in_it() -> None:
    adapter = load("reference")
    assert set(adapter.implementations) == set(OPERATORS)
    for implementation in adapter.implementations.values():
        operator = implementation.operator
        assert implementation.takes == {*operator.inputs, *operator.parameters}
        assert implementation.claims.padding == "low-high"
        assert implementation.claims.indices == ("indices" in operator.outputs)
        assert implementation.claims.bias_optional == ("b" in operator.inputs)


def test_torch_offers_what_pytorch_has() -> None:
    pytest.importorskip("torch")
    adapter = load("torch")
    assert set(OPERATORS) - set(adapter.implementations) == {"im2col1d", "im2col3d", "col2im1d", "col2im3d"}
    assert adapter.available is not None
    assert adapter.available() is None
    for limit in adapter.known_limits:
        assert any(limit.is_of(one.operator) for one in adapter.implementations.values())
        assert limit.link.startswith("https://")
    assert load("torch:cuda").name == "torch-cuda"


def test_torch_reads_arrays_that_it_cannot_share() -> None:
    pytest.importorskip("torch")
    max_pool = load("torch")["max_pool2d"]
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    frozen = x.copy()
    frozen.flags.writeable = False
    plain = {"kernel": (2, 2), "stride": None, "padding": (0, 0), "dilation": (1, 1), "ceil_mode": False}
    expected = [[5.0, 7.0], [13.0, 15.0]]
    for view in (x, frozen, x[..., ::-1].copy()[..., ::-1], np.asfortranarray(x)):
        assert max_pool(x=view, **plain)["y"][0, 0].tolist() == expected


def test_torch_refuses_the_gradient_that_would_write_outside_its_array() -> None:
    pytest.importorskip("torch")
    backward = load("torch")["max_pool1d.backward"]
    one = np.ones((1, 1, 1))
    with pytest.raises(ValueError, match="a window without a real element"):
        backward(x=one, dy=one, kernel=(2,), stride=(1,), padding=(1,), dilation=(2,), ceil_mode=False)


@pytest.mark.parametrize(
    "file",
    sorted(set(EXAMPLES.glob("[!_]*.py")) - set(EXAMPLES.glob("test_*.py"))),
    ids=lambda file: file.stem,
)
def test_every_example_is_made_of_adapters_that_answer(file: Path) -> None:
    adapters = find(str(file))
    assert adapters
    for implementation in (each for adapter in adapters for each in adapter.implementations.values()):
        # What a layout leaves out has length one.
        square = {**SIZES, "kw": 2, "ow": 5} | dict.fromkeys(implementation.size_one_axes, 1)
        square |= {axis: 1 for axis, other in (("i", "c"), ("c", "i")) if square[other] == 1}
        operator = implementation.operator
        inputs = {array: numbered(operator.name, array, **square) for array in operator.inputs}
        shape = tuple(square[axis] for axis in ("n", "c", "h", "w"))
        padding = "valid" if implementation.claims.padding == "string" else 0
        parameters = {"kernel": (2, 2), "stride": (1, 1), "input_size": shape, "padding": padding}
        answer = implementation.function(**implementation.native_arguments(inputs, parameters))
        assert implementation.canonical_outputs(answer, square)
