import contextlib
import shutil
import stat
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.errors import ConfigError
from pyrovm.guest.cpio import Entry, pack, unpack

names = st.text("abc/.-_é", min_size=1, max_size=20).filter(lambda name: name != "TRAILER!!!")
modes = st.sampled_from(
    [stat.S_IFREG | 0o644, stat.S_IFREG | 0o755, stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777]
)
entries = st.lists(
    st.builds(
        Entry,
        names,
        modes,
        st.binary(max_size=40),
        st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    ),
    max_size=6,
)


@given(entries)
def test_what_was_packed_is_unpacked(files):
    archive = pack(files)
    assert list(unpack(archive)) == files
    assert len(archive) % 4 == 0


@given(entries)
def test_the_same_entries_make_the_same_bytes(files):
    assert pack(files) == pack(list(files))


@given(st.binary(max_size=300))
def test_any_bytes_are_entries_or_a_named_error(data):
    with contextlib.suppress(ConfigError):
        assert all(isinstance(entry, Entry) for entry in unpack(data))


@given(entries.filter(bool), st.data())
def test_an_archive_cut_short_is_refused(files, data):
    archive = pack(files)
    trailer = archive.rindex(b"070701")
    cut = data.draw(st.integers(0, trailer))
    with pytest.raises(ConfigError):
        list(unpack(archive[:cut]))


@pytest.mark.skipif(not shutil.which("cpio"), reason="the cpio program is not installed")
def test_cpio_reads_it():
    archive = pack([Entry("d", stat.S_IFDIR | 0o755), Entry("d/f", stat.S_IFREG | 0o600, b"12345")])
    listing = subprocess.run(["cpio", "-tv"], input=archive, capture_output=True, check=True).stdout
    folder, file = listing.decode().splitlines()
    assert folder.startswith("drwxr-xr-x   2 root     root            0 ")
    assert folder.endswith(" d")
    assert file.startswith("-rw-------   1 root     root            5 ")
    assert file.endswith(" d/f")
