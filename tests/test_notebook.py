"""Notebooks and the interactive shell: bare functions, reports that draw themselves, adapters in cells."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from convform import reference
from convform.adapters import Adapter, AdapterError, BrokenFile, NotFound, find, load, notebook
from convform.conformance import check
from convform.conformance.doors.cli import main
from convform.conformance.inference import infer
from convform.conformance.running import judge


@pytest.fixture(autouse=True)
def _no_diagnosis(monkeypatch):
    monkeypatch.setattr(judge, "diagnosed", lambda subject, results, seed: list(results))


# ------------------------------------------------------------------------------------------- bare functions


def my_columns(x, kh, kw):
    """A first lab: one plane, rows of columns are taps."""
    print("looking at", x.shape)
    h, w = x.shape[0] - kh + 1, x.shape[1] - kw + 1
    return np.array([x[i : i + h, j : j + w].ravel() for i in range(kh) for j in range(kw)])


def mirrored(x, w):
    return reference.conv(x, w[:, :, ::-1, ::-1])


def test_bare_functions_are_judged_by_keyword(capsys):
    report = check(im2col=my_columns)
    assert report.verdict == "conforms", str(report)
    assert [operator.name for operator in report.operators] == ["im2col"]
    assert capsys.readouterr().out == ""


def test_underscores_stand_for_dots(monkeypatch):
    """What is inferred is tested elsewhere; here it is said what for."""

    def as_they_are(functions):
        adapter = Adapter("as they are")
        for operator, function in functions.items():
            adapter.implements(operator)(function)
        return adapter

    def pool_gradient(x, dy, kernel):
        return reference.max_pool_backward(x, dy, kernel)

    monkeypatch.setattr(infer, "infer_adapter", as_they_are)
    report = check(max_pool2d_backward=pool_gradient, im2col1d=reference.im2col)
    assert [operator.name for operator in report.operators] == ["max_pool2d.backward", "im2col1d"]
    assert report.verdict == "conforms", str(report)


def test_reproducer_of_a_bare_function_can_be_pasted():
    result = next(law for law in check(conv2d=mirrored)["conv2d"].laws if law.status == "violated")
    printed = []
    exec(result.reproducer, {"mirrored": mirrored, "print": printed.append})
    assert isinstance(printed[0], np.ndarray)


def test_options_of_check_stay_options():
    adapter = Adapter("plain")
    adapter.implements("im2col1d")(reference.im2col)
    report = check(adapter, operators=["im2col1d"], profile="quick", seed=3, level="strict")
    assert (report.seed, report.level) == (3, "strict")


NONSENSE = {
    "nothing": (lambda: check(), "nothing to judge"),
    "a function without its operator": (lambda: check(mirrored), "check(conv2d=mirrored)"),
    "a misspelled operator": (lambda: check(conv_2d=mirrored), "'conv2d'"),
    "a misspelled option": (lambda: check(Adapter("a"), profil="full"), "profil"),
    "no function": (lambda: check(conv2d=3), "an int"),
    "both": (lambda: check(Adapter("a"), conv2d=mirrored), "not both"),
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_nonsense_is_explained(kind):
    act, word = NONSENSE[kind]
    with pytest.raises(AdapterError) as caught:
        act()
    assert word in f"{caught.value} {caught.value.hint}"


# ------------------------------------------------------------------------------------------- the report


@pytest.fixture(scope="module")
def report():
    adapter = Adapter("a <b> & c")
    adapter.implements("conv2d")(mirrored)
    return check(adapter)


class Tags(HTMLParser):
    """Collects tags and text of a page, and whether every tag is closed."""

    def __init__(self, html):
        super().__init__()
        self.names, self.text, self.open = set(), "", []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.names.add(tag)
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_html_is_one_closed_block_that_needs_nothing_else(report):
    html = report._repr_html_()
    page = Tags(html)
    assert page.open == []
    assert page.names <= {"pre", "span", "b", "i", "u"}
    assert not re.search(r"https?:|<script|<link|class=", html)
    for text in ("a <b> & c", "CONV-1", "expected", "yours", "▌"):
        assert text in page.text


def luminance(color):
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_html_is_readable_on_light_pages_and_dark_ones(report):
    html = report._repr_html_()
    assert set(re.findall(r"background-color: (\S+?)[;\"]", html)) <= {"transparent"}
    colors = set(re.findall(r"(?<!-)color: (#\w{6})", html))
    assert colors
    for color in colors:
        on_white, on_black = 1.05 / (luminance(color) + 0.05), (luminance(color) + 0.05) / 0.05
        assert min(on_white, on_black) >= 3, color


def test_report_in_a_shell(report):
    assert len(repr(report)) < 300
    assert "conv2d violates CONV-" in repr(report)
    text = str(report)
    assert "\x1b" not in text
    assert "yours" in text
    assert max(map(len, text.splitlines())) <= 100
    console = Console(width=100)
    with console.capture() as captured:
        console.print(report)
    assert "yours" in captured.get()


# ------------------------------------------------------------------------------------------- cells

HEAD = (
    "%matplotlib inline\nfrom convform.adapters import Adapter\nfrom convform.tests import plain as reference"
)
WRAPPER = """hw = Adapter("in-a-notebook")

@hw.implements("im2col1d")
def columns(x, kernel):
    return reference.im2col(x, kernel)
"""


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """Write code cells into a notebook, between two cells of text."""
    v4 = pytest.importorskip("nbformat").v4
    monkeypatch.chdir(tmp_path)

    def write(*sources, name="hw.ipynb", language="python"):
        book = v4.new_notebook(
            metadata={"kernelspec": {"name": "kernel", "display_name": "Kernel", "language": language}}
        )
        book.cells = [v4.new_markdown_cell("# Lab 3"), *map(v4.new_code_cell, sources)]
        Path(name).write_text(v4.writes(book), encoding="utf-8")
        return name

    return write


def convform(*arguments):
    return CliRunner().invoke(main, list(arguments))


def test_a_notebook_is_judged(cells):
    result = convform("check", cells(HEAD, WRAPPER))
    assert result.exit_code == 0, result.output
    assert "in-a-notebook" in result.stdout
    assert convform("check", cells(HEAD, WRAPPER) + ":hw").exit_code == 0


def test_a_violation_shows_how_to_load_the_notebook(cells):
    name = cells(HEAD, WRAPPER.replace("return reference.im2col(x, kernel)", "return 0 * x"))
    result = convform("check", name)
    assert result.exit_code == 1
    assert "load('hw.ipynb')" in result.stdout


def test_only_what_is_needed_is_run(cells):
    name = cells(
        HEAD,
        "import time\nSCALE = OFFSET + 1\nfigure = plot(columns)\ntime.sleep(1000)",
        "OFFSET = 0\nfor epoch in range(10**12): SCALE += 1",
        "def columns(x, kernel):\n    return SCALE * reference.im2col(x, kernel)\nassert columns(None, None)",
        'hw = Adapter("hw")\nhw.implements("im2col1d")(columns)\ncheck(hw)',
    )
    # The cells are run in order, so what is needed must stand before.
    with pytest.raises(BrokenFile, match=r"hw.ipynb, cell 2, line 2.*NameError"):
        load(name)
    name = cells(
        HEAD,
        "OFFSET = 0\nfor epoch in range(10**12): SCALE += 1",
        "import time\nSCALE = OFFSET + 1\nfigure = plot(columns)\ntime.sleep(1000)",
        "def columns(x, kernel):\n    return SCALE * reference.im2col(x, kernel)\nassert columns(None, None)",
        'hw = Adapter("hw")\nhw.implements("im2col1d")(columns)\ncheck(hw)',
    )
    assert check(load(name)).verdict == "conforms"
    left_out = notebook.left_out(Path(name))
    assert left_out == "cell 2 line 2; cell 3 lines 3, 4; cell 4 line 3; cell 5 line 3"
    assert left_out in " ".join(convform("check", name).stderr.split())


def test_shell_lines_and_magics_are_left_out(cells):
    name = cells(
        "%load_ext autoreload\n%autoreload 2\n!pip install something\nreference?\nfiles = !ls",
        "%%bash\nrm everything",
        f"%%time\n{HEAD}",
        "def text():\n    return '''\n%d of\n!''' + 'a' \\\n  % ()",
        "for i in range(3):\n    %time i\n    !ls",
        WRAPPER,
    )
    assert check(load(name)).verdict == "conforms"


def test_conditional_imports_are_run_and_the_main_part_is_not(cells):
    name = cells(
        HEAD + "\ntry:\n    import cupy as xp\nexcept ImportError:\n    import numpy as xp",
        "if __name__ == '__main__':\n    import antigravity_that_does_not_exist",
        WRAPPER.replace("return reference", "return xp.ones(1, x.dtype) * reference"),
    )
    assert check(load(name)).verdict == "conforms"


BROKEN_BOOKS = {
    "a cell that does not parse": ([HEAD, "x = 1\ndef f(:"], BrokenFile, r"cell 2, line 2: syntax error"),
    "a cell that raises": ([HEAD, "class A:\n    b = 1 / 0"], BrokenFile, r"cell 2, line 2: .*ZeroDivision"),
    "an adapter that is wrong": (
        [HEAD, "hw = Adapter('hw')\n\n@hw.implements('conf2d')\ndef f(x, w): ..."],
        AdapterError,
        r"cell 2, line 3: .*conf2d",
    ),
    "no adapter": ([HEAD], AdapterError, "there is no adapter in hw.ipynb"),
}


@pytest.mark.parametrize("kind", BROKEN_BOOKS)
def test_errors_name_cell_and_line(cells, kind):
    sources, error, told = BROKEN_BOOKS[kind]
    with pytest.raises(error, match=told):
        find(cells(*sources))
    assert convform("check", "hw.ipynb").exit_code == 2


def test_exceptions_in_cells_show_their_lines(cells):
    body = WRAPPER.replace("    return", "    if len(x) > 1:\n        raise ValueError('one')\n    return")
    result = convform("check", cells(HEAD, body))
    assert 'File "hw.ipynb, cell 2", line 6, in columns' in result.stdout
    assert "raise ValueError('one')" in result.stdout


def test_what_is_no_notebook_is_told(cells, tmp_path):
    with pytest.raises(NotFound, match="in julia, expected one in Python"):
        find(cells("x = 1", language="julia"))
    Path("torn.ipynb").write_text('{"cells": [')
    with pytest.raises(NotFound, match="no notebook"):
        find("torn.ipynb")
    with pytest.raises(NotFound, match="there is no file"):
        find("absent.ipynb")


def test_without_the_library_it_says_what_to_install(cells, monkeypatch):
    name = cells(HEAD, WRAPPER)
    monkeypatch.setitem(sys.modules, "nbformat", None)
    result = convform("check", name)
    assert result.exit_code == 3
    assert "pip install 'convform[notebook]'" in result.stderr


def test_nothing_imports_the_library_before_a_notebook_is_named():
    code = "import sys, convform.conformance.doors.cli; sys.exit('nbformat' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("folder", [".", "elsewhere"])
def test_a_notebook_without_an_adapter_is_judged_by_an_inferred_one(cells, tmp_path, folder):
    columns = """def im2col(x, kh, kw):
        h, w = x.shape[0] - kh + 1, x.shape[1] - kw + 1
        return np.array([x[i : i + h, j : j + w].ravel() for i in range(kh) for j in range(kw)])"""
    file = cells("import numpy as np", columns, "print(im2col(np.eye(3), 2, 2))")
    result = CliRunner().invoke(main, ["check", str(file)])
    assert result.exit_code == 0, result.output
    assert "so one is inferred" in " ".join(result.stderr.split())
    (tmp_path / folder).mkdir(exist_ok=True)
    output = tmp_path / folder / "hw_adapter.py"
    assert CliRunner().invoke(main, ["infer", str(file), "--output", str(output)]).exit_code == 0
    assert list(load(str(output)).implementations) == ["im2col"]
