"""The memory of programs' VMs: small ones stay small, large ones have pages of 2 MiB."""

import collections
import contextlib
import mmap
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import pyrovm
from pyrovm.guest import cache
from pyrovm.programs.helper import HELPERS
from tests.fakes import program_guest

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(program_guest.why_not() is not None, reason=str(program_guest.why_not())),
]
MIB = 1 << 20

SOURCE = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef CONSTANTS
__attribute__((aligned(4096))) const unsigned char constants[CONSTANTS] = {1};
#endif

int main(int argc, char **argv)
{
	size_t n = (size_t)atoi(argv[1]) << 10, wrong = 0;
	unsigned char *memory = n ? malloc(n) : 0, byte;

	for (size_t i = 0; i < n; i += 4096)
		memory[i] = (unsigned char)(i >> 12) ^ 0x5a;
	for (size_t i = 0; i < n; i += 4096)
		wrong += memory[i] != ((unsigned char)(i >> 12) ^ 0x5a) || memory[i + 1] != 0;
#ifdef CONSTANTS
	for (size_t i = 0; i < CONSTANTS; i += 4096)
		wrong += ((volatile const unsigned char *)constants)[i] != (i == 0);
#endif
	printf("%zu wrong\\n", wrong);
	fflush(stdout);
	return read(0, &byte, 1) != 0;
}
"""


@pytest.fixture(scope="module")
def filler(tmp_path_factory):
    return program_guest.compile_program(SOURCE, tmp_path_factory.mktemp("filler"), "musl-static")


def sizes_kib(pid, name):
    """The fields of /proc/PID/smaps, summed up over large mappings of that file, or of none."""
    text = Path(f"/proc/{pid}/smaps").read_text()
    total = collections.Counter()
    for block in re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", text)[1:]:
        fields = {key: int(kib) for key, kib in re.findall(r"(?m)^(\w+): +(\d+) kB", block)}
        path = "".join(block.partition("\n")[0].split()[5:])
        if fields["Size"] >= 2048 and (name in path if name else not path):
            total.update(fields)
    return total


@contextlib.contextmanager
def running(program, kib):
    """A VM whose program has filled so much and waits; the number of its process."""
    command = [sys.executable, "-m", "pyrovm.cli.main", "run", "--", str(program), str(kib)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=program_guest.environment(),
    ) as process:
        assert process.stdout.readline() == "0 wrong\n"
        yield process.pid
        process.stdin.close()
        assert process.wait(program_guest.TIMEOUT) == 0


def test_a_small_program_has_a_small_vm(filler):
    with running(filler, 0) as pid:
        ram = sizes_kib(pid, "")
    assert ram["Rss"] < 7 * 1024  # the heap of the VMM is among it
    assert ram["AnonHugePages"] == 0


def test_a_large_program_has_huge_pages(filler):
    with open("/sys/kernel/mm/transparent_hugepage/enabled") as file:
        if "[never]" in file.read():
            pytest.skip("this kernel gives no transparent huge pages")
    with running(filler, 64 << 10) as pid:
        ram = sizes_kib(pid, "")
    assert ram["AnonHugePages"] >= 32 * 1024
    assert 64 * 1024 <= ram["Rss"] < 72 * 1024


def test_all_of_a_small_memory_can_be_used(filler):
    # With the library OS's own, more than the 14 MiB that are above PV_RAM_HUGE.
    done = program_guest.run_vm(filler, "14000", options=("--memory", "16M"), input="")
    assert (done.returncode, done.stdout, done.stderr) == (0, "0 wrong\n", "")


def has_large_folios(folder):
    """Whether the file system keeps what is written in pieces of 2 MiB in pages of 2 MiB."""
    path = folder / f"folios-{os.getpid()}"
    try:
        path.write_bytes(bytes(4 * MIB))
        with (
            open(path, "rb") as file,
            mmap.mmap(
                file.fileno(), 4 * MIB, prot=mmap.PROT_READ, flags=mmap.MAP_PRIVATE
            ) as mapped,
        ):
            assert not any(mapped[at] for at in range(0, len(mapped), 4096))
            return sizes_kib("self", path.name)["FilePmdMapped"] > 0
    finally:
        path.unlink()


def test_a_large_image_is_mapped_in_huge_pages(tmp_path):
    if not has_large_folios(cache.folder("tests", "programs")):
        pytest.skip("the file system of the cache has no large folios")
    program = program_guest.compile_program(
        SOURCE, tmp_path, "musl-static", f"-DCONSTANTS={16 * MIB}"
    )
    with running(program, 0) as pid:
        image = sizes_kib(pid, ".erofs")
    assert image["FilePmdMapped"] >= 8 * 1024


def test_memory_that_was_given_ahead_goes_back_where_it_is_not_needed(filler, monkeypatch):
    monkeypatch.setenv("PYROVM_CACHE", program_guest.environment()["PYROVM_CACHE"])
    pyrovm.run([filler, "0"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    helper = Path(f"/proc/{HELPERS.pid}/task/{HELPERS.pid}/children")
    with ThreadPoolExecutor(1) as pool:
        gate, opened = os.pipe()
        output, written = os.pipe()
        pool.submit(pyrovm.run, [filler, "0"], stdin=gate, stdout=written)
        assert os.read(output, 100) == b"0 wrong\n"
        vm = helper.read_text().split()[0]
        assert sizes_kib(vm, "")["Rss"] < 6 * 1024
        assert sizes_kib(vm, "")["AnonHugePages"] == 0
        os.close(opened)
    for fd in (gate, output, written):
        os.close(fd)
