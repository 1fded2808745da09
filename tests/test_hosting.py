"""Files that are judged: described as data, held by a sandbox, asked in an order that nobody foresees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from click.testing import CliRunner

from convform.adapters import Adapter, installed
from convform.adapters.errors import NotFound, Unavailable
from convform.adapters.process import sandbox as sandboxes
from convform.adapters.process.description import adapters_of, describe
from convform.adapters.process.sandbox import KINDS, Cell, sandbox
from convform.adapters.process.worker import Options
from convform.conformance.doors.cli import main
from convform.conformance.doors.cli.outcome import write_atomically
from convform.conformance.inference.targets import found, is_judged
from convform.conformance.laws.contract import FEWEST_CALLS
from convform.conformance.running.budget import Budget
from convform.conformance.running.judge import in_drawn_order
from convform.conformance.subjects.hosting import Hosting, hosted
from convform.spec.clauses import LEVELS

USABLE = [kind for kind in KINDS if sandboxes._problem(kind) is None]
HELD = [kind for kind in USABLE if kind != "none"]

HEAD = """
    import os, socket, subprocess, sys
    import numpy as np
    from convform.adapters import Adapter
    from convform.tests import plain
    hw = Adapter("hw", dtypes=("float64",))
"""
HONEST = """
    @hw.implements("im2col1d")
    def columns(x, kernel):
        return plain.im2col(x, kernel)
"""


@pytest.fixture
def homework(tmp_path, monkeypatch):
    """Write hw.py into an empty folder, the working directory."""
    monkeypatch.chdir(tmp_path)

    def write(body=HONEST, head=HEAD):
        (tmp_path / "hw.py").write_text(dedent(head) + dedent(body), encoding="utf-8")
        return "hw.py"

    return write


def convform(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


# ------------------------------------------------------------------------------------ descriptions

AVAILABLE = [entry.adapter for entry in installed() if entry.adapter is not None]


@pytest.mark.parametrize("adapter", AVAILABLE, ids=lambda adapter: adapter.name)
def test_a_description_says_all_that_the_judge_needs(adapter):
    if adapter.available and adapter.available():
        pytest.skip("not available here")
    (other,) = adapters_of(describe([adapter]), lambda name, operator: lambda **arguments: None)
    assert (other.name, other.version, other.dtypes) == (adapter.name, adapter.version, adapter.dtypes)
    assert list(other.implementations) == list(adapter.implementations)
    for name, one in adapter.implementations.items():
        again = other.implementations[name]
        assert (again.takes, again.claims, dict(again.layouts)) == (one.takes, one.claims, dict(one.layouts))
    assert other.known_limits == adapter.known_limits


def test_control_characters_do_not_leave_a_description():
    adapter = Adapter("evil\x1b[2J\x07name", version="1\n2")
    adapter.implements("im2col1d")(lambda x, kernel: x)
    (other,) = adapters_of(describe([adapter]), lambda name, operator: lambda **arguments: None)
    assert other.name == "evil [2J name"
    assert other.version == "1 2"


# ------------------------------------------------------------------------------------ the way in


def test_a_judged_file_is_not_imported_by_the_judge(homework, tmp_path):
    file = homework(HONEST + f"\n    Path = __import__('pathlib').Path({str(tmp_path)!r}, 'pid')\n")
    text = Path(file).read_text(encoding="utf-8") + "\nprint('pid', os.getpid(), os.getppid())\n"
    Path(file).write_text(text, encoding="utf-8")
    result = convform("check", file, "--profile", "brief", "--sandbox", "none")
    assert result.exit_code == 0, result.output
    assert f"pid {os.getpid()}" not in result.stderr
    assert "judged without a sandbox" in result.stdout


def test_who_is_trusted_is_named_in_the_report(homework):
    result = convform("check", homework(), "--profile", "brief", "--in-process", "--json", "r.json")
    assert result.exit_code == 0, result.output
    assert "judged in process" in result.stdout
    assert json.loads(Path("r.json").read_text(encoding="utf-8"))["judged"]["own_process"] is False


def test_installed_names_are_trusted_and_files_are_not(homework):
    assert is_judged(homework())
    assert is_judged("./no_such_file")
    assert not is_judged("reference")
    assert not is_judged("reference:adapter")


def test_what_is_not_there_is_said_as_before(homework):
    with pytest.raises(NotFound, match="there is no file"):
        found("nowhere.py", Hosting(sandbox("none")))


@pytest.mark.parametrize("how", ["import", "from", "importlib", "open"])
def test_who_imports_the_answers_violates_the_clause_about_it(homework, how):
    deeds = {
        "import": "import convform.reference",
        "from": "from convform import reference",
        "importlib": "__import__('importlib').import_module('convform.conformance')",
        "open": f"open({str(Path(sandboxes.folders_of('convform.reference')[0], 'window.py'))!r}).read()",
    }
    caught = homework(f"    try:\n        {deeds[how]}\n    except Exception: pass\n" + HONEST)
    result = convform("check", caught, "--profile", "brief", "--sandbox", "none")
    assert result.exit_code == 1, result.output
    assert "CONTRACT-10" in result.stdout
    assert "hw.py:" in result.stdout
    bare = homework(f"    {deeds[how]}\n" + HONEST)
    result = convform("check", bare, "--profile", "brief", "--sandbox", "none", "--json", "r.json")
    assert result.exit_code == 1, result.output
    assert "CONTRACT-10" in result.stderr
    assert json.loads(Path("r.json").read_text(encoding="utf-8"))["error"]["kind"] == "violates"


def test_a_forbidden_module_is_refused_with_the_line_that_imports_it(homework):
    file = homework("    import wave\n" + HONEST)
    assert convform("check", file, "--profile", "brief").exit_code == 0
    result = convform("check", file, "--profile", "brief", "--forbid", "wave")
    assert result.exit_code == 1
    assert "imported wave, which is forbidden (hw.py:7)" in " ".join(result.stderr.split())


def test_own_limits_excuse_nothing_unless_somebody_says_so(homework):
    body = HONEST.replace("return ", "return 0 * ")
    limit = 'hw.known_limit("im2col1d", "IM2COL-1 WINDOW-1", reason="It is so.", link="https://example.org")'
    file = homework(body + f"    {limit}\n")
    result = convform("check", file, "--profile", "brief")
    assert result.exit_code == 1
    assert "declared by itself (they excuse nothing)" in result.stdout
    assert "It is so." in result.stdout


def test_what_is_declared_is_in_the_headline(homework):
    body = HONEST.replace('"im2col1d"', '"im2col1d", oversize="empty"')
    headline = convform("check", homework(body), "--profile", "brief").stdout.splitlines()[1]
    assert "judged by what it declares: oversize='empty' (im2col1d)" in headline


# ------------------------------------------------------------------------------------ the sandbox


@pytest.mark.parametrize("kind", HELD)
def test_a_sandbox_hides_the_answers_and_keeps_files_and_network(kind, tmp_path):
    (hidden, _) = sandboxes.folders_of("convform.reference", "convform.conformance")
    cell = Cell.make(sandbox(kind), hides=True)
    (tmp_path / "precious").write_text("old", encoding="utf-8")
    code = f"""
        import os, socket
        def tried(deed):
            try: return deed() or "done"
            except OSError as error: return type(error).__name__
        print(tried(lambda: open({hidden!r} + "/window.py").read()[:4]))
        print(tried(lambda: open({str(tmp_path / "precious")!r}, "w").write("new")))
        print(tried(lambda: socket.create_connection(("127.0.0.1", 9), 1)) )
        print(tried(lambda: open(os.environ["TMPDIR"] + "/own", "w").write("x") and ""))
        print("SECRET" in os.environ)
    """
    command = cell.command([sys.executable, "-c", dedent(code)], {"RLIMIT_CORE": 0})
    environment = cell.environment()
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    reads, writes, connects, own, secret = ran.stdout.split()
    cell.clear()
    assert reads in ("FileNotFoundError", "PermissionError")
    assert writes in ("OSError", "PermissionError")
    assert connects in ("OSError", "PermissionError", "ConnectionRefusedError")
    assert own == "done"
    assert secret == "False"
    assert (tmp_path / "precious").read_text(encoding="utf-8") == "old"
    assert not Path(cell.private).exists()


def test_who_requires_a_sandbox_does_without_none(monkeypatch):
    problems = {"bwrap": "no bwrap", "landlock": "no Landlock", "none": None}
    monkeypatch.setattr(sandboxes, "_problem", problems.get)
    assert sandbox("auto") == sandboxes.Sandbox("none", "no bwrap; no Landlock")
    with pytest.raises(Unavailable, match="no bwrap; no Landlock"):
        sandbox("require")


@pytest.mark.parametrize("kind", USABLE)
def test_nothing_that_was_started_outlives_the_run(homework, kind):
    """Not even who has left session, parent and environment."""
    body = """
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execve("/bin/sleep", ["sleep", "61.5"], {})
        os._exit(0)
    """
    guest = hosted(Hosting(sandbox(kind)), Options(homework(body + HONEST)))
    assert np.all(guest.adapters[0]["im2col1d"](x=np.ones((1, 1, 3)), kernel=(2,))["cols"] == 1)
    guest.close()
    time.sleep(0.1)
    left = [
        folder
        for folder in Path("/proc").glob("[0-9]*")
        if b"61.5" in _read(folder / "cmdline") and b"Z" not in _read(folder / "stat").rpartition(b")")[2][:3]
    ]
    assert left == []


def _read(file):
    try:
        return file.read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize(
    ("deed", "says"),
    [
        ("open('/etc/hostname').read()", "read a file outside its folder: /etc/hostname (hw.py:"),
        ("open(os.environ['TMPDIR'] + '/x', 'w')", "opened a file for writing in its temporary folder"),
        ("subprocess.run(['true'])", "started a process: true (hw.py:"),
        ("os.environ.update(A='b')", "changed the environment (hw.py:"),
        ("os.umask(0)", "changed the umask"),
        ("socket.socket().connect_ex(('127.0.0.1', 9))", "used the network (hw.py:"),
        ("sys.settrace(lambda *a: None)", "traced the interpreter (hw.py:"),
        ("os.write(1, b'hello')", "wrote to descriptor 1 or 2, past Python's streams"),
    ],
)
def test_what_it_does_besides_answering_is_said(homework, deed, says):
    body = HONEST.replace("return", f"{deed}\n        return")
    result = convform("check", homework(body), "--profile", "brief", "--sandbox", "none")
    assert says in " ".join(result.stdout.split()), result.output


# ------------------------------------------------------------------------------------ order and time


def test_laws_come_in_an_order_that_the_seed_draws():
    orders = [[(name, law.name) for name, law in in_drawn_order(["conv2d", "im2col"], s)] for s in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])
    levels = [law.level for _, law in in_drawn_order(["conv2d", "im2col"], 3) if not law.of_process]
    assert levels == sorted(levels, key=LEVELS.index)


def test_who_is_right_for_the_first_calls_only_is_asked_again(homework):
    body = HONEST.replace(
        "return ", "columns.calls = getattr(columns, 'calls', 0) + 1\n        return (columns.calls < 600) * "
    )
    result = convform("check", homework(body))
    assert result.exit_code == 1, result.output
    assert FEWEST_CALLS > 600


def test_a_drawn_seed_is_told_afterwards(homework):
    first, second = (convform("check", homework(), "--profile", "brief", "--seed", "random") for _ in "ab")
    seeds = [result.stdout.splitlines()[0].rpartition("seed ")[2] for result in (first, second)]
    assert all(seed.isdigit() for seed in seeds)
    assert seeds[0] != seeds[1]


def test_a_budget_is_spent_fairly(monkeypatch):
    clock = iter([0.0, 0.0, 0.0, 0.0, 6.0, 6.0, 6.0])
    monkeypatch.setattr("convform.conformance.running.budget.time.monotonic", lambda: next(clock))
    budget = Budget(10.0, ["a", "a", "b"])
    assert budget.until("a") == 5.0
    assert not budget.is_over
    budget.spend("a", 6.0)
    assert budget.until("a") == 5.0 + 1.0 - 0.0 or budget.until("b") == 10.0


def test_what_is_not_reached_makes_the_verdict_incomplete(homework):
    body = HONEST.replace("return", "__import__('time').sleep(0.05)\n        return")
    result = convform("check", homework(body), "--budget", "1.5", "--json", "r.json")
    assert result.exit_code == 4, result.output
    assert "Not reached" in result.stdout
    report = json.loads(Path("r.json").read_text(encoding="utf-8"))
    assert report["verdict"] == "incomplete"
    assert report["exit"] == 4
    assert {law["status"] for law in report["operators"]["im2col1d"]["laws"]} >= {"holds", "not-reached"}


# ------------------------------------------------------------------------------------ reports


def test_a_report_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "report.json"
    write_atomically(file, "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(file, "new")
    assert file.read_text(encoding="utf-8") == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]


def test_no_run_leaves_a_folder_of_hypothesis(homework, tmp_path):
    file = homework()
    command = [sys.executable, "-m", "convform.conformance.doors.cli", "check", file]
    subprocess.run([*command, "--profile", "brief"], cwd=tmp_path, check=True, capture_output=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["hw.py"]
