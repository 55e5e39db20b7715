"""The ACPI tables: every one reachable from the root, intact, and read by another's eyes (iasl)."""

import shutil
import subprocess
from itertools import pairwise
from struct import unpack_from

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrovm.arch.x86 import layout, mptable
from pyrovm.arch.x86.acpi import tables
from pyrovm.arch.x86.system_memory import SystemMemory
from pyrovm.devices import vmclock, vmgenid
from pyrovm.memory.guest_memory import GuestMemory, Region

VIRTIO = [(0xC0001000 + 0x1000 * i, 5 + i) for i in range(17)]


def build(vcpu_count=1, devices=3, *, pci=False, generation=True):
    memory = GuestMemory([Region(0, memoryview(bytearray(1 << 20)))])
    pool = SystemMemory()
    places = {}
    if generation:
        places = {
            "vmgenid": (vmgenid.place(pool), 5 + devices),
            "vmclock": (vmclock.place(pool), 6 + devices),
        }
    mptable.write(memory, pool, vcpu_count)
    tables.write(memory, pool, vcpu_count=vcpu_count, virtio=VIRTIO[:devices], pci=pci, **places)
    return memory


def read_table(memory, gpa):
    size = unpack_from("<I", memory.read(gpa, 8), 4)[0]
    return memory.read(gpa, size)


def walk(memory):
    """All tables by signature, as a guest finds them from the RSDP."""
    rsdp = memory.read(layout.RSDP, 36)
    assert rsdp[:8] == b"RSD PTR "
    assert sum(rsdp[:20]) & 0xFF == 0
    assert sum(rsdp) & 0xFF == 0
    xsdt = read_table(memory, unpack_from("<Q", rsdp, 24)[0])
    found = {"XSDT": xsdt}
    places = [(unpack_from("<Q", rsdp, 24)[0], len(xsdt))]
    for (gpa,) in (unpack_from("<Q", xsdt, at) for at in range(36, len(xsdt), 8)):
        raw = read_table(memory, gpa)
        found[raw[:4].decode()] = raw
        places.append((gpa, len(raw)))
    dsdt_gpa = unpack_from("<Q", found["FACP"], 140)[0]
    found["DSDT"] = read_table(memory, dsdt_gpa)
    places.append((dsdt_gpa, len(found["DSDT"])))
    return found, places


@settings(max_examples=40)
@given(st.integers(1, 32), st.integers(0, 17), st.booleans())
def test_any_machine_has_tables_that_sum_to_zero_inside_the_pool(vcpus, devices, pci):
    found, places = walk(build(vcpus, devices, pci=pci))
    assert set(found) == {"XSDT", "FACP", "APIC", "MCFG", "DSDT"}
    for raw in found.values():
        assert sum(raw) & 0xFF == 0
        assert raw[10:16] == b"FIRECK"
        assert raw[24:28] == bytes(4)
    spans = sorted((gpa, gpa + size) for gpa, size in places)
    assert spans[0][0] >= layout.SYSTEM_MEMORY + mptable.size(vcpus)
    assert spans[-1][1] <= 0xDE000
    assert all(a[1] <= b[0] for a, b in pairwise(spans))
    order = ["DSDT", "FACP", "APIC", "MCFG", "XSDT"]
    addresses = [gpa for gpa, _ in spans]
    assert [
        read_table(build(vcpus, devices, pci=pci), gpa)[:4].decode() for gpa in addresses
    ] == order


def test_table_ids_are_firecrackers():
    found, _ = walk(build())
    assert {name: raw[16:24] for name, raw in found.items()} == {
        "DSDT": b"FCVMDSDT",
        "FACP": b"FCVMFADT",
        "APIC": b"FCVMMADT",
        "MCFG": b"FCMVMCFG",
        "XSDT": b"FCMVXSDT",
    }


def test_the_fadt_says_hardware_reduced_and_no_vga():
    fadt = walk(build())[0]["FACP"]
    assert len(fadt) == 276
    assert (fadt[8], fadt[131]) == (6, 5)
    assert unpack_from("<I", fadt, 112)[0] == 1 << 20 | 1 << 5 | 1 << 4
    assert unpack_from("<H", fadt, 109)[0] == 4
    assert fadt[268:276] == b"FIRECKVM"
    assert unpack_from("<I", fadt, 40)[0] == 0  # the 64-bit DSDT pointer alone counts


@given(st.integers(1, 32))
def test_the_madt_lists_the_ioapic_and_then_every_vcpu(vcpu_count):
    madt = tables.build_madt(vcpu_count)
    assert unpack_from("<II", madt, 36) == (layout.LAPIC, 0)
    assert unpack_from("<BBBBII", madt, 44) == (1, 12, 0, 0, layout.IOAPIC, 0)
    cpus = [unpack_from("<BBBBI", madt, at) for at in range(56, len(madt), 8)]
    assert cpus == [(0, 8, i, i, 1) for i in range(vcpu_count)]


def test_the_mcfg_has_bus_0_even_without_pci():
    mcfg = walk(build(pci=False))[0]["MCFG"]
    assert unpack_from("<QHBB", mcfg, 44) == (layout.ECAM, 0, 0, 0)


def test_without_acpi_the_place_of_the_root_pointer_stays_empty():
    memory = GuestMemory([Region(0, memoryview(bytearray(1 << 20)))])
    mptable.write(memory, SystemMemory(), 1)
    assert memory.read(layout.RSDP, 36) == bytes(36)


def disassemble(tmp_path, name, raw):
    iasl = shutil.which("iasl")
    if iasl is None:
        pytest.skip("iasl not found; Debian has it in acpica-tools")
    (tmp_path / f"{name}.aml").write_bytes(raw)
    done = subprocess.run(
        [iasl, "-d", f"{name}.aml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr, (tmp_path / f"{name}.dsl").read_text()


@pytest.mark.parametrize("pci", [False, True])
def test_intels_disassembler_reads_the_devices_of_the_dsdt(tmp_path, pci):
    messages, text = disassemble(tmp_path, "dsdt", walk(build(devices=2, pci=pci))[0]["DSDT"])
    assert "Error" not in messages
    assert "Warning" not in messages
    for device in ("V000", "V001", "VGEN", "VCLK", "GED", "COM1", "PS2"):
        assert f"Device ({device})" in text
    assert ("Device (PC00)" in text) == pci
    for words in (
        'Name (_HID, "LNRO0005")',
        'Name (_HID, "VMGENCTR")',
        'Name (_CID, "VM_Gen_Counter")',
        'Name (_HID, "AMZNC10C")',
        'Name (_HID, "ACPI0013"',
        'Name (_HID, EisaId ("PNP0501")',
        'Name (_HID, EisaId ("PNP0303")',
        "Memory32Fixed (ReadWrite,",
        "Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive, ,, )",
        "Notify (\\_SB.VGEN, 0x80)",
        "Notify (\\_SB.VCLK, 0x80)",
    ):
        assert words in text


def test_the_disassembled_dsdt_compiles_to_the_same_bytes(tmp_path):
    raw = walk(build(devices=17, pci=True))[0]["DSDT"]
    _, text = disassemble(tmp_path, "dsdt", raw)
    # The compiler takes only ids that end in digits, which the generation id's is not.
    (tmp_path / "dsdt.dsl").write_text(text.replace("VMGENCTR", "VMGE0001"))
    raw = raw.replace(b"VMGENCTR", b"VMGE0001")
    done = subprocess.run(
        [shutil.which("iasl"), "-oa", "-p", "again", "dsdt.dsl"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "again.aml").read_bytes()[36:] == raw[36:]


@pytest.mark.parametrize("name", ["FACP", "APIC", "MCFG", "XSDT"])
def test_intels_disassembler_finds_no_fault_in_the_other_tables(tmp_path, name):
    messages, text = disassemble(tmp_path, name, walk(build(4))[0][name])
    assert "Error" not in messages
    assert "Invalid" not in text
    assert "Incorrect checksum" not in text
