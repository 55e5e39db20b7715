"""Records, descriptors in messages, and what is known of a caller."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.errors import HostError
from pyrovm.launcher import passing, record
from pyrovm.launcher.caller import Caller
from pyrovm.launcher.environment import reads

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), TEXT)))
def test_a_record_says_what_was_put_into_it(fields):
    wanted = {}
    for name, value in fields:
        wanted.setdefault(name, []).append(value)
    assert record.unpack(record.pack(fields, 1 << 20)) == wanted


@given(st.binary(max_size=200))
def test_any_bytes_are_some_record(data):
    for name, values in record.unpack(data).items():
        assert isinstance(name, str)
        assert all(isinstance(value, str) for value in values)


def test_what_cannot_be_in_a_record_is_named():
    with pytest.raises(ValueError, match=r"word: .* has a NUL byte"):
        record.pack([("word", "a\0b")], 100)
    with pytest.raises(ValueError, match="101 bytes of arguments and options; 100 are allowed"):
        record.pack([("w", "x" * 98)], 100)


@pytest.fixture
def pair():
    import _socket

    made = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    yield made
    for end in made:
        end.close()


def test_descriptors_arrive_as_others_of_the_same_file(pair, tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY)
    passing.send(pair[0], b"here", [fd, fd])
    data, fds = passing.receive(pair[1], 100, 2)
    assert data == b"here"
    assert len({fd, *fds}) == 3
    assert all(os.fstat(each) == os.fstat(fd) for each in fds)
    assert not any(os.get_inheritable(each) for each in fds)
    for each in (fd, *fds):
        os.close(each)


def test_more_descriptors_than_wanted_are_closed(pair):
    before = os.listdir("/proc/self/fd")
    passing.send(pair[0], b"here", [0, 1, 2])
    with pytest.raises(passing.TooMany, match="more than 1 descriptors"):
        passing.receive(pair[1], 100, 1)
    assert os.listdir("/proc/self/fd") == before


def test_a_child_of_ours_is_as_we_are():
    own = Caller(0)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        other = Caller(process.pid)
        assert own.difference(other) is None
        assert other.changes(own) == [("umask", f"{other.umask}")]
        process.communicate()
    with pytest.raises(HostError, match=f"process {process.pid} cannot be looked at"):
        Caller(process.pid)


def test_a_cgroup_counts_unless_it_is_left_out():
    own, other = Caller(0), Caller(0)
    other.shared["cgroup"] = b"0::/elsewhere\n"
    assert own.difference(other) == "cgroup"
    assert "cgroup" not in Caller(0, cgroup=False).shared


def test_variables_are_named_or_begin_with_a_name():
    assert reads(("TZ", "PYROVM_*"), "TZ")
    assert reads(("TZ", "PYROVM_*"), "PYROVM_CACHE")
    assert not reads(("TZ", "PYROVM_*"), "TZDIR")
    assert reads(("*",), "anything")
