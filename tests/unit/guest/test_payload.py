import gzip
import lzma
import shutil
import struct
import subprocess

import pytest

from pyrovm.abi.bootparam import XLF_KERNEL_64, setup_header
from pyrovm.errors import ConfigError
from pyrovm.guest import payload

ELF = b"\x7fELF" + bytes(range(256)) * 40


def bzimage(packed, *, payload_offset=0x400, length=None):
    """The least of a bzImage around a compressed kernel."""
    data = bytearray(512 * 5)
    header = setup_header()
    header.jump = 0x6A << 8 | 0xEB  # over the header: to its end, which says how long it is
    header.setup_sects = 4
    header.boot_flag = 0xAA55
    header.header = 0x53726448
    header.version = 0x020F
    header.xloadflags = XLF_KERNEL_64
    header.payload_offset = payload_offset
    header.payload_length = len(packed) if length is None else length
    raw = bytes(header)
    data[0x1F1 : 0x1F1 + len(raw)] = raw
    return bytes(data) + bytes(payload_offset) + packed


def with_size(packed):
    return packed + struct.pack("<I", len(ELF))


def test_xz_with_the_x86_filter_is_unpacked():
    filters = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2}]
    packed = lzma.compress(ELF, check=lzma.CHECK_CRC32, filters=filters)
    assert payload.extract(bzimage(with_size(packed))) == ELF


def test_gzip_is_unpacked():
    assert payload.extract(bzimage(with_size(gzip.compress(ELF)))) == ELF


def test_a_kernel_that_is_not_packed_is_taken_as_it_is():
    assert payload.extract(bzimage(ELF)) == ELF


@pytest.mark.parametrize(("program", "option"), [("zstd", "-q"), ("lz4", "-lq")])
def test_what_programs_pack_is_unpacked(program, option):
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    packed = subprocess.run([program, option, "-c"], input=ELF, capture_output=True, check=True)
    assert payload.extract(bzimage(with_size(packed.stdout))) == ELF


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (b"", "ends before"),
        (bytes(4096), "neither an ELF file nor a bzImage"),
        (bzimage(b"what is this?"), "unknown compression"),
        (bzimage(gzip.compress(b"no kernel") + b"1234"), "no ELF file"),
        (bzimage(ELF, length=len(ELF) + 1), "payload"),
        (bzimage(ELF, length=0), "payload"),
    ],
)
def test_what_is_no_kernel_is_refused(image, says):
    with pytest.raises(ConfigError, match=says):
        payload.extract(image)
