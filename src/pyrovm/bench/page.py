"""Results as Markdown: what docs/reference/benchmarks.md shows."""

from __future__ import annotations

from pyrovm.bench import words
from pyrovm.bench.figures import Figure
from pyrovm.bench.results import Results, Topic

_HEAD = """\
`make bench` measures all of this in one run; each section names the command for its own figures.
Figures are medians, with the range in brackets; ratios are ours by the peer's, on the same
machine, kernel, initrd and command line. *Counted ms* are instructions, a million each, of guest,
VMM and host kernel together, in a lab whose clock counts them (`Lab(icount=0)`): they repeat
whatever else the machine does. Plain *ms* in the lab are its clock's, and compare only with each
other.
"""


def page(results: Results) -> str:
    """The text of the page."""
    parts = [_HEAD, _table(["measured", ""], [[k, v] for k, v in results.about.items()])]
    targets = results.with_target
    if targets:
        met = sum(figure.is_met is True for figure in targets)
        parts.append(f"## Targets\n\n{met} of {len(targets)} are met.\n")
        parts.append(_figures(targets))
    parts += [_topic(results, topic) for topic in results.topics]
    if results.skipped:
        parts.append("## Not measured\n\n" + "".join(f"- {what}\n" for what in results.skipped))
    return "\n".join(parts)


def _topic(results: Results, topic: Topic) -> str:
    figures = [figure for figure in results.figures if figure.question in topic.questions]
    if not figures:
        return ""
    command = f"```console\n$ pyrovm bench {topic.name}\n```\n"
    parts = [f"## {topic.heading}\n", topic.method + "\n", command, _figures(figures)]
    for detail in results.details:
        if detail.question in topic.questions:
            parts += [f"### {detail.title}\n", _table(detail.columns, detail.rows)]
    return "\n".join(parts)


def _figures(figures: list[Figure]) -> str:
    columns = ["", "pyrovm", "peer", "unit", "ratio", "target", "met"]
    rows = []
    for figure in figures:
        peer = words.sample(figure.peer, with_range=True)
        cells = [figure.name, words.sample(figure.ours, with_range=True)]
        cells += [f"{peer} {figure.peer_name}".strip() if peer else "", figure.unit]
        cells += [words.ratio(figure), words.target(figure), words.verdict(figure)]
        rows.append(cells)
    notes = sorted({f"{figure.name}: {figure.note}" for figure in figures if figure.note})
    return _table(columns, rows) + "".join(f"\n{note}.\n" for note in notes)


def _table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
