"""The library OS's files, compiled for the host with sanitizers, and the same calls by Linux."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LIBOS = HERE.parents[2] / "src" / "pyrovm" / "libos"
SANITIZED = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
FLAGS = ["-std=gnu11", "-Wall", "-Wextra", "-ffreestanding", "-DLIBOS_ON_HOST"]


def compile_objects(folder: Path, sources: list[Path], flags: list[str]) -> list[str]:
    folder.mkdir()
    command = ["gcc", *FLAGS, *flags, "-c", *map(str, sources)]
    subprocess.run(command, cwd=folder, check=True, timeout=120)
    return sorted(map(str, folder.glob("*.o")))


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the programs driver (the library OS's calls), native (Linux's) and damage."""
    for needed in ("gcc", "mkfs.erofs"):
        if not shutil.which(needed):
            pytest.skip(f"{needed} is not installed")
    folder = tmp_path_factory.mktemp("libos")
    parts = [*(LIBOS / "fs").glob("*.c"), *LIBOS.glob("socket*.c"), HERE / "harness.c"]
    library = compile_objects(folder / "library", parts, SANITIZED)
    for name in ("driver", "damage"):
        main = compile_objects(folder / f"{name}.o", [HERE / f"{name}.c"], SANITIZED)
        link = ["gcc", "-fsanitize=address,undefined", *library, *main, "-o", str(folder / name)]
        subprocess.run(link, check=True, timeout=120)
    native = compile_objects(folder / "native.o", [HERE / "driver.c"], ["-O1", "-DNATIVE"])
    subprocess.run(["gcc", *native, "-o", str(folder / "native")], check=True, timeout=120)
    return folder


class Calls:
    """Runs scripts of system calls (see driver.c) over a folder's contents."""

    def __init__(self, programs: Path, scratch: Path) -> None:
        self._programs = programs
        self._scratch = scratch
        self._environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}

    def image(self, tree: Path, *options: str) -> Path:
        image = self._scratch / "image.erofs"
        image.unlink(missing_ok=True)
        command = ["mkfs.erofs", "--quiet", "-x-1", "--all-root", *options, str(image), str(tree)]
        subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL)
        return image

    def library_os(self, image: Path, lines: list[str], folder: str = "/") -> list[str]:
        command = [str(self._programs / "driver"), str(image), folder]
        return self._run(command, lines, self._scratch)

    def linux(self, folder: Path, lines: list[str]) -> list[str]:
        return self._run([str(self._programs / "native")], lines, folder)

    def damage(self, image: Path, times: int, seed: int) -> list[int]:
        command = [str(self._programs / "damage"), str(image), str(times), str(seed)]
        return [int(word) for word in self._run(command, [], self._scratch)[0].split()]

    def _run(self, command: list[str], lines: list[str], folder: Path) -> list[str]:
        done = subprocess.run(
            command,
            input="\n".join(lines),
            cwd=folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()


@pytest.fixture
def calls(programs: Path, tmp_path: Path) -> Calls:
    return Calls(programs, tmp_path)
