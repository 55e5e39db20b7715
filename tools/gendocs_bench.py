"""The figures of the last whole run of ``make bench``, as the documentation shows them."""

from __future__ import annotations

from pathlib import Path

from pyrovm.bench.page import page
from pyrovm.bench.results import Results

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "assets" / "benchmarks.json"


def benchmarks() -> str:
    """Everything that was found."""
    return page(Results.loads(RESULTS.read_text()))
