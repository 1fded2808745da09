"""Subjects in other languages, judged like any other."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from convform.adapters import Adapter
from convform.adapters.process.program import Program
from convform.conformance import check
from convform.conformance.doors.cli import main

SUBJECTS = Path(__file__).parent / "subjects"


def plugged_in(name, command):
    adapter = Adapter(name)
    program = Program(command)
    conv = program.wrapper("conv2d", "x w b stride padding dilation groups")
    pool = program.wrapper("max_pool2d", "x kernel stride padding dilation ceil_mode")
    adapter.implements("conv2d", padding="low-high")(conv)
    adapter.implements("max_pool2d", padding="low-high", indices=True)(pool)
    return adapter, program


def command_of(language, folder):
    tool = {"c": "cc", "js": "node"}[language]
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    if language == "js":
        return ["node", str(SUBJECTS / "subject.js")]
    target = folder / "subject"
    subprocess.run(["cc", "-O1", "-o", str(target), str(SUBJECTS / "subject.c"), "-lm"], check=True)
    return [str(target)]


@pytest.mark.parametrize("language", ["c", "js"])
def test_a_program_in_another_language_conforms_at_level_strict(language, tmp_path):
    adapter, program = plugged_in(f"in-{language}", command_of(language, tmp_path))
    report = check(adapter, level="strict")
    assert report.verdict == "conforms", report.dumps()[:5000]
    assert program.process.deaths == 0
    program.close()


@pytest.mark.parametrize("language", ["c", "js"])
def test_a_program_that_describes_itself_needs_no_python_file(language, tmp_path):
    command = command_of(language, tmp_path)
    subject = tmp_path / "plugged"
    subject.write_text(f"#!/bin/sh\nexec {' '.join(command)}\n", encoding="utf-8")
    subject.chmod(0o755)
    report = tmp_path / "report.json"
    result = CliRunner().invoke(main, ["check", str(subject), "--level", "strict", "--json", str(report)])
    assert result.exit_code == 0, result.stdout + result.stderr
    said = json.loads(report.read_text(encoding="utf-8"))
    assert said["adapter"] == f"in-{language}"
    assert set(said["operators"]) == {"conv2d", "max_pool2d"}
    assert said["judged"]["own_process"]


def test_a_program_that_is_not_there_is_no_verdict():
    adapter, _ = plugged_in("nowhere", ["./no-such-program"])
    report = check(adapter)
    assert report.verdict == "broken adapter"
    assert "there is no program" in report["conv2d"].laws[0].reason
