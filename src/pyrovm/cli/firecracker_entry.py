"""The installed command ``pyrovm-firecracker``: by the launcher where one runs, else here."""

from __future__ import annotations

import sys

from pyrovm.launcher import place


def main() -> int:
    """Run the program; its exit code."""
    words = sys.argv[1:]
    if place.is_wanted():
        from pyrovm.launcher import environment, stub

        status = stub.run("firecracker", words, environment.FIRECRACKER)
        if status is not None:
            return status
    from pyrovm.cli import firecracker

    return firecracker.main(words)


if __name__ == "__main__":
    sys.exit(main())
