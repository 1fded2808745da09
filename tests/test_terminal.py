"""What a person sees: small grids with marks, one screen of report, and nothing that is not text."""

from __future__ import annotations

import io
from fractions import Fraction
from importlib.resources import files

import numpy as np
import pytest
from rich.console import Console

from convform import reference
from convform.adapters import Adapter, load
from convform.conformance import check
from convform.conformance.doors.cli.telling import message
from convform.conformance.reports.grid import arrays_table, number, plane
from convform.conformance.reports.terminal import ReportView, _Python
from convform.conformance.running import judge


def printed(what, width=100):
    console = Console(file=io.StringIO(), width=width, highlight=False, color_system=None)
    console.print(what)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def pool():
    """The example with the defect that the README shows."""
    adapter = load(str(files("convform.examples") / "lab_pool.py"))
    return check(adapter, operators=["max_pool2d"], origin="lab_pool.py")


# ----------------------------------------------------------------------------------------------- grids


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.0, "3"),
        (-3.0, "−3"),
        (np.int8(-3), "−3"),
        (0.0, "0"),
        (-0.0, "−0"),
        (np.float32(0.5), "0.5"),
        (Fraction(1, 3), "0.3333"),
        (float("nan"), "NaN"),
        (float("inf"), "∞"),
        (-np.inf, "−∞"),
        (1e20, "1e+20"),
        (1.25e-7, "1.25e−07"),
    ],
)
def test_a_cell_is_short_and_tells_what_matters(value, text):
    assert number(value) == text


def test_a_plane_marks_the_cells_that_differ():
    array = np.array([[1.0, -2.0], [np.nan, 10.0]])
    lines = plane(array, np.array([[False, True], [False, False]])).plain.splitlines()
    assert lines == ["   1 ▌ −2▐", " NaN   10 "]
    assert "▌" not in plane(array).plain


def test_a_wide_plane_is_clipped_on_both_sides():
    text = plane(np.zeros((40, 60))).plain
    assert len(text.splitlines()) <= 12
    assert max(map(len, text.splitlines())) < 60
    assert text.count("…") >= 2


def shown(array, differs=None, axes="n c h w"):
    array = np.asarray(array)
    other = np.asarray(array) + 1
    marks = {} if differs is None else {"y": differs}
    return printed(arrays_table({"x": (axes, array)}, {"y": array}, {"y": other}, marks))


@pytest.mark.parametrize(
    "shape", [(3,), (2, 3), (1, 1, 3), (2, 2, 1, 3), (1, 1, 2, 2, 2), (0, 3), (2, 0, 3, 3), ()]
)
def test_arrays_of_every_rank_are_drawn(shape):
    array = np.arange(np.prod(shape, dtype=int), dtype=float).reshape(shape)
    text = shown(array, np.ones(shape, bool))
    assert "expected" in text
    assert "yours" in text
    if array.size:
        assert "▌" in text


def test_planes_with_differences_come_first():
    array = np.zeros((3, 4, 2, 2))
    differs = np.zeros(array.shape, bool)
    differs[2, 3, 1, 1] = True
    text = shown(array, differs)
    assert "[2, 3]" in text
    assert "▌1▐" in text
    assert "more planes" in text


def test_shapes_that_do_not_agree_are_drawn_side_by_side():
    text = printed(arrays_table({}, {"y": np.zeros((1, 1, 2, 2))}, {"y": np.zeros((1, 1, 3, 1))}, {}))
    assert "expected" in text
    assert "yours" in text


# ----------------------------------------------------------------------------------------------- report


def test_report_of_a_defect_has_rule_grids_marks_reproducer_and_verdict(pool):
    text = printed(ReportView(pool))
    assert "lab-pool" in text
    assert "✗ violates" in text
    assert "MAXPOOL-2" in text
    assert "Padding takes part in no comparison" in " ".join(text.split())
    assert "expected" in text
    assert "yours" in text
    assert "▌" in text
    assert "kernel 2×2 · stride 1 · padding 1" in text
    assert "Reproduce" in text
    assert "load('lab_pool.py')" in text
    assert "violates at level core · exit 1" in text
    assert "Not claimed" in text


def test_report_names_every_violation_and_draws_the_worst(pool):
    text = printed(ReportView(pool))
    for law in pool["max_pool2d"].violated():
        assert law.law in text
    assert text.count("Reproduce") == 1
    everything = printed(ReportView(pool, everything=True))
    assert everything.count("expected") > text.count("expected")
    assert everything.count(" · core ─") == len(pool["max_pool2d"].violated("core"))


def test_report_fits_one_screen(pool):
    """Sixty lines: the drawing, the reproducer, and a line or two for everything else."""
    assert len(printed(ReportView(pool)).splitlines()) <= 60


@pytest.mark.parametrize("width", [30, 60, 80, 200])
def test_narrow_and_wide_terminals(pool, width):
    text = printed(ReportView(pool, everything=True), width)
    assert max(map(len, text.splitlines())) <= width
    assert "MAXPOOL-2" in text


def test_conforming_report_is_short():
    report = check(load("reference"), operators=["im2col1d"])
    text = printed(ReportView(report))
    assert "✓ conforms" in text
    assert "conforms at level core · exit 0" in text
    assert "Reproduce" not in text
    assert len(text.splitlines()) < 15


def test_nothing_that_a_subject_says_is_markup(monkeypatch):
    """Brackets in names, messages and file names reach the reader as they are."""
    monkeypatch.setattr(judge, "diagnosed", lambda subject, results, seed: list(results))
    adapter = Adapter("[red]x[/nope]", version="[1.0]")

    @adapter.implements("conv1d")
    def conv(x, w):
        if len(x) > 1:
            raise ValueError("[bold]shape[/wrong] [link=x]")
        return reference.conv(x, w)

    text = printed(ReportView(check(adapter, origin="hw [final].py"), everything=True))
    assert "[red]x[/nope] [1.0]" in text
    assert "[bold]shape[/wrong] [link=x]" in text
    assert "hw [final].py" in text


def test_broken_adapter_report_says_why():
    adapter = Adapter("broken")
    adapter.implements("conv1d")(lambda x, w: None)
    text = " ".join(printed(ReportView(check(adapter))).split())
    assert "! broken adapter" in text
    assert "returned None" in text
    assert "exit 2" in text


def test_long_reproducers_are_left_to_the_json_report(monkeypatch):
    monkeypatch.setattr(judge, "diagnosed", lambda subject, results, seed: list(results))
    adapter = Adapter("long", version=None)

    @adapter.implements("conv1d")
    def conv(x, w):
        y = reference.conv(x, w)
        return y + 1 if x.shape[1] > 60 else y

    report = check(adapter, operators=["conv1d"])
    found = [law for law in report["conv1d"].violated() if law.law == "long_sums"]
    assert found
    text = printed(ReportView(report))
    assert "too long to show" in text
    assert len(text.splitlines()) < 80


def test_known_limits_are_listed_with_their_reason():
    adapter = Adapter("limited")
    adapter.implements("conv1d")(lambda x, w: reference.conv(x, w).astype(np.float64))
    adapter.known_limit("conv1d", "CONTRACT-5", reason="always [double]", link="https://example.org/1")
    text = printed(ReportView(check(adapter)))
    assert "Known limits" in text
    assert "always [double]" in text
    assert "https://example.org/1" in text


def test_message_is_one_sentence_and_a_hint():
    text = printed(message("error", "there is no [file] hw.py", "pip install 'convform[torch]'"))
    assert text.splitlines() == ["error: there is no [file] hw.py", "  pip install 'convform[torch]'"]


@pytest.mark.parametrize("width", [50, 80, 120])
def test_a_reproducer_still_runs_when_it_is_broken_to_the_width_of_the_terminal(width):
    values = ", ".join(map(str, range(60)))
    text = printed(
        _Python((f"x = list([{values}])", f"# expected, in canonical axes: y = [{values}]")), width
    )
    scope = {}
    exec(text, scope)
    assert scope["x"] == list(range(60))


def test_rows_of_a_grid_are_cut_and_not_broken_where_there_is_no_room():
    wide = np.full((1, 1, 2, 12), 1000.0)
    table = arrays_table({"x": ("n c h w", wide)}, {"y": wide}, {"y": -wide}, {"y": wide > 0})
    assert len(printed(table, 60).splitlines()) <= 4
