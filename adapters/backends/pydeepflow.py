"""PyDeepFlow, a small library of fully connected networks.

The last release, 1.0.0, has neither convolution nor pooling. Its repository has had layers of that kind
since, but nobody gets them by installing it: there is nothing to judge, and the adapter is unavailable.
"""

from __future__ import annotations

from importlib.metadata import version

import pydeepflow  # noqa: F401 — what is missing without it is the library

from convform.adapters.errors import Unavailable

raise Unavailable(
    f"pydeepflow {version('pydeepflow')} has neither convolution nor pooling",
    "see https://github.com/ravin-d-27/PyDeepFlow/pull/99 for what a later release may have",
)
