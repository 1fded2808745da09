"""Files that crash, hang or leave when they are imported, and files without an adapter, with --isolate."""

from __future__ import annotations

import hypothesis  # noqa: F401 — it keeps its files in the folder in which it is imported
import pytest
from click.testing import CliRunner

from convform.adapters.process.client import Limits
from convform.conformance.doors.cli import main, options


def run(*arguments):
    return CliRunner().invoke(main, ["check", *map(str, arguments), "--isolate"])


def saying(result):
    return " ".join((result.stdout + result.stderr).split())


def written(folder, text):
    file = folder / "hw.py"
    file.write_text(text, encoding="utf-8")
    return file


ENDS = {
    "import os\nos.abort()": ("crashed:", "SIGABRT", "line 2 in <module>"),
    "import os\nos._exit(7)": ("crashed:", "exit code 7"),
    "import time\ntime.sleep(100)": ("timed out:", "no answer within 4 s", "line 2 in <module>"),
    "import sys\nsys.exit(5)": ("error:", "raised SystemExit"),
    "1 / 0": ("error:", "hw.py:1: raised ZeroDivisionError"),
    "import no_such_module_of_mine": ("unavailable:", "no_such_module_of_mine"),
}


@pytest.mark.parametrize("text", ENDS)
def test_the_judge_survives_an_import(tmp_path, monkeypatch, text):
    monkeypatch.setattr(options, "Limits", lambda seconds, start_seconds: Limits(seconds, 4.0))
    result = run(written(tmp_path, text), "--deadline", 5)
    said = saying(result)
    assert result.exit_code == (3 if "unavailable:" in ENDS[text] else 2), said
    assert "Traceback" not in said
    for part in ("hw.py", *ENDS[text]):
        assert part in said


BARE = """
import numpy as np
from convform.tests import plain as reference

def conv2d(x, w, b=None, stride=1, padding=0):
    {deed}
    return reference.conv(x, w, b, stride=stride, padding=padding)
"""


def test_a_file_without_an_adapter_is_judged_in_its_own_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = written(tmp_path, BARE.format(deed="print('in', __import__('os').getpid())"))
    result = run(file.name, "--deadline", 5)
    said = saying(result)
    assert result.exit_code == 0, said
    assert "one is inferred" in said
    assert "convform infer hw.py --output hw_adapter.py" in said
    assert [file.name for file in tmp_path.iterdir()] == ["hw.py"]


def test_a_function_that_crashes_on_some_input_is_judged_to_the_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = written(tmp_path, BARE.format(deed="x.shape[0] == 0 and __import__('os').abort()"))
    result = run(file.name, "--deadline", 5, "--level", "strict")
    assert result.exit_code == 1
    assert "✗ crashed" in result.stdout


def test_a_function_that_crashes_while_an_adapter_is_inferred_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(written(tmp_path, BARE.format(deed="__import__('os').abort()")).name, "--deadline", 5)
    said = saying(result)
    assert result.exit_code == 2
    assert "crashed: hw.py, while an adapter for it was inferred" in said
    assert "SIGABRT" in said
    assert "in conv2d" in said
