"""Linux's system calls, area by area: a program's lines are the same in a VM and as a process."""

import pytest

from tests.fakes import program_guest
from tests.fakes.deviations import DEVIATIONS
from tests.fakes.program_guest import compile_program, run_process, run_vm

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(program_guest.why_not() is not None, reason=str(program_guest.why_not())),
]

PROGRAMS = [
    *("attributes", "clocks", "copies", "descriptors", "directories", "epoll", "errors"),
    *("events", "fifos", "files", "filetimes", "futexes", "identity", "interfaces", "links"),
    *("locks", "mapping", "mqueues", "pipes", "policies", "polling", "procfiles", "ptys"),
    *("renaming", "sigcalls", "splicing", "system", "timers"),
]


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_case_has_the_same_result_in_a_vm(name, tmp_path):
    program = compile_program(name, tmp_path)
    folder = tmp_path / "empty"
    folder.mkdir()
    here = run_process(program, cwd=folder)
    there = run_vm(program, options=["-w", "/tmp"])
    assert (here.returncode, there.returncode) == (0, 0), there.stderr
    assert "NO" not in [line.rpartition(": ")[2] for line in here.stdout.splitlines()]
    assert there.stdout.splitlines() == expected(here.stdout, DEVIATIONS.get(name, {}))


def test_mapped_files_of_the_host_are_as_here_and_on_the_host_afterwards(tmp_path):
    program = compile_program("hostmap", tmp_path)
    folders = tmp_path / "here", tmp_path / "there"
    for folder in folders:
        folder.mkdir()
    here = run_process(program, cwd=folders[0])
    there = run_vm(program, options=["-v", f"{folders[1]}:/data", "-w", "/data"])
    assert here.returncode == there.returncode == 0, there.stderr
    assert there.stdout.splitlines() == here.stdout.splitlines()
    contents = [(folder / "mapped").read_bytes() for folder in folders]
    assert contents[0] == contents[1]
    assert b"at the end" in contents[1]


def expected(output, deviations):
    """The lines that the VM has to print where a process prints ``output``."""
    lines = []
    unused = set(deviations)
    for line in output.splitlines():
        case, _, result = line.partition(": ")
        answer = deviations.get(case, (result,))[0]
        if answer != result:
            unused.discard(case)
        lines.append(f"{case}: {answer}")
    assert not unused, "these are the same in a VM by now"
    return lines
