"""Unikernels of other projects' kinds on a complete KVM: where ring 0 is not interpreted."""

import shutil

import pytest

from tests.fakes import kernel_guest, solo5_guest

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to compile guests with")

FAULT = "KVM: host/guest translation fault, rip=0x10"
BROKEN = {
    "null": "KVM: triple fault",
    "text": FAULT,
    "rodata": FAULT,
    "bootinfo": "KVM: triple fault",
    "beyond": "KVM: triple fault",
    "answer-in-text": "the guest passed the pointer 0x100000 for an answer: read-only memory",
    "port": "Invalid guest port access: port=0x3f8",
    "halt": "KVM: the guest halted, and nothing can wake it",
}


@pytest.fixture(scope="module")
def found(scenario, tmp_path_factory):
    """What all guests said, by name: (exit status, output as a dict, errors)."""
    folder = tmp_path_factory.mktemp("guests")
    images = [
        solo5_guest.build(name, folder)
        for name in ("hello", "sse", "state", "block", "time", "abuse", "net", "ring")
    ]
    images += [kernel_guest.build(name, folder) for name in kernel_guest.KERNELS]
    return scenario("unikernels", assets={image.name: image for image in images}, timeout=280)


def lines(found, name):
    """The numbers that a guest said, by their names; it ended well."""
    status, output, errors = found[name]
    assert (status, errors) == (0, ""), output
    return dict(line.rsplit(" ", 1) for line in output.splitlines() if " " in line)


def test_solo5_guests_run(found):
    assert "arguments [one two]" in found["hello"][1]
    assert lines(found, "sse") == {"pi": "31415"}
    state = lines(found, "state")
    assert (state["cr0"], state["cr4"], state["cs"]) == (str(0x80010031), str(0x620), "8")
    assert (state["bss"], state["interrupts"], state["info"]) == ("0", "0", str(0x10000))
    block = lines(found, "block")
    assert (block["many"], block["past the end"], block["overflow"]) == ("0", "2", "2")
    time = lines(found, "time")
    assert int(time["slept"]) >= 50
    assert abs(int(time["counted"]) - int(time["slept"])) <= 5 + int(time["slept"]) // 5


@pytest.mark.parametrize("rule", BROKEN)
def test_a_solo5_guest_that_breaks_a_rule_ends(found, rule):
    status, output, errors = found[f"abuse {rule}"]
    assert (status, output) == (1, "")
    assert BROKEN[rule] in errors


def test_frames_pass_over_a_tap_by_hypercalls_and_over_the_ring(found):
    net = lines(found, "net")
    assert (net["mtu"], net["sent"]) == ("1500", "0")
    assert found["net echoed"] == [60, 1514]
    assert lines(found, "ring")["feature"] == "1"
    assert found["ring echoed"] == [60, 1514] * 5


@pytest.mark.parametrize("name", ["unikraft", "osv"])
def test_the_linux_protocol_as_unikernels_read_it(found, name):
    kernel = lines(found, name)
    assert (kernel["magic"], kernel["low"], kernel["rsdp"]) == ("1", "0", "0")
    assert kernel["length"] == kernel["strlen"]
    assert (kernel["kvm"], kernel["kvmclock"], kernel["apic"]) == ("1", "1", "0")
    assert int(kernel["leaves"]) >= 0x40000010
    assert int(kernel["khz"]) > 100_000
    assert kernel["ticks"] == "1", "by the 8259 and a local APIC left alone"
    assert kernel["pci"] == "1"


def test_the_multiboot_protocol(found):
    kernel = lines(found, "multiboot")
    assert (kernel["magic"], kernel["protected"], kernel["paging"]) == ("1", "1", "0")
    assert (kernel["virtio"], kernel["version"], kernel["device"]) == ("1", "2", "2")
    assert kernel["lint0"] == str(0x700), "ExtINT, not masked"


def test_a_disk_is_found_by_its_word_and_interrupts_through_the_pic(found):
    kernel = lines(found, "virtio")
    assert (kernel["line"], kernel["version"], kernel["reason"]) == ("5", "2", "1")
    assert (kernel["used"], kernel["result"]) == ("1", "0")
    assert "sector 3" in found["virtio"][1]


def test_what_is_linux_finds_what_it_always_found(found):
    kernel = lines(found, "linux")
    assert "cmdline [cpu end=reset pci=off virtio_mmio.device=4K@0xc0001000:5" in found["linux"][1]
    assert kernel["leaves"] == str(0x40000001), "no leaf that Firecracker's guests do not have"
    assert (kernel["rsdp"], kernel["tables"]) == (str(0xE0000), "1")
