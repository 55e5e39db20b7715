"""What is read from the lab kernel's account and from /proc, on real lines of both."""

import subprocess

import pytest

from pyrovm.bench.inside.exits import count
from pyrovm.bench.inside.tracing import Event, init_reached, parse_event
from pyrovm.bench.smaps import Mapping, family, outside_guest, parse_smaps

TRACE = """\
# tracer: nop
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
       fc_vcpu 0-112     [000] ..... 12.000100: kvm_exit: vcpu 0 reason io rip 0xffffffff8 info1 0
       fc_vcpu 0-112     [000] ..... 12.000120: kvm_pio: pio_write at 0x70 size 1 count 1 val 0xa
       fc_vcpu 0-112     [000] ..... 12.000130: kvm_userspace_exit: reason KVM_EXIT_IO (2)
       fc_vcpu 0-112     [000] ..... 12.000200: kvm_exit: vcpu 0 reason io rip 0xffffffff8 info1 1
       fc_vcpu 0-112     [000] ..... 12.000230: kvm_userspace_exit: reason KVM_EXIT_IO (2)
       fc_vcpu 0-112     [000] ..... 12.000240: kvm_pio: pio_read at 0x71 size 1 count 1 val 0x26
       fc_vcpu 0-112     [000] ..... 12.000300: kvm_exit: vcpu 0 reason npf rip 0xffffffff8 info1 d
       fc_vcpu 0-112     [000] ..... 12.000320: kvm_mmio: mmio write len 4 gpa 0xc0001070 val 0x1
       fc_vcpu 0-112     [000] ..... 12.000330: kvm_userspace_exit: reason KVM_EXIT_MMIO (6)
       fc_vcpu 0-112     [000] ..... 12.000400: kvm_exit: vcpu 0 reason npf rip 0xffffffff8 info1 d
       fc_vcpu 0-112     [000] ..... 12.000410: kvm_mmio: mmio unsatisfied-read len 4 gpa 0xc0001044
       fc_vcpu 0-112     [000] ..... 12.000420: kvm_userspace_exit: reason KVM_EXIT_MMIO (6)
       fc_vcpu 0-112     [000] ..... 12.000500: kvm_userspace_exit: reason restart (4)
       fc_vcpu 0-112     [000] ..... 12.000600: kvm_hypercall: nr 0x70797276 a0 0x0 a1 0x0 a2 0x0
       fc_vcpu 0-112     [000] ..... 12.000700: kvm_userspace_exit: reason KVM_EXIT_SHUTDOWN (8)
"""

SMAPS = """\
5600-5700 r-xp 00000000 08:01 42                         /usr/bin/python3
Size:               2048 kB
Pss:                 700 kB
Private_Clean:        12 kB
Private_Dirty:         0 kB
VmFlags: rd ex mr mw me
7f00-7f80 rw-p 00000000 00:00 0
Size:             131072 kB
Pss:               90000 kB
Private_Clean:         0 kB
Private_Dirty:     90000 kB
Private_Hugetlb:       0 kB
7f90-7f91 rw-p 00000000 00:00 0                          [heap]
Size:               4096 kB
Pss:                3000 kB
Private_Clean:         4 kB
Private_Dirty:      2996 kB
"""


def events():
    return [event for line in TRACE.splitlines() if (event := parse_event(line))]


def test_an_event_has_the_kernels_time_its_name_and_its_text():
    first = events()[0]
    assert (first.ns, first.name) == (12_000_100_000, "kvm_exit")
    assert first.text.startswith("vcpu 0 reason io")
    assert parse_event("# tracer: nop") is None


def test_exits_are_counted_by_what_was_accessed_until_init():
    assert count(events()) == {
        ("IO", "write 0x70"): 1,
        ("IO", "read 0x71"): 1,
        ("MMIO", "write 0xc0001070"): 1,
        ("MMIO", "read 0xc0001044"): 1,
        ("restart", ""): 1,
    }


def test_init_is_reached_with_its_hypercall():
    assert init_reached(events()) == 12_000_600_000
    with pytest.raises(LookupError, match="has not been reached"):
        init_reached([Event(1, "kvm_pio", "")])


def test_a_process_mappings_tell_what_is_its_own():
    assert list(parse_smaps(SMAPS.splitlines(keepends=True))) == [
        Mapping(2048, 12, 700),
        Mapping(131072, 90000, 90000),
        Mapping(4096, 3000, 3000),
    ]


def test_the_guests_memory_is_left_out_and_must_be_there():
    mappings = list(parse_smaps(SMAPS.splitlines()))
    assert [m.size_kib for m in outside_guest(mappings, 128 << 10)] == [2048, 4096]
    with pytest.raises(LookupError, match="0 mappings"):
        outside_guest(mappings, 256 << 10)


def test_a_family_is_a_process_with_its_children_and_theirs():
    with subprocess.Popen(
        ["sh", "-c", "sh -c 'echo here; read x'; true"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as shell:
        shell.stdout.readline()
        assert len(family(shell.pid)) == 2
        shell.stdin.close()
