"""Plots of results, drawn by matplotlib: SVG for light and for dark pages, and PNG.

Each file carries a digest of what it shows, so that a stale one is found without drawing it anew.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyrovm.bench.figures import Bars, Curve
from pyrovm.bench.results import Results
from pyrovm.bench.words import number
from pyrovm.errors import Unsupported

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS = "pyrovm"  # what is ours has this in its name, and the first colour
_DIGEST = re.compile(r"data: ([0-9a-f]{64})")
_WIDTH, _HEIGHT, _BAR = 7.2, 3.6, 0.3  # inches; a bar and its distance from the next


@dataclasses.dataclass(frozen=True)
class Look:
    """Colours; paper and ink are those of code-hosting sites' pages."""

    suffix: str
    paper: str
    ink: str
    grid: str
    ours: str
    theirs: str


LIGHT = Look("", "#ffffff", "#1f2328", "#d1d9e0", "#0969da", "#8c959f")
DARK = Look("-dark", "#0d1117", "#e6edf3", "#30363d", "#4493f8", "#7d8590")
# On either paper.
_LINES = ("#0969da", "#cf6f00", "#1a7f37", "#8250df", "#bf3989", "#6e7781", "#d1242f", "#1b8a9e")


def charts(results: Results) -> dict[str, Bars | Curve]:
    """Everything that can be plotted, by the names of the files."""
    found: list[Bars | Curve] = [*results.bars, *results.curves]
    return {chart.slug: chart for chart in found}


def digest(chart: Bars | Curve) -> str:
    """Of the data that a plot shows."""
    data = json.dumps(dataclasses.asdict(chart), sort_keys=True)
    return hashlib.sha256(data.encode()).hexdigest()


def stale(results: Results, folder: Path) -> list[str]:
    """The plots in ``folder`` that are missing, or show other data than ``results``."""
    found = []
    for slug, chart in charts(results).items():
        for look in (LIGHT, DARK):
            path = folder / f"{slug}{look.suffix}.svg"
            shown = _DIGEST.search(path.read_text()) if path.exists() else None
            if shown is None or shown[1] != digest(chart):
                found.append(path.name)
    return found


def require() -> None:
    """See to it that plots can be drawn.

    Raises:
        Unsupported: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise Unsupported("plots need matplotlib: pip install 'pyrovm[bench]'") from None
    matplotlib.use("agg")


def write(results: Results, folder: Path) -> list[Path]:
    """Draw all plots into ``folder``; their files.

    Raises:
        Unsupported: matplotlib is not installed.
    """
    require()
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for slug, chart in charts(results).items():
        for look in (LIGHT, DARK):
            paths.append(folder / f"{slug}{look.suffix}.svg")
            _draw(chart, look, paths[-1])
        paths.append(folder / f"{slug}.png")
        _draw(chart, LIGHT, paths[-1])
    return paths


def _draw(chart: Bars | Curve, look: Look, path: Path) -> None:
    import matplotlib.pyplot as plt

    style: dict[str, Any] = {
        "svg.hashsalt": "pyrovm",  # the same data, the same file
        "svg.fonttype": "none",  # text remains text
        "font.family": "sans-serif",
        "figure.facecolor": look.paper,
        "axes.facecolor": look.paper,
        "axes.edgecolor": look.grid,
        "grid.color": look.grid,
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), look.ink),
    }
    with plt.rc_context(style):
        height = 1.0 + _BAR * len(chart.values) if isinstance(chart, Bars) else _HEIGHT
        figure, axes = plt.subplots(figsize=(_WIDTH, height), layout="constrained")
        try:
            figure.suptitle(chart.title, fontsize=11, x=0.01, ha="left")
            axes.spines[["top", "right"]].set_visible(False)
            if isinstance(chart, Bars):
                _bars(chart, axes, look)
            else:
                _lines(chart, axes)
            told: dict[str, str | None] = {"Description": f"data: {digest(chart)}"}
            if path.suffix == ".svg":
                told |= {"Date": None, "Creator": None}
            figure.savefig(path, dpi=144, metadata=told)
        finally:
            plt.close(figure)


def _bars(chart: Bars, axes: Axes, look: Look) -> None:
    names = [*chart.values][::-1]  # the first is the topmost
    middles = [chart.values[name][0] for name in names]
    tails = [chart.values[name][1] - chart.values[name][0] for name in names]
    below = [max(0.0, -tail) for tail in tails]
    above = [max(0.0, tail) for tail in tails]
    colours = [look.ours if OURS in name else look.theirs for name in names]
    axes.barh(names, middles, color=colours, height=0.65)
    axes.errorbar(middles, names, xerr=[below, above], fmt="none", ecolor=look.ink, capsize=2)
    if chart.is_log:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
    axes.margins(x=0.15)
    for place, name in enumerate(names):
        p50, tail = chart.values[name]
        axes.annotate(
            number(p50), (max(p50, tail), place), (4, 0), textcoords="offset points", va="center"
        )
    axes.set_xlabel(f"{chart.unit}: p50, and its tail")
    axes.grid(axis="x", linewidth=0.5)
    axes.set_axisbelow(True)


def _lines(chart: Curve, axes: Axes) -> None:
    for place, (name, points) in enumerate(chart.lines.items()):
        xs, ys = zip(*points, strict=True)
        colour = _LINES[place % len(_LINES)]
        axes.plot(xs, ys, marker="o", markersize=3, color=colour, label=name)
    axes.set_xlabel(chart.x)
    axes.set_ylabel(chart.y)
    if chart.is_log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.set_ylim(bottom=0)
    axes.grid(linewidth=0.5)
    axes.legend(frameon=False, labelcolor="linecolor", loc="center left", bbox_to_anchor=(1, 0.5))
