"""Worked examples and smallest inputs: TOML in the pages of the standard, read into arrays.

An example names an operator, its parameters, input arrays and expected outputs; or it names a window
and the output size it must have, for every operator with a window. Layouts are einops patterns over the
operator's axes. An axis that a pattern leaves out has size one (clause LAYOUT-1).

A smallest input stands below a misreading, in one line. It names a call, and what the standard and the
misreading give for it.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

import numpy as np
from einops import EinopsError, rearrange
from numpy.typing import NDArray

from convform.spec.errors import SpecError
from convform.spec.operators import OPERATORS, PARAMETERS, Operator

Array = NDArray[Any]

_KEYS = ("says", "clauses", "worked", "operator", "parameters", "sizes", "inputs", "outputs", "window")
_WINDOW_KEYS = ("input_size", "kernel", "stride", "padding", "dilation", "ceil_mode", "output_size")
_ARRAY_KEYS = ("axes", "values", "shape", "fill")
_SMALLEST_KEYS = ("operator", "dtype", "arrangement", "before", "after", "standard", "misread")
_WRITTEN_KEYS = ("shape", "values", "fill")


@dataclass(frozen=True, eq=False)
class ExampleOutput:
    """What an example says about one output.

    Attributes
    ----------
    axes
        The layout that the example is written in, for example ``"oh ow"`` or ``"(c kh kw) (oh ow)"``.
    values
        The expected array in that layout (int64, or float64 where a value is no integer); None where
        the example asserts the shape alone.
    shape
        The expected shape in that layout.
    canonical
        The operator's own axes of this output, for example ``"n c oh ow"``.
    """

    axes: str
    values: Array | None
    shape: tuple[int, ...]
    canonical: str

    def read(self, answer: Array) -> Array:
        """Write an answer with canonical axes in the layout of this example.

        Parameters
        ----------
        answer
            An array with the axes `canonical`, not merged.

        Raises
        ------
        ValueError
            If the answer has another rank, or an axis that the layout leaves out is not of size one.
        """
        try:
            return rearrange(answer, f"{_with_ones(self.canonical, self.axes)} -> {self.axes}")
        except EinopsError as error:
            raise ValueError(
                f"an answer of shape {answer.shape} with axes {self.canonical!r} "
                f"cannot be written as {self.axes!r}"
            ) from error

    def holds(self, answer: Array) -> bool:
        """Whether an answer with canonical axes has the expected shape and, where given, equal values.

        NaN equals NaN here, and zeros of either sign are equal.
        """
        try:
            written = self.read(answer)
        except ValueError:
            return False
        if written.shape != self.shape:
            return False
        return self.values is None or np.array_equal(
            written.astype(np.float64), self.values.astype(np.float64), equal_nan=True
        )


@dataclass(frozen=True, eq=False)
class Example:
    """One worked example of the standard.

    Attributes
    ----------
    says
        What the example shows, in a few words.
    clauses
        Ids of the clauses that it illustrates.
    operator
        Name of the operator; None where the example is about a window alone.
    parameters
        The operator's parameters as in a call; what is missing has its default. Pooling always has a
        stride: None, the kernel size, where none is written.
    inputs
        Canonical arrays by name, axes not merged (int64, or float64 where a value is no integer).
    outputs
        What is expected of each output that the example speaks of.
    window
        ``input_size``, ``kernel``, ``stride``, ``padding``, ``dilation`` and ``ceil_mode``, all given, of
        an example about a window alone.
    output_size
        The output size that this window must have.
    worked
        Number of the item in the collection of worked examples it was taken from, if any.
    """

    says: str
    clauses: tuple[str, ...]
    operator: str | None
    parameters: Mapping[str, Any]
    inputs: Mapping[str, Array]
    outputs: Mapping[str, ExampleOutput]
    window: Mapping[str, Any] | None = None
    output_size: tuple[int, ...] | None = None
    worked: int | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process of the judge, which read-only mappings do not by themselves."""
        values = (getattr(self, field.name) for field in fields(self))
        return _arrived, tuple(dict(v) if isinstance(v, MappingProxyType) else v for v in values)


def _arrived(*values: Any) -> Example:
    read_only: list[Any] = [MappingProxyType(v) if isinstance(v, dict) else v for v in values]
    return Example(*read_only)


def parse_example(source: str, where: str, default_clauses: tuple[str, ...] = ()) -> Example:
    """Read one example from its TOML source.

    Parameters
    ----------
    source
        The text of the fenced block.
    where
        Page and clause, for error messages.
    default_clauses
        The clause that the example stands in, if any.

    Raises
    ------
    SpecError
        If the block is no TOML, or something in it is missing, unknown or does not fit the operator.
    """
    data = _toml(source, "an example", where)
    says = data.get("says")
    if not isinstance(says, str):
        raise SpecError(where, 'an example has no title; write says = "…" in its first line')
    where = f"{where}, example {says!r}"
    _only(data, _KEYS, "key", where)
    clauses = tuple(data.get("clauses", default_clauses))
    if not clauses:
        raise SpecError(where, 'it belongs to no clause; write clauses = ["CONV-1", …]')
    worked = data.get("worked")
    if "window" in data:
        window = dict(data["window"])
        _only(window, _WINDOW_KEYS, "window key", where)
        for key in ("input_size", "kernel", "output_size"):
            if key not in window:
                raise SpecError(where, f"its window has no {key}; write {key} = [5, 5]")
        window = {"stride": 1, "padding": 0, "dilation": 1, "ceil_mode": False} | _frozen(window)
        size = window.pop("output_size")
        empty: Mapping[str, Any] = MappingProxyType({})
        return Example(says, clauses, None, empty, empty, empty, MappingProxyType(window), size, worked)
    operator = _operator(data.get("operator"), where)
    parameters = _frozen(data.get("parameters", {}))
    if operator.is_pooling:
        parameters.setdefault("stride", None)  # TOML has no null
    _only(parameters, operator.parameters, f"parameter of {operator.name}", where)
    for name in operator.parameters:
        if PARAMETERS[name].default is None and name not in parameters:
            raise SpecError(where, f"{operator.name} needs the parameter {name}; add it below [parameters]")
    sizes = data.get("sizes", {})
    inputs = {}
    for name, entry in data.get("inputs", {}).items():
        _only([name], tuple(operator.inputs), f"input of {operator.name}", where)
        inputs[name] = _input(entry, operator.inputs[name], sizes, f"{where}, input {name}")
    for name in operator.inputs:
        if name not in inputs and name != "b":
            raise SpecError(where, f"{operator.name} needs the input {name}; add [inputs.{name}]")
    outputs = {}
    for name, entry in data.get("outputs", {}).items():
        _only([name], tuple(operator.outputs), f"output of {operator.name}", where)
        outputs[name] = _expected(entry, operator.outputs[name], f"{where}, output {name}")
    if not outputs:
        raise SpecError(where, f"it expects nothing; add [outputs.{next(iter(operator.outputs))}]")
    return Example(
        says,
        clauses,
        operator.name,
        MappingProxyType(parameters),
        MappingProxyType(inputs),
        MappingProxyType(outputs),
        worked=worked,
    )


@dataclass(frozen=True, eq=False)
class WrittenArray:
    """One array as a smallest input writes it, with all its axes.

    Attributes
    ----------
    shape
        Its shape.
    values
        Its values; None where only the shape is said.
    dtype
        Its dtype; None where nothing is said of it.
    """

    shape: tuple[int, ...]
    values: Array | None
    dtype: str | None

    def holds(self, answer: Array) -> bool:
        """Whether an array is this one; values are read in the dtype of `answer`, and NaN equals NaN."""
        if answer.shape != self.shape or self.dtype not in (None, answer.dtype.name):
            return False
        if self.values is None:
            return True
        values = self.values.astype(answer.dtype) if answer.dtype.kind == "f" else self.values
        return np.array_equal(answer, values, equal_nan=True)


@dataclass(frozen=True)
class WrittenCall:
    """One call as a page writes it: an operator, parameters that need not be complete, and arrays."""

    operator: str
    parameters: Mapping[str, Any]
    inputs: Mapping[str, Array]


@dataclass(frozen=True)
class Outcome:
    """What a call comes to.

    Attributes
    ----------
    arrays
        Outputs by name, those that matter; and inputs by name, as they are after the call.
    shares
        Inputs whose memory an output shares.
    raises
        Whether the call ends in an exception instead.
    """

    arrays: Mapping[str, WrittenArray]
    shares: tuple[str, ...] = ()
    raises: bool = False


@dataclass(frozen=True)
class SmallestInput:
    """The smallest input that shows a misreading.

    Attributes
    ----------
    call
        The call that tells the misreading from the standard.
    standard, misread
        What it comes to in the standard, and in the misreading.
    arrangement
        How its arrays lie in memory: ``"contiguous"``, ``"Fortran order"``, ``"negative strides"`` or
        ``"read-only"``.
    before, after
        A call to make before it, or after it and before its outputs are looked at.
    """

    call: WrittenCall
    standard: Outcome
    misread: Outcome
    arrangement: str = "contiguous"
    before: WrittenCall | None = None
    after: WrittenCall | None = None


def parse_smallest(source: str, where: str) -> SmallestInput:
    """Read a smallest input from its TOML source, an inline table.

    Parameters
    ----------
    source
        The text of the table, from brace to brace.
    where
        The misreading that it shows, for error messages.

    Raises
    ------
    SpecError
        If the text is no such table, or something in it is missing, unknown or does not fit the operator.
    """
    data = _toml(f"smallest = {source}", "a smallest input", where)["smallest"]
    operator = _operator(data.get("operator"), where)
    _only(data, (*operator.inputs, *operator.parameters, *_SMALLEST_KEYS), f"key of {operator.name}", where)
    for key in ("standard", "misread"):
        if key not in data:
            raise SpecError(where, f'it does not say what {key} gives; write {key} = {{y = [1]}} or "raises"')
    calls = {key: _call({**data, **data[key]}, where) for key in ("before", "after") if key in data}
    return SmallestInput(
        _call(data, where),
        _outcome(data["standard"], operator, data.get("dtype", "float64"), where),
        _outcome(data["misread"], operator, data.get("dtype", "float64"), where),
        data.get("arrangement", "contiguous"),
        **calls,
    )


def _call(data: Mapping[str, Any], where: str) -> WrittenCall:
    operator = _operator(data["operator"], where)
    parameters = {name: _frozen(data[name]) for name in operator.parameters if name in data}
    inputs = {}
    dtypes = data.get("dtype", "float64")
    for name, axes in operator.inputs.items():
        if name in data:
            array = _written(data[name], axes, f"{where}, input {name}")
            values = np.zeros(array.shape) if array.values is None else array.values
            inputs[name] = values.astype(dtypes if isinstance(dtypes, str) else dtypes[name])
            inputs[name].flags.writeable = False
        elif name != "b":
            raise SpecError(where, f"{operator.name} needs the input {name}; write {name} = [1]")
    return WrittenCall(operator.name, MappingProxyType(parameters), MappingProxyType(inputs))


def _outcome(entry: Mapping[str, Any] | str, operator: Operator, given: object, where: str) -> Outcome:
    """Read what a call comes to; `given` is the dtype of its inputs, and of outputs that are no indices."""
    if isinstance(entry, str):
        _only([entry], ("raises",), "outcome", where)
        return Outcome(MappingProxyType({}), raises=True)
    axes = {**operator.inputs, **operator.outputs}
    _only(entry, (*axes, "dtype", "shares"), f"array of {operator.name}", where)
    arrays = {}
    for name in axes:
        if name in entry:
            dtype = entry.get("dtype", None if name == "indices" or not isinstance(given, str) else given)
            arrays[name] = _written(entry[name], axes[name], f"{where}, {name}", dtype)
    return Outcome(MappingProxyType(arrays), tuple(entry.get("shares", ())))


def _written(
    entry: Mapping[str, Any] | list[Any], axes: str, where: str, dtype: str | None = None
) -> WrittenArray:
    """Read a nested list, which holds the last axes, or a table with the whole shape."""
    if isinstance(entry, list):
        values = np.array(entry)
        shape = (1,) * (len(axes.split()) - values.ndim) + values.shape
        return WrittenArray(shape, values.reshape(shape), dtype)
    _only(entry, _WRITTEN_KEYS, "array key", where)
    if "shape" not in entry:
        raise SpecError(where, "there is no shape; write shape = [1, 1, 2, 2]")
    shape = tuple(entry["shape"])
    if "fill" in entry:
        return WrittenArray(shape, np.full(shape, entry["fill"]), dtype)
    return WrittenArray(shape, np.reshape(entry["values"], shape) if "values" in entry else None, dtype)


def _toml(source: str, what: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(where, f"{what} is not valid TOML ({error})") from error


def _operator(name: object, where: str) -> Operator:
    if name is None:
        raise SpecError(where, 'it names no operator; write operator = "conv2d", or a [window] table')
    _only([name], tuple(OPERATORS), "operator", where)
    return OPERATORS[str(name)]


def _only(names: Iterable[object], known: tuple[str, ...], kind: str, where: str) -> None:
    """Refuse a name that is not among `known`, with the closest one as a hint."""
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise SpecError(where, f"there is no {kind} {name!r}; {hint}")


def _frozen(value: Any) -> Any:
    """Turn TOML lists into tuples, all the way down."""
    if isinstance(value, dict):
        return {key: _frozen(entry) for key, entry in value.items()}
    return tuple(_frozen(entry) for entry in value) if isinstance(value, list) else value


def _names(pattern: str) -> list[str]:
    return pattern.replace("(", " ").replace(")", " ").split()


def _with_ones(canonical: str, pattern: str) -> str:
    """Write 1 for every canonical axis that the pattern leaves out."""
    present = _names(pattern)
    return " ".join(axis if axis in present else "1" for axis in canonical.split())


def _array(entry: Mapping[str, Any], canonical: str, where: str) -> tuple[str, Array | None, tuple[int, ...]]:
    """Read axes, values (None where only a shape is given) and shape of one array."""
    _only(entry, _ARRAY_KEYS, "array key", where)
    axes = entry.get("axes", canonical)
    _only(_names(axes), tuple(canonical.split()), "axis", where)
    if ("values" in entry) == ("shape" in entry):
        raise SpecError(where, "expected either values or shape; write values = [[1, 2], [3, 4]]")
    if "shape" in entry:
        shape = tuple(entry["shape"])
        return axes, np.full(shape, entry["fill"]) if "fill" in entry else None, shape
    try:
        values = np.array(entry["values"])
    except ValueError as error:
        raise SpecError(where, "its values are ragged; give every row the same length") from error
    if values.size == 0 or values.dtype.kind not in "if":
        raise SpecError(where, f"expected numbers, got {entry['values']!r}")
    return axes, values.astype(np.int64) if values.dtype.kind == "i" else values, values.shape


def _input(entry: Mapping[str, Any], canonical: str, sizes: Mapping[str, int], where: str) -> Array:
    axes, values, shape = _array(entry, canonical, where)
    if values is None:
        values = np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)
    needed = {axis: size for axis, size in sizes.items() if axis in _names(axes)}
    try:
        array = np.ascontiguousarray(rearrange(values, f"{axes} -> {_with_ones(canonical, axes)}", **needed))
    except EinopsError as error:
        raise SpecError(
            where,
            f"values of shape {shape} cannot be read with the axes {axes!r}; give as many axes as the values "
            "have, and the size of every merged axis but one in [sizes]",
        ) from error
    array.flags.writeable = False
    return array


def _expected(entry: Mapping[str, Any], canonical: str, where: str) -> ExampleOutput:
    axes, values, shape = _array(entry, canonical, where)
    if values is not None:
        values.flags.writeable = False
    return ExampleOutput(axes, values, shape, canonical)
