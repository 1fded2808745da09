"""Targets: the adapters that a person means by a name, a file or a program.

An installed adapter is imported here. A file or a program is not: its process describes it (`hosting`), and
where a file holds no adapter, another process infers one first.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from convform.adapters import Adapter, AdapterError, find
from convform.adapters.errors import NoAdapter
from convform.adapters.find import is_installed, split_target
from convform.adapters.process.errors import printable
from convform.adapters.process.plain_text import plain
from convform.adapters.process.worker import Options, python_command
from convform.conformance.subjects.hosting import Hosted, Hosting, hosted, is_program, nothing, started

LONGEST_HOMEWORK = 1 << 26
"""Bytes of a file that is judged, the pictures of a notebook included."""

LONGEST_ADAPTER = 1 << 18
"""Characters of an adapter file that is inferred."""


INFERRING = "convform: inferring an adapter"
"""What is said on standard error between the import and the rest."""


@dataclass(frozen=True)
class Task:
    """What is inferred.

    Attributes
    ----------
    target
        The file, with the name of one function or class after a colon.
    file
        Where the adapter will lie.
    forbid
        Modules that the homework may not import.
    """

    target: str
    file: str
    forbid: tuple[str, ...] = ()

    def command(self) -> list[str]:
        """Write the command that does it."""
        return python_command("convform.conformance.inference.worker", asdict(self))


@dataclass(frozen=True)
class Found:
    """The adapters of a target.

    Attributes
    ----------
    adapters
        One or more.
    shown
        What they can be loaded by: the target, or the file in which an inferred adapter would be kept.
    missing
        What was looked for in vain, as sentences.
    options
        What a worker of the target is told; None for what lives in this process.
    printed
        What the target printed while it was imported.
    closes
        What ends its process, and removes what was written for it.
    """

    adapters: tuple[Adapter, ...]
    shown: str
    missing: tuple[str, ...] = ()
    options: Options | None = None
    printed: str = ""
    closes: tuple[Callable[[], None], ...] = field(default=(), repr=False)

    def origin_of(self, adapter: Adapter) -> str:
        """What one of them can be loaded by."""
        return self.shown if len(self.adapters) == 1 else f"{self.shown}:{adapter.name}"

    def close(self) -> None:
        """End the process of the target."""
        for close in self.closes:
            close()


def is_judged(target: str) -> bool:
    """Whether a target is a file or a program, whose code nobody here runs; else it is installed."""
    place = split_target(target)[0]
    if is_installed(place):
        return False
    if len(os.path.basename(place)) > 255:
        raise AdapterError(f"{place[:60]}…: no file has so long a name")
    return place.endswith((".py", ".ipynb")) or Path(place).exists() or "/" in place or "\\" in place


def found(target: str, hosting: Hosting, meanwhile: Callable[[], object] = nothing) -> Found:
    """Find the adapters of a target, where nothing of a file is run in this process.

    Parameters
    ----------
    target
        What `convform.adapters.find` takes, or a program.
    hosting
        How a file or program is hosted.
    meanwhile
        Called while its process starts: the judge may have much to import.

    Raises
    ------
    AdapterError
        As `convform.adapters.find`, and if there is no adapter and none can be inferred.
    """
    if not is_judged(target):
        return Found(tuple(find(target)), target)
    if is_program(target) or not _needs_inference(target):
        try:
            return _served(hosting, Options(target, forbid=hosting.forbid), target, meanwhile=meanwhile)
        except NoAdapter as missing:
            return _inferred(target, hosting, missing, meanwhile)
    return _inferred(target, hosting, NoAdapter(f"there is no adapter in {target}"), meanwhile)


def _needs_inference(target: str) -> bool:
    """Whether a file never speaks of adapters; one that does may still hold none."""
    place = Path(split_target(target)[0])
    try:
        if not place.is_file():
            return False
        if (size := place.stat().st_size) > LONGEST_HOMEWORK:
            raise AdapterError(f"{target} has {size} bytes, expected {LONGEST_HOMEWORK} at most")
        return b"dapter" not in place.read_bytes()
    except OSError:
        return False


def _served(
    hosting: Hosting,
    options: Options,
    shown: str,
    missing: Sequence[str] = (),
    meanwhile: Callable[[], object] = nothing,
) -> Found:
    guest: Hosted = hosted(hosting, options, meanwhile)
    return Found(tuple(guest.adapters), shown, tuple(missing), options, guest.printed, (guest.close,))


@dataclass(frozen=True)
class Written:
    """An adapter that was inferred on the subject's side of the wall: text, which nobody here runs.

    Attributes
    ----------
    text
        The adapter file.
    notes
        ``(certainty, sentence)``, as of `convform.conformance.inference.infer.Inferred`.
    printed
        What the homework printed while it was imported.
    breaches
        What it tried that no subject may.
    """

    text: str
    notes: tuple[tuple[str, str], ...]
    printed: str
    breaches: tuple[str, ...]


def written_for(
    target: str, file: Path, hosting: Hosting, meanwhile: Callable[[], object] = nothing
) -> Written:
    """Infer the adapter of a file in a process of its own.

    Parameters
    ----------
    target
        The file, with the name of one function or class after a colon.
    file
        Where the adapter will lie.
    hosting
        How the file is hosted.
    meanwhile
        Called while the process starts.

    Raises
    ------
    AdapterError
        As `found`.
    """
    process = hosting.python(Task(target, str(file), hosting.forbid).command(), hides=False)
    try:
        process.begin()
        meanwhile()
        said = started(process, target, INFERRING)
    finally:
        process.close(grace=0)
    try:
        notes = [(str(certainty), printable(str(text))) for certainty, text in json.loads(said["notes"])]
    except (KeyError, ValueError, TypeError, RecursionError):
        raise AdapterError(
            f"{target}: what was inferred cannot be read", "write the adapter by hand"
        ) from None
    printed = process.printed_at_start.replace(f"{INFERRING}\n", "")
    return Written(said.get("text", "")[:LONGEST_ADAPTER], tuple(notes[:200]), printed, process.breaches)


def _inferred(target: str, hosting: Hosting, without: NoAdapter, meanwhile: Callable[[], object]) -> Found:
    """Infer the adapter of a file in one process, and serve it in another."""
    folder = tempfile.TemporaryDirectory(prefix="convform-")
    file = Path(folder.name, adapter_file(target))
    try:
        try:
            written = written_for(target, file, hosting, meanwhile)
        except AdapterError as error:
            if type(error) is AdapterError:
                raise AdapterError(f"{without.message}, and {error.message}", error.hint) from None
            raise
        stem = Path(split_target(target)[0]).stem
        try:
            file.write_text(plain(written.text, stem), encoding="utf-8")
        except AdapterError as error:
            raise AdapterError(f"{target}: {error.message}", error.hint) from None
        missing = [text for certainty, text in written.notes if certainty == "not found"]
        options = Options(str(file), of=target, forbid=hosting.forbid)
        meant = _served(hosting, options, adapter_file(target), missing)
    except BaseException:
        folder.cleanup()
        raise
    for adapter in meant.adapters:
        for one in adapter.implementations.values():
            one.function.process.note_breaches(written.breaches)  # type: ignore[attr-defined]
    return replace(meant, printed=written.printed, closes=(*meant.closes, folder.cleanup))


def found_here(target: str) -> Found:
    """Find the adapters of a target in this process, or infer them: for code that is trusted.

    Raises
    ------
    AdapterError
        As `found`.
    """
    try:
        return Found(tuple(find(target)), target)
    except NoAdapter as missing:
        if not Path(split_target(target)[0]).is_file():
            raise
        # Inference is large, and most runs need none of it.
        from convform.conformance.inference.infer import infer_target

        try:
            inferred = infer_target(target, None)
        except AdapterError as error:
            raise AdapterError(f"{missing.message}, and {error.message}", missing.hint) from None
        said = tuple(text for certainty, text in inferred.notes if certainty == "not found")
        return Found(inferred.adapters, adapter_file(target), said)


def adapters_here(target: str) -> Sequence[Adapter]:
    """Return the adapters of a trusted target alone: what another process of the judge asks for."""
    return found_here(target).adapters


def adapter_file(target: str) -> str:
    """Name of the file that the inferred adapter of a homework is kept in."""
    return f"{Path(split_target(target)[0]).stem}_adapter.py"
