"""The kernel inside a bzImage: found by its setup header and unpacked to an ELF file.

Since boot protocol 2.08 the header says where the compressed kernel lies
(Documentation/arch/x86/boot.rst, ``payload_offset``); its own first bytes say how it was packed.
"""

from __future__ import annotations

import gzip
import lzma

from pyrovm.abi.bootparam import setup_header
from pyrovm.boot import bzimage
from pyrovm.errors import ConfigError
from pyrovm.guest import programs

_ELF = b"\x7fELF"


def compressed(image: bytes) -> bytes:
    """The compressed kernel inside a bzImage, without the length that follows it.

    Raises:
        ConfigError: it is no bzImage, or its header points outside of it.
    """
    parsed = bzimage.parse(lambda offset, size: image[offset : offset + size], len(image))
    header: setup_header = parsed.header
    begin = parsed.offset + header.payload_offset
    end = begin + header.payload_length
    if not header.payload_length or end > len(image):
        raise ConfigError(f"bzImage: payload {begin:#x}..{end:#x} of {len(image):#x} bytes")
    return image[begin:end]


def extract(image: bytes) -> bytes:
    """The ELF kernel inside a bzImage.

    Raises:
        ConfigError: not a bzImage, or packed in a way that is not known.
        Unsupported: the program that unpacks this form is not there.
    """
    data = compressed(image)
    kernel = _unpack(data)
    if not kernel.startswith(_ELF):
        raise ConfigError(f"bzImage: what it contains is no ELF file ({kernel[:4].hex()})")
    return kernel


def _unpack(data: bytes) -> bytes:
    # The payload ends with the unpacked size, 4 bytes: what unpacks must stop before it.
    if data.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(data)
    if data.startswith(b"\x1f\x8b"):
        return gzip.decompress(data[:-4])
    if data.startswith(b"\x28\xb5\x2f\xfd"):
        (zstd,) = programs.require("zstd")
        return programs.run(zstd, "-dcq", stdin=data[:-4])
    if data.startswith(b"\x02\x21\x4c\x18"):  # the legacy frame of lz4
        (lz4,) = programs.require("lz4")
        return programs.run(lz4, "-dcq", stdin=data[:-4])
    if data.startswith(_ELF):
        return data
    raise ConfigError(f"bzImage: unknown compression (begins with {data[:6].hex()})")
