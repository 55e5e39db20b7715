"""Coverage-guided fuzzing of one target in a process of its own (libFuzzer never returns).

``python -m fuzz.atheris_engine TARGET FOLDER SECONDS``: new inputs go to FOLDER.
"""

from __future__ import annotations

import importlib
import sys

import atheris  # type: ignore[import-untyped]

from fuzz.findings import FOLDER, Findings
from fuzz.mutate import MAX_SIZE

INPUT_TIMEOUT = 20  # seconds for one input: more is a hang


def main() -> None:
    """Fuzz until the time is up."""
    target, folder, seconds = sys.argv[1:]
    with atheris.instrument_imports(include=["pyrovm"], enable_loader_override=False):
        module = importlib.import_module(f"fuzz.targets.{target}")
    findings = Findings(target)
    (FOLDER / target).mkdir(parents=True, exist_ok=True)
    arguments = [
        sys.argv[0],
        folder,
        f"-max_total_time={seconds}",
        f"-max_len={MAX_SIZE}",
        f"-timeout={INPUT_TIMEOUT}",
        f"-artifact_prefix={FOLDER / target}/",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
        "-verbosity=0",
    ]
    atheris.Setup(arguments, lambda data: findings.run(module.one_input, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
