"""Targets: the adapters that a person means by a name or a file, found there or else inferred."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convform.adapters import Adapter, AdapterError, find
from convform.adapters.errors import NoAdapter
from convform.adapters.find import split_target

_MISSING = "# not found: "


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
    """

    adapters: tuple[Adapter, ...]
    shown: str
    missing: tuple[str, ...] = ()

    def origin_of(self, adapter: Adapter) -> str:
        """What one of them can be loaded by."""
        return self.shown if len(self.adapters) == 1 else f"{self.shown}:{adapter.name}"


def found(target: str, kept: Path | None = None) -> Found:
    """Find the adapters of a target, or infer them where a file has none.

    Parameters
    ----------
    target
        What `convform.adapters.find` takes.
    kept
        A file in which another process may have written the inferred adapter already.

    Raises
    ------
    AdapterError
        As `convform.adapters.find`, and if there is no adapter and none can be inferred.
    """
    try:
        return Found(tuple(find(target)), target)
    except NoAdapter as missing:
        if not Path(split_target(target)[0]).is_file():
            raise
        if kept is not None and kept.is_file():
            lines = kept.read_text(encoding="utf-8").splitlines()
            said = tuple(line.removeprefix(_MISSING) for line in lines if line.startswith(_MISSING))
            return Found(tuple(find(str(kept))), adapter_file(target), said)
        # Inference is large, and most runs need none of it.
        from convform.conformance.inference.infer import infer_target

        try:
            inferred = infer_target(target, None)
        except AdapterError as error:
            raise AdapterError(f"{missing.message}, and {error.message}", missing.hint) from None
        said = tuple(text for certainty, text in inferred.notes if certainty == "not found")
        return Found(inferred.adapters, adapter_file(target), said)


def found_adapters(target: str) -> Sequence[Adapter]:
    """Return the adapters of a target alone: what another process of the judge asks for."""
    return found(target).adapters


def keep(target: str, file: Path) -> None:
    """Write the adapter that is inferred for a target without one into a file.

    Raises
    ------
    AdapterError
        If none can be inferred.
    """
    from convform.conformance.inference.infer import infer_target

    file.write_text(infer_target(target, file).text, encoding="utf-8")


def adapter_file(target: str) -> str:
    """Name of the file that the inferred adapter of a homework is kept in."""
    return f"{Path(split_target(target)[0]).stem}_adapter.py"
