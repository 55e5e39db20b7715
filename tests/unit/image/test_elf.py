import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.image import elf
from pyrovm.image.libraries import read_elf
from tests.unit.image import elves

NAMES = st.text(st.characters(codec="ascii", exclude_characters="\0:/"), min_size=1, max_size=12)


def parse(data):
    return elf.parse(lambda offset, size: data[offset : offset + size], len(data))


@given(
    needed=st.lists(NAMES, max_size=5),
    soname=st.none() | NAMES,
    runpath=st.lists(NAMES, max_size=3),
    interpreter=st.none() | NAMES.map("/{}".format),
)
def test_what_was_linked_in_is_read_back(needed, soname, runpath, interpreter):
    found = parse(
        elves.elf(needed=needed, soname=soname, runpath=":".join(runpath), interpreter=interpreter)
    )
    assert found.needed == tuple(needed)
    assert found.soname == soname
    assert found.runpath == tuple(runpath)
    assert found.rpath == ()
    assert found.interpreter == interpreter
    assert found.is_program == (interpreter is not None)


@given(
    st.binary(max_size=400)
    | st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=8)).map(
        lambda change: (
            (data := elves.elf(needed=["a", "b"], interpreter="/ld"))[: change[0]]
            + change[1]
            + data[change[0] + len(change[1]) :]
        )
    )
)
def test_a_damaged_file_is_refused_or_read_but_never_more(data):
    try:
        found = parse(data)
    except elf.ElfError:
        return
    assert all("\0" not in name for name in found.needed)


@given(st.integers(0, 10_000))
def test_a_truncated_file_is_refused(size):
    data = elves.elf(needed=["libc.so.6"], interpreter="/lib64/ld.so")
    with pytest.raises(elf.ElfError):
        parse(data[: size % len(data)])


def test_the_interpreter_that_runs_this_is_a_program():
    found = read_elf(Path(sys.executable).resolve())
    assert found.is_program


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"machine": 183}, "AArch64"),
        ({"machine": 3, "bits": 1}, "32-bit x86"),
        ({"machine": 62, "bits": 1}, "x32"),
        ({"machine": 0x1500, "order": 2}, "64-bit PowerPC"),
        ({"machine": 9999}, "machine number 9999"),
        ({"kind": 1}, "an object file"),
        ({"kind": 4}, "a core dump"),
        ({"interpreter": "ld.so"}, "no absolute path"),
    ],
)
def test_what_cannot_run_here_is_named(fields, said):
    with pytest.raises(elf.ElfError, match=said):
        parse(elves.elf(**fields))


def test_no_elf_file_at_all():
    with pytest.raises(elf.ElfError, match="no ELF file"):
        parse(b"#!/bin/sh\n")


def test_programs_that_move_are_told_from_libraries():
    assert parse(elves.elf(flags=elf.DF_1_PIE)).is_program
    assert parse(elves.elf(kind=elf.ET_EXEC)).is_program
    assert not parse(elves.elf()).is_program
