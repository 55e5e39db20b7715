"""Figures as people read them, on the terminal and on the page."""

from __future__ import annotations

from pyrovm.bench.figures import Figure, Sample


def number(value: float) -> str:
    """Three digits that count, more before the point.

    >>> [number(value) for value in (0, 0.0234, 1.5, 41, 182.25, 34886)]
    ['0', '0.0234', '1.50', '41', '182', '34886']
    """
    if value == int(value):
        return str(int(value))
    if abs(value) < 1:
        return f"{value:.3g}"
    return f"{value:.{max(0, 3 - len(str(int(abs(value)))))}f}"


def sample(found: Sample, *, higher_is_better: bool = False) -> str:
    """The median, and behind it the tail where it says more.

    >>> sample(Sample.of([1, 2, 9])), sample(Sample.of([2, 2])), sample(Sample.of([7]))
    ('2 (9)', '2', '7')
    >>> sample(Sample.of([1, 2, 9]), higher_is_better=True)
    '2 (1)'
    """
    text = number(found.median)
    tail = number(found.tail(higher_is_better=higher_is_better))
    return text if tail == text else f"{text} ({tail})"


def tail(figure: Figure, found: Sample) -> str:
    """The 99th percentile of times and sizes, the first of rates; empty where there is but one."""
    value = found.tail(higher_is_better=figure.higher_is_better)
    return number(value) if found.n > 1 else ""


def ratio(figure: Figure) -> str:
    """Ours by the peer's."""
    return "" if figure.ratio is None else f"{figure.ratio:.2f}"


def target(figure: Figure) -> str:
    """What was aimed at.

    >>> target(Figure("q", "n", "ms", Sample.of([1]), target=60, absolute=True))
    'at most 60 ms'
    >>> target(Figure("q", "n", "ms", Sample.of([1]), Sample.of([1]), target=1.1))
    'at most 1.1 times'
    """
    words = []
    if figure.target is not None:
        bound = "at least" if figure.higher_is_better else "at most"
        words.append(f"{bound} {figure.target:g} {figure.unit if figure.absolute else 'times'}")
    if figure.target_p99 is not None:
        words.append(f"p99 at most {figure.target_p99:g} {figure.unit}")
    return ", ".join(words)


def verdict(figure: Figure) -> str:
    """Whether the target is met."""
    return {True: "yes", False: "NO", None: ""}[figure.is_met]


def table(columns: list[str], rows: list[list[str]]) -> str:
    """Columns side by side; all but the first are aligned to the right."""
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]

    def line(cells: list[str]) -> str:
        first, *rest = (
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join([first, *rest]).rstrip()

    return "\n".join(line(cells) for cells in [columns, *rows])


def terminal(figures: list[Figure]) -> str:
    """The figures as a table for the terminal."""
    columns = ["", "p50", "tail", "unit", "ratio", "target", "met"]
    rows = []
    for f in figures:
        cells = [number(f.ours.median), tail(f, f.ours), f.unit]
        rows.append([f.name, *cells, ratio(f), target(f), verdict(f)])
        for name, peer in f.peers.items():
            rows.append([f"    {name}", number(peer.median), tail(f, peer), "", "", "", ""])
    return table(columns, rows)
