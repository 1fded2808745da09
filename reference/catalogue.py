"""The catalogue: every registered misreading, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# Importing these files registers what they describe.
from convform.reference import (
    misread_columns as _columns,  # noqa: F401
)
from convform.reference import (
    misread_contract as _contract,  # noqa: F401
)
from convform.reference import (
    misread_convolution as _convolution,  # noqa: F401
)
from convform.reference import (
    misread_pooling as _pooling,  # noqa: F401
)
from convform.reference import (
    misread_refusals as _refusals,  # noqa: F401
)
from convform.reference import (
    misread_window as _window,  # noqa: F401
)
from convform.reference.misreading import CATALOGUE, Misreading

MISREADINGS: Mapping[str, Misreading] = MappingProxyType(CATALOGUE.entries)
"""Every misreading by name, as the clauses list them."""
