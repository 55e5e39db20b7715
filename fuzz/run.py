"""Fuzz one target or all of them.

    python fuzz/run.py TARGET|all [--seconds N] [--corpus DIR] [--engine auto|atheris|random]
    python fuzz/run.py TARGET --reproduce FILE

Uses atheris where it is installed (``pip install -e .[fuzz]``), else a plain mutator.  Exits 1 if
anything failed; the inputs are in fuzz/findings then.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":  # started as a script: the packages are found from the root
    sys.path[:1] = [str(ROOT), str(ROOT / "src")]

from fuzz import corpus, random_engine, targets  # noqa: E402
from fuzz.findings import FOLDER  # noqa: E402
from fuzz.trace import minimised  # noqa: E402

GRACE_SECONDS = 60  # for the engine to start and to stop


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("target", choices=["all", *targets.names()])
    parser.add_argument("--seconds", type=float, default=10.0, help="for each target")
    parser.add_argument("--corpus", type=Path, default=ROOT / "fuzz" / "corpus")
    parser.add_argument("--engine", choices=["auto", "atheris", "random"], default="auto")
    parser.add_argument("--seed", type=int, help="of the plain mutator")
    parser.add_argument("--reproduce", type=Path, metavar="FILE", help="run this input only")
    options = parser.parse_args()
    if options.reproduce is not None:
        targets.load(options.target).one_input(options.reproduce.read_bytes())
        print(f"{options.target}: nothing wrong with {options.reproduce}")
        return 0
    has_atheris = importlib.util.find_spec("atheris") is not None
    engine = options.engine
    if engine == "auto":
        engine = "atheris" if has_atheris else "random"
    names = targets.names() if options.target == "all" else [options.target]
    failed = False
    for name in names:
        before = _findings(name)
        tried, kept, added = _fuzz(name, engine, options)
        found = len(_findings(name) - before)
        failed |= bool(found)
        print(
            f"{name:16} {engine}: {tried:>9} inputs, corpus {kept:>4} (+{added}), {found} findings",
            flush=True,
        )
    return int(failed)


def _findings(target: str) -> set[str]:
    folder = FOLDER / target
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _fuzz(name: str, engine: str, options: argparse.Namespace) -> tuple[int, int, int]:
    """Inputs tried, inputs in the corpus now, how many of them are new."""
    target = targets.load(name)
    folder: Path = options.corpus / name
    known = corpus.load(folder)
    seeds = targets.seeds(target)
    if engine == "atheris":
        tried, inputs = _run_atheris(name, [*seeds, *known], options.seconds)
    else:
        tried, inputs = random_engine.fuzz(
            name,
            target.one_input,
            [*seeds, *known],
            options.seconds,
            targets.words(target),
            options.seed,
        )
    kept = [
        data for data in minimised(target.one_input, [*seeds, *known, *inputs]) if data not in seeds
    ]
    corpus.replace(folder, kept)
    return tried, len(kept), len(set(kept) - set(known))


def _run_atheris(name: str, inputs: list[bytes], seconds: float) -> tuple[int, list[bytes]]:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as work:
        folder = Path(work)
        corpus.replace(folder, inputs)
        process = subprocess.run(
            [sys.executable, "-m", "fuzz.atheris_engine", name, work, str(max(1, round(seconds)))],
            cwd=ROOT,
            env={"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "PYTHONDONTWRITEBYTECODE": "1"},
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=seconds + GRACE_SECONDS,
        )
        count = re.search(r"number_of_executed_units: (\d+)", process.stderr)
        if process.returncode or count is None or "Traceback" in process.stderr:
            print(process.stderr.partition("###### Recommended")[0], file=sys.stderr)
        if count is None:
            raise SystemExit(f"{name}: the engine ended with {process.returncode}")
        return int(count[1]), corpus.load(folder)


if __name__ == "__main__":
    started = time.monotonic()
    status = main()
    print(f"{time.monotonic() - started:.0f} s")
    sys.exit(status)
