"""The command line: exit codes, the report file, and one sentence for whatever goes wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from textwrap import dedent

import pytest
from click.testing import CliRunner

from convform.conformance.doors import python
from convform.conformance.doors.cli import COMMANDS, main
from convform.conformance.running import judge
from convform.spec.clauses import clauses
from convform.spec.operators import FAMILIES

CONFORMS, VIOLATES, WRONG, NOT_INSTALLED, INTERRUPTED = 0, 1, 2, 3, 130

HEAD = """
    import numpy as np
    from convform.tests import plain as reference
    from convform.adapters import Adapter
    hw = Adapter("hw")
"""
HONEST = """
    @hw.implements("conv2d")
    def conv(x, w):
        return reference.conv(x, w)
"""
DEFECT = """
    @hw.implements("im2col")
    def gather(x, kernel):
        return np.zeros((1, 1, 1))
"""


def convform(*arguments):
    """Run the command in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def _no_diagnosis(monkeypatch):
    """What a defect is called is tested elsewhere, and takes longer than finding it."""
    monkeypatch.setattr(judge, "diagnosed", lambda subject, results, seed: list(results))


@pytest.fixture
def homework(tmp_path, monkeypatch):
    """Write files into an empty folder, the working directory."""
    monkeypatch.chdir(tmp_path)

    def write(body=HONEST, name="hw.py", head=HEAD):
        (tmp_path / name).write_text(dedent(head) + dedent(body), encoding="utf-8")
        return name

    return write


def read(name):
    """Read a JSON report."""
    return json.loads(Path(name).read_text(encoding="utf-8"))


def told(result, code=WRONG):
    """Return what was said about a problem: one sentence and perhaps a hint, and no traceback."""
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    text = " ".join(result.stderr.split())
    assert text
    assert len(text) < 500, text
    return text


# ------------------------------------------------------------------------------------------- verdicts


def test_conforming_file_exits_with_0(homework):
    result = convform("check", homework())
    assert result.exit_code == CONFORMS
    assert "conforms at level core" in result.stdout
    assert result.stderr == ""


def test_violating_file_exits_with_1(homework):
    result = convform("check", homework(DEFECT))
    assert result.exit_code == VIOLATES
    assert "violates at level core" in result.stdout
    assert "IM2COL-1" in result.stdout


def test_level_decides_the_verdict_and_both_levels_are_shown(homework):
    name = homework("""
        @hw.implements("conv2d")
        def conv(x, w):
            y = reference.conv(x, w)
            return y.astype(np.float64)
    """)
    core, strict = convform("check", name), convform("check", name, "--level", "strict")
    assert (core.exit_code, strict.exit_code) == (CONFORMS, VIOLATES)
    assert "CONTRACT-5" in core.stdout
    assert "CONTRACT-5" in strict.stdout


def test_operator_selects_and_may_be_repeated(homework):
    name = homework(HONEST + DEFECT)
    assert convform("check", name).exit_code == VIOLATES
    assert convform("check", name, "--operator", "conv2d").exit_code == CONFORMS
    both = convform("check", name, "--operator", "conv2d", "--operator", "im2col")
    assert both.exit_code == VIOLATES


def test_profile_full_runs_more_cases(homework):
    name = homework()
    convform("check", name, "--json", "quick.json")
    convform("check", name, "--json", "full.json", "--profile", "full")
    quick, full = (read(f"{profile}.json") for profile in ("quick", "full"))
    assert (quick["profile"], full["profile"]) == ("quick", "full")
    assert full["operators"]["conv2d"]["cases"] > quick["operators"]["conv2d"]["cases"]


def test_same_seed_same_report(homework):
    name = homework(DEFECT)

    def laws(*options):
        convform("check", name, "--json", "r.json", *options)
        report = read("r.json")
        return report["seed"], [
            (law["law"], law["status"], law["cases"], law["counterexample"])
            for law in report["operators"]["im2col"]["laws"]
        ]

    assert laws("--seed", 5) == laws("--seed", 5)
    assert laws()[0] == 0


def test_all_draws_every_violated_law(homework):
    name = homework(DEFECT)
    assert convform("check", name, "--all").stdout.count("Reproduce") > 3
    assert convform("check", name).stdout.count("Reproduce") == 1


def test_target_is_an_installed_name_a_file_or_one_adapter_in_it(homework):
    assert convform("check", "reference", "--operator", "im2col1d").exit_code == CONFORMS
    name = homework(HONEST + DEFECT.replace("hw", "other"), head=HEAD + '    other = Adapter("second")\n')
    assert convform("check", name).exit_code == VIOLATES
    assert convform("check", f"{name}:hw").exit_code == CONFORMS
    assert convform("check", f"{name}:other").exit_code == VIOLATES
    assert convform("check", f"{name}:second").exit_code == VIOLATES


def test_a_file_with_two_adapters_gets_two_reports(homework):
    name = homework(HONEST + DEFECT.replace("hw", "other"), head=HEAD + '    other = Adapter("second")\n')
    result = convform("check", name, "--json", "both.json")
    assert [report["adapter"] for report in read("both.json")] == ["hw", "second"]
    assert f"load('{name}:second')" in result.stdout
    assert convform("check", name, "--operator", "conv2d").exit_code == CONFORMS


def test_odd_file_names(homework):
    assert convform("check", homework(name="übung 1 [final].py")).exit_code == CONFORMS


# ------------------------------------------------------------------------------------------- JSON


def test_json_report_has_the_documented_form(homework):
    convform("check", homework(HONEST + DEFECT), "--json", "report.json", "--seed", 3)
    report = read("report.json")
    assert report["schema"] == 1
    assert (report["adapter"], report["seed"], report["verdict"]) == ("hw", 3, "violates")
    assert {"version", "seconds"} <= set(report)
    assert {name: entry["verdict"] for name, entry in report["operators"].items()} == {
        "conv2d": "conforms",
        "im2col": "violates",
    }
    keys = {"law", "level", "clauses", "status", "cases", "seconds", "counterexample", "reproducer"}
    for operator in report["operators"].values():
        for law in operator["laws"]:
            assert keys <= set(law)
            assert law["status"] in {"holds", "violated", "not-claimed", "error"}
            assert law["level"] in {"core", "strict"}
            assert set(law["clauses"]) <= set(clauses())
            assert (law["counterexample"] is None) == (law["status"] != "violated")


def test_json_holds_what_json_cannot_express(homework):
    name = homework("""
        @hw.implements("max_pool2d")
        def pool(x, kernel):
            y = reference.max_pool(x, kernel)[0]
            return np.where(np.isnan(y), 0, y)
    """)
    assert convform("check", name, "--json", "report.json").exit_code == CONFORMS
    text = Path("report.json").read_text(encoding="utf-8")
    json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
    assert '"nan"' in text


# ------------------------------------------------------------------------------------------- spec, adapters


def test_spec_prints_the_standard_one_clause_and_a_list():
    everything = convform("spec")
    assert everything.exit_code == 0
    assert all(name in everything.stdout for name in ("WINDOW-1", "AVGGRAD-2", "CONTRACT-9"))
    one = convform("spec", "CONV-1")
    assert one.exit_code == 0
    assert "CONV-1" in one.stdout
    assert "CONV-2" not in one.stdout
    assert convform("spec", "conv-1").stdout == one.stdout
    listed = convform("spec", "--list").stdout.splitlines()
    assert len(listed) == len(clauses())


def test_unknown_clause_is_named():
    assert "CONV-99" in told(convform("spec", "CONV-99"))
    assert "--list" in told(convform("spec", "nonsense"))


def test_adapters_lists_claims_and_availability():
    result = convform("adapters")
    assert result.exit_code == 0
    assert "reference" in result.stdout
    assert "available" in result.stdout
    assert "low-high" in result.stdout
    assert all(family.partition(".")[0] in result.stdout for family in FAMILIES)


def test_adapters_says_what_is_missing_and_what_helps(monkeypatch, tmp_path):
    """A broken entry point does not break the list; brackets in the hint survive."""
    from importlib.metadata import EntryPoint

    from convform.adapters import find as find_function

    module = sys.modules[find_function.__module__]
    known = {point.name: point for point in entry_points(group="convform.adapters")}
    missing = EntryPoint("torch", "not_there_at_all.adapter:adapter", "convform.adapters")
    monkeypatch.setattr(module, "_entry_points", lambda: {"reference": known["reference"], "torch": missing})
    result = convform("adapters")
    assert result.exit_code == 0
    assert "unavailable" in result.stdout
    assert "not_there_at_all" in result.stdout


def test_help_and_version():
    for arguments in ((), ("--help",), ("check", "-h"), ("spec", "-h"), ("--version",)):
        result = convform(*arguments)
        assert "Traceback" not in result.output
        assert result.output


def file_of(command):
    return command.replace("-", "_") + ".py"


def test_help_lists_what_the_commands_say_of_themselves():
    folder = files("convform.conformance.doors.cli")
    for name, says in COMMANDS.items():
        assert says in " ".join(convform(name, "--help").stdout.split()), name
        assert f"convform {name}``" in (folder / file_of(name)).read_text(encoding="utf-8")


RUN = r"""
import sys
from convform.conformance.doors.cli import main
main(sys.argv[1:], standalone_mode=False)
print(*sys.modules, sep="\n")
"""
JUDGING = ("cases", "laws", "diagnosis", "reports", "running", "inference", "matrix", "teeth", "doors.python")


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        ("--help", ["numpy", "hypothesis", "convform.adapters", "convform.spec", *JUDGING]),
        ("spec CONV-1", ["hypothesis", "convform.reference", *JUDGING]),
        ("adapters --help", ["hypothesis", "convform.reference", *JUDGING]),
        ("infer --help", ["laws", "running", "matrix", "teeth", "doors.python"]),
        ("check --help", ["inference.infer", "matrix", "teeth"]),
        ("matrix --help", ["inference.infer", "teeth", "doors.python"]),
        ("planted --help", ["inference.infer", "matrix", "doors.python"]),
    ],
)
def test_a_command_imports_what_it_runs_and_no_more(arguments, absent):
    command = [sys.executable, "-c", RUN, *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.splitlines())
    assert "convform.conformance.doors.cli" in imported
    for name in (*absent, "convform.adapters.backends"):
        places = (f"{name}.", f"convform.conformance.{name}.")
        assert not [module for module in imported if f"{module}.".startswith(places)], name


# ------------------------------------------------------------------------------------------- bad input


BAD_FILES = {
    "syntax error": ("def conv(:", ["hw.py", "syntax error"]),
    "raises on import": ("1 / 0", ["ZeroDivisionError", "hw.py"]),
    "leaves on import": ("raise SystemExit('bye')", ["SystemExit", "hw.py"]),
    "empty": ("", ["no adapter"]),
    "no operators": ("from convform.adapters import Adapter\nhw = Adapter('hw')", ["hw", "no operator"]),
    "unknown operator": (
        "from convform.adapters import Adapter\nhw = Adapter('hw')\nhw.implements('conv2')(lambda x, w: x)",
        ["conv2", "did you mean 'conv2d'"],
    ),
    "unknown claim": (
        "from convform.adapters import Adapter\n"
        "Adapter('hw').implements('conv2d', strides='pair')(lambda x, w, stride: x)",
        ["strides", "did you mean 'stride'"],
    ),
    "wrong claim": (
        "from convform.adapters import Adapter\n"
        "Adapter('hw').implements('conv2d', stride='scaler')(lambda x, w, stride: x)",
        ["scaler", "did you mean 'scalar'"],
    ),
    "unknown axis": (
        "from convform.adapters import Adapter\nAdapter('hw', input='n h w q')",
        ["'q'", "n h w q"],
    ),
    "repeated axis": (
        "from convform.adapters import Adapter\nAdapter('hw', input='n h h c')",
        ["'h'", "twice"],
    ),
    "unknown parameter": (
        "from convform.adapters import Adapter\nAdapter('hw').implements('conv2d')(lambda x, w, pad: x)",
        ["'pad'", "did you mean 'padding'"],
    ),
    "two of one name": (
        "from convform.adapters import Adapter\na, b = Adapter('hw'), Adapter('hw')",
        ["2 adapters", "'hw'"],
    ),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_file_is_explained(homework, kind):
    body, words = BAD_FILES[kind]
    text = told(convform("check", homework(body, head="")))
    assert all(word in text for word in words), text


@pytest.mark.parametrize(
    "target", ["missing.py", "no/such/folder/hw.py", "nosuchadapter", "hw.py:nobody", "hw.py:"]
)
def test_bad_target_is_explained(homework, target):
    homework()
    assert target.rpartition(":")[2] in told(convform("check", target))


def test_directory_as_target_is_explained(homework, tmp_path):
    homework()
    assert "hw.py" in told(convform("check", tmp_path))


def test_missing_backend_exits_with_3_and_says_what_to_install(homework):
    text = told(convform("check", homework("import a_backend_nobody_has", head="")), NOT_INSTALLED)
    assert "a_backend_nobody_has" in text
    assert "pip install" in text


def test_missing_device_exits_with_3(homework):
    name = homework(head=HEAD.replace('"hw"', '"hw", available=lambda: "no such card"'))
    assert "no such card" in told(convform("check", name), NOT_INSTALLED)


@pytest.mark.parametrize("operators", [["nonsense"], ["conv2d", "nonsense"], ["max_pool2d"]])
@pytest.mark.parametrize("adapters", [1, 2])
def test_operator_that_nobody_implements_is_explained(homework, operators, adapters):
    """Also beside one that is implemented, and in a file with several adapters."""
    body = HONEST if adapters == 1 else HONEST + DEFECT.replace("hw", "other")
    head = HEAD if adapters == 1 else HEAD + '    other = Adapter("second")\n'
    options = [option for name in operators for option in ("--operator", name)]
    assert operators[-1] in told(convform("check", homework(body, head=head), *options))


@pytest.mark.parametrize(
    "options",
    [("--seed", "x"), ("--level", "silly"), ("--profile", "slow"), ("--nonsense",), ("--json", ".")],
)
def test_bad_option_is_explained(homework, options):
    assert options[-1] in told(convform("check", homework(), *options))


def test_a_report_that_cannot_be_written_is_said_before_the_run(homework):
    result = convform("check", homework(), "--json", "no/such/folder/report.json")
    assert "no/such/folder" in told(result)
    assert result.stdout == ""


def test_check_without_a_target_is_explained():
    assert "TARGET" in told(convform("check"))


WRONG_ANSWERS = {
    "None": ("None", "None"),
    "a list": ("reference.conv(x, w).tolist()", "NumPy array"),
    "two arrays": ("(reference.conv(x, w), {})", "cache"),
    "text": ("'forty-two'", "str"),
}


@pytest.mark.parametrize("kind", WRONG_ANSWERS)
def test_wrapper_that_returns_no_answer_is_a_broken_adapter(homework, kind):
    expression, word = WRONG_ANSWERS[kind]
    result = convform("check", homework(HONEST.replace("reference.conv(x, w)", expression)))
    assert result.exit_code == WRONG
    assert "broken adapter" in result.stdout
    assert word in " ".join(result.stdout.split())
    assert "Traceback" not in result.output


@pytest.mark.parametrize("statement", ["raise SystemExit(0)", "import sys; sys.exit('done')", "assert False"])
def test_wrapper_that_leaves_or_raises_is_a_broken_adapter(homework, statement):
    result = convform("check", homework(HONEST.replace("return reference.conv(x, w)", statement)))
    assert result.exit_code == WRONG
    assert "broken adapter" in result.stdout
    assert "hw.py" in result.stdout


def test_wrapper_that_leaves_now_and_then_violates(homework):
    result = convform("check", homework(HONEST.replace("return", "len(x) > 1 and exit()\n        return")))
    assert result.exit_code == VIOLATES
    assert "SystemExit" in result.stdout


@pytest.mark.parametrize("wish", [signal.SIGINT, signal.SIGTERM])
def test_interruption_is_no_verdict_and_keeps_what_was_judged(homework, tmp_path, wish):
    file = homework(HONEST.replace("return", "__import__('time').sleep(0.02)\n        return"))
    command = [sys.executable, "-m", "convform.conformance.doors.cli", "check", file, "--json", "report.json"]
    run = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(4)
    run.send_signal(wish)
    _, said = run.communicate(timeout=30)
    assert run.returncode == INTERRUPTED, said
    assert b"no verdict" in said
    assert b"Traceback" not in said
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["exit"] == INTERRUPTED
    assert report["error"]["kind"] == "interrupted"
    (judged,) = report["reports"]
    statuses = {law["status"] for law in judged["operators"]["conv2d"]["laws"]}
    assert {"holds", "not-reached"} <= statuses
    assert judged["verdict"] in ("incomplete", "violates")


def test_a_wrapper_that_interrupts_interrupts_nobody(homework):
    body = HONEST.replace("return reference.conv(x, w)", "raise KeyboardInterrupt")
    assert "KeyboardInterrupt" in convform("check", homework(body)).stdout


def test_long_messages_of_a_wrapper_are_cut(homework):
    body = HONEST.replace("return", "assert len(x) == 1, 'first\\n' + 'x' * 9000\n        return")
    result = convform("check", homework(body))
    assert result.exit_code == VIOLATES
    assert "first" in result.stdout
    assert result.stdout.count("x") < 3000


def test_what_a_wrapper_prints_does_not_bury_the_report(homework):
    result = convform("check", homework(HONEST.replace("return", "print('looking at', x)\n        return")))
    assert result.exit_code == CONFORMS
    assert 1 <= result.stdout.count("looking at") <= 5
    assert result.stdout.index("hw ") < result.stdout.index("Printed by your code meanwhile")


def test_markup_in_names_and_messages_is_text(homework):
    body = HONEST.replace("return", "assert len(x) == 1, '[bold]no[/wrong]'\n        return")
    result = convform("check", homework(body, head=HEAD.replace('"hw"', '"[red]x"')))
    assert result.exit_code == VIOLATES
    assert "[red]x" in result.stdout
    assert "[bold]no[/wrong]" in result.stdout


def test_answers_that_are_no_numbers_violate(homework):
    name = homework("""
        @hw.implements("conv2d")
        def conv(x, w):
            y = reference.conv(x, w).astype(object)
            if len(x) > 1:
                y[0, 0, 0, 0] = None
            return y
    """)
    result = convform("check", name, "--json", "report.json")
    assert result.exit_code == VIOLATES, result.output
    laws = {law["law"]: law for law in read("report.json")["operators"]["conv2d"]["laws"]}
    assert laws["values"]["status"] == "holds"
    assert laws["batch"]["status"] == "violated"


def test_homework_that_turns_warnings_into_errors_is_judged_all_the_same(homework):
    """What NumPy is asked to raise is between the homework and NumPy."""
    head = (
        HEAD
        + """
    import warnings
    np.seterr(all="raise")
    warnings.simplefilter("error")
    """
    )
    name = homework(
        """
        @hw.implements("avg_pool2d", dtypes=("float16",))
        def pool(x, kernel):
            with np.errstate(all="ignore"):
                return reference.avg_pool(x, kernel)
        """,
        head=head,
    )
    code = "import sys; from convform.conformance.doors.cli import main; main(sys.argv[1:])"
    run = subprocess.run([sys.executable, "-c", code, "check", name], capture_output=True, timeout=120)
    assert run.returncode == CONFORMS, run.stdout.decode() + run.stderr.decode()


def test_integers_claimed_for_everything_do_not_reach_averages(homework):
    """An average of integers is none (CONTRACT-5), so only the other claimed dtypes are tried."""
    name = homework(
        """
        @hw.implements("avg_pool2d")
        def pool(x, kernel):
            return reference.avg_pool(x, kernel)
        """,
        head=HEAD.replace('"hw"', '"hw", dtypes=("int64", "float64")'),
    )
    assert convform("check", name).exit_code == CONFORMS


# ------------------------------------------------------------------------------------------- a real process


def process(*arguments, **environment):
    command = [sys.executable, "-m", "convform.conformance.doors.cli", *arguments]
    return subprocess.run(
        command, capture_output=True, timeout=120, env={**os.environ, "COLUMNS": "100", **environment}
    )


def test_traceback_is_shown_on_request_and_changes_no_exit_code(homework):
    run = process("check", homework("1 / 0", head=""), "--traceback")
    assert run.returncode == WRONG
    assert b"Traceback" in run.stderr
    assert b"1 / 0" in run.stderr


@pytest.mark.parametrize(
    ("options", "chosen"), [((), None), (("--isolate",), None), (("--jobs", "2"), None), ((), "svg")]
)
def test_homework_that_plots_opens_no_window(homework, options, chosen):
    """Unless a backend of matplotlib is chosen already."""
    head = (
        HEAD
        + f"""
    import os
    assert os.environ["MPLBACKEND"] == "{chosen or "Agg"}"
    """
    )
    environment = {key: text for key, text in os.environ.items() if key != "MPLBACKEND"}
    environment |= {"MPLBACKEND": chosen} if chosen else {}
    command = [sys.executable, "-m", "convform.conformance.doors.cli", "check", homework(head=head)]
    run = subprocess.run(
        [*command, *options, "--profile", "brief"], capture_output=True, timeout=120, env=environment
    )
    assert run.returncode == CONFORMS, run.stderr


def test_terminal_without_unicode_gets_a_report(homework):
    run = process("check", homework(), PYTHONIOENCODING="ascii")
    assert run.returncode == CONFORMS, run.stderr
    assert b"? conforms" in run.stdout
    assert b"Traceback" not in run.stderr


def test_a_defect_in_convform_is_no_verdict(homework, monkeypatch):
    """Whatever the judge itself gets wrong must not be taken for a violation."""

    def fails(*arguments, **options):
        raise RuntimeError("boom")

    monkeypatch.setattr(python, "report_of", fails)
    text = told(convform("check", homework()))
    assert "convform itself" in text
    assert "boom" in text
    assert "--traceback" in text
