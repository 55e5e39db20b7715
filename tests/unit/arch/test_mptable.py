"""The MP table, read back the way an operating system reads it."""

from struct import unpack_from

from hypothesis import given
from hypothesis import strategies as st

from pyrovm.arch.x86 import layout, mptable
from pyrovm.arch.x86.system_memory import SystemMemory
from pyrovm.memory.guest_memory import GuestMemory, Region

vcpu_counts = st.integers(1, 32)
SIZES = {0: 20, 1: 8, 2: 8, 3: 8, 4: 8}


def written(vcpu_count):
    memory = GuestMemory([Region(0, memoryview(bytearray(1 << 20)))])
    gpa = mptable.write(memory, SystemMemory(), vcpu_count)
    return memory, gpa


def entries(memory, vcpu_count):
    pointer = memory.read(layout.SYSTEM_MEMORY, 16)
    table_gpa = unpack_from("<I", pointer, 4)[0]
    length, count = (
        unpack_from("<H", memory.read(table_gpa, 44), 4)[0],
        unpack_from("<H", memory.read(table_gpa, 44), 34)[0],
    )
    table, found, at = memory.read(table_gpa, length), [], 44
    for _ in range(count):
        size = SIZES[table[at]]
        found.append(table[at : at + size])
        at += size
    assert at == length
    return found


@given(vcpu_counts)
def test_pointer_and_table_are_found_and_sum_to_zero(vcpu_count):
    memory, gpa = written(vcpu_count)
    assert gpa == layout.SYSTEM_MEMORY
    pointer = memory.read(gpa, 16)
    assert pointer[:4] == b"_MP_"
    assert pointer[8:10] == b"\x01\x04"
    assert sum(pointer) & 0xFF == 0
    table_gpa = unpack_from("<I", pointer, 4)[0]
    header = memory.read(table_gpa, 44)
    assert header[:4] == b"PCMP"
    assert header[8:28] == b"FC      000000000000"
    assert unpack_from("<I", header, 36)[0] == layout.LAPIC
    assert sum(memory.read(table_gpa, unpack_from("<H", header, 4)[0])) & 0xFF == 0
    assert len(mptable.build(gpa, vcpu_count)) == mptable.size(vcpu_count)


@given(vcpu_counts)
def test_every_vcpu_has_its_apic_and_the_first_boots(vcpu_count):
    memory, _ = written(vcpu_count)
    cpus = [e for e in entries(memory, vcpu_count) if e[0] == mptable.PROCESSOR]
    assert [cpu[1] for cpu in cpus] == list(range(vcpu_count))
    assert [cpu[3] for cpu in cpus] == [3] + [1] * (vcpu_count - 1)
    assert {cpu[2] for cpu in cpus} == {0x14}
    assert {unpack_from("<II", cpu, 4) for cpu in cpus} == {(0x600, 0x201)}


@given(vcpu_counts)
def test_24_interrupts_of_one_isa_bus_go_to_the_ioapic_one_to_one(vcpu_count):
    memory, _ = written(vcpu_count)
    found = entries(memory, vcpu_count)
    ((_, bus_id, *_),) = [e for e in found if e[0] == mptable.BUS]
    (ioapic,) = [e for e in found if e[0] == mptable.IO_APIC]
    assert ioapic[1] == vcpu_count + 1
    assert unpack_from("<I", ioapic, 4)[0] == layout.IOAPIC
    sources = [e for e in found if e[0] == mptable.IO_INTERRUPT]
    assert [(e[1], e[4], e[5], e[6], e[7]) for e in sources] == [
        (mptable.INT, bus_id, gsi, vcpu_count + 1, gsi) for gsi in range(24)
    ]


def test_lint0_is_the_pic_and_lint1_the_nmi_of_all():
    memory, _ = written(2)
    local = [e for e in entries(memory, 2) if e[0] == mptable.LOCAL_INTERRUPT]
    assert [(e[1], e[6], e[7]) for e in local] == [
        (mptable.EXTINT, 0, 0),
        (mptable.NMI, mptable.ALL_APICS, 1),
    ]
