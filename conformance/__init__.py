"""The judge: cases, oracle, laws, runner and reports.

>>> from convform.adapters import load
>>> from convform.conformance import check
>>> check(load("reference"), operators=["im2col"]).verdict
'conforms'
"""

from __future__ import annotations

from convform.conformance.report import LawResult, OperatorReport, Report
from convform.conformance.runner import check
from convform.conformance.violation import Violation

__all__ = ["LawResult", "OperatorReport", "Report", "Violation", "check"]
