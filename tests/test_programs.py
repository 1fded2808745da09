"""Subjects in other languages, judged like any other."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from convform.adapters import Adapter
from convform.adapters.process.program import Program
from convform.conformance import check

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


def test_a_program_that_is_not_there_is_no_verdict():
    adapter, _ = plugged_in("nowhere", ["./no-such-program"])
    report = check(adapter)
    assert report.verdict == "broken adapter"
    assert "there is no program" in report["conv2d"].laws[0].reason
