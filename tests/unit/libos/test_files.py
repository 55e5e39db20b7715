"""The library OS's tree of files, compared with Linux's, and with the folder an image is of."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .script import comparable, content, entries, sequence

if TYPE_CHECKING:
    from .conftest import Calls

SIZES = (0, 1, 100, 4095, 4096, 4097, 8191, 8192, 70_000)


def make_small_tree(folder: Path) -> None:
    (folder / "d").mkdir(parents=True)
    (folder / "a").write_bytes(b"hello\n")
    (folder / "l").symlink_to("a")
    os.link(folder / "a", folder / "h")
    (folder / "d" / "big").write_bytes(random.Random(1).randbytes(10_000))


@pytest.mark.parametrize("seed", range(20))
def test_random_operations_give_what_linux_gives(calls: Calls, tmp_path: Path, seed: int) -> None:
    tree = tmp_path / "tree"
    make_small_tree(tree / "up" / "here")
    image = calls.image(tree)
    lines = sequence(seed, 200)
    ours = calls.library_os(image, lines, "/up/here")
    linux = calls.linux(tree / "up" / "here", lines)
    for number, (line, mine, other) in enumerate(zip(lines, ours, linux, strict=True)):
        assert comparable(line, mine) == comparable(line, other), (number, line)


def make_large_tree(folder: Path) -> dict[str, bytes | str]:
    """Files of many sizes, a folder of several blocks, long names, links."""
    random_ = random.Random(2)
    made: dict[str, bytes | str] = {}
    (folder / "many").mkdir(parents=True)
    (folder / "deep" / "er").mkdir(parents=True)
    for size in SIZES:
        made[f"deep/size{size}"] = random_.randbytes(size)
    for number in range(700):
        made[f"many/{'x' * (number % 200)}{number}"] = str(number).encode()
    made["deep/er/" + "n" * 254] = b"a long name"
    made["ünïcode"] = b"bytes"
    for name, data in made.items():
        (folder / name).write_bytes(bytes(data, "utf8") if isinstance(data, str) else data)
    for name, target in {"link": "deep/size1", "deep/up": "../many", "long": "y" * 3000}.items():
        (folder / name).symlink_to(target)
        made[name] = target
    return made


@pytest.mark.parametrize("form", ["force-inode-compact", "force-inode-extended"])
def test_an_image_reads_back_as_the_folder_it_was_made_of(
    calls: Calls, tmp_path: Path, form: str
) -> None:
    tree = tmp_path / "tree"
    made = make_large_tree(tree)
    image = calls.image(tree, "-T0", f"-E{form}")
    # Descriptors are few: each is closed where it was read.
    lines: list[str] = []
    expected: list[tuple[int, bytes]] = []
    for name, value in made.items():
        if isinstance(value, str):
            expected.append((len(lines), value.encode()))
            lines.append(f'readlink "{name}" @4096 4096')
            continue
        opened = len(lines)
        room = len(value) + 9
        lines += [f'openat -100 "{name}" 0', f"read ${opened} @{room} {room}", f"close ${opened}"]
        expected.append((opened + 1, value))
    results = calls.library_os(image, lines)
    for number, data in expected:
        assert content(results[number]) == data, lines[number - 1][:80]


def test_a_large_folder_is_listed_in_parts(calls: Calls, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    made = make_large_tree(tree)
    lines = ['openat -100 "many" 0x10000', 'unlink "many/0"', 'mkdir "many/new" 0755']
    lines += ["getdents64 $0 @1000 1000"] * 300
    found: dict[str, int] = {}
    for result in calls.library_os(calls.image(tree), lines)[3:]:
        assert not found.keys() & entries(result).keys()
        found |= entries(result)
    names = {name.split("/")[1] for name in made if name.startswith("many/")} - {"0"}
    assert found.keys() == names | {".", "..", "new"}


@pytest.mark.parametrize("seed", range(1, 3))
def test_damaged_images_give_errors_and_nothing_worse(
    calls: Calls, tmp_path: Path, seed: int
) -> None:
    tree = tmp_path / "tree"
    make_small_tree(tree)
    (tree / "many").mkdir()
    for number in range(60):
        (tree / "many" / f"file{number:03}").write_bytes(b"x" * (number * 40))
    form = ("compact", "extended")[seed % 2]
    image = calls.image(tree, "-T0", f"-Eforce-inode-{form}")
    times, refused, damaged, seen = calls.damage(image, 1000, seed)
    assert times == 1000
    assert refused > 10
    assert damaged > 100
    assert seen > 10_000
