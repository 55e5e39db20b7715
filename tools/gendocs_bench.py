"""The figures of ``make bench`` in the documentation, and whether their plots are fresh."""

from __future__ import annotations

from pathlib import Path

from pyrovm.bench import page, plots
from pyrovm.bench.results import Results

ASSETS = Path(__file__).resolve().parent.parent / "docs" / "assets"
RESULTS = ASSETS / "benchmarks.json"
IN_README = ("start-up", "density")


def _results() -> Results:
    return Results.loads(RESULTS.read_text())


def benchmarks() -> str:
    """Everything that was found."""
    return page.page(_results(), "../assets")


def headlines() -> str:
    """The figures of the README."""
    return page.headlines(_results())


def classic() -> str:
    """Virtual machine, microVM, unikernel, container and process."""
    return page.detail_table(_results(), "classic")


def pictures() -> str:
    """The plots of the README."""
    return page.pictures(_results(), IN_README, "docs/assets")


def stale_plots() -> list[str]:
    """Plots that are missing, or show other figures than the results."""
    return plots.stale(_results(), ASSETS)
