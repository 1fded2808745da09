"""The call: what a call of an operator is besides its arrays, parsed and checked once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from convform.reference import checks
from convform.reference.window import Size, Window
from convform.spec.operators import OPERATORS, PARAMETERS, Operator

_ROWS: Mapping[str, Operator] = MappingProxyType({row.family: row for row in OPERATORS.values()})


@dataclass(frozen=True)
class Call:
    """What a call is besides its arrays: a value that goes whole from the one who asks to the loops.

    Attributes
    ----------
    window
        The window; of a convolution, with the kernel size of its weights.
    size
        Spatial sizes of the input x, also where x is what is computed.
    groups
        Number of blocks that the channels are split into.
    count_include_pad
        Whether padding counts in the divisor of an average.
    default_stride
        Whether no stride was given, so that the window has its kernel size (clause POOL-1).

    Examples
    --------
    >>> Call.of(OPERATORS["max_pool1d"], {"x": np.zeros((1, 1, 5))}, {"kernel": 2, "stride": None}).output
    (2,)
    """

    window: Window
    size: Size
    groups: int = 1
    count_include_pad: bool = True
    default_stride: bool = False

    @classmethod
    def of(
        cls,
        operator: Operator,
        inputs: Mapping[str, Any],
        parameters: Mapping[str, Any],
        count: Callable[[Call], Size] | None = None,
    ) -> Call:
        """Parse and check the call of an operator.

        Parameters
        ----------
        operator
            A row of the operator table.
        inputs
            Arrays by name, with the axes of the row and nothing merged; ``b`` may be missing or None.
        parameters
            Any of the operator's parameters; the others have the defaults of the table.
        count
            Who counts windows otherwise than the standard takes a dy of pooling with as many for a right one.

        Raises
        ------
        TypeError, ValueError
            For an unknown or missing input or parameter, an array of another rank than the operator's
            (clause CONTRACT-9), and whatever the operator refuses.
        """
        arrays, given = _named(operator, widened(inputs)[0]), _complete(operator, parameters)
        return cls.made(operator.family, arrays, given).fitted(
            operator.family, arrays, count, given.get("input_size")
        )

    @classmethod
    def made(cls, family: str, arrays: Mapping[str, Any], given: Mapping[str, Any]) -> Call:
        """Parse and check a call for any rank, but for the arrays that `fitted` checks.

        `given` has every parameter of the family, but may lack what has one default for all axes.
        """
        row = _ROWS[family]
        if "cols" in row.inputs:
            checks.array("cols", arrays["cols"])
            size = checks.input_size(given["input_size"])[2:]
        else:
            size = _input_size(row, arrays, given.get("groups", 1))
        counted = given.get("count_include_pad", True)
        checks.flag("count_include_pad", counted)
        kernel = given["kernel"] if "kernel" in row.parameters else arrays["w"].shape[2:]
        fields = (given["stride"], given["padding"], given["dilation"], given.get("ceil_mode", False))
        window = checks.window(len(size), kernel, *fields, pooling=row.is_pooling)
        return cls(window, size, int(given.get("groups", 1)), counted, given["stride"] is None)

    def again(
        self, family: str, inputs: Mapping[str, Any], count: Callable[[Call], Size] | None = None
    ) -> Call:
        """Make the same call of other arrays, which have sizes of their own; raises as `of` does."""
        row, arrays = _ROWS[family], widened(inputs)[0]
        size = self.size if "cols" in row.inputs else _input_size(row, arrays, self.groups)
        call = self if size == self.size else replace(self, size=size)
        return call.fitted(family, arrays, count)

    def fitted(
        self,
        family: str,
        arrays: Mapping[str, Any],
        count: Callable[[Call], Size] | None = None,
        shape: Sequence[int] | None = None,
    ) -> Call:
        """Check that there are windows, and the shape of the arrays that have one value for each.

        `shape` is that of x, where x is what is computed and was asked for.
        """
        output = self.output
        if "cols" in arrays:
            cols = checks.array("cols", arrays["cols"])
            expected = (*(shape or cols.shape)[:2], *self.window.kernel, *output)
            checks.shape("cols", cols, expected, "n c kh kw oh ow", "COL2IM-3")
        if "dy" in arrays:
            x, dy = arrays["x"], arrays["dy"]
            channels = len(arrays["w"]) if "w" in arrays else x.shape[1]
            own = (*x.shape[:1], channels, *count(self)) if count and _ROWS[family].is_pooling else None
            checks.gradient(
                dy, x, (len(x), channels, *output), own, _ROWS[family].row.clauses["refuses_dy"][0]
            )
        return self

    @cached_property
    def output(self) -> Size:
        """Number of windows along each axis; raises where there is none along some axis (WINDOW-6)."""
        return self.window.output_size(self.size)


def row_of(operator: str) -> Operator:
    """Look up an operator by name.

    Raises
    ------
    ValueError
        If the standard has none of that name.
    """
    if operator not in OPERATORS:
        raise ValueError(f"operator={operator!r}: expected one of {', '.join(OPERATORS)}")
    return OPERATORS[operator]


def widened(inputs: Mapping[str, Any]) -> tuple[Mapping[str, Any], np.dtype[Any] | None]:
    """Write bfloat16 arrays, which NumPy can hardly calculate with, in float32.

    Returns
    -------
    inputs
        The arrays by name, as they came where they are of other dtypes, or of several.
    dtype
        The dtype that `narrowed` has to bring the outputs back to; None where nothing was changed.
    """
    dtypes = {getattr(value, "dtype", None) for value in inputs.values() if value is not None}
    dtype = dtypes.pop() if len(dtypes) == 1 else None
    # The kind is asked first: NumPy works a name out anew each time.
    if dtype is None or dtype.kind != "V" or dtype.name != "bfloat16":
        return inputs, None
    return {
        name: value if value is None else value.astype(np.float32) for name, value in inputs.items()
    }, dtype


def _input_size(row: Operator, arrays: Mapping[str, Any], groups: int) -> Size:
    """Check what goes into an operator, and give the spatial sizes of x."""
    x = checks.batch("x", arrays["x"])
    if "w" in row.inputs:
        checks.convolution(x, arrays["w"], arrays.get("b"), groups)
    if "count_include_pad" in row.parameters:
        checks.averaged(x)
    return x.shape[2:]


def _named(operator: Operator, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    arrays = {"b": None, **inputs} if "b" in operator.inputs else inputs
    if set(arrays) != set(operator.inputs):
        raise ValueError(
            f"{operator.name} got inputs {sorted(inputs)}: expected {', '.join(operator.inputs)}"
        )
    for name, axes in operator.inputs.items():
        value = arrays[name]
        if value is not None and getattr(value, "ndim", len(axes.split())) != len(axes.split()):
            raise ValueError(
                f"{name} has shape {value.shape}: {operator.name} expects the axes {axes} (CONTRACT-9)"
            )
    return arrays


def _complete(operator: Operator, parameters: Mapping[str, Any]) -> dict[str, Any]:
    unknown = [name for name in parameters if name not in operator.parameters]
    if unknown:
        raise ValueError(
            f"{operator.name} got parameter {unknown[0]!r}: expected any of {', '.join(operator.parameters)}"
        )
    complete = {}
    for name in operator.parameters:
        default = PARAMETERS[name].default
        if name in parameters:
            complete[name] = parameters[name]
        elif default is None:
            raise ValueError(f"{operator.name} got no {name}: it has no default ({PARAMETERS[name].says})")
        else:
            complete[name] = default if name != "padding" else 0
    return complete
