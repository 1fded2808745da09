"""The catalogue: every misreading, page by page."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from convform.reference.misreadings import (
    avg_pool,
    avg_pool_backward,
    col2im,
    contract,
    conv,
    conv_backward,
    im2col,
    layout,
    max_pool,
    max_pool_backward,
    pool,
    window,
)
from convform.reference.misreadings.misreading import Misreading, Page

PAGES: tuple[Page, ...] = (
    conv.PAGE,
    conv_backward.PAGE,
    window.PAGE,
    pool.PAGE,
    layout.PAGE,
    im2col.PAGE,
    col2im.PAGE,
    contract.PAGE,
    max_pool.PAGE,
    max_pool_backward.PAGE,
    avg_pool.PAGE,
    avg_pool_backward.PAGE,
)
"""The pages; where several misreadings explain an answer equally well, the diagnosis takes the first."""

MISREADINGS: Mapping[str, Misreading] = MappingProxyType(
    {name: misreading for page in PAGES for name, misreading in page.entries.items()}
)
"""Every misreading by name, as the clauses list them."""
