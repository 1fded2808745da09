"""The checkout that the tests come from: what is no part of the package lies there alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("CONVFORM_CHECKOUT") or Path(__file__).resolve().parents[1])
"""Its root; tests of an installed wheel are told it by ``CONVFORM_CHECKOUT``."""

in_checkout = pytest.mark.skipif(
    not (ROOT / "pyproject.toml").is_file(), reason="CONVFORM_CHECKOUT names no checkout"
)
"""Marks a test that reads what lies there."""


def text_of(name: str) -> str:
    """Read one of its files."""
    return (ROOT / name).read_text(encoding="utf-8")


FOLDERS = {file.parent.name for file in ROOT.glob("*/__init__.py")}
"""The folders of the house; what is built or cached beside them is none."""


def pages() -> list[Path]:
    """All Markdown files in it, relative to the root."""
    found = [*ROOT.glob("*.md"), *(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.md"))]
    return sorted(file.relative_to(ROOT) for file in found)
