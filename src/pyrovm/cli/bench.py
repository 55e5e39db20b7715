"""``pyrovm bench``: measure pyrovm, and its peers on the same machine beside it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pyrovm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrovm.bench.results import Results


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 1 if a measurement failed; a target that is missed is a result."""
    from pyrovm.bench import questions
    from pyrovm.bench.runner import Runner

    options = _parser().parse_args(sys.argv[1:] if argv is None else argv)
    if options.list:
        print(_list())
        return 0
    if unknown := [name for name in options.question if name not in questions.NAMES]:
        known = ", ".join(questions.NAMES)
        raise ConfigError(f"no question {unknown[0]!r}; there are: {known}")
    if options.plots:
        from pyrovm.bench import plots

        plots.require()  # before anything is measured
    # What starts a VM does so by itself, unless the question is about the launcher.
    os.environ["PYROVM_LAUNCHER"] = "off"
    before = _read(options.json) if options.json else None
    order = [*questions.TOPICS, *questions.ALL]

    def keep(found: Results) -> None:
        if options.json:
            whole = found if before is None else before.merged(found, order)
            _write(options.json, whole)

    runner = Runner(quick=options.quick, peers=_peers(options.peers))
    results = runner.measure(questions.chosen(options.question), keep)
    if options.json:
        if before is not None and options.question:
            results = before.merged(results, order)
        _write(options.json, results)  # of a run of everything nothing older remains
    if options.plots:
        for path in plots.write(results, options.plots):
            runner.board.write(f"plotted: {path}")
    return 1 if runner.failed else 0


def _list() -> str:
    from pyrovm.bench import peers, questions

    lines = []
    for topic in questions.topics(questions.QUESTIONS):
        lines += [f"{topic.name}: {topic.heading}"]
        if topic.questions != [topic.name]:
            for name in topic.questions:
                on_demand = questions.ALL[name].on_demand
                lines.append(f"    {name}{' (only where it is named)' if on_demand else ''}")
    lines += ["", "peers:"]
    for peer in peers.ALL:
        state = (peer.version() or "there") if peer.is_there else f"not installed ({peer.hint})"
        lines.append(f"    {peer.name}: {state}")
    return "\n".join(lines)


def _read(path: Path) -> Results | None:
    """What earlier runs found out; this run takes the place of what it asks again."""
    from pyrovm.bench.results import Results

    try:
        return Results.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _write(path: Path, results: Results) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(results.dumps())
    part.rename(path)


def _peers(text: str | None) -> frozenset[str] | None:
    """The peers that ``--peers`` names: by their names, or by those of their programs."""
    from pyrovm.bench import peers

    if text is None:
        return None
    found = set()
    for word in filter(None, text.split(",")):
        if word == "none":
            continue
        names = [p.name for p in peers.ALL if word.lower() in (p.name.lower(), p.program, p.module)]
        if not names:
            known = ", ".join(peer.program or peer.module for peer in peers.ALL)
            raise ConfigError(f"--peers: no peer {word!r}; there are: {known}, none")
        found.update(names)
    return frozenset(found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyrovm bench",
        description="Measure pyrovm, and its peers on the same machine beside it.  What cannot be "
        "measured here is skipped, with the reason.  Exits 1 if a measurement failed; a target "
        "that is missed is a result.",
    )
    parser.add_argument(
        "question", nargs="*", help="what is asked, by question or topic; everything by default"
    )
    parser.add_argument("--list", action="store_true", help="say what can be asked, and of whom")
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="keep the results here; those of questions that were not asked stay as they are",
    )
    parser.add_argument(
        "--peers",
        metavar="NAME,...",
        help="compare with these only, or with none; by default with all that are installed",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a few rounds: to see it work, not to quote"
    )
    parser.add_argument(
        "--plots", type=Path, metavar="FOLDER", help="plot the results (needs pyrovm[bench])"
    )
    return parser
