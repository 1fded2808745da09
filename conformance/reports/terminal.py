"""The report as a person sees it in a terminal: one screen, worst first."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap

import numpy as np
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from convform.conformance.cases.case import Case
from convform.conformance.laws.violation import CRASHED, TIMED_OUT, Violation
from convform.conformance.reports.grid import arrays_table
from convform.conformance.reports.results import (
    BROKEN,
    CONFORMS,
    INCOMPLETE,
    VIOLATES,
    Failed,
    Holds,
    Known,
    LawResult,
    NotClaimed,
    NotReached,
    OperatorReport,
    Outgrown,
    Results,
    Violated,
)
from convform.spec.clauses import clause

MARKS = {
    CONFORMS: ("✓", "green"),
    VIOLATES: ("✗", "red"),
    CRASHED: ("✗", "red"),
    TIMED_OUT: ("✗", "red"),
    BROKEN: ("!", "yellow"),
    INCOMPLETE: ("?", "yellow"),
}
MOST_PRINTED = 5
"""Lines of what the subject printed that are shown; the JSON report has more of it."""

LONGEST_REPRODUCER = 24
"""Lines of a reproducer that are shown; the JSON report has all of it."""


class ReportView:
    """Renders a report; `everything` draws each violated law instead of the worst of each operator."""

    def __init__(self, report: Results, everything: bool = False) -> None:
        self.report = report
        self.everything = everything

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the parts from top to bottom."""
        report = self.report
        yield _headline(report)
        yield from _declared(report)
        yield from _switches(report)
        yield ""
        yield Padding(_operator_table(report), (0, 0, 0, 2))
        for operator in report.operators:
            violated = operator.violated()
            decisive = operator.violated(report.level)
            # What decides the verdict is drawn; at core level the strict findings are a line each.
            drawn = violated if self.everything else decisive[:1]
            for law in drawn:
                yield from _violation(operator.name, law)
            yield from _rest(operator, [law for law in violated if law not in drawn], report.level)
        yield from _notes(report)
        yield from _conduct(report)
        yield ""
        yield _footer(report)


WIDTH = 100
"""Columns of a report that is not drawn on a terminal."""

_COLORS = TerminalTheme(
    background=(127, 127, 127),
    foreground=(127, 127, 127),
    normal=[
        (127, 127, 127),
        (214, 62, 82),
        (36, 148, 82),
        (176, 126, 20),
        (58, 124, 214),
        (172, 92, 196),
        (22, 142, 158),
        (127, 127, 127),
    ],
)
"""Colors of middle brightness, which are read on white as well as on black."""


def as_text(report: Results) -> str:
    """Draw a report as plain text."""
    paper = Console(file=io.StringIO(), width=WIDTH, color_system=None, highlight=False)
    paper.print(ReportView(report))
    assert isinstance(paper.file, io.StringIO)
    return "\n".join(line.rstrip() for line in paper.file.getvalue().splitlines())


def as_html(report: Results) -> str:
    """Draw a report as HTML that needs nothing else, for light pages and dark ones."""
    paper = Console(
        file=io.StringIO(),
        width=WIDTH,
        record=True,
        highlight=False,
        force_terminal=True,
        force_jupyter=False,
    )
    paper.print(ReportView(report))
    # Without a color of its own, text has that of the page; cells of a grid must not come apart.
    block = (
        '<pre style="white-space: pre; overflow-x: auto; font-size: 13px; line-height: 1.3; '
        "font-family: Menlo, 'DejaVu Sans Mono', Consolas, monospace\">{code}</pre>\n"
    )
    html = paper.export_html(theme=_COLORS, inline_styles=True, code_format=block)
    # Names of modules look like links; and the background is the page's, too, whichever that is.
    html = html.replace("; text-decoration: underline", "")
    return html.replace("background-color: #7f7f7f", "background-color: transparent")


def _headline(report: Results) -> Text:
    version = f" {report.version}" if report.version else ""
    counts = {
        verdict: sum(operator.verdict(report.level) == verdict for operator in report.operators)
        for verdict in MARKS
    }
    parts = [f"{len(report.operators)} operator{'s' if len(report.operators) != 1 else ''}"]
    parts += [f"{count} {verdict}" for verdict, count in counts.items() if count]
    parts += [f"{report.cases} cases", f"{report.seconds:.1f} s", f"seed {report.seed}"]
    return Text.assemble((f"{report.adapter}{version}", "bold"), "   ", " · ".join(parts))


def _declared(report: Results) -> Iterator[Text]:
    """What the subject is judged by of its own accord, and what of that does not count."""
    if report.declared:
        yield Text(f"  judged by what it declares: {'; '.join(report.declared)}", style="yellow")
    if report.way.own_process or report.way.of_file:
        yield Text(f"  {report.way}", style="dim")


def _switches(report: Results) -> Iterator[Text]:
    """The settings that arithmetic depends on in one line, and what they do to the exact lane."""
    if report.switches:
        values = {s.name: "unset" if s.value is None else s.value for s in report.switches}
        said = " · ".join(f"{name} {value}" for name, value in values.items())
        yield Text(f"  {said}", style="dim")
    for switch in report.switches:
        if switch.breaks:
            yield Text(
                f"  The exact lane asks for sums that are equal, and {switch.name} is {switch.value}: "
                f"{switch.breaks}.",
                style="yellow",
            )


def _operator_table(report: Results) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    for operator in report.operators:
        verdict = operator.verdict(report.level)
        mark, style = MARKS[verdict]
        table.add_row(
            operator.name,
            Text(f"{mark} {verdict}", style=style),
            _summary(operator, report.level),
        )
    return table


def _summary(operator: OperatorReport, level: str) -> Text:
    verdict = operator.verdict(level)
    if verdict == BROKEN:
        return Text(next(law.reason for law in operator.laws if isinstance(law, Failed)))
    counts = {status: sum(law.status == status for law in operator.laws) for status in ("holds", "known")}
    decisive = operator.violated(level)
    notes = [law for law in operator.violated() if law not in decisive]
    parts = []
    if decisive:
        found = decisive[0]
        after = "" if isinstance(found, Outgrown) else f", found in {found.found_after:.2f} s"
        parts.append(
            f"{len(decisive)} law{'s' if len(decisive) > 1 else ''} violated, first {found.clauses[0]}{after}"
        )
    parts.append(f"{counts['holds']} laws hold")
    if counts["known"]:
        parts.append(f"{counts['known']} known limit{'s' if counts['known'] > 1 else ''}")
    if notes:
        parts.append(f"{len(notes)} more at level strict")
    return Text(" · ".join(parts), style="dim" if not decisive else "")


def _violation(operator: str, law: Violated | Outgrown) -> Iterator[RenderableType]:
    rule = clause(law.clauses[0])
    yield ""
    yield Rule(f"{operator} · {law.law} · {law.level}", align="left", style="red")
    yield Text.assemble((f"{rule.id}  ", "bold red"), (" ".join(rule.rule.split()), "bold"))
    yield ""
    if isinstance(law, Outgrown):
        yield Padding(Text(law.reason), (0, 0, 0, 4))
        return
    yield Padding(drawing(law.violation), (0, 0, 0, 4))
    raised = law.violation.traceback
    if raised:
        yield Text("\n  Your code raised", style="bold")
        yield Padding(Text(raised), (0, 0, 0, 4))
        yield ""
    others = ", ".join(law.clauses[1:])
    yield Text(
        f"  law {law.law}: {law.cases} cases until it was found"
        + (f"; it also speaks for {others}" if others else ""),
        style="dim",
    )
    yield from _findings(law)
    if law.reproducer:
        lines = law.reproducer.splitlines()
        if len(lines) > LONGEST_REPRODUCER or max(map(len, lines)) > 2000:
            lines = [
                *lines[:3],
                f"# … too long to show ({len(law.reproducer)} characters): --json FILE has all of it",
            ]
        yield Text("\n  Reproduce", style="bold")
        yield Padding(_Python(tuple(lines)), (0, 0, 0, 4))


@dataclass(frozen=True)
class _Python:
    """Lines of Python, colored; broken where they are too long, so that they still run when pasted."""

    lines: tuple[str, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Break comments into comments; code breaks between arguments, where it may."""
        broken: list[str] = []
        for line in self.lines:
            comment = line.lstrip().startswith("#")
            whole = not comment or len(line) <= options.max_width
            broken += [line] if whole else wrap(line, options.max_width, subsequent_indent="#   ")
        text = "\n".join(broken)
        yield Syntax(text, "python", theme="ansi_dark", background_color="default", word_wrap=True)


def _findings(law: Violated) -> Iterator[RenderableType]:
    """Say what the author most likely misread, or when it fails."""
    findings = law.findings
    if findings is None:
        return
    yield ""
    for number, diagnosis in enumerate(findings.diagnoses):
        k, n = diagnosis.explains
        first, _, rest = diagnosis.says.partition(". ")
        lead = "" if number == 0 else "or: "
        said = Text.assemble((f"{lead}{first}", "bold"), f"   (explains {k} of {n} answers)")
        yield Padding(said, (0, 0, 0, 2))
        if rest:
            yield Padding(Text(rest), (0, 0, 0, 5))
    if findings.condition is not None:
        when = findings.condition
        yield Text.assemble(
            "  It fails exactly when ",
            (when.condition, "bold"),
            f"   ({when.fails[0]} of {when.fails[1]} failing cases, none of {when.passes[1]} passing ones)",
        )
    if findings.remark is not None:
        yield Text(f"  {findings.remark[0].upper()}{findings.remark[1:]}.", style="dim")


def law_view(operator: str, law: Violated | Outgrown) -> Group:
    """Everything about one violated law: rule, grids, reproducer."""
    return Group(*_violation(operator, law))


def drawing(violation: Violation, actual_is: str = "yours") -> RenderableType:
    """Draw a violation: what was seen, inputs, expected and actual grids, the window."""
    case = violation.case
    axes = case.operator.inputs
    shown = {name: (axes[name], array) for name, array in case.inputs.items() if _matters(case, name)}
    said = Text(violation.says)
    grids = arrays_table(shown, violation.expected, violation.actual, violation.differs, actual_is)
    return Group(said, "", grids, "", Text(window_line(case), style="dim"))


def _matters(case: Case, name: str) -> bool:
    """Whether an input is worth drawing: a bias of zeros is not."""
    return name != "b" or bool(np.any(case.inputs["b"]))


def window_line(case: Case) -> str:
    """Write the parameters of a case in one line: ``kernel 2×2 · stride 1 · padding 1``."""
    parameters = dict(case.parameters)
    if "kernel" not in parameters and "w" in case.inputs:
        parameters = {"kernel": case.inputs["w"].shape[2:], **parameters}
    parts = []
    for name, value in parameters.items():
        if name == "input_size" or (name == "groups" and value == 1):
            continue
        if value is False and name == "ceil_mode":
            continue
        parts.append(f"{name} {_short(name, value)}")
    parts.append(case.dtype.name)
    if case.arrangement != "contiguous":
        parts.append(f"arrays: {case.arrangement}")
    return " · ".join(parts)


def _short(name: str, value: object) -> str:
    if value is None:
        return "None (= kernel)"
    if not isinstance(value, tuple):
        return str(value)
    if name == "padding":
        value = tuple(str(low) if low == high else f"({low}, {high})" for low, high in value)
    if name == "kernel":
        return "×".join(str(entry) for entry in value)
    return str(value[0]) if len(set(value)) == 1 else ", ".join(str(entry) for entry in value)


def _rest(operator: OperatorReport, laws: Sequence[LawResult], level: str) -> Iterator[RenderableType]:
    """Name the violations that are not drawn, decisive ones first."""
    groups = {"Also violated": [law for law in laws if law.decides(level)]}
    groups["Strict, does not decide here"] = [law for law in laws if law not in groups["Also violated"]]
    for title, group in groups.items():
        if group:
            names = ", ".join(f"{law.law} ({law.clauses[0]})" for law in group)
            yield ""
            yield Text.assemble((f"{operator.name} · {title}: ", "bold"), names)


def _notes(report: Results) -> Iterator[RenderableType]:
    """Known limits and what was not claimed, one line each: nothing is left out silently."""
    known = [(op.name, law) for op in report.operators for law in op.laws if isinstance(law, Known)]
    if known:
        yield Text("\nKnown limits (run, violated as listed, not decisive)", style="bold")
        for name, law in known:
            how = f", {law.outcome}" if law.outcome else ""
            yield Text(f"  {name} · {law.law} ({law.clauses[0]}){how}: {law.limit.reason}  {law.limit.link}")
    if report.own_limits:
        yield ""
        yield Text("Known limits declared by itself (they excuse nothing)", style="bold")
        for said in report.own_limits:
            yield Text(f"  {said}", style="dim")
    unreached = {
        op.name: [law.law for law in op.laws if isinstance(law, NotReached)] for op in report.operators
    }
    if any(unreached.values()):
        yield ""
        yield Text("Not reached: the time of the run (--budget) was over", style="bold")
        for name, laws in unreached.items():
            if laws:
                yield Text(f"  {name}: {len(laws)} laws, {', '.join(laws)}", style="yellow")
    same: dict[str, list[str]] = {}
    for operator in report.operators:
        said = _not_claimed(operator)
        if said:
            same.setdefault(said, []).append(operator.name)
    for said in report.left_out:
        same.setdefault(said, []).append(report.adapter)
    if same:
        yield Text("\nNot claimed", style="bold")
        for said, names in same.items():
            yield Text(f"  {', '.join(names)}: {said}", style="dim")


def _conduct(report: Results) -> Iterator[RenderableType]:
    """What the subject did besides answering, and the beginning of what it printed."""
    printed = report.printed
    if report.remarks:
        yield Text("\nBesides answering", style="bold")
        for remark in report.remarks:
            yield Text(f"  {remark}", style="dim")
    if printed.lines:
        shown = printed.text.splitlines()[:MOST_PRINTED]
        counted = f"{printed.lines} line{'s' if printed.lines > 1 else ''}"
        first = "" if printed.lines <= len(shown) else f", the first {len(shown)}"
        yield Text(f"\nPrinted by your code meanwhile ({counted}{first})", style="bold")
        for line in shown:
            yield Text(f"  │ {line[:WIDTH]}", style="dim")


def _not_claimed(operator: OperatorReport) -> str:
    """Name the laws that were not run, by reason."""
    reasons: dict[str, list[str]] = {}
    for law in operator.laws:
        if isinstance(law, NotClaimed):
            reasons.setdefault(law.reason, []).append(law.law)
    return "; ".join(f"{', '.join(laws)} ({reason})" for reason, laws in reasons.items())


def _footer(report: Results) -> Text:
    held = (law for op in report.operators for law in op.laws if isinstance(law, Holds))
    bounds = [law.false_pass for law in held if law.false_pass is not None]
    chance = (
        f" · a wrong sum passes one exact-lane case with probability ≤ {max(bounds):.1g}" if bounds else ""
    )
    style = "bold green" if report.verdict == CONFORMS else "bold red"
    return Text.assemble(
        (f"{report.verdict} at level {report.level}", style),
        f" · exit {report.exit_code} · profile {report.profile}{chance}",
        "" if report.verdict == CONFORMS else " · everything: --json FILE · a rule: convform spec CLAUSE",
    )
