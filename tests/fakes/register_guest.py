"""A guest that carries out a list of register and memory accesses: runs on any kind of KVM.

The kernel is 62 bytes of 32-bit code behind a PVH entry, which walks a table of steps::

    kind 1   store ``value`` at ``address``, ``count`` times      (virtio registers, rings)
    kind 2   wait until a word at ``address`` has one of the bits of ``value``
    kind 3   print the character ``value`` on the serial port
    kind 0   halt for ever
"""

from __future__ import annotations

import sys
from pathlib import Path
from struct import pack

from pyrovm import MicroVM
from pyrovm.abi import virtio as v
from pyrovm.arch.x86.layout import VIRTIO_MMIO, VIRTIO_MMIO_SIZE
from tests.unit.boot.images import elf, pvh_note

ENTRY, TABLE = 0x10_0000, 0x10_1000
CODE = bytes.fromhex(
    "be 00101000"  # mov esi, TABLE
    "8b06 8b7e04 8b5e08 8b4e0c 83c610"  # next: eax, edi, ebx, ecx = the step; esi to the next one
    "83f801 740d 83f802 740f 83f803 7412"  # cmp eax, 1; je store; 2; je wait; 3; je print
    "f4 ebfd"  # halt: hlt; jmp halt
    "891f 49 75fb ebd9"  # store: mov [edi], ebx; dec ecx; jnz store; jmp next
    "8b07 21d8 74fa ebd1"  # wait: mov eax, [edi]; and eax, ebx; jz wait; jmp next
    "88d8 baf8030000 ee ebc7"  # print: mov al, bl; mov edx, 0x3f8; out dx, al; jmp next
)
# The program that the SDK starts, for KVMs on which Linux cannot run as well.
VMM = (
    "import sys; sys.path.insert(0, {root!r}); from pyrovm.machine.assembly import Assembler; "
    "Assembler.__init__.__kwdefaults__['require_linux'] = False; "
    "from pyrovm.cli.firecracker import main; sys.exit(main())"
)
QUEUE_SIZE = 16
DESC, AVAIL, USED, BUFFER = 0x20_0000, 0x20_1000, 0x20_2000, 0x30_0000


def store(address, value, count=1):
    """Write a 32-bit word, over and over."""
    return pack("<4I", 1, address, value & 0xFFFF_FFFF, count)


def wait(address, mask):
    """Look at a word until one of the bits in ``mask`` is set."""
    return pack("<4I", 2, address, mask, 0)


def say(text):
    """Print ``text``."""
    return b"".join(pack("<4I", 3, 0, ord(letter), 0) for letter in text)


def window(slot):
    """Where the registers of the ``slot``-th device are."""
    return VIRTIO_MMIO + slot * VIRTIO_MMIO_SIZE


def bring_up(base, desc=DESC, avail=AVAIL, used=USED, size=QUEUE_SIZE):
    """A driver's steps up to DRIVER_OK, with one queue."""
    steps = [(v.VIRTIO_MMIO_STATUS, 0), (v.VIRTIO_MMIO_STATUS, 1), (v.VIRTIO_MMIO_STATUS, 3)]
    steps += [(v.VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1), (v.VIRTIO_MMIO_DRIVER_FEATURES, 1)]
    steps += [(v.VIRTIO_MMIO_STATUS, 11), (v.VIRTIO_MMIO_QUEUE_SEL, 0)]
    steps += [(v.VIRTIO_MMIO_QUEUE_NUM, size)]
    for register, address in (
        (v.VIRTIO_MMIO_QUEUE_DESC_LOW, desc),
        (v.VIRTIO_MMIO_QUEUE_AVAIL_LOW, avail),
        (v.VIRTIO_MMIO_QUEUE_USED_LOW, used),
    ):
        steps += [(register, address), (register + 4, address >> 32)]
    steps += [(v.VIRTIO_MMIO_QUEUE_READY, 1), (v.VIRTIO_MMIO_STATUS, 15)]
    return b"".join(store(base + register, value) for register, value in steps)


def descriptor(index, address, length, flags, following=0):
    """Steps that write a descriptor."""
    words = pack("<QIHH", address, length, flags, following)
    at = DESC + 16 * index
    return b"".join(
        store(at + offset, int.from_bytes(words[offset : offset + 4], "little"))
        for offset in range(0, 16, 4)
    )


def make_available(head, index=1):
    """Steps that put ``head`` into the first place of the available ring and set its index."""
    return store(AVAIL + 4, head) + store(AVAIL, index << 16)


def notify(base, queue=0, count=1):
    """Ring the bell."""
    return store(base + v.VIRTIO_MMIO_QUEUE_NOTIFY, queue, count)


def microvm(folder: Path, steps: bytes, code: bytes = CODE, **options) -> MicroVM:
    """A microVM, not started yet, that carries out ``steps``; ``options`` are its devices."""
    kernel = folder / "kernel"
    table = steps + bytes(16)
    segments = [(ENTRY, code, len(code)), (TABLE, table, len(table))]
    kernel.write_bytes(elf(segments, entry=ENTRY, notes=pvh_note(ENTRY)))
    root = str(Path(__file__).resolve().parents[2] / "src")
    vmm = [sys.executable, "-I", "-S", "-c", VMM.format(root=root)]
    return MicroVM(kernel, memory=32, vmm=vmm, **options)
