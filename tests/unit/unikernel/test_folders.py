"""PV_FILE as a guest calls it: a folder of the host, and nothing outside of it."""

import os
import stat
from errno import EACCES, EBADF, EFAULT, EINVAL, ELOOP, ENAMETOOLONG, ENOENT, EROFS, EXDEV

import pytest

from pyrovm.abi import libos as abi
from pyrovm.errors import ConfigError, HostError
from pyrovm.unikernel.folders import Folders
from pyrovm.unikernel.share import Share
from tests.fakes.hypercalls import DATA_AT, RAM, Guest

O_RDWR_CREAT = os.O_RDWR | os.O_CREAT


class FolderGuest(Guest):
    def __init__(self, *texts):
        super().__init__()
        self.shares = [Share(text) for text in texts]
        Folders(self.calls, self.shares)

    def open(self, path, flags=os.O_RDONLY, mode=0, share=0):
        return self.file_call(abi.PV_FILE_OPEN, share, path, flags=flags, mode=mode)

    def close(self):
        super().close()
        for share in self.shares:
            share.close()


@pytest.fixture
def folder(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret").write_text("secret")
    (inside / "file").write_text("contents")
    (inside / "deep").mkdir()
    (inside / "absolute").symlink_to(tmp_path / "secret")
    (inside / "relative").symlink_to("../secret")
    (inside / "deep" / "up").symlink_to("../..")
    (inside / "fine").symlink_to("file")
    os.mkfifo(inside / "fifo")
    return inside


@pytest.fixture
def guest(folder):
    guest = FolderGuest(f"{folder}:/data", f"{folder}:/data-ro:ro")
    yield guest
    guest.close()


def test_a_file_is_read_and_written_by_its_handle(guest, folder):
    handle = guest.open(b"new", O_RDWR_CREAT, 0o666)
    guest.ram[DATA_AT : DATA_AT + 5] = b"hello"
    guest.ram[0x2000:0x2010] = DATA_AT.to_bytes(8, "little") + (5).to_bytes(8, "little")
    assert guest.call(abi.PV_WRITE, handle, 0x2000, 1, 3) == 5
    assert (folder / "new").read_bytes() == b"\0\0\0hello"
    assert guest.file_call(abi.PV_FILE_FSTAT, handle) == 0
    assert guest.stat.size == 8
    assert guest.file_call(abi.PV_FILE_TRUNCATE, handle, offset=4) == 0
    assert guest.file_call(abi.PV_FILE_SYNC, handle) == 0
    assert (folder / "new").read_bytes() == b"\0\0\0h"
    assert guest.call(abi.PV_CLOSE, handle) == 0
    assert guest.file_call(abi.PV_FILE_FSTAT, handle) == -EBADF


@pytest.mark.parametrize(
    ("path", "error"),
    [
        (b"../secret", EXDEV),
        (b"/etc/passwd", EXDEV),
        (b"deep/../../secret", EXDEV),
        (b"deep/up/secret", EXDEV),
        (b"absolute/x", EXDEV),
        (b"absolute", ELOOP),
        (b"relative", ELOOP),
        (b"fifo", EACCES),
        (b"none", ENOENT),
        (b"", ENOENT),
        (b"a\0b", EINVAL),
        (b"x" * 4096, ENAMETOOLONG),
        (b"x" * 256, ENAMETOOLONG),
    ],
)
def test_paths_that_lead_out_or_to_what_is_no_file_are_refused(guest, path, error):
    assert guest.open(path) == -error
    assert guest.open(path, O_RDWR_CREAT, 0o600) in (-error, -ENOENT) or path == b"none"


def test_every_operation_stays_within_the_folder(guest, folder):
    before = sorted(os.listdir(folder.parent))
    for operation in range(abi.PV_FILE_OPERATIONS):
        for path in (b"../secret", b"deep/up/secret", b"..", b".", b"deep/up/new", b"/secret"):
            for second in (b"deep/../../new", b"../new", b"file2"):
                guest.file_call(operation, 0, path, second, mode=0o777, gpa=DATA_AT, length=64)
    assert sorted(os.listdir(folder.parent)) == before
    assert (folder.parent / "secret").read_text() == "secret"
    assert b"secret" not in bytes(guest.ram[DATA_AT : DATA_AT + 64])


def test_names_are_made_changed_and_removed(guest, folder):
    call = guest.file_call
    assert call(abi.PV_FILE_MKDIR, 0, b"deep/er", mode=0o7755) == 0
    assert stat.S_IMODE((folder / "deep/er").stat().st_mode) & 0o7022 == 0
    assert call(abi.PV_FILE_RENAME, 0, b"file", b"deep/er/moved") == 0
    assert call(abi.PV_FILE_RENAME, 0, b"deep/er/moved", b"fine", flags=1) < 0  # NOREPLACE
    assert call(abi.PV_FILE_RENAME, 0, b"deep/er/moved", b"x", flags=8) == -EINVAL
    assert call(abi.PV_FILE_LINK, 0, b"deep/er/moved", b"second") == 0
    assert call(abi.PV_FILE_STAT, 0, b"second") == 0
    assert (guest.stat.nlink, guest.stat.size) == (2, 8)
    assert call(abi.PV_FILE_CHMOD, 0, b"second", mode=0o6644) == 0
    assert stat.S_IMODE((folder / "second").stat().st_mode) == 0o644
    assert call(abi.PV_FILE_UTIMENS, 0, b"second", atime_ns=5 * 10**9, mtime_ns=-7) == 0
    assert (folder / "second").stat().st_mtime_ns == -7
    assert call(abi.PV_FILE_SYMLINK, 0, b"deep/link", b"anything at all") == 0
    assert call(abi.PV_FILE_READLINK, 0, b"deep/link", gpa=DATA_AT, length=100) == 15
    assert bytes(guest.ram[DATA_AT : DATA_AT + 15]) == b"anything at all"
    assert call(abi.PV_FILE_READLINK, 0, b"deep/link", gpa=DATA_AT, length=3) == 3
    assert call(abi.PV_FILE_STAT, 0, b"deep/link") == 0
    assert stat.S_ISLNK(guest.stat.mode)
    assert call(abi.PV_FILE_UNLINK, 0, b"deep/er/moved") == 0
    assert call(abi.PV_FILE_UNLINK, 0, b"deep/er", flags=0x200) == 0
    assert sorted(os.listdir(folder / "deep")) == ["link", "up"]


def test_a_folder_is_listed_in_pieces(guest, folder):
    for number in range(200):
        (folder / f"name-{number}").touch()
    handle = guest.open(b".", os.O_DIRECTORY)
    names, offset = set(), 0
    while True:
        size = guest.file_call(abi.PV_FILE_READDIR, handle, offset=offset, gpa=DATA_AT, length=1000)
        assert size >= 0
        if not size:
            break
        at = DATA_AT
        while at < DATA_AT + size:
            offset = int.from_bytes(guest.ram[at + 8 : at + 16], "little")
            length = int.from_bytes(guest.ram[at + 16 : at + 18], "little")
            names.add(bytes(guest.ram[at + 19 : at + length]).split(b"\0")[0].decode())
            at += length
    assert names == {".", "..", *os.listdir(folder)}


def test_a_read_only_folder_is_not_changed(guest, folder):
    before = sorted(os.listdir(folder))
    for operation in range(abi.PV_FILE_OPERATIONS):
        guest.file_call(operation, 1, b"file", b"other", mode=0o777)
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC):
        assert guest.open(b"file", flags, share=1) == -EROFS
    assert guest.file_call(abi.PV_FILE_UNLINK, 1, b"file") == -EROFS
    assert sorted(os.listdir(folder)) == before
    assert (folder / "file").read_text() == "contents"


def test_arguments_that_are_out_of_bounds_are_errors(guest):
    size = abi.pv_file_args.SIZE
    assert guest.call(abi.PV_FILE, 1, 0, RAM - 8, size) == -EFAULT
    assert guest.call(abi.PV_FILE, 1, 0, 0x1000, size - 1) == -EINVAL
    assert guest.file_call(99, 0, b"file") == -EINVAL
    assert guest.file_call(abi.PV_FILE_STAT, 2, b"file") == -EBADF
    assert guest.file_call(abi.PV_FILE_STAT, 2**64 - 1, b"file") == -EBADF
    handle = guest.open(b".", os.O_DIRECTORY)
    for gpa, length, offset in ((RAM, 10, 0), (0, 10, 2**64 - 1), (0, 0, 0), (2**63, 99, 0)):
        found = guest.file_call(abi.PV_FILE_READDIR, handle, gpa=gpa, length=length, offset=offset)
        assert found < 0
    file = guest.open(b"file", os.O_RDWR)
    assert guest.file_call(abi.PV_FILE_TRUNCATE, file, offset=2**63) == -EINVAL
    assert guest.file_call(abi.PV_FILE_UTIMENS, 0, b"file", atime_ns=2**63 - 1) <= 0


@pytest.mark.parametrize(
    "text", ["", "/tmp", "/tmp:x", "/tmp:/", "/tmp:/a/../b", "/tmp:/a:rx", ":/a", "/tmp:/a//b"]
)
def test_a_malformed_folder_option_is_named(text):
    with pytest.raises(ConfigError, match="-v"):
        Share(text)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(HostError, match="none"):
        Share(f"{tmp_path}/none:/x")
