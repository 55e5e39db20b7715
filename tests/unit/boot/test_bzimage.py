"""bzImage kernels: only those with a 64-bit entry, and only if there is a kernel in them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.abi.bootparam import setup_header
from pyrovm.boot import bzimage
from tests.unit.boot import images


def parse(data):
    return bzimage.parse(images.reader(data), len(data))


@pytest.mark.parametrize(("sectors", "offset"), [(1, 1024), (30, 31 * 512), (0, 5 * 512)])
def test_the_kernel_lies_behind_the_setup_sectors(sectors, offset):
    image = parse(images.bzimage(b"k" * 0x400, sectors=sectors))
    assert (image.offset, image.size) == (offset, 0x400)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "ends before its setup header"),
        (bytes(0x26B), "ends before its setup header"),
        (bytes(0x1000), "neither an ELF file nor a bzImage"),
        (images.bzimage(magic=b"HdrX"), "neither an ELF file nor a bzImage"),
        (images.bzimage(boot_flag=0), "neither an ELF file nor a bzImage"),
        (images.bzimage(version=0x020B), "does not provide a 64-bit entry point"),
        (images.bzimage(xloadflags=0), "does not provide a 64-bit entry point"),
        (images.bzimage(b"k" * 0x1FF), "no kernel behind 1 setup sectors"),
        (images.bzimage(b"")[:0x400], "no kernel behind"),
    ],
)
def test_what_cannot_be_started_says_why(data, message):
    with pytest.raises(bzimage.BzImageError, match=message):
        parse(data)


def test_code_behind_a_short_header_is_not_taken_for_fields():
    data = bytearray(images.bzimage(jump=0x62))  # ends at 0x264, before handover_offset
    data[0x264:0x26C] = b"\xff" * 8
    header = parse(bytes(data)).header
    assert header.handover_offset == header.kernel_info_offset == 0
    assert header.init_size == 0x1000


@pytest.mark.parametrize(
    ("pref_address", "init_size", "end"),
    [
        (0x1000000, 0x3000000, 0x4000000),  # moves up to where it wants to be
        (0, 0x3000000, 0x3100000),
        (0, 0, 0x100400),  # at least the file itself
    ],
)
def test_a_kernel_needs_memory_up_to_where_it_unpacks_itself(pref_address, init_size, end):
    image = parse(images.bzimage(init_size=init_size, pref_address=pref_address))
    assert image.end(0x100000) == end


@given(st.binary(max_size=0x700), st.integers(0, 0x400))
def test_anything_is_parsed_or_refused(noise, at):
    data = bytearray(images.bzimage())
    data[at : at + len(noise)] = noise
    try:
        image = parse(bytes(data))
    except bzimage.BzImageError:
        return
    assert image.offset + image.size == len(data)
    assert image.size >= bzimage.ENTRY_64
    assert len(image.header.view) == setup_header.SIZE
