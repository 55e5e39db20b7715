"""What a kernel file is, by how it is linked and what headers it carries."""

from struct import pack_into

import pytest

from pyrovm.boot import loader
from pyrovm.boot.identify import identify
from tests.unit.boot import images
from tests.unit.boot.test_multiboot import elf32, header

TEXT = b"code" * 16


def linked(data, vaddr):
    """``data`` with the first segment linked to ``vaddr``."""
    raw = bytearray(data)
    pack_into("<Q", raw, images.EHDR + 16, vaddr)
    return bytes(raw)


def kind(data):
    found = identify(images.reader(data))
    return found.is_linux, found.protocol, found.takes_name


LINUX = (True, None, False)


@pytest.mark.parametrize(
    "data",
    [
        linked(images.elf([(0x1000000, TEXT, 64)]), 0xFFFFFFFF81000000),
        linked(images.elf([(0x1000000, TEXT, 64)], notes=images.pvh_note(1)), 0xFFFFFFFF81000000),
        images.bzimage(),
        b"",
        b"#!/bin/sh\n" * 100,
        b"\x7fELF",
        images.elf([(0x100000, TEXT, 64)], bits=1),
        images.elf([(0x100000, TEXT, 64)], machine=183),
        images.elf([(0x100000, TEXT, 64)], phnum=0),
        images.elf([], notes=images.pvh_note(1)),
        elf32(0x100000, TEXT, 64),  # an ELF32 kernel without a multiboot header
    ],
)
def test_linux_and_whatever_only_its_loader_can_judge(data):
    assert kind(data) == LINUX


def test_a_kernel_linked_to_low_addresses_is_not_linux():
    plain = linked(images.elf([(0x100000, TEXT, 64)]), 0x100000)
    assert kind(plain) == (False, loader.LINUX64, True)
    pvh = linked(images.elf([(0x100000, TEXT, 64)], notes=images.pvh_note(0x100000)), 0x100000)
    assert kind(pvh) == (False, loader.PVH, False)


def test_osv_is_started_the_linux_way_although_it_has_a_pvh_note_and_a_multiboot_header():
    data = images.elf([(0x200000, header() + TEXT, 128)], notes=images.pvh_note(0x200000))
    assert kind(linked(data, 0x40200000)) == (False, loader.LINUX64, False)


@pytest.mark.parametrize(
    "data",
    [
        elf32(0x100000, header() + TEXT, 128),
        images.elf([(0x100000, header() + TEXT, 128)], machine=3),
        linked(images.elf([(0x100000, header() + TEXT, 128)]), 0x100000),
    ],
)
def test_a_multiboot_kernel_is_known_by_its_header(data):
    assert kind(data) == (False, loader.MULTIBOOT, True)
