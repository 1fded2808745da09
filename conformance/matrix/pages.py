"""The pages of a matrix: Markdown, and HTML that needs nothing else. Both are drawn from the same data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from convform.conformance.laws.law import ORDINARY
from convform.conformance.laws.violation import CRASHED, TIMED_OUT
from convform.conformance.matrix.ledger import DIALECT, KNOWN, OUTGROWN, VIOLATION, Entry
from convform.conformance.reports.results import BROKEN, CONFORMS, VIOLATES
from convform.spec.clauses import clause
from convform.spec.operators import OPERATORS

Data = Mapping[str, Any]

INTRODUCTION = (
    "Every backend was judged by the same laws, on generated cases, in a process of its own. "
    "What a cell counts is said below the table; the ledger tells each divergence with its smallest case."
)

LEGEND = (
    ("✓", "conforms at both levels"),
    ("✓ n", "conforms, with n divergences of which the adapter says so: known limits and declared dialects"),
    ("◐ n", "conforms at level core; n laws of level strict are violated"),
    ("✗", "violates the standard at level core; or crashed, or timed out"),
    ("!", "the adapter is broken, so nothing was judged"),
    ("·", "not offered"),
)

TITLES = {
    VIOLATION: "violation",
    KNOWN: "known limit",
    OUTGROWN: "a known limit that no longer shows",
    DIALECT: "documented choice",
}


LONGEST_PROGRAM = 4000
"""Characters of a program that a page shows."""

SMALLEST = "backends → operators → divergences → program"


def mark(unit: Data | None) -> tuple[str, str]:
    """Return what a cell shows, and what kind of cell that is."""
    if unit is None:
        return "·", "none"
    core, strict = unit["core"], unit["strict"]
    if core == BROKEN:
        return "!", "broken"
    if core in (CRASHED, TIMED_OUT):
        return f"✗ {core}", "violates"
    if core == VIOLATES:
        return "✗", "violates"
    if strict != CONFORMS:
        return f"◐ {len(unit['laws'].get('violated', ()))}", "partly"
    told = sum(divergence["kind"] in (KNOWN, DIALECT) for divergence in unit["divergences"])
    return (f"✓ {told}" if told else "✓"), "conforms"


def _judged(data: Data) -> dict[str, Data]:
    return {name: backend for name, backend in data["backends"].items() if backend["state"] == "judged"}


def _rows(judged: Mapping[str, Data]) -> list[str]:
    """Operators that some backend offers, in the order of the standard."""
    offered = {operator for backend in judged.values() for operator in backend["operators"]}
    return [name for name in OPERATORS if name in offered]


def _not_judged(data: Data) -> Iterator[tuple[str, str]]:
    """Backends and operators without verdicts, each with a sentence."""
    for name, backend in data["backends"].items():
        if backend["state"] != "judged":
            hint = f" ({backend['install']})" if backend.get("install") else ""
            yield name, f"{backend['state']}: {backend['problem']}{hint}"
        for said in backend.get("left_out", ()):
            yield name, f"not claimed: {said}"
        for operator, unit in backend.get("operators", {}).items():
            if "problem" in unit:
                yield f"{name} · {operator}", f"{unit['core']}: {unit['problem']}"


def _totals(backend: Data) -> tuple[int, float]:
    units = backend["operators"].values()
    return sum(unit["cases"] for unit in units), sum(unit["seconds"] for unit in units)


def _made(backend: Data) -> str:
    """Say how a backend was judged: ``profile full, seed 0, Python 3.13.1, NumPy 2.3.0, 2026-01-31``."""
    keys = [unit["key"] for unit in backend["operators"].values()]
    how = f"profile {keys[0]['profile']}, seed {keys[0]['seed']}, " if keys else ""
    environment = backend["environment"]
    switches = [
        f"; {switch['name']} = {switch['value']}: {switch['breaks']}"
        for switch in backend.get("switches", ())
        if switch["breaks"]
    ]
    return (
        f"{how}Python {environment['python']}, NumPy {environment['numpy']}, {environment['system']}, "
        f"{backend['date']}{''.join(switches)}"
    )


def _explained(entry: Entry) -> list[str]:
    """Say why, in sentences: the documented choice, the known limit, readings that explain it."""
    divergence = entry.divergence
    sentences = []
    if divergence.kind == DIALECT:
        sentences.append(
            f"Declared as {divergence.dialect}: it gives what the standard gives {divergence.explanation[0]}."
        )
        return sentences
    if divergence.reason:
        sentences.append(divergence.reason)
    if divergence.explanation:
        readings = ", or ".join(divergence.explanation)
        like = (
            "Its answers are what the standard gives"
            if divergence.evidence == ORDINARY
            else "It is right and wrong like an implementation that gives what the standard gives"
        )
        sentences.append(f"{like} {readings}.")
    elif divergence.when:
        sentences.append(f"It happens exactly when {divergence.when}.")
    return sentences


def _in_short(entry: Entry) -> str:
    """One line on what an entry is about."""
    said = entry.divergence.reason or entry.divergence.says
    return said if len(said) <= 160 else f"{said[:160]}…"


def _heading(entry: Entry) -> str:
    version = f" {entry.version}" if entry.version else ""
    return f"{entry.backend}{version} · {', '.join(entry.operators)} · {entry.divergence.clause}"


def _ran(entry: Entry) -> str:
    """Say what came of the program."""
    divergence = entry.divergence
    if divergence.program is None:
        return "No reproducer: the adapter has no script for this call."
    if divergence.reproduced is None:
        return "The reproducer was not run."
    if divergence.reproduced == "shown":
        return "The reproducer was run in a fresh interpreter, and shows it."
    return f"The reproducer was run in a fresh interpreter: {divergence.reproduced}."


def _program(program: str) -> str:
    """Cut a program that nobody would read."""
    if len(program) <= LONGEST_PROGRAM:
        return program.rstrip("\n")
    return f"# {len(program)} characters, for its arrays are large; matrix.json has it, under {SMALLEST}"


def _where(entry: Entry) -> str:
    divergence = entry.divergence
    laws = ", ".join(entry.laws)
    kind = TITLES[divergence.kind]
    outcome = f", {divergence.outcome}" if divergence.outcome else ""
    return f"{kind}{outcome} · level {divergence.level} · {'laws' if len(entry.laws) > 1 else 'law'} {laws}"


def _anchors(entries: Sequence[Entry]) -> list[str]:
    """One name for each entry, for links."""
    names: list[str] = []
    for entry in entries:
        plain = re.sub(r"[^a-z0-9]+", "-", f"{entry.backend} {entry.divergence.clause}".lower()).strip("-")
        count = sum(name == plain or name.startswith(f"{plain}_") for name in names)
        names.append(plain if not count else f"{plain}_{count + 1}")
    return names


# ---------------------------------------------------------------------------------------- Markdown


def markdown(data: Data, entries: Sequence[Entry]) -> str:
    """Write a matrix and its ledger as Markdown.

    Parameters
    ----------
    data
        What ``matrix.json`` holds.
    entries
        Its ledger.
    """
    return "\n".join([*_markdown_table(data), *_markdown_ledger(entries)]) + "\n"


def _markdown_table(data: Data) -> Iterator[str]:
    judged = _judged(data)
    yield from ("# The backend matrix", "", INTRODUCTION, "")
    if judged:
        heads = [f"{name}<br>{backend['version'] or ''}" for name, backend in judged.items()]
        yield f"| operator | {' | '.join(heads)} |"
        yield f"|---|{':-:|' * len(judged)}"
        for operator in _rows(judged):
            cells = [mark(backend["operators"].get(operator))[0] for backend in judged.values()]
            yield f"| {operator} | {' | '.join(cells)} |"
        totals = [_totals(backend) for backend in judged.values()]
        yield f"| cases | {' | '.join(str(cases) for cases, _ in totals)} |"
        yield f"| time | {' | '.join(f'{seconds:.0f} s' for _, seconds in totals)} |"
        yield ""
        yield from (f"- `{sign}` {says}" for sign, says in LEGEND)
        yield ""
        yield from (f"- **{name}**: {_made(backend)}" for name, backend in judged.items())
        yield ""
    missing = list(_not_judged(data))
    if missing:
        yield from ("Not judged:", "")
        yield from (f"- **{name}** {says}" for name, says in missing)
        yield ""


def _markdown_ledger(entries: Sequence[Entry]) -> Iterator[str]:
    yield from ("## The ledger of divergences", "")
    if not entries:
        yield "None was found."
        return
    for entry, anchor in zip(entries, _anchors(entries), strict=True):
        divergence = entry.divergence
        rule = clause(divergence.clause)
        yield f'### <a id="{anchor}"></a>{_heading(entry)}'
        yield from ("", f"*{_where(entry)}*", "")
        yield from (f"> **{rule.id} {rule.title}.** {' '.join(rule.rule.split())}", "")
        yield from (line for sentence in _explained(entry) for line in (sentence, ""))
        if divergence.link:
            yield from (f"See <{divergence.link}>.", "")
        if divergence.drawing:
            yield f"The smallest case, of {divergence.operator}:"
            yield from ("", "```text", divergence.drawing, "```", "")
        else:
            yield from (divergence.says, "")
        if divergence.case is not None:
            yield from (_ran(entry), "")
        if divergence.program:
            yield from ("```python", _program(divergence.program), "```", "")


# -------------------------------------------------------------------------------------------- HTML


STYLE = files("convform.conformance.matrix").joinpath("matrix.css").read_text(encoding="utf-8")


def html(data: Data, entries: Sequence[Entry]) -> str:
    """Write a matrix and its ledger as one page of HTML.

    Parameters
    ----------
    data
        What ``matrix.json`` holds.
    entries
        Its ledger.
    """
    body = "\n".join([*_html_table(data, entries), *_html_ledger(entries)])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>convform: the backend matrix</title><style>\n{STYLE}</style></head>\n<body>\n{body}\n"
        "</body></html>\n"
    )


def _html_table(data: Data, entries: Sequence[Entry]) -> Iterator[str]:
    judged = _judged(data)
    yield f"<h1>The backend matrix</h1>\n<p>{escape(INTRODUCTION)}</p>"
    first: dict[tuple[str, str], str] = {}
    for entry, anchor in zip(entries, _anchors(entries), strict=True):
        for operator in entry.operators:
            first.setdefault((entry.backend, operator), anchor)
    if judged:
        heads = "".join(
            f'<th title="{escape(_made(backend))}">{escape(name)}<small>{escape(backend["version"] or "")}'
            "</small></th>"
            for name, backend in judged.items()
        )
        yield f'<div class="wide"><table><thead><tr><th>operator</th>{heads}</tr></thead><tbody>'
        for operator in _rows(judged):
            cells = "".join(
                _cell(backend["operators"].get(operator), first.get((name, operator)))
                for name, backend in judged.items()
            )
            yield f"<tr><th>{escape(operator)}</th>{cells}</tr>"
        totals = [_totals(backend) for backend in judged.values()]
        cells = "".join(f"<td>{cases} cases<small>{seconds:.0f} s</small></td>" for cases, seconds in totals)
        yield f'<tr class="foot"><th>all</th>{cells}</tr></tbody></table></div>'
        legend = "".join(f"<li><b>{sign}</b> {escape(says)}</li>" for sign, says in LEGEND)
        yield f'<ul class="legend">{legend}</ul>'
        made = "".join(
            f"<li>{escape(name)}: <span class=dim>{escape(_made(backend))}</span></li>"
            for name, backend in judged.items()
        )
        yield f"<details><summary>How each was judged</summary><ul class=entry>{made}</ul></details>"
    missing = "".join(
        f"<li>{escape(name)} <span class=dim>{escape(says)}</span></li>" for name, says in _not_judged(data)
    )
    if missing:
        yield f"<h2>Not judged</h2><ul>{missing}</ul>"


def _cell(unit: Data | None, anchor: str | None) -> str:
    sign, kind = mark(unit)
    if unit is None:
        return f'<td class="{kind}">{sign}</td>'
    shown = f'<a href="#{anchor}"><b>{sign}</b></a>' if anchor else f"<b>{sign}</b>"
    title = escape(unit.get("problem") or f"core: {unit['core']}, strict: {unit['strict']}")
    numbers = f"{unit['cases']} · {unit['seconds']:.1f} s"
    return f'<td class="{kind}" title="{title}">{shown}<small>{numbers}</small></td>'


def _html_ledger(entries: Sequence[Entry]) -> Iterator[str]:
    yield "<h2>The ledger of divergences</h2>"
    if not entries:
        yield "<p>None was found.</p>"
    for entry, anchor in zip(entries, _anchors(entries), strict=True):
        divergence = entry.divergence
        rule = clause(divergence.clause)
        yield f'<details id="{anchor}"><summary>{escape(_heading(entry))}'
        yield f"<i>{escape(_where(entry))}</i><i>{escape(_in_short(entry))}</i></summary>"
        yield '<div class="entry">'
        yield f'<p class="rule"><b>{rule.id} {escape(rule.title)}.</b>'
        yield f"{escape(' '.join(rule.rule.split()))}</p>"
        yield from (f"<p>{escape(sentence)}</p>" for sentence in _explained(entry))
        if divergence.link:
            yield f'<p>See <a href="{escape(divergence.link)}">{escape(divergence.link)}</a>.</p>'
        if divergence.drawing:
            yield f"<p>The smallest case, of {escape(divergence.operator)}:</p>"
            yield f"<pre>{escape(divergence.drawing)}</pre>"
        else:
            yield f"<p>{escape(divergence.says)}</p>"
        if divergence.case is not None:
            yield f"<p>{escape(_ran(entry))}</p>"
        if divergence.program:
            yield f"<pre>{escape(_program(divergence.program))}</pre>"
        yield "</div></details>"
    # A link from the table opens what it points to.
    yield (
        "<script>const open = () => { const at = document.getElementById(location.hash.slice(1));"
        " if (at) at.open = true; }; addEventListener('hashchange', open); open();</script>"
    )
