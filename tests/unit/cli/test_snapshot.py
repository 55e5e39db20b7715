"""``pyrovm snapshot``: what people and programs are told, and with which status."""

import json
import os
import signal
import subprocess
import sys

import pytest

from pyrovm.cli import main, snapshot
from pyrovm.host import facts, mapping
from pyrovm.snapshot import memory, pages, state
from pyrovm.snapshot.layout import Layout
from pyrovm.snapshot.memory import Source

PAGE = 4096
RANGES = [(0, 1 << 20), (1 << 32, 1 << 20)]
SIZE = 2 << 20


def save(folder, name, *numbers, kind="Full", vcpu=b"\0" * 16, guest=None):
    """A snapshot of a guest with something in these pages; its two paths."""
    guest = guest or mapping.anonymous(SIZE)
    for number in numbers:
        guest.view[number * PAGE : number * PAGE + PAGE] = bytes([number % 255 + 1]) * PAGE
    paths = str(folder / name), str(folder / f"{name}.mem")
    layout = Layout(RANGES, snapshot_type=kind)
    half = SIZE // 2
    sources = [
        Source(guest.view[:half], guest.address, 0),
        Source(guest.view[half:], guest.address + half, half),
    ]
    if kind == "Full":
        file = memory.prepare_full(paths[1], SIZE, sources)
    else:
        low = [(n * PAGE, n * PAGE + PAGE) for n in sorted(numbers) if n < 256]
        high = [(s - half, e - half) for s, e in pages.of_numbers(n for n in numbers if n >= 256)]
        file = memory.prepare_diff(paths[1], SIZE, sources, [low, high])
        layout.written = file.written
    layout.samples = file.samples()
    file.publish()
    sections = {
        "config": {"vcpu_count": 1, "name": "\x1b[2J"},
        "memory": layout.to_json(),
        "vm": {},
        "vcpu.0": {"regs": vcpu, "mp_state": 0},
        "devices": {"serial": [1, 2]},
    }
    state.write(paths[0], "machine", sections)
    return paths


def run(*words):
    return snapshot.main([str(word) for word in words])


def test_a_state_file_for_people(tmp_path, capsys):
    path, _ = save(tmp_path, "snap", 1)
    assert main.main(["snapshot", "inspect", path]) == 0
    said = capsys.readouterr().out
    for text in (
        "format   1.0.0, ",
        "a machine with 1 vCPU\n",
        "memory   2.0 MiB, Full, huge pages: None",
        "0x100000000 to 0x100100000: from 0x100000 of the file on",
        "vcpu.0     regs, mp_state",
    ):
        assert text in said


def test_a_state_file_for_programs(tmp_path, capsys):
    path, _ = save(tmp_path, "snap", 1, vcpu=b"\xab")
    assert run("inspect", path, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["version"], found["kind"]) == ("1.0.0", "machine")
    assert found["sections"]["vcpu.0"]["value"] == {"regs": {"$bytes": "ab"}, "mp_state": 0}
    assert run("inspect", path, "--section", "vcpu.0") == 0
    assert json.loads(capsys.readouterr().out) == {"regs": {"$bytes": "ab"}, "mp_state": 0}
    assert run("inspect", path, "--section", "none") == 1
    assert "no section 'none'; there are config, memory" in capsys.readouterr().err


def test_whole_files_are_verified(tmp_path, capsys):
    path, mem = save(tmp_path, "snap", 1, 2, 300)
    assert run("verify", path, mem) == 0
    said = capsys.readouterr().out
    assert "whole, 5 sections" in said
    assert "2.0 MiB as the state says, 12.0 KiB of it data" in said
    assert run("verify", path, mem, "--json") == 0
    assert json.loads(capsys.readouterr().out)["memory_data_bytes"] == 3 * PAGE


def test_swapped_damaged_and_missing_files_are_named(tmp_path, capsys):
    path, mem = save(tmp_path, "snap", 1)
    for words, problem in (
        ((mem,), "Magic value does not match arch"),
        ((path, path), "it is a state file"),
        ((path, tmp_path / "none"), "No such file or directory (os error 2)"),
    ):
        assert run("verify", *words) == 1
        assert problem in capsys.readouterr().err
    os.truncate(mem, SIZE - PAGE)
    assert run("verify", path, mem) == 1
    assert f"{mem} has {SIZE - PAGE} bytes; the state says {SIZE}" in capsys.readouterr().err
    os.truncate(path, os.path.getsize(path) - 1)
    assert run("verify", path, "--json") == 1
    assert "its head says" in json.loads(capsys.readouterr().out)["error"]


def test_a_diff_that_lost_its_pages_is_found(tmp_path, capsys):
    path, mem = save(tmp_path, "diff", *range(0, 80, 2), kind="Diff")
    assert run("verify", path, mem) == 0
    samples = dict(Layout.of(state.read(path)).samples)
    lost = next(n for n in range(0, 80, 2) if n * PAGE not in samples)
    with open(mem, "rb") as file:
        data = file.read()
    with open(mem, "wb") as file:
        file.truncate(SIZE)
        for number in range(0, 80, 2):
            if number != lost:
                os.pwrite(file.fileno(), data[number * PAGE :][:PAGE], number * PAGE)
    capsys.readouterr()
    assert run("verify", path, mem) == 1
    assert "holes where its state says that 1 pages were written" in capsys.readouterr().err
    os.truncate(mem, 0)
    os.truncate(mem, SIZE)
    assert run("verify", path, mem) == 1
    assert "is not the one that was saved" in capsys.readouterr().err


def test_two_snapshots_that_are_the_same_and_two_that_are_not(tmp_path, capsys):
    one = save(tmp_path, "one", 1, 2)
    same = save(tmp_path, "same", 1, 2)
    other = save(tmp_path, "other", 1, 256, 257, vcpu=b"\0" * 15 + b"\1")
    assert run("diff", one[0], same[0], "--memory", one[1], same[1]) == 0
    assert capsys.readouterr().out == ""
    assert run("diff", one[0], other[0], "--memory", one[1], other[1]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "vcpu.0.regs: 1 of 16 bytes, from 0xf on: 00 -> 01",
        "memory: 1 pages at 0x2000",
        "memory: 2 pages at 0x100000000",
    ]
    assert run("diff", one[0], other[0], "--memory", one[1], other[1], "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["state"][0]["where"] == "vcpu.0.regs"
    assert found["memory"] == [[2 * PAGE, 3 * PAGE], [256 * PAGE, 258 * PAGE]]
    assert run("diff", one[0], one[1]) == 2


def test_many_changes_are_cut_short(tmp_path, capsys):
    one, other = save(tmp_path, "one"), save(tmp_path, "other", *range(0, 120, 2))
    assert run("diff", one[0], other[0], "--memory", one[1], other[1]) == 1
    assert "memory: ... and 40 pages in 40 more places" in capsys.readouterr().out


@pytest.fixture
def chain(tmp_path):
    """A full snapshot, a diff after it, and what the guest's memory is then."""
    guest = mapping.anonymous(SIZE)
    base = save(tmp_path, "base", 1, 2, 3, guest=guest)
    guest.view[2 * PAGE : 3 * PAGE] = bytes(PAGE)
    diff = save(tmp_path, "diff", 7, 300, kind="Diff", guest=guest)
    guest.view[2 * PAGE : 3 * PAGE] = b"\3" * PAGE  # not in the diff: nobody said it was dirty
    return base, diff, bytes(guest.view)


def test_a_diff_is_merged_into_its_base(chain, capsys):
    base, diff, expected = chain
    assert run("verify", diff[0], diff[1]) == 0
    assert "pyrovm snapshot rebase" in capsys.readouterr().out
    assert run("rebase", base[1], diff[1]) == 0
    assert "8.0 KiB of" in capsys.readouterr().out
    with open(base[1], "rb") as file:
        assert file.read() == expected
    assert run("verify", diff[0], base[1]) == 0
    assert "remark" not in capsys.readouterr().out


def test_a_diff_is_merged_into_a_new_file(chain, tmp_path, capsys):
    base, diff, expected = chain
    with open(base[1], "rb") as file:
        before = file.read()
    merged = tmp_path / "merged"
    assert run("rebase", base[1], diff[1], "--output", merged, "--state", diff[0], "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "memory": str(merged),
        "merged_bytes": 2 * PAGE,
        "parts": 2,
    }
    assert merged.read_bytes() == expected
    with open(base[1], "rb") as file:
        assert file.read() == before


def test_a_diff_that_lost_its_holes_is_merged_by_its_state_only(chain, tmp_path, capsys):
    base, diff, expected = chain
    dense = tmp_path / "dense"
    with open(diff[1], "rb") as file:
        dense.write_bytes(file.read())
    assert run("rebase", base[1], dense) == 1
    assert "no holes; a copy that lost them" in capsys.readouterr().err
    assert run("rebase", base[1], dense, "--state", diff[0]) == 0
    with open(base[1], "rb") as file:
        assert file.read() == expected


def test_what_cannot_be_merged_is_refused(chain, tmp_path, capsys):
    base, diff, _ = chain
    (tmp_path / "short").write_bytes(bytes(PAGE))
    with open(base[1], "rb") as file:
        before = file.read()
    for words, problem in (
        ((tmp_path / "short", diff[1]), "not of one guest"),
        ((base[1], diff[0]), "a state file, not a memory file"),
        ((base[0], diff[1]), "a state file, not a memory file"),
        ((base[1], tmp_path / "none"), "No such file"),
        ((base[1], diff[1], "--state", base[0]), "of a full snapshot"),
        ((base[1], tmp_path / "short", "--state", diff[0]), "the state says"),
    ):
        assert run("rebase", *words) == 1
        assert problem in capsys.readouterr().err
    with open(base[1], "rb") as file:
        assert file.read() == before


@pytest.mark.skipif(facts.userfaultfd() != facts.OK, reason="no userfaultfd for this user")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serving_ends_with_a_signal_and_removes_its_socket(tmp_path, number):
    _, mem = save(tmp_path, "snap", 1)
    path = tmp_path / "sock"
    command = [sys.executable, "-m", "pyrovm.cli.main", "snapshot", "serve", mem, path]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert f"{mem} is served at {path}" in process.stderr.readline()
        assert path.is_socket()
        process.send_signal(number)
        assert process.wait(20) == 0
    assert not path.exists()


def test_serving_what_is_not_there_is_refused(tmp_path, capsys):
    assert run("serve", tmp_path / "none", tmp_path / "sock") == 1
    assert "none: No such file or directory" in capsys.readouterr().err
