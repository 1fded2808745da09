"""The standard as data: clauses, misreadings and worked examples, read from the Markdown pages.

The pages in this folder are the only copy of the standard. People read them; `clauses`, `examples` and
`pages` give programs the same content.

>>> clause("CONV-1").title
'Cross-correlation'
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from markdown_it import MarkdownIt
from markdown_it.token import Token

from convform.spec.errors import SpecError
from convform.spec.errors import UnknownClauseError as UnknownClauseError
from convform.spec.examples import Example, SmallestInput, parse_example, parse_smallest
from convform.spec.operators import FAMILIES


def _page_names() -> tuple[str, ...]:
    index = files("convform.spec").joinpath("index.md").read_text(encoding="utf-8")
    return "index", *re.findall(r"^[0-9]+\. \[.+?\]\((\w+)\.md\)", index, flags=re.MULTILINE)


PAGES = _page_names()
"""Names of the pages in reading order: the index, and those that it lists."""

OPERATOR_PARTS = ("Semantics", "Inputs", "Outputs", "Constraints", "Examples")
"""The parts of a page about one family of operators, in order. The other pages have one part: Clauses."""

LEVELS = ("core", "strict")

_HEADING = re.compile(r"(?P<id>[A-Z0-9]+-[1-9][0-9]*) · (?P<title>.+)")
_LEAD = re.compile(r"\*\*(?P<name>[A-Z][a-z]+)\.\*\*\s*")
_MISREADING = re.compile(
    r"\*(?P<name>[^*]+)\*\s—\s(?P<says>.+?)(?:\s\((?:dialect\sof|seen\sin)\s[^()]+\))?\.\s(?P<look>.+?)"
    r"(?:\\\n`(?P<source>\{.+\})`)?",
    re.DOTALL,
)
_FIELDS = ("rule", "required", "refused", "unspecified")
_OPTIONAL_FIELDS = ("disagreements",)


@dataclass(frozen=True)
class ListedMisreading:
    """A named wrong, or merely different, reading of a clause, as the clause lists it.

    Attributes
    ----------
    name
        Short, lower case, unique in the standard: ``"kernel mirrored"``.
    clause
        Id of the clause, ``"CONV-1"``.
    says
        Completes "gives what the standard gives …": ``"with the kernel mirrored"``.
    look
        What the standard asks for and where to look, for the person who made the mistake.
    source
        The smallest input that shows it, as TOML; `smallest` is what it says.
    """

    name: str
    clause: str
    says: str
    look: str
    source: str

    @property
    def smallest(self) -> SmallestInput:
        """The smallest input that shows it, and what the standard and the misreading give.

        Raises
        ------
        SpecError
            If the page's line is malformed; it is read only when somebody asks.
        """
        return parse_smallest(self.source, f"the misreading {self.name!r}")


@dataclass(frozen=True)
class Clause:
    """One numbered rule of the standard.

    Attributes
    ----------
    id, title, level
        For example ``"CONV-1"``, ``"Cross-correlation"``, ``"core"``.
    rule
        The rule in one or two sentences, in plain words.
    required, refused, unspecified
        What an implementation must compute, must refuse, and may do as it likes; ``"nothing"`` if empty.
    equation
        The rule as an equation, plain Unicode, possibly over several lines.
    misreadings
        Known wrong readings, each with its smallest input.
    examples
        The worked examples that stand in this clause.
    page
        Name of the page without ``.md``.
    text
        The clause as Markdown, from its heading to the next.
    disagreements
        Where released libraries disagree, in one line; empty if nothing is known.
    """

    id: str
    title: str
    level: str
    rule: str
    required: str
    refused: str
    unspecified: str
    equation: str
    misreadings: tuple[ListedMisreading, ...]
    examples: tuple[Example, ...]
    page: str
    text: str
    disagreements: str = ""


@dataclass(frozen=True)
class Page:
    """One page of the standard.

    Attributes
    ----------
    name, title, text
        ``"conv"``, its first heading, and its Markdown.
    clauses
        In the order of the page.
    examples
        Every example of the page, those in clauses first.
    arrays, parameters, outputs
        The tables of an operator page: axes of each input array and output for rank 2, and the
        default of each parameter, all as written.
    """

    name: str
    title: str
    text: str
    clauses: tuple[Clause, ...]
    examples: tuple[Example, ...]
    arrays: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)


@cache
def clauses() -> Mapping[str, Clause]:
    """Every clause of the standard by id, in page order.

    Raises
    ------
    SpecError
        If a page is malformed, an id or the name of a misreading is used twice, or an example cites a
        clause that does not exist.
    """
    found: dict[str, Clause] = {}
    owners: dict[str, str] = {}
    for entry in (entry for name in PAGES for entry in page(name).clauses):
        where = f"{entry.page}.md, {entry.id}"
        if entry.id in found:
            raise SpecError(where, f"the id is taken in {found[entry.id].page}.md; number it anew")
        found[entry.id] = entry
        for misreading in entry.misreadings:
            if misreading.name in owners:
                raise SpecError(
                    where, f"the misreading {misreading.name!r} is also listed in {owners[misreading.name]}"
                )
            owners[misreading.name] = entry.id
    for example in examples():
        for id in example.clauses:
            if id not in found:
                raise SpecError(
                    "the standard", f"the example {example.says!r} cites {id}, which is no clause"
                )
    return MappingProxyType(found)


@cache
def listed_misreadings() -> Mapping[str, ListedMisreading]:
    """Every misreading of the standard by name, in the order of the pages."""
    found = (misreading for clause in clauses().values() for misreading in clause.misreadings)
    return MappingProxyType({misreading.name: misreading for misreading in found})


def clause(id: str) -> Clause:
    """One clause by its id.

    Raises
    ------
    UnknownClauseError
        If there is none; a `KeyError` whose message names the ids that look like it.
    """
    known = clauses()
    if id in known:
        return known[id]
    families = dict.fromkeys(known_id.split("-")[0] + "-1" for known_id in known)
    close = difflib.get_close_matches(id.upper(), known, n=3) or tuple(families)
    raise UnknownClauseError("the standard", f"there is no clause {id!r}; did you mean {' or '.join(close)}?")


def examples() -> tuple[Example, ...]:
    """Every worked example of the standard, in page order."""
    return tuple(example for name in PAGES for example in page(name).examples)


def pages() -> Mapping[str, str]:
    """Give the Markdown of every page by name, in reading order."""
    return MappingProxyType({name: page(name).text for name in PAGES})


@cache
def page(name: str) -> Page:
    """One page of the standard by its name.

    Raises
    ------
    SpecError
        If there is no such page, or it is malformed.
    """
    if name not in PAGES:
        raise SpecError("the standard", f"there is no page {name!r}; the pages are {', '.join(PAGES)}")
    return parse_page(name, files("convform.spec").joinpath(f"{name}.md").read_text(encoding="utf-8"))


# Reading one page ------------------------------------------------------------------------------------


@dataclass
class _Block:
    """One top-level block of a page, reduced to what the standard uses."""

    kind: str  # heading, paragraph, fence, list or table
    line: int
    text: str = ""  # Markdown of a heading or paragraph; content of a fence
    info: str = ""  # "h2" or "h3" for headings; the info string of a fence
    entries: list[list[str]] = field(default_factory=list)  # list items, or rows of a table


def parse_page(name: str, text: str) -> Page:
    """Read one page from its Markdown.

    Parameters
    ----------
    name
        Name of the page without ``.md``; operator families have a page with five parts.
    text
        Its Markdown.

    Raises
    ------
    SpecError
        If the page does not have the form that ``index.md`` describes; the message names page and clause.
    """
    where = f"{name}.md"
    blocks = list(_blocks(text))
    if not blocks or blocks[0].kind != "heading" or blocks[0].info != "h1":
        raise SpecError(where, "the page has no title; write '# …' in its first line")
    title = _plain(blocks[0].text)
    if name == "index":
        return Page(name, title, text, (), ())
    is_operator = name in {family.replace(".", "_") for family in FAMILIES}
    wanted = OPERATOR_PARTS if is_operator else ("Clauses",)
    parts = _split(blocks, "h2")
    got = tuple(heading.text for heading, _ in parts)
    if got != wanted:
        raise SpecError(where, f"expected the parts {', '.join(wanted)}; got {', '.join(got) or 'none'}")
    lines = text.splitlines()
    content = {heading.text: body for heading, body in parts}
    ends = {heading.text: end for (heading, _), end in zip(parts, _ends(parts, len(lines)), strict=True)}
    constraints = "Constraints" if is_operator else "Clauses"
    sections = _split(content[constraints], "h3")
    found = tuple(
        _clause(name, heading, body, "\n".join(lines[heading.line : end]).strip())
        for (heading, body), end in zip(sections, _ends(sections, ends[constraints]), strict=True)
    )
    own = tuple(example for entry in found for example in entry.examples)
    if not is_operator:
        return Page(name, title, text, found, own)
    loose = tuple(
        parse_example(block.text, f"{where}, Examples")
        for block in content["Examples"]
        if block.info == "toml example"
    )
    inputs, outputs = (f"{where}, {part}" for part in ("Inputs", "Outputs"))
    return Page(
        name,
        title,
        text,
        found,
        own + loose,
        _table(content["Inputs"], "axes", inputs),
        _table(content["Inputs"], "default", inputs),
        _table(content["Outputs"], "axes", outputs),
    )


def _clause(page: str, heading: _Block, body: Sequence[_Block], text: str) -> Clause:
    match = _HEADING.fullmatch(heading.text)
    if match is None:
        raise SpecError(f"{page}.md", f"{heading.text!r} is no clause's heading; write '### CONV-1 · Title'")
    id = match["id"]
    where = f"{page}.md, {id}"
    level = ""
    equation = ""
    fields: dict[str, str] = {}
    misreadings: list[ListedMisreading] = []
    found: list[Example] = []
    current = ""
    for block in body:
        if block.kind == "paragraph" and block.text.startswith("Level: "):
            level = block.text.removeprefix("Level: ").strip()
        elif block.kind == "paragraph" and (lead := _LEAD.match(block.text)):
            current = lead["name"].lower()
            if current not in (*_FIELDS, *_OPTIONAL_FIELDS, "misreadings"):
                raise SpecError(where, f"there is no field {lead['name']!r} in a clause")
            if current in fields:
                raise SpecError(where, f"it has two paragraphs **{lead['name']}.**; keep one")
            fields[current] = _plain(block.text[lead.end() :])
        elif block.kind == "fence" and block.info == "text":
            if equation:
                raise SpecError(where, "it has two equations; write both in one ```text block")
            equation = block.text.strip("\n")
        elif block.kind == "fence" and block.info == "toml example":
            found.append(parse_example(block.text, where, (id,)))
        elif block.kind == "list" and current == "misreadings":
            misreadings += [_misreading(item[0], id, where) for item in block.entries]
        elif block.kind == "paragraph" and current in _FIELDS:
            fields[current] += " " + _plain(block.text)
        elif block.kind != "paragraph" or current != "misreadings":  # a remark on the examples below it
            raise SpecError(
                where, f"a {block.kind} in line {block.line + 1} belongs to no field of the clause"
            )
    if level not in LEVELS:
        raise SpecError(where, f"its level is {level!r}; write 'Level: core' or 'Level: strict'")
    for name in _FIELDS:
        if not fields.get(name):
            raise SpecError(where, f"there is no {name}; write '**{name.capitalize()}.** …' or '… nothing.'")
    fields.pop("misreadings", None)
    if not equation:
        raise SpecError(where, "there is no equation; write it in a ```text block")
    if not misreadings:
        raise SpecError(where, "it lists no misreading; write '**Misreadings.**' and a list '- *name* — …'")
    return Clause(
        id=id,
        title=match["title"],
        level=level,
        equation=equation,
        misreadings=tuple(misreadings),
        examples=tuple(found),
        page=page,
        text=text,
        **fields,
    )


def _misreading(item: str, id: str, where: str) -> ListedMisreading:
    match = _MISREADING.fullmatch(item)
    if match is None:
        raise SpecError(where, f"{item!r} is no misreading; write '*name* — with what. Where to look.'")
    if match["source"] is None:
        raise SpecError(
            where,
            f"the misreading {match['name']!r} has no smallest input; write `{{operator = …}}` below it",
        )
    if match["name"] != match["name"].lower():
        raise SpecError(where, f"the misreading {match['name']!r} has capitals; names are lower case")
    name, says, look, source = (" ".join(match[part].split()) for part in ("name", "says", "look", "source"))
    return ListedMisreading(name, id, says, look, source)


def _table(blocks: Sequence[_Block], column: str, where: str) -> Mapping[str, str]:
    """Read the table whose second column is called `column`: its first column → its second."""
    for block in blocks:
        if block.kind == "table" and block.entries[0][:2] == ["name", column]:
            return MappingProxyType({_plain(row[0]): _plain(row[1]) for row in block.entries[1:]})
    raise SpecError(where, f"there is no table 'name | {column} | meaning'")


def _split(blocks: Sequence[_Block], level: str) -> list[tuple[_Block, list[_Block]]]:
    """Group blocks under the headings of one level; what stands before the first is left out."""
    groups: list[tuple[_Block, list[_Block]]] = []
    for block in blocks:
        if block.kind == "heading" and block.info == level:
            groups.append((block, []))
        elif groups:
            groups[-1][1].append(block)
    return groups


def _ends(groups: Sequence[tuple[_Block, list[_Block]]], last: int) -> list[int]:
    """Line after each group: where the next one starts."""
    return [heading.line for heading, _ in groups[1:]] + [last] * bool(groups)


def _blocks(text: str) -> Iterator[_Block]:
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    position = 0
    while position < len(tokens):
        token = tokens[position]
        line = token.map[0] if token.map else 0
        end = _closing(tokens, position)
        inside = tokens[position : end + 1]
        if token.type == "heading_open":
            yield _Block("heading", line, inside[1].content, token.tag)
        elif token.type == "paragraph_open":
            yield _Block("paragraph", line, inside[1].content)
        elif token.type == "fence":
            yield _Block("fence", line, token.content, token.info.strip())
        elif token.type == "bullet_list_open":
            items = [[entry.content] for entry in inside if entry.type == "inline"]
            yield _Block("list", line, entries=items)
        elif token.type == "table_open":
            yield _Block("table", line, entries=_rows(inside))
        else:
            yield _Block(token.type, line)
        position = end + 1


def _closing(tokens: Sequence[Token], start: int) -> int:
    """Index of the token that closes the block which `start` opens; `start` itself for a single token."""
    depth = 0
    for position in range(start, len(tokens)):
        depth += tokens[position].nesting
        if depth == 0:
            return position
    raise AssertionError("markdown-it closes every block")


def _rows(tokens: Sequence[Token]) -> list[list[str]]:
    rows: list[list[str]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            rows[-1].append(token.content)
    return rows


def _plain(markdown: str) -> str:
    """Drop the marks of emphasis, code and links, and join lines: what a terminal shows."""
    (inline,) = MarkdownIt("commonmark").parseInline(markdown)
    pieces = []
    for token in inline.children or ():
        if token.type in ("softbreak", "hardbreak"):
            pieces.append(" ")
        elif token.type in ("text", "code_inline"):
            pieces.append(token.content)
    return re.sub(r"\s+", " ", "".join(pieces)).strip()
