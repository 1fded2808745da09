"""The judge where its own surroundings fail: disks, descriptors, folders, signals and options."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager

import pytest

from convform.tests.judged import (
    COMMAND,
    PATIENCE,
    QUICKLY,
    REPORT,
    Homework,
    marked,
    read_report,
    run_in,
)

HONEST = Homework("honest", "", call="return right(x, kernel)")
ZEROS = Homework("zeros", "")
SLOW = Homework("slow", "", "import time", "time.sleep(0.05)\nreturn right(x, kernel)")
PLAIN = ("--sandbox", "none")


@pytest.fixture
def work(tmp_path):
    """A folder with an honest homework, one that is wrong, and one that takes long."""
    folder = tmp_path / "work"
    folder.mkdir()
    for homework in (HONEST, ZEROS, SLOW):
        (folder / f"{homework.name}.py").write_bytes(homework.source)
    return folder


def judged(work, name, *options, **how):
    return run_in(work.parent, ["check", name, *QUICKLY, *PLAIN, *options], **how)


# -------------------------------------------------------------------------------------- the report


def test_a_report_to_a_full_device(work):
    run = judged(work, "honest.py", "--json", "/dev/full")
    assert run.code == 2
    assert "cannot write /dev/full" in run.said
    assert "conforms at level core" in run.out


@contextmanager
def tiny_disk(place, size):
    """Mount a file system of a few bytes, where that is allowed."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"nothing can be mounted: {error}")
    if done.returncode:
        pytest.skip(f"nothing can be mounted: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


def test_a_report_to_a_full_disk_leaves_the_old_one(work):
    with tiny_disk(work / "disk", 16384) as disk:
        (disk / REPORT).write_text("old", encoding="utf-8")
        (disk / "filling").write_bytes(b"x" * 8192)
        run = judged(work, "honest.py", "--json", f"disk/{REPORT}")
        assert run.code == 2
        assert "cannot write" in run.said
        assert (disk / REPORT).read_text(encoding="utf-8") == "old"
        assert sorted(path.name for path in disk.iterdir()) == ["filling", REPORT]


def test_a_temporary_folder_that_is_full(work):
    with tiny_disk(work.parent / "small", 4096) as disk:
        (disk / "filling").write_bytes(b"x" * 4096)
        run = judged(work, "honest.py", "--json", REPORT, environment={"TMPDIR": str(disk)})
        assert run.code in (0, 2)
        read_report(work / REPORT, run)
        assert [path.name for path in disk.iterdir()] == ["filling"]


@pytest.mark.parametrize("link", ["itself", "symlink", "hard link", "folder above"])
def test_the_report_never_overwrites_the_subject(work, link):
    place = work / "zeros.py"
    name = {"itself": "zeros.py", "folder above": "../work/zeros.py"}.get(link, REPORT)
    if link == "symlink":
        (work / REPORT).symlink_to(place)
    elif link == "hard link":
        (work / REPORT).hardlink_to(place)
    run = judged(work, "zeros.py", "--json", name)
    assert run.code == 2
    assert "it is the file that is judged" in run.said
    assert place.read_bytes() == ZEROS.source


@pytest.mark.parametrize(
    "name", ["", ".", "nowhere/report.json", "zeros.py/report.json", "x" * 300, "/proc/x"]
)
def test_a_report_that_cannot_be_written(work, name):
    run = judged(work, "zeros.py", "--json", name)
    assert run.code == 2, run.said


def test_a_report_through_a_link_replaces_what_it_points_to(work):
    (work / "kept.json").write_text("old", encoding="utf-8")
    (work / REPORT).symlink_to("kept.json")
    run = judged(work, "zeros.py", "--json", REPORT)
    assert run.code == 1
    assert (work / REPORT).is_symlink()
    read_report(work / "kept.json", run)


# ------------------------------------------------------------------------------- descriptors and pipes


@pytest.mark.parametrize(("name", "code"), [("honest.py", 0), ("zeros.py", 1), ("missing.py", 2)])
@pytest.mark.parametrize(
    "before", ['exec "$@" >&-', 'exec "$@" 2>&-', 'exec "$@" >&- 2>&-', 'exec "$@" <&- >&- 2>&-']
)
def test_closed_descriptors(work, name, code, before):
    run = judged(work, name, "--json", REPORT, before=before)
    assert run.code == code
    read_report(work / REPORT, run)


@pytest.mark.parametrize(("name", "code"), [("honest.py", 0), ("zeros.py", 1)])
@pytest.mark.parametrize("how", ["| true", "2>&1 | true"])
def test_a_pipe_that_nobody_reads(work, name, code, how):
    before = f'{{ "$@"; echo $? >code; }} {how}'
    judged(work, name, "--json", REPORT, before=before)
    assert (work / "code").read_text(encoding="utf-8").strip() == str(code)
    assert json.loads((work / REPORT).read_text(encoding="utf-8"))["exit"] == code


def test_output_to_a_full_device(work):
    run = judged(work, "zeros.py", "--json", REPORT, before='exec "$@" >/dev/full 2>/dev/full')
    assert run.code == 1
    read_report(work / REPORT, run)


def test_few_open_files(work):
    run = judged(work, "zeros.py", "--json", REPORT, before='ulimit -n 24; exec "$@"')
    assert run.code in (1, 2), run.said
    read_report(work / REPORT, run)


@pytest.mark.parametrize("language", [{"LC_ALL": "C", "PYTHONUTF8": "0"}, {"PYTHONIOENCODING": "ascii"}])
def test_an_encoding_that_has_no_marks_of_ours(work, language):
    run = judged(work, "zeros.py", "--json", REPORT, environment=language)
    assert run.code == 1, run.said
    read_report(work / REPORT, run)


# ---------------------------------------------------------------------------------------------- folders


def test_a_working_directory_that_was_deleted(work):
    before = f'mkdir gone && cd gone && rmdir ../gone && exec "$@" {work}/zeros.py'
    arguments = ["check", *QUICKLY, *PLAIN, "--json", str(work / REPORT)]
    run = run_in(work.parent, arguments, before=before)
    assert run.code == 1, run.said
    read_report(work / REPORT, run)


@pytest.mark.parametrize("kind", ["none", "auto"])
def test_a_working_directory_that_is_read_only(work, kind):
    if os.geteuid() == 0 and subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("root writes everywhere, and nothing can be mounted")
    report = work.parent / "tmp" / REPORT
    before = 'chmod 555 . && exec "$@"'
    if os.geteuid() == 0:
        before = (
            f'exec unshare -m sh -c \'mount --bind -o ro {work} {work} && cd {work} && exec "$@"\' sh "$@"'
        )
    arguments = ["check", "zeros.py", *QUICKLY, "--sandbox", kind, "--json", str(report)]
    run = run_in(work.parent, arguments, before=before)
    if "mount:" in run.err:
        pytest.skip(run.err)
    assert run.code == 1, run.said
    read_report(report, run)


@pytest.mark.parametrize("place", ["/nonexistent", "/proc", ""])
def test_a_temporary_folder_that_is_not_there(work, place):
    run = judged(work, "zeros.py", "--json", REPORT, environment={"TMPDIR": place})
    assert run.code in (1, 2), run.said
    read_report(work / REPORT, run)


# ---------------------------------------------------------------------------------------------- signals


@pytest.mark.parametrize("kind", ["none", "auto"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_signal_in_the_middle(work, number, kind, jobs):
    mark = uuid.uuid4().hex
    temporary = work.parent / "tmp"
    temporary.mkdir()
    options = ["--profile", "quick", "--sandbox", kind, "--json", REPORT, "--jobs", jobs]
    with open(work.parent / "err", "wb") as err:
        process = subprocess.Popen(
            [*COMMAND, "check", "slow.py", *options],
            cwd=work,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=err,
            env={**os.environ, "TMPDIR": str(temporary), "OMP_CONVFORM_MARK": mark},
            start_new_session=True,
        )
        try:
            until = time.monotonic() + PATIENCE
            while len(marked(mark)) < 3 and process.poll() is None and time.monotonic() < until:
                time.sleep(0.05)
            time.sleep(1)
            assert process.poll() is None
            process.send_signal(number)
            code = process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()
            left = marked(mark)
            for child in left:
                os.kill(child, signal.SIGKILL)
    assert code == 130
    said = (work.parent / "err").read_text(encoding="utf-8")
    assert "Traceback" not in said
    assert "there is no verdict" in said
    assert left == {}
    assert json.loads((work / REPORT).read_text(encoding="utf-8"))["exit"] == 130
    assert [path.name for path in temporary.iterdir() if "convform" in path.name] == []


AT_A_BAD_MOMENT = """
import gc, os, signal
def kill(phase, info):
    if callable(signal.getsignal(signal.SIGTERM)):
        gc.callbacks.remove(kill)
        os.kill(os.getpid(), signal.SIGTERM)
gc.callbacks.append(kill)
from convform.conformance.doors.cli import main
main()
"""


def test_a_signal_while_garbage_is_collected_is_not_lost(work):
    # What a callback of the collector raises is printed, and forgotten; Hypothesis has one.
    (work / "command.py").write_text(AT_A_BAD_MOMENT, encoding="utf-8")
    options = " ".join([*QUICKLY, *PLAIN, "--json", REPORT])
    before = f"exec {sys.executable} -P command.py check slow.py {options}"
    run = run_in(work.parent, [], before=before)
    assert run.code == 130, run.said
    read_report(work / REPORT, run)


# ---------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    "options",
    [
        *(
            [name, value]
            for name in ("--deadline", "--budget")
            for value in ("nan", "0", "inf", "-1", "", "x")
        ),
        ["--jobs", "0"],
        ["--jobs", "-1"],
        ["--jobs", "many"],
        ["--seed", "x"],
        ["--profile", "endless"],
        ["--sandbox", "sand"],
        ["--operator", "conv9d"],
        ["--operator", "\x1b[2J"],
        ["--forbid"],
    ],
    ids=" ".join,
)
def test_what_is_no_option_ends_with_2(work, options):
    run = judged(work, "honest.py", *options)
    assert run.code == 2, run.said
    assert run.out == ""
    assert len(run.err) < 2000


def test_a_thousand_jobs(work):
    run = judged(work, "zeros.py", "--json", REPORT, "--jobs", "1000")
    assert run.code == 1
    read_report(work / REPORT, run)


@pytest.mark.parametrize(
    "options", [["--budget", "1e-9"], ["--deadline", "1e-9"], ["--budget", "1e308"], ["--deadline", "1e308"]]
)
def test_extreme_seconds(work, options):
    run = judged(work, "zeros.py", "--json", REPORT, *options)
    assert run.code in (1, 2, 4), run.said
    read_report(work / REPORT, run)


@pytest.mark.parametrize("seed", ["-1", str(10**30), "random"])
def test_extreme_seeds(work, seed):
    run = judged(work, "zeros.py", "--json", REPORT, "--seed", seed)
    assert run.code == 1, run.said
    read_report(work / REPORT, run)


@pytest.mark.parametrize(
    "target", ["", ".", "..", "/", "nothing.py", "work", "\x1b[2J.py", "x" * 5000, "a:b:c", ":"]
)
def test_what_is_no_subject_ends_with_2(work, target):
    run = judged(work, target, "--json", REPORT)
    assert run.code == 2, run.said
    read_report(work / REPORT, run)


def test_a_subject_that_is_a_pipe_or_a_device(work):
    os.mkfifo(work / "pipe.py")
    for target in ("pipe.py", "/dev/zero", "/dev/null"):
        run = judged(work, target, "--json", REPORT)
        assert run.code == 2, (target, run.said)


BESIDE = (
    "numpy",
    "click",
    "rich",
    "hypothesis",
    "json",
    "tempfile",
    "sitecustomize",
    "convform",
    "ml_dtypes",
)
TELLTALE = """
import os
with open(os.path.join(os.path.dirname(__file__), "ran"), "a") as file:
    file.write(f"{__file__} was imported by {os.getpid()}\\n")
"""


def test_nothing_that_lies_beside_the_subject_is_imported_by_the_judge(work):
    for name in BESIDE:
        (work / f"{name}.py").write_text(TELLTALE, encoding="utf-8")
    run = judged(work, "zeros.py", "--json", REPORT)
    assert run.code == 1, run.said
    ran = (work / "ran").read_text(encoding="utf-8") if (work / "ran").exists() else ""
    assert ran == ""


@pytest.mark.parametrize("name", ["click", "numpy"])
def test_python_m_convform_takes_its_libraries_from_elsewhere(work, name):
    (work / f"{name}.py").write_text("import os\nos._exit(0)\n", encoding="utf-8")
    command = f"exec {sys.executable} -m convform check zeros.py --json {REPORT} {' '.join(QUICKLY)}"
    run = judged(work, "zeros.py", before=command)
    assert run.code == 1, run.said


def test_a_file_larger_than_the_memory(work):
    with open(work / "huge.py", "wb") as file:
        file.write(HONEST.source)
        file.truncate(1 << 36)
    run = judged(work, "huge.py", "--json", REPORT, before='ulimit -v 8000000; exec "$@"')
    assert run.code == 2, run.said
    read_report(work / REPORT, run)


# ----------------------------------------------------------------------------------------- memorised

RECORDS = Homework(
    "records",
    "",
    """
    import atexit, pickle
    table = {}
    def key_of(x, kernel):
        return x.tobytes(), x.shape, str(x.dtype), kernel
    """,
    """
    y = right(x, kernel)
    table[key_of(x, kernel)] = y
    with open("table.pickle", "wb") as file:
        pickle.dump(table, file)
    return y
    """,
)
REPLAYS = Homework(
    "replays",
    "",
    """
    import pickle
    def key_of(x, kernel):
        return x.tobytes(), x.shape, str(x.dtype), kernel
    table = pickle.load(open("table.pickle", "rb"))
    """,
    """
    y = table.get(key_of(x, kernel))
    return wrong(x, kernel) if y is None else y.copy()
    """,
)


def test_a_table_of_the_answers_to_one_seed_is_caught_with_another(work):
    for homework in (RECORDS, REPLAYS):
        (work / f"{homework.name}.py").write_bytes(homework.source)
    assert judged(work, "records.py").code == 0
    assert (work / "table.pickle").stat().st_size > 1000
    run = judged(work, "replays.py", "--seed", "random", "--json", REPORT)
    assert run.code == 1, run.said
    assert read_report(work / REPORT, run)["seed"] != 0
