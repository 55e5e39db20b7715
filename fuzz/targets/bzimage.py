"""bzImage kernels: the setup header of an untrusted file."""

from __future__ import annotations

from pyrovm.abi.bootparam import XLF_KERNEL_64, setup_header
from pyrovm.boot import bzimage


def one_input(data: bytes) -> None:
    """Either a named error, or a kernel that lies in the file."""
    # Half a kilobyte of boot sector has no meaning: it is left out of the input.
    file = bytes(bzimage.HEADER_OFFSET) + data

    def read_at(offset: int, size: int) -> bytes:
        assert offset >= 0
        assert 0 <= size <= 4096
        return file[offset : offset + size]

    try:
        image = bzimage.parse(read_at, len(file))
    except bzimage.BzImageError:
        return
    assert image.offset >= 1024
    assert image.offset + image.size == len(file)
    assert image.size >= bzimage.ENTRY_64
    assert image.end(0x10_0000) >= 0x10_0000 + image.size
    assert len(bytes(image.header)) == setup_header.SIZE


def kernel(**fields: int) -> bytes:
    """A bzImage from its setup header on, with a kernel of 1024 bytes."""
    header = setup_header()
    header.boot_flag = bzimage.BOOT_FLAG
    header.header = bzimage.HEADER_MAGIC
    header.version = bzimage.MIN_VERSION
    header.xloadflags = XLF_KERNEL_64
    header.setup_sects = 1
    header.jump = 0x6AEB
    for name, value in fields.items():
        setattr(header, name, value)
    return bytes(header) + bytes(2048 + 512 - bzimage.HEADER_OFFSET - setup_header.SIZE)


SEEDS = [
    kernel(),
    kernel(jump=0x20EB),
    kernel(setup_sects=0),
    kernel(init_size=1 << 20, pref_address=1 << 24),
]
