"""The backend matrix: three small libraries with one fault each, an interrupted run, and the ledger."""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import pytest
from click.testing import CliRunner

from convform.adapters import AdapterError
from convform.conformance.doors.cli import main
from convform.conformance.matrix import matrix
from convform.conformance.matrix import pages as matrix_pages
from convform.conformance.matrix.ledger import (
    DIALECT,
    KNOWN,
    NO_SCRIPT,
    SHOWN,
    VIOLATION,
    Divergence,
    _compared,
    merged,
    reproduce,
    without_paths,
)
from convform.tests import plain

SUBJECTS = """
    import os
    import numpy as np
    from convform import reference
    from convform.adapters import Adapter
    from convform.reference.misreadings.catalogue import MISREADINGS
    from convform.reference.misreadings.misreading import misread

    REFUSES = "if x.shape[1] == 0: raise ValueError('no channels')"

    def script(operator, parameters):
        if operator.startswith("conv"):
            return f"{REFUSES}\\nanswer = dict(y=x)"
        if operator.startswith("im2col"):
            return f"import os\\nif {parameters['kernel'][0]} > 2: os.abort()\\nanswer = dict(cols=x)"
        return None

    limited = Adapter("limited", version="1.0", script=script, dtypes=("float64",))

    def conv(x, w):
        if x.shape[1] == 0:
            raise ValueError("no channels")
        return reference.conv(x, w)

    for rank in (1, 2):
        limited.implements(f"conv{rank}d")(conv)
        limited.known_limit(f"conv{rank}d", "CONV-6", reason="It wants channels.", link="https://example.org/1")

    deadly = Adapter("deadly", version="2.0", script=script, dtypes=("float64",))

    @deadly.implements("im2col1d")
    def gather(x, kernel):
        if kernel[0] > 2:
            os.abort()
        return reference.im2col(x, kernel)

    local = Adapter("local", dtypes=("float64",))
    last = misread(*(m for m in MISREADINGS.values() if m.dialect == ("ties", "last")
                     and m.applies_to("max_pool.backward")))

    @local.implements("max_pool1d.backward", ties="last")
    def gradient(x, dy, kernel):
        return last("max_pool1d.backward", {"x": x, "dy": dy}, {"kernel": kernel, "stride": None})["dx"]
"""


def convform(*arguments):
    """Run the command in this process; the files of these tests are trusted."""
    trusted = ("--in-process",) if arguments[0] == "matrix" else ()
    return CliRunner().invoke(main, [str(argument) for argument in (*arguments, *trusted)])


def test_a_file_without_an_adapter_has_a_row_of_its_own(tmp_path):
    """Inferred and judged as `check` does: in a process of its own, and its own limits excuse nothing."""
    file = tmp_path / "lab.py"
    file.write_text(inspect.getsource(plain), encoding="utf-8")
    command = ["matrix", str(file), "--out", str(tmp_path / "out"), "--profile", "brief"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code in (0, 1), result.output
    data = json.loads((tmp_path / "out" / "matrix.json").read_text(encoding="utf-8"))
    assert "conv2d" in data["backends"]["lab"]["operators"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A matrix of three libraries, made by the command."""
    folder = tmp_path_factory.mktemp("matrix")
    file = folder / "subjects.py"
    file.write_text(dedent(SUBJECTS), encoding="utf-8")
    targets = [f"{file}:{name}" for name in ("limited", "deadly", "local")]
    result = convform("matrix", *targets, "--out", folder / "out", "--jobs", "2")
    return result, folder / "out", targets


def test_the_exit_code_is_that_of_the_worst(made):
    result, _, _ = made
    assert result.exit_code == 1, result.output
    assert "deadly  2.0" in result.stdout or "deadly 2.0" in result.stdout
    assert "Traceback" not in result.output


def test_the_matrix_holds_every_operator_of_every_backend(made):
    data = json.loads((made[1] / "matrix.json").read_text(encoding="utf-8"))
    verdicts = {
        (name, operator): unit["core"]
        for name, backend in data["backends"].items()
        for operator, unit in backend["operators"].items()
    }
    assert verdicts == {
        ("limited", "conv1d"): "conforms",
        ("limited", "conv2d"): "conforms",
        ("deadly", "im2col1d"): "crashed",
        ("local", "max_pool1d.backward"): "conforms",
    }
    assert all(
        unit["cases"] > 0 for backend in data["backends"].values() for unit in backend["operators"].values()
    )


def entries_of(folder, backend):
    return [entry for entry in matrix.ledger(matrix.Store(folder).read()) if entry.backend == backend]


def test_a_known_limit_is_one_entry_with_its_smallest_case(made):
    (entry,) = entries_of(made[1], "limited")
    assert entry.divergence.kind == KNOWN
    assert set(entry.operators) == {"conv1d", "conv2d"}
    assert entry.divergence.clause == "CONV-6"
    assert entry.divergence.reason == "It wants channels."
    assert entry.divergence.case["inputs"]["x"]["shape"][1] == 0
    assert entry.divergence.reproduced == SHOWN


def test_a_crash_is_one_entry_whose_program_crashes_too(made):
    (entry,) = [e for e in entries_of(made[1], "deadly") if e.divergence.outcome]
    divergence = entry.divergence
    assert (divergence.kind, divergence.outcome) == (VIOLATION, "crashed")
    assert len(entry.laws) > 3
    assert divergence.case["parameters"]["kernel"] == [3]
    assert divergence.reproduced == SHOWN
    assert "convform" not in divergence.program


def test_a_dialect_is_shown_where_it_departs_from_the_standard(made):
    (entry,) = [e for e in entries_of(made[1], "local") if e.divergence.kind == DIALECT]
    divergence = entry.divergence
    assert divergence.dialect == 'ties="last"'
    assert divergence.clause == "MAXGRAD-1"
    assert divergence.case["expected"] != divergence.case["actual"]
    assert divergence.program is None
    assert reproduce(divergence) == NO_SCRIPT


def test_the_pages_tell_all_of_it_and_need_nothing_else(made):
    markdown, page = ((made[1] / name).read_text(encoding="utf-8") for name in ("matrix.md", "matrix.html"))
    for text in (markdown, page):
        for said in ("deadly", "im2col1d", "CONV-6", "It wants channels.", "fresh interpreter", "expected"):
            assert said in text
    assert "| conv2d | · | ✓ 1 | · |" in markdown
    assert "| im2col1d | ✗ crashed | · | · |" in markdown
    assert not re.search(r"<(link|img|script src)|url\(|@import", page)
    linked = set(re.findall(r'href="#([^"]+)"', page))
    assert linked
    assert linked <= set(re.findall(r'id="([^"]+)"', page))
    assert str(Path.home()) not in markdown
    assert str(made[1].parent) not in markdown + page


def test_a_second_run_judges_nothing_again(made):
    _, folder, targets = made
    before = (folder / "matrix.json").read_text(encoding="utf-8")
    started = time.monotonic()
    result = convform("matrix", targets[0], "--out", folder)
    assert result.exit_code == 0, result.output
    after = json.loads((folder / "matrix.json").read_text(encoding="utf-8"))
    assert after == json.loads(before)
    assert time.monotonic() - started < 30


LOGGING = """
    import os, time
    from pathlib import Path
    from convform.tests import plain as reference
    from convform.adapters import Adapter

    HERE = Path(__file__).parent
    slow = Adapter("slow", dtypes=("float64",), version="1.0")

    @slow.implements("im2col")
    def first(x, kernel):
        with open(HERE / "log", "a") as log:
            log.write("first\\n")
        return reference.im2col(x, kernel)

    @slow.implements("im2col1d")
    def second(x, kernel):
        with open(HERE / "log", "a") as log:
            log.write("second\\n")
        if not (HERE / "go").exists():
            (HERE / "waits").touch()
            time.sleep(600)
        return reference.im2col(x, kernel)
"""


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path):
    """It is killed while the second operator is judged; then only that one is run."""
    (tmp_path / "slow.py").write_text(dedent(LOGGING), encoding="utf-8")
    command = [sys.executable, "-m", "convform.conformance.doors.cli", "matrix", "slow.py", "--out", "out"]
    command.append("--in-process")  # it writes files
    process = subprocess.Popen(
        command, cwd=tmp_path, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        until = time.monotonic() + 120
        while not (tmp_path / "waits").exists() and time.monotonic() < until:
            time.sleep(0.05)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    kept = json.loads((tmp_path / "out" / "matrix.json").read_text(encoding="utf-8"))
    assert list(kept["backends"]["slow"]["operators"]) == ["im2col"]
    calls = (tmp_path / "log").read_text(encoding="utf-8").count("first")
    (tmp_path / "go").touch()
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stdout + again.stderr
    log = (tmp_path / "log").read_text(encoding="utf-8")
    assert log.count("first") == calls
    assert log.count("second") > 10
    data = json.loads((tmp_path / "out" / "matrix.json").read_text(encoding="utf-8"))
    assert sorted(data["backends"]["slow"]["operators"]) == ["im2col", "im2col1d"]
    assert not list((tmp_path / "out").glob(".*")), "nothing half-written is left"


def test_a_deadline_ends_a_call_and_another_one_judges_anew(tmp_path):
    file = tmp_path / "sleepy.py"
    text = """
        import time
        import numpy as np
        from convform.tests import plain as reference
        from convform.adapters import Adapter
        sleepy = Adapter("sleepy", dtypes=("float64",), columns="n c kw ow")

        @sleepy.implements("im2col1d")
        def im2col(x, kernel):
            time.sleep(1.5)
            return reference.im2col(x, kernel)
    """
    file.write_text(dedent(text), encoding="utf-8")
    folder = tmp_path / "out"
    for deadline in (0.5, 0.6):
        result = convform(
            "matrix", file, "--out", folder, "--profile", "brief", "--deadline", deadline, "--no-reproduce"
        )
        assert result.exit_code == 1, result.output
        unit = json.loads((folder / "matrix.json").read_text())["backends"]["sleepy"]["operators"]["im2col1d"]
        assert unit["core"] == "timed out"
        assert unit["key"]["deadline"] == deadline


# ------------------------------------------------------------------------- what needs no judging


UNIT = {
    "core": "conforms",
    "strict": "conforms",
    "cases": 3,
    "seconds": 0.5,
    "laws": {"holds": ["smoke"]},
    "dialects": [],
    "divergences": [],
    "key": {"version": "1.0", "profile": "quick", "seed": 0, "convform": "0.1.0"},
}
ELSEWHERE = {
    "state": "judged",
    "version": "1.0",
    "date": "2026-01-31",
    "environment": {"python": "3.13.0", "numpy": "2.3.0", "system": "Linux x86_64"},
    "operators": {"conv2d": UNIT},
}


def test_what_was_judged_elsewhere_is_kept(tmp_path):
    """A backend that is missing here was there in the environment that has filled its column."""
    gone = tmp_path / "gone.py"
    gone.write_text("import not_there_at_all\n", encoding="utf-8")
    store = matrix.Store(tmp_path / "out")
    store.change(lambda data: data["backends"].update({"other": ELSEWHERE, str(gone): ELSEWHERE}))
    result = convform("matrix", gone, "--out", tmp_path / "out")
    assert store.read()["backends"] == {"other": ELSEWHERE, str(gone): ELSEWHERE}
    assert list(matrix.Store(tmp_path / "out").read()["backends"]) == [str(gone), "other"]
    assert result.exit_code == 0
    assert "| conv2d | ✓ | ✓ |" in (tmp_path / "out" / "matrix.md").read_text(encoding="utf-8")


def test_a_missing_backend_is_told_with_what_installs_it(tmp_path):
    gone = tmp_path / "gone.py"
    gone.write_text("import not_there_at_all\n", encoding="utf-8")
    result = convform("matrix", gone, "--out", tmp_path / "out")
    assert result.exit_code == 3, result.output
    assert "pip install not_there_at_all" in (tmp_path / "out" / "matrix.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 0, "backends": {}}', '{"schema": 1}'])
def test_a_file_that_is_no_matrix_is_not_overwritten(tmp_path, text):
    (tmp_path / "matrix.json").write_text(text, encoding="utf-8")
    result = convform("matrix", "reference", "--out", tmp_path)
    assert result.exit_code == 2
    assert "is no matrix that can be continued" in " ".join(result.stderr.split())
    assert (tmp_path / "matrix.json").read_text(encoding="utf-8") == text


@pytest.mark.parametrize("name", ["no-such-backend", "no/such/file.py"])
def test_a_name_that_does_not_exist(tmp_path, name):
    result = convform("matrix", name, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert not (tmp_path / "out" / "matrix.md").exists()


@pytest.mark.parametrize("changed", [{"version": "1.1"}, {"seed": 1}, {"profile": "full"}])
def test_other_versions_profiles_and_seeds_invalidate(changed):
    described = matrix.Description("b", "1.0", ("conv2d", "conv3d"))
    data = {"backends": {"b": json.loads(json.dumps(ELSEWHERE))}}
    matrix._note_described(data, "b", described, UNIT["key"], fresh=False)
    assert list(data["backends"]["b"]["operators"]) == ["conv2d"]
    matrix._note_described(data, "b", described, UNIT["key"] | changed, fresh=False)
    assert data["backends"]["b"]["operators"] == {}


def test_fresh_drops_what_is_there():
    data = {"backends": {"b": json.loads(json.dumps(ELSEWHERE))}}
    matrix._note_described(data, "b", matrix.Description("b", "1.0", ("conv2d",)), UNIT["key"], fresh=True)
    assert data["backends"]["b"]["operators"] == {}


@pytest.mark.parametrize(
    ("states", "named", "code"),
    [
        (["conforms"], True, 0),
        (["conforms", "violates"], False, 1),
        (["timed out"], True, 1),
        (["violates", "broken adapter"], True, 2),
        (["conforms", "unavailable"], False, 0),
        (["conforms", "unavailable"], True, 3),
        (["unavailable"], False, 3),
    ],
)
def test_exit_codes_are_those_of_check(states, named, code):
    backends = {
        str(i): {"state": state, "problem": ""}
        if state == "unavailable"
        else {**ELSEWHERE, "operators": {"conv2d": {**UNIT, "core": state}}}
        for i, state in enumerate(states)
    }
    assert matrix.exit_code({"backends": backends}, list(backends), "core", named=named) == code


def test_a_broken_operator_is_told_with_its_problem():
    unit = {**UNIT, "core": "broken adapter", "problem": "the wrapper raised NameError"}
    data = {"backends": {"b": {**ELSEWHERE, "operators": {"conv2d": unit}}}}
    for page in (matrix_pages.markdown(data, []), matrix_pages.html(data, [])):
        assert "broken adapter: the wrapper raised NameError" in page


def test_cells():
    def sign(**changed):
        return matrix_pages.mark({**UNIT, **changed})[0]

    assert sign() == "✓"
    assert sign(divergences=[{"kind": KNOWN}, {"kind": DIALECT}]) == "✓ 2"
    assert sign(strict="violates", laws={"violated": ["dtype"]}) == "◐ 1"
    assert sign(core="violates") == "✗"
    assert sign(core="timed out") == "✗ timed out"
    assert sign(core="broken adapter") == "!"
    assert matrix_pages.mark(None)[0] == "·"


def divergence(operator="conv2d", law="values", kind=VIOLATION, **what):
    return Divergence(
        kind, operator, law, what.pop("level", "core"), what.pop("clause", "CONV-1"), "", **what
    )


def test_one_cause_is_one_entry():
    def count(*found):
        return len(merged("b", None, found))

    mirrored = {"evidence": "values", "misreadings": ("kernel mirrored",)}
    assert count(divergence("conv1d", **mirrored), divergence("conv2d", "stride", **mirrored)) == 1
    assert count(divergence(**mirrored), divergence(evidence="values", misreadings=("other",))) == 2
    known = {"kind": KNOWN, "law": "a", "reason": "R"}
    assert count(divergence(**known), divergence("conv2d.backward", **{**known, "law": "b"})) == 1
    assert count(divergence(**known), divergence(**{**known, "reason": "S"})) == 2
    assert count(divergence(**known), divergence(**known, outcome="crashed")) == 1
    assert count(divergence(**known, link="1"), divergence(**known, link="2")) == 2
    dialect = {"kind": DIALECT, "dialect": 'ties="last"'}
    assert count(divergence("max_pool1d", **dialect), divergence("max_pool2d", **dialect)) == 1
    assert count(divergence(level="strict", evidence="dtype"), divergence(law="dtype", evidence="dtype")) == 2


def test_the_entry_tells_the_smallest_case_and_names_all_operators():
    large, small = (
        divergence("conv2d", size=9, reason="R", kind=KNOWN),
        divergence("conv1d", size=3, reason="R", kind=KNOWN),
    )
    (entry,) = merged("b", "1.0", [large, small])
    assert entry.divergence is small
    assert entry.operators == ("conv1d", "conv2d")  # in the order of the standard


VALUES = {"does": "values", "actual": {"y": "(1,) [0.0]"}, "expected": {"y": "(1,) [1.0]"}}


@pytest.mark.parametrize(
    ("prints", "code", "out", "said"),
    [
        (VALUES, 0, "y float64 (1,) [0.0]\n", SHOWN),
        (VALUES, 0, "a warning\ny float64 (1,) [0.0]\nindices int64 (1,) [5]\n", SHOWN),
        (VALUES, 0, "y float64 (1,) [1.0]\n", "gave the standard's answer"),
        (VALUES, 0, "y float64 (1,) [2.0]\n", "gave a third answer"),
        (VALUES, 0, "", "printed no output"),
        (VALUES, 1, "", "raised ValueError: no"),
        (VALUES, -11, "", "the process ended with code -11: ValueError: no"),
        ({"does": "ends"}, -11, "", SHOWN),
        ({"does": "ends"}, 0, "y float64 (1,) [1.0]\n", "gave an answer"),
        ({"does": "raises"}, 1, "", SHOWN),
        ({"does": "answers"}, 0, "y float64 () 1.0\n", SHOWN),
        ({"does": "answers"}, 1, "", "raised ValueError: no"),
        ({"does": "dtype", "dtype": "float32"}, 0, "y float64 () 1.0\n", SHOWN),
        ({"does": "dtype", "dtype": "float32"}, 0, "y float32 () 1.0\n", "the dtype was right"),
        ({"does": "shape", "shapes": {"y": "(1, 0)"}}, 0, "y float64 (1, 0) [[]]\n", SHOWN),
        ({"does": "shape", "shapes": {"y": "(1, 0)"}}, 0, "y float64 (1, 1) [[1]]\n", "gave another shape"),
        ({"does": "more"}, 0, "y float64 () 1.0\n", "ran; one call alone does not show it"),
    ],
)
def test_what_a_program_did_is_held_against_what_was_seen(prints, code, out, said):
    assert _compared(prints, code, out, "Traceback\nValueError: no\n") == said


def test_a_program_that_hangs_is_ended():
    hangs = divergence(program="import time; time.sleep(60)", prints=VALUES)
    assert reproduce(hangs, seconds=0.5) == "no answer within 0.5 s"
    known_to = divergence(
        program="import time; time.sleep(60)", prints={"does": "ends", "outcome": "timed out"}
    )
    assert reproduce(known_to, seconds=0.5) == SHOWN


def test_divergences_survive_the_file():
    told = divergence(misreadings=("a", "b"), case={"inputs": {"x": {"shape": [1]}}}, prints=VALUES)
    assert Divergence.from_json(json.loads(json.dumps(told.to_json()))) == told


def test_folders_of_this_machine_are_left_out_and_links_are_not():
    assert without_paths('File "/usr/lib/python3/a.py", line 2') == 'File "a.py", line 2'
    assert without_paths("see https://example.org/a/b.html, 3/4") == "see https://example.org/a/b.html, 3/4"


def test_an_unknown_profile_is_told(tmp_path):
    with pytest.raises(ValueError, match="profile='huge'"):
        matrix.run_matrix(["reference"], tmp_path, matrix.Run(profile="huge"))


def test_a_store_does_not_lose_what_two_runs_write_at_once(tmp_path):
    one, two = matrix.Store(tmp_path), matrix.Store(tmp_path)
    one.change(lambda data: data["backends"].update(a=ELSEWHERE))
    two.change(lambda data: data["backends"].update(b=ELSEWHERE))
    assert list(one.read()["backends"]) == ["a", "b"]
    with pytest.raises(RuntimeError), one._lock():
        raise RuntimeError
    two.change(lambda data: data["backends"].pop("a"))  # the lock is free again
    assert list(one.read()["backends"]) == ["b"]
    (tmp_path / "matrix.json").write_text("?", encoding="utf-8")
    with pytest.raises(AdapterError):
        one.read()
