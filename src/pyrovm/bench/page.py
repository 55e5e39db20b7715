"""Results as Markdown: what docs/reference/benchmarks.md and the README show."""

from __future__ import annotations

from collections.abc import Collection

from pyrovm.bench import words
from pyrovm.bench.figures import Bars, Curve, Figure
from pyrovm.bench.results import Results, Run, Topic

_HEAD = """\
`make bench` measures all of this; each section names the command for its own figures. Figures are
medians (p50); the tail is the 99th percentile of times and sizes and the first of rates, which is
the worst of fewer than a hundred measurements; n is their number. Peers have their tail in
brackets; ratios are ours by the first peer's, on the same machine.
*Counted ms* are instructions, a million each, of guest, VMM and host kernel together, in a lab
whose clock counts them (`Lab(icount=0)`): they repeat whatever else the machine does. Plain *ms* in
the lab are its clock's, and compare only with each other.
"""


def page(results: Results, assets: str) -> str:
    """The text of the page; ``assets`` is where its plots lie, seen from it."""
    parts = [_HEAD, _runs(results.runs)]
    targets = results.with_target
    if targets:
        met = sum(figure.is_met is True for figure in targets)
        parts.append(f"## Targets\n\n{met} of {len(targets)} are met.\n")
        parts.append(_figures(targets))
    parts += [_topic(results, topic, assets) for topic in results.topics]
    if results.skipped:
        parts.append("## Not measured\n\n" + _skipped(results))
    return "\n".join(parts)


def _skipped(results: Results) -> str:
    """Each reason once, with the questions that it is about."""
    found: dict[str, list[str]] = {}
    for each in results.skipped:
        found.setdefault(each.what, []).append(each.question)
    return "".join(f"- {what} [{', '.join(names)}]\n" for what, names in found.items())


def headlines(results: Results) -> str:
    """The figures that have a headline, as a table."""
    columns = ["", "p50", "tail", "unit", "beside", "target", "met", "command"]
    rows = []
    for figure in results.in_order:
        if figure.headline:
            cells = [figure.headline, words.number(figure.ours.median)]
            cells += [words.tail(figure, figure.ours), figure.unit]
            cells += [_peers(figure), words.target(figure), words.verdict(figure)]
            rows.append([*cells, f"`{figure.command}`"])
    return _table(columns, rows)


def detail_table(results: Results, question: str) -> str:
    """The first table that explains a question; empty if there is none."""
    for detail in results.details:
        if detail.question == question:
            return _table(detail.columns, detail.rows)
    return ""


def pictures(results: Results, slugs: Collection[str], assets: str) -> str:
    """The plots of these names, as far as there are any."""
    charts: list[Bars | Curve] = [*results.bars, *results.curves]
    charts = [chart for chart in charts if chart.slug in slugs]
    return "\n".join(_picture(chart, assets) for chart in charts)


def _picture(chart: Bars | Curve, assets: str) -> str:
    """A plot for light pages and for dark ones."""
    path = f"{assets}/{chart.slug}"
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{path}-dark.svg">'
        f'<img alt="{chart.title}" src="{path}.svg"></picture>\n'
    )


def _runs(runs: list[Run]) -> str:
    """Facts that all runs share in one column, those that differ one by one."""
    names = dict.fromkeys(name for run in runs for name in run.about)
    rows = []
    for name in names:
        values = dict.fromkeys(run.about.get(name, "") for run in runs)
        rows.append([name, "; ".join(filter(None, values))])
    rows.append(["time it took", f"{sum(sum(run.seconds.values()) for run in runs):.0f} s"])
    if quick := [name for run in runs if run.quick for name in run.seconds]:
        rows.append(["with few rounds (--quick)", ", ".join(quick)])
    return _table(["measured", ""], rows)


def _topic(results: Results, topic: Topic, assets: str) -> str:
    figures = [figure for figure in results.in_order if figure.question in topic.questions]
    if not figures:
        return ""
    command = f"```console\n$ pyrovm bench {topic.name}\n```\n"
    parts = [f"## {topic.heading}\n", topic.method + "\n", command, _figures(figures)]
    for detail in results.details:
        if detail.question in topic.questions:
            parts += [f"### {detail.title}\n", _table(detail.columns, detail.rows)]
    for bars in results.bars:
        if bars.question in topic.questions:
            parts.append(_picture(bars, assets))
    for curve in results.curves:
        if curve.question in topic.questions:
            parts.append(_picture(curve, assets))
            xs = sorted({x for points in curve.lines.values() for x, _ in points})
            rows = []
            for x in xs:
                ys = [dict(points).get(x) for points in curve.lines.values()]
                rows.append([words.number(x), *("" if y is None else words.number(y) for y in ys)])
            columns = [curve.x, *(f"{name}, {curve.y}" for name in curve.lines)]
            parts += [f"### {curve.title}\n", _table(columns, rows)]
    return "\n".join(parts)


def _figures(figures: list[Figure]) -> str:
    columns = ["", "p50", "tail", "n", "unit", "beside", "ratio", "target", "met"]
    rows = []
    for figure in figures:
        cells = [figure.name, words.number(figure.ours.median)]
        cells += [words.tail(figure, figure.ours), str(figure.ours.n), figure.unit, _peers(figure)]
        cells += [words.ratio(figure), words.target(figure), words.verdict(figure)]
        rows.append(cells)
    notes = sorted({f"{figure.name}: {figure.note}" for figure in figures if figure.note})
    return _table(columns, rows) + "".join(f"\n{note}.\n" for note in notes)


def _peers(figure: Figure) -> str:
    found = []
    for name, sample in figure.peers.items():
        text = words.sample(sample, higher_is_better=figure.higher_is_better)
        found.append(f"{name} {text}")
    return ", ".join(found)


def _table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
