"""Small grids for a terminal: planes of arrays side by side, differing cells marked."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
from rich.table import Table
from rich.text import Text

MOST_ROWS, MOST_COLUMNS, MOST_PLANES = 10, 10, 4
WRONG = "bold red"


def number(value: object) -> str:
    """Write a cell: integers without a point, everything else with few digits."""
    if isinstance(value, (Fraction, float, np.floating)):
        value = float(value)
        if np.isinf(value):
            return "∞" if value > 0 else "−∞"
        if np.isnan(value):
            return "NaN"
        if value == int(value) and abs(value) < 1e6:
            return ("−" if value < 0 or np.signbit(value) else "") + str(abs(int(value)))
        return f"{value:.4g}".replace("-", "−")
    return str(value).replace("-", "−")


def plane(array: np.ndarray, differs: np.ndarray | None = None) -> Text:
    """Draw a 2-D array; cells in `differs` are set between bars."""
    if array.dtype.name == "bfloat16":  # to Python, its numbers are no numbers
        array = array.astype(np.float64)
    rows, columns = array.shape
    shown_rows, shown_columns = min(rows, MOST_ROWS), min(columns, MOST_COLUMNS)
    cells = [[number(array[i, j]) for j in range(shown_columns)] for i in range(shown_rows)]
    width = max((len(cell) for row in cells for cell in row), default=1)
    text = Text()
    for i, row in enumerate(cells):
        for j, cell in enumerate(row):
            wrong = differs is not None and bool(differs[i, j])
            left, right = ("▌", "▐") if wrong else (" ", " ")
            text.append(f"{left}{cell:>{width}}{right}", style=WRONG if wrong else "")
        if columns > shown_columns:
            text.append(" …")
        if i + 1 < shown_rows:
            text.append("\n")
    if rows > shown_rows:
        text.append("\n …")
    if not cells or not cells[0]:
        text.append(" (empty)")
    return text


def planes(array: np.ndarray) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """Split an array into 2-D planes over its last two axes; a vector is one row."""
    if array.ndim < 2:
        array = array.reshape(1, -1)
    lead = array.shape[:-2]
    positions = list(np.ndindex(*lead))
    return array, positions


def arrays_table(
    inputs: Mapping[str, tuple[str, np.ndarray]],
    expected: Mapping[str, np.ndarray],
    actual: Mapping[str, np.ndarray],
    differs: Mapping[str, np.ndarray],
    actual_is: str = "yours",
) -> Table:
    """Lay inputs, expected and actual arrays out side by side.

    Parameters
    ----------
    inputs
        Axes and array by name.
    expected, actual
        Outputs by name.
    differs
        Cells to mark, by output name.
    actual_is
        What the actual arrays are called.
    """
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold", pad_edge=False)
    row: list[Text] = []
    for name, (axes, array) in inputs.items():
        sizes = " ".join(str(size) for size in array.shape)
        table.add_column(f"{name}  {axes} = {sizes}")
        row.append(_stack(array, None, _first_planes(array, None)))
    for name, array in expected.items():
        other = actual.get(name)
        marked = differs.get(name)
        label = "" if len(expected) == 1 else f" {name}"
        chosen = _first_planes(array, marked)
        table.add_column(f"expected{label}")
        row.append(_stack(array, None, chosen))
        if other is not None:
            same_shape = other.shape == array.shape
            table.add_column(f"{actual_is}{label}")
            row.append(
                _stack(
                    other,
                    marked if same_shape else None,
                    chosen if same_shape else _first_planes(other, None),
                )
            )
    for text in row:  # where there is no room a line is cut: broken, it would be no row of a grid
        text.no_wrap, text.overflow = True, "ellipsis"
    table.add_row(*row)
    return table


def _first_planes(array: np.ndarray, differs: np.ndarray | None) -> list[tuple[int, ...]]:
    """Choose the planes to draw: those with differences first, then from the front."""
    array, positions = planes(array)
    if differs is not None and differs.ndim >= 2:
        wrong = [position for position in positions if differs[position].any()]
        positions = wrong or positions
    return positions[:MOST_PLANES]


def _stack(array: np.ndarray, differs: np.ndarray | None, positions: list[tuple[int, ...]]) -> Text:
    array, everything = planes(array)
    differs = None if differs is None else planes(differs)[0]
    text = Text()
    for position in positions:
        if text:
            text.append("\n")
        if len(everything) > 1:
            text.append(f"[{', '.join(str(i) for i in position)}]\n", style="dim")
        text.append_text(plane(array[position], None if differs is None else differs[position]))
    if len(everything) > len(positions):
        text.append(f"\n… {len(everything) - len(positions)} more planes", style="dim")
    return text
