"""One operator of one adapter, as the judge calls it: canonical arrays in, canonical arrays out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from convform.adapters.claims import Claims
from convform.adapters.errors import NoAnswer, ReturnedWrong, closest, described
from convform.adapters.layout import Array, Layout
from convform.adapters.limits import KnownLimit
from convform.spec.operators import PARAMETERS, Operator


@dataclass(frozen=True, eq=False)  # a wrapper is equal to itself only, and can be a key
class Implementation:
    """One operator of one adapter, as the judge calls it: canonical arrays in, canonical arrays out.

    Attributes
    ----------
    adapter_name
        Name of the adapter.
    operator
        The row of the operator table.
    function
        The wrapper, called with keywords: ``function(**native_arguments)``.
    takes
        Names of the inputs and parameters that the wrapper takes.
    claims
        What it claims beyond that.
    layouts
        Layout of every array of the operator by name, inputs and outputs.
    said
        Layouts, dtypes and claims as they were written: what another process is told of it.
    siblings
        All implementations of the adapter by operator, this one included: a gradient has a forward pass.
    adapter_limits
        The adapter's list of known limits, of all operators; it may still grow.
    """

    adapter_name: str
    operator: Operator
    function: Callable[..., Any]
    takes: frozenset[str]
    claims: Claims
    layouts: Mapping[str, Layout]
    said: Mapping[str, Any] = field(default_factory=dict, repr=False)
    siblings: Mapping[str, Implementation] = field(default_factory=dict, repr=False)
    adapter_limits: Sequence[KnownLimit] = field(default=(), repr=False)

    @property
    def known_limits(self) -> tuple[KnownLimit, ...]:
        """The known limits of this operator."""
        return tuple(limit for limit in self.adapter_limits if limit.is_of(self.operator))

    @property
    def size_one_axes(self) -> frozenset[str]:
        """Axes that some layout leaves out, so that only cases where they have length one are claimed."""
        return frozenset(axis for layout in self.layouts.values() for axis in layout.absent)

    def native_shape(self, array_name: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Shape of an array in the wrapper's layout, given the lengths of the axes by name."""
        return self.layouts[array_name].shape(sizes)

    def native_arguments(
        self, inputs: Mapping[str, Array | None], parameters: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Convert canonical inputs and parameters to what the wrapper takes.

        Values are converted, never checked: the judge also calls with what the standard refuses.

        Parameters
        ----------
        inputs
            Arrays by name with the axes of the operator table, nothing merged. ``b`` may be None.
        parameters
            Values by name: integers, one for each axis, or ``(low, high)`` for each axis of the padding.
            A parameter that is missing has the default of the operator table; the stride of a pooling
            operator may be None (POOL-1).

        Returns
        -------
        dict
            The keyword arguments: arrays in fresh C-contiguous memory, parameters as claimed.

        Raises
        ------
        ValueError
            If an input is missing, or a value differs between axes where a scalar is claimed.
        """
        arguments: dict[str, Any] = {}
        for name in self.operator.inputs:
            if name in self.takes:
                array = inputs.get(name)
                if array is None and name != "b":
                    raise ValueError(f"{self.operator.name}: input {name!r} is missing")
                arguments[name] = None if array is None else self.layouts[name].to_native(array)
        for name in PARAMETERS:
            if name not in self.takes:
                continue
            if name == "input_size":
                arguments[name] = self._input_size(inputs, parameters)
            else:
                # The table's default is the one of a single axis.
                default = PARAMETERS[name].default if name != "padding" else 0
                arguments[name] = self._native_parameter(name, parameters.get(name, default))
        return arguments

    def _input_size(
        self, inputs: Mapping[str, Array | None], parameters: Mapping[str, Any]
    ) -> tuple[int, ...]:
        x = inputs.get("x")
        shape = parameters.get("input_size")
        if shape is None:
            if x is None:
                raise ValueError(f"{self.operator.name}: parameter 'input_size' is missing")
            shape = x.shape
        layout = self.layouts["x"]
        return layout.shape(dict(zip(layout.axes, map(int, shape), strict=True)))

    def _native_parameter(self, name: str, value: Any) -> Any:
        kind = PARAMETERS[name].kind
        if value is None or kind in ("count", "flag"):
            return value
        rank = self.operator.rank
        form = getattr(self.claims, name)
        if form == "string":
            return _padding_word(value)
        entries = [value] * rank if isinstance(value, int | np.integer) else list(value)
        if kind == "low-high":
            pairs = [(entry, entry) if isinstance(entry, int | np.integer) else entry for entry in entries]
            if form == "low-high":
                return tuple((int(low), int(high)) for low, high in pairs)
            if any(low != high for low, high in pairs):
                raise ValueError(f"padding={value!r}: not the same before and after, which is not claimed")
            entries = [low for low, _ in pairs]
        sizes = tuple(int(entry) for entry in entries)
        if form in ("scalar", "square"):
            if len(set(sizes)) > 1:
                raise ValueError(f"{name}={value!r}: differs between axes, which is not claimed")
            return sizes[0]
        return sizes

    def canonical_outputs(self, returned: Any, sizes: Mapping[str, int]) -> dict[str, Array]:
        """Read what the wrapper returned.

        Parameters
        ----------
        returned
            An array; ``(y, indices)`` where indices are claimed; a dict or tuple of ``dx, dw, db``, of
            which any may be missing or None (two arrays are dx and dw, one is dx).
        sizes
            Lengths of the axes by name; see `Layout.from_native`.

        Returns
        -------
        dict
            The outputs that are there, as views with the axes of the operator table.

        Raises
        ------
        ReturnedWrong
            If this is no answer at all: None, a string, too many arrays, an unknown name.
        ShapeMismatch
            If an array does not have the shape that its layout asks for.
        """
        return {
            name: self.layouts[name].from_native(array, sizes, name=name)
            for name, array in self.named_outputs(returned).items()
        }

    def named_outputs(self, returned: Any) -> dict[str, Array]:
        """Find the outputs in what the wrapper returned, as native arrays by name.

        Raises
        ------
        ReturnedWrong
            If this is no answer at all: None, a string, too many arrays, an unknown name.
        """
        if isinstance(returned, NoAnswer):
            raise ReturnedWrong(returned.message, returned.hint)
        expected = self._expected_outputs()
        if returned is None:
            raise self._wrong("None", "does the wrapper end with 'return'?")
        if isinstance(returned, Mapping):
            unknown = [key for key in returned if key not in expected]
            if unknown:
                raise self._wrong(f"a dict with the key {unknown[0]!r}", closest(str(unknown[0]), expected))
            named = dict(returned)
        elif isinstance(returned, tuple | list):
            if len(returned) > len(expected):
                raise self._wrong(f"{described(returned)} of {len(returned)}", self._hint_for_many(returned))
            if not self.operator.row.any_outputs and len(returned) < len(expected):
                raise self._wrong(f"{described(returned)} of {len(returned)}", None)
            named = dict(zip(expected, returned, strict=False))
        else:
            named = {expected[0]: returned}
        arrays = {}
        for name, value in named.items():
            if value is None:
                continue
            if not isinstance(value, np.ndarray | np.generic) or not _may_hold_numbers(value.dtype):
                what = described(value) if value is returned else f"{described(value)} as {name}"
                raise self._wrong(what, self._hint_for_value(value))
            arrays[name] = np.asarray(value)
        if not arrays:
            raise self._wrong("nothing but None", "does the layer keep its gradients under another name?")
        if self.claims.indices and "indices" not in arrays:
            raise self._wrong("y without indices", "leave indices=True out, or return (y, indices)")
        if "indices" in self.operator.outputs and "y" not in arrays:
            raise self._wrong("indices without y", "return (y, indices)")
        return arrays

    def _expected_outputs(self) -> tuple[str, ...]:
        """Names of the outputs in order; indices only where they are claimed."""
        return tuple(name for name in self.operator.outputs if name != "indices" or self.claims.indices)

    def _wrong(self, what: str, hint: str | None) -> ReturnedWrong:
        names = self._expected_outputs()
        if self.operator.row.any_outputs:
            wanted = f"a dict or tuple of {', '.join(names)}"
        elif len(names) == 1:
            wanted = f"the array {names[0]}"
        else:
            wanted = f"the tuple ({', '.join(names)})"
        return ReturnedWrong(
            f"{self.adapter_name}: the wrapper of {self.operator.name} returned {what}, expected {wanted}",
            hint,
        )

    def _hint_for_many(self, returned: Sequence[Any]) -> str | None:
        if "indices" in self.operator.outputs and len(returned) == 2:
            return "if the second is the indices, claim them: indices=True"
        return "is the second a cache? return the array alone" if len(returned) == 2 else None

    @staticmethod
    def _hint_for_value(value: Any) -> str | None:
        if isinstance(value, np.ndarray | np.generic):
            return f"its dtype is {value.dtype}, expected numbers"
        if hasattr(value, "__array__"):
            return "convert it in the wrapper: np.asarray(...)"
        return "return a NumPy array"


def _may_hold_numbers(dtype: np.dtype[Any]) -> bool:
    # To NumPy a dtype of ml_dtypes is of no kind.
    return dtype.kind in "biufcO" or dtype.name == "bfloat16"


def _padding_word(value: Any) -> str:
    """Write padding as a word: what is no word already can only be "valid"."""
    if isinstance(value, str):
        return value
    if np.any(np.asarray(value)):
        raise ValueError(f"padding={value!r}: neither 'same' nor 'valid', and nothing else is claimed")
    return "valid"
