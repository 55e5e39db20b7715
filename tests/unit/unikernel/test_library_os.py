"""The header of the library OS's file is checked before anything is mapped by it."""

import pytest

from pyrovm.abi import libos as abi
from pyrovm.errors import HostError
from pyrovm.unikernel import library_os

GOOD = {
    "magic": abi.PV_HEADER_MAGIC,
    "version": abi.PV_VERSION,
    "text_end": 0x1000,
    "rodata_end": 0x2000,
    "data_end": 0x3000,
    "bss_end": 0x4000,
}


def file_with(**fields):
    data = bytearray(0x3000)
    header = abi.pv_header(data)
    for name, value in {**GOOD, **fields}.items():
        setattr(header, name, value)
    data[0x2000:0x2004] = b"init"
    return bytes(data)


def test_a_good_header_is_taken():
    header = library_os.Header(file_with(entry=0x1234))
    assert header.entry == 0x1234
    assert header.data.startswith(b"init")
    assert len(header.data) == 0x1000


@pytest.mark.parametrize(
    "fields",
    [
        {"magic": 1},
        {"version": 99},
        {"text_end": 0},
        {"text_end": 0x1001},
        {"rodata_end": 0},
        {"data_end": 0x2000},
        {"data_end": 0x4000},
        {"bss_end": 0x2000},
        {"bss_end": 1 << 40},
    ],
)
def test_a_damaged_header_is_refused(fields):
    with pytest.raises(HostError, match="library OS"):
        library_os.Header(file_with(**fields))


def test_a_short_file_is_refused():
    with pytest.raises(HostError, match="10 bytes"):
        library_os.Header(b"x" * 10)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(HostError, match="no-such"):
        library_os.open_file(str(tmp_path / "no-such"))


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "empty"
    path.touch()
    with pytest.raises(HostError, match="0 bytes"):
        library_os.open_file(str(path))
