import os

import pytest

from pyrovm.backends.pmem_file import PmemFile
from pyrovm.errors import ConfigError, HostError

MIB = 1 << 20


def make(tmp_path, size, fill=b"\x5a"):
    path = tmp_path / "file"
    path.write_bytes(fill * size)
    return path


def test_nothing_is_opened_before_open_is_called():
    backing = PmemFile("/nonexistent/file")
    assert backing.size == 0
    with pytest.raises(HostError) as refused:
        backing.open()
    assert str(refused.value) == (
        "Cannot create pmem device: Error accessing backing file: "
        "No such file or directory (os error 2)"
    )


@pytest.mark.parametrize(
    ("file_size", "size"),
    [(1, 2 * MIB), (4097, 2 * MIB), (2 * MIB, 2 * MIB), (2 * MIB + 1, 4 * MIB)],
)
def test_the_mapping_is_padded_to_two_mib_of_zeroes(tmp_path, file_size, size):
    backing = PmemFile(str(make(tmp_path, file_size)))
    mapping = backing.open()
    assert backing.size == mapping.size == size
    assert backing.file_size == file_size
    assert mapping.address % (2 * MIB) == 0
    assert mapping.view[:file_size] == b"\x5a" * file_size
    assert mapping.view[file_size:] == bytes(size - file_size)
    backing.close()


def test_what_is_written_reaches_the_file_and_the_padding_does_not(tmp_path):
    path = make(tmp_path, 5000)
    backing = PmemFile(str(path))
    mapping = backing.open()
    mapping.view[100:105] = b"hello"
    mapping.view[2 * MIB - 1] = 7
    backing.flush()
    backing.close()
    data = path.read_bytes()
    assert len(data) == 5000
    assert data[100:105] == b"hello"


def test_a_read_only_file_is_mapped_without_permission_to_write(tmp_path):
    path = make(tmp_path, 4096)
    path.chmod(0o400)
    backing = PmemFile(str(path), read_only=True)
    mapping = backing.open()
    assert mapping.view[0] == 0x5A
    with open("/proc/self/maps") as maps:
        rights = next(line.split()[1] for line in maps if line.rstrip().endswith(str(path)))
    assert rights == "r--s"
    backing.flush()
    backing.close()


def test_changes_of_others_are_seen(tmp_path):
    path = make(tmp_path, 4096)
    backing = PmemFile(str(path), read_only=True)
    mapping = backing.open()
    with open(path, "r+b") as file:
        file.write(b"changed")
    assert mapping.view[:7] == b"changed"
    backing.close()


def test_an_empty_file_is_refused(tmp_path):
    backing = PmemFile(str(make(tmp_path, 0)))
    with pytest.raises(ConfigError, match=r"^Cannot create pmem device: .* size is 0$"):
        backing.open()


def test_a_pipe_is_refused_without_waiting_for_its_other_end(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="not a regular file"):
        PmemFile(str(path)).open()


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(HostError, match="Is a directory"):
        PmemFile(str(tmp_path)).open()


def test_closing_twice_does_no_harm_and_a_failed_open_leaves_nothing_open(tmp_path):
    before = os.listdir("/proc/self/fd")
    backing = PmemFile(str(make(tmp_path, 0)))
    with pytest.raises(ConfigError):
        backing.open()
    backing = PmemFile(str(make(tmp_path, 1)))
    backing.open()
    backing.close()
    backing.close()
    assert len(os.listdir("/proc/self/fd")) == len(before)
