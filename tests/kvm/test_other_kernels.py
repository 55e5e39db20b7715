"""Kernels that are not Linux, one contract each, under ``pyrovm run`` on a KVM of any kind."""

import shutil
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from pyrovm.kvm.system import Kvm
from pyrovm.machine.probe import SOFTWARE, kvm_kind
from tests.fakes import kernel_guest

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to compile kernels with"),
]

TIMEOUT = 60


@pytest.fixture(scope="session")
def kernel(tmp_path_factory):
    """``kernel(name)``: the path of a compiled kernel."""
    folder = tmp_path_factory.mktemp("kernels")
    return lambda name: kernel_guest.build(name, folder)


def run(path, *options, status=0, command=()):
    """Run a kernel to its end: its lines as (word, rest), and standard error."""
    words = ["--kernel", path, "--memory", "16M", "--no-api", *options]
    if command:
        words += ["--", *command]
    done = subprocess.run(
        [sys.executable, "-m", "pyrovm.cli.main", "run", *map(str, words)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return [tuple(line.split(" ", 1)) for line in done.stdout.splitlines()], done.stderr


def regions(lines):
    """The memory map that a kernel was told."""
    numbers = [int(value) for word, value in lines if word in ("e820", "region")]
    sizes = [int(value) for word, value in lines if word in ("size", "length")]
    types = [int(value) for word, value in lines if word == "type"]
    return list(zip(numbers, sizes[-len(numbers) :], types, strict=True))


RAM = [(0, 0x9FC00, 1), (0x100000, 15 << 20, 1)]


@pytest.mark.parametrize("name", ["unikraft", "osv"])
def test_the_linux_protocol_as_unikernels_read_it(kernel, name):
    lines, errors = run(kernel(name), command=["one", "two"])
    found = dict(lines)
    line = "unikraft one two" if name == "unikraft" else "one two"
    assert errors == ""
    assert found["magic"] == "1"
    assert 0x3000 <= int(found["params"]) < 1 << 32
    assert found["cmdline"] == f"[{line}]"
    assert found["length"] == found["strlen"] == str(len(line)), "Unikraft takes it for exact"
    assert found["low"] == "0", "OSv puts its own records at 0x1000 and 0x2000"
    assert regions(lines) == RAM
    assert (found["rsdp"], found["tables"], found["initrd"]) == ("0", "0", "0")
    assert found["pci"] == "1", "nothing answers where PCI's configuration space would be"


def test_an_initrd_is_found(kernel, tmp_path):
    (tmp_path / "initrd").write_bytes(b"A" * 5000)
    found = dict(run(kernel("unikraft"), "--initrd", tmp_path / "initrd")[0])
    assert (found["initrd"], found["first"]) == ("5000", "65")


def test_acpi_is_a_switch(kernel):
    lines, _ = run(kernel("unikraft"), "--acpi")
    found = dict(lines)
    assert (found["rsdp"], found["tables"]) == (str(0xE0000), "1")
    assert regions(lines) == [
        RAM[0], (0x9FC00, 0x40400, 2), (0xEEC00000, 0x10000000, 2), RAM[1]
    ]  # fmt: skip
    assert regions(run(kernel("unikraft"), "--no-acpi")[0]) == RAM


def test_the_clock_of_a_pc_tells_the_date(kernel):
    before = datetime.now(UTC)
    found = dict(run(kernel("unikraft"))[0])
    after = datetime.now(UTC)
    told = tuple(int(found[word]) for word in ("year", "month", "hour"))
    assert told in [(now.year, now.month, now.hour) for now in (before, after)]


def test_cpuid_tells_the_frequency_and_kvms_clock(kernel):
    with Kvm() as kvm:
        vm = kvm.create_vm()
        vcpu = vm.create_vcpu(0)
        khz = vcpu.tsc_khz()
        vcpu.close()
        vm.close()
    found = dict(run(kernel("unikraft"), command=["cpu"])[0])
    assert int(found["leaves"]) >= 0x40000010
    assert int(found["khz"]) == khz
    assert (found["kvm"], found["kvmclock"], found["apic"]) == ("1", "1", "0")
    with open("/proc/cpuinfo") as cpuinfo:
        flags = cpuinfo.read()
    for feature in ("rdrand", "rdseed", "fsgsbase"):
        assert found[feature] == str(int(f" {feature} " in flags)), feature


def test_the_timers_interrupt_arrives_through_the_pic_and_an_untouched_local_apic(kernel):
    assert dict(run(kernel("unikraft"), command=["interrupt"])[0])["ticks"] == "1"


@pytest.mark.parametrize("name", ["unikraft", "multiboot"])
@pytest.mark.parametrize(
    ("way", "status", "message"),
    [
        ("reset", 0, ""),
        ("acpi", 0, ""),
        ("debug", 0, ""),
        ("crash", 1, "the machine ended by a fault: the guest left by the debug exit with 42"),
    ],
)
def test_each_way_to_end_ends_the_machine(kernel, name, way, status, message):
    _, errors = run(kernel(name), command=[f"end={way}"], status=status)
    assert message in errors
    assert bool(message) == bool(errors)


def test_the_multiboot_protocol(kernel, tmp_path):
    (tmp_path / "initrd").write_bytes(b"B" * 4097)
    lines, errors = run(kernel("multiboot"), "--initrd", tmp_path / "initrd", command=["one"])
    found = dict(lines)
    assert errors == ""
    assert [found[word] for word in ("magic", "protected", "paging", "interrupts")] == [*"1100"]
    assert found["cmdline"] == "[multiboot one]"
    assert found["loader"] == "[pyrovm]"
    assert found["lint0"] == str(0x700), "ExtINT, not masked"
    assert (found["lower"], found["upper"]) == ("639", str(15 << 10))
    assert (found["modules"], found["aligned"], found["first"]) == ("1", "1", "66")
    assert ("size", "4097") in lines
    assert regions(lines) == RAM


def test_devices_are_announced_before_the_programs_arguments(kernel, tmp_path):
    (tmp_path / "disk").write_bytes(bytes(4096))
    found = dict(run(kernel("multiboot"), "--drive", tmp_path / "disk", command=["arg"])[0])
    assert found["cmdline"] == "[multiboot virtio_mmio.device=4K@0xc0001000:5 -- arg]"
    assert (found["virtio"], found["version"], found["device"]) == ("1", "2", "2")


def test_a_disk_is_found_by_its_word_and_interrupts_through_the_pic(kernel, tmp_path):
    kernel_guest.write_disk(tmp_path / "disk")
    found = dict(run(kernel("virtio"), "--drive", tmp_path / "disk")[0])
    assert (found["address"], found["line"], found["version"]) == (str(0xC0001000), "5", "2")
    assert (found["reason"], found["used"], found["result"]) == ("1", "1", "0")
    assert found["sector"].split() == ["3"]


def test_a_kernel_can_be_started_in_another_way_than_it_asks_for(kernel):
    message = "the kernel has no PVH entry"
    assert message in run(kernel("unikraft"), "--boot", "pvh", status=1)[1]
    message = "no multiboot header in the first 8192 bytes"
    assert message in run(kernel("unikraft"), "--boot", "multiboot", status=1)[1]


def test_linux_is_refused_on_a_kvm_that_cannot_run_it(kernel):
    with Kvm() as kvm:
        if kvm_kind(kvm) != SOFTWARE:
            pytest.skip("this KVM can run Linux")
    _, errors = run(kernel("linux"), status=1)
    assert "Linux guests cannot run here" in errors
