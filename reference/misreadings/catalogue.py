"""The catalogue: every registered misreading, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# Importing these files registers what they describe.
from convform.reference.misreadings import (  # noqa: F401
    misread_columns,
    misread_contract,
    misread_convolution,
    misread_pooling,
    misread_refusals,
    misread_window,
)
from convform.reference.misreadings.misreading import CATALOGUE, Misreading

MISREADINGS: Mapping[str, Misreading] = MappingProxyType(CATALOGUE.entries)
"""Every misreading by name, as the clauses list them."""
