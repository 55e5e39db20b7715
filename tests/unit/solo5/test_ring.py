"""The network ring: entries taken once, commits in order, indices that wrap, lies that end it."""

from struct import pack_into, unpack_from

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.errors import GuestError
from pyrovm.solo5 import hypercalls as hc
from pyrovm.solo5.ring import COMMITS, ENTRIES, READ, SIZE, SLOTS, WRITE, Ring
from tests.unit.solo5.fakes import DATA_AT, Guest, Port
from tests.unit.solo5.fakes import SIZE as MEMORY


class Driver:
    """The guest's side, as its bindings work."""

    def __init__(self, *, frames=(), start=0):
        self.guest = Guest()
        self.page = memoryview(bytearray(SIZE))
        self.port = Port(frames)
        self.barriers = 0
        self.ring = Ring(self.page, self.guest.window, {1: self.port}, self.count_barrier)
        self.ring._entry_head = self.ring._commit_tail = start
        self.tail = self.head = start
        self.put(0, start)
        self.put(4, start)
        self.put(68, start)

    def count_barrier(self):
        self.barriers += 1

    def put(self, at, value):
        pack_into("<I", self.page, at, value & 0xFFFFFFFF)

    def word(self, at):
        return unpack_from("<I", self.page, at)[0]

    def submit(self, operation, data=DATA_AT, size=100, handle=1, number=7):
        at = ENTRIES + self.tail % SLOTS * 32
        pack_into("<IIQII", self.page, at, operation, handle, data, size, number)
        self.tail = self.tail + 1 & 0xFFFFFFFF
        self.put(0, self.tail)

    def commits(self):
        found = []
        while self.head != self.word(68):
            found.append(unpack_from("<IiI", self.page, COMMITS + self.head % SLOTS * 16))
            self.head = self.head + 1 & 0xFFFFFFFF
        self.put(4, self.head)
        return found


def test_writes_are_sent_in_order_and_have_no_commit():
    driver = Driver()
    driver.guest.memory.write(DATA_AT, b"abcdef")
    driver.submit(WRITE, DATA_AT, 3)
    driver.submit(WRITE, DATA_AT + 3, 3)
    assert driver.ring.serve() == 2
    assert driver.port.sent == [b"abc", b"def"]
    assert driver.commits() == []
    assert driver.word(64) == 2, "the guest may use both slots again"


def test_reads_are_answered_with_a_frame_or_again():
    driver = Driver(frames=[b"frame"])
    driver.submit(READ, number=70)
    driver.submit(READ, number=71)
    driver.submit(READ, handle=5, number=72)
    driver.ring.serve()
    assert driver.commits() == [(70, hc.OK, 5), (71, hc.AGAIN, 0), (72, hc.EINVAL, 0)]
    assert driver.guest.memory.read(DATA_AT, 5) == b"frame"


def test_unknown_operations_and_handles_are_passed_over():
    driver = Driver()
    driver.submit(99)
    driver.submit(WRITE, handle=4)
    driver.submit(WRITE, size=1)
    assert driver.ring.serve() == 3
    assert driver.port.sent == [b"\0"]


def test_indices_run_through_32_bits():
    driver = Driver(frames=[b"%d" % n for n in range(20)], start=0xFFFFFFF8)
    for number in range(20):
        driver.submit(READ, number=number)
    driver.ring.serve()
    assert [commit[0] for commit in driver.commits()] == list(range(20))
    assert driver.word(64) == driver.word(68) == 12


def test_a_doorbell_is_asked_for_before_the_last_look():
    driver = Driver()
    assert driver.ring.is_idle()
    assert (driver.word(72), driver.barriers) == (1, 1)
    driver.ring.woken()
    assert driver.word(72) == 0
    driver.submit(WRITE)
    assert not driver.ring.is_idle()


@pytest.mark.parametrize("tail", [SLOTS + 1, 0xFFFFFFFF])
def test_more_entries_than_slots_end_the_guest(tail):
    driver = Driver()
    driver.put(0, tail)
    with pytest.raises(GuestError, match=f"{tail} entries between head 0 and tail {tail}, 1024"):
        driver.ring.serve()


def test_commits_that_are_never_read_end_the_guest():
    driver = Driver()
    for _ in range(SLOTS):
        driver.submit(READ)
    driver.ring.serve()
    driver.submit(READ)
    with pytest.raises(GuestError, match="1024 commits are unread, 1024 fit"):
        driver.ring.serve()


@pytest.mark.parametrize("data", [MEMORY, MEMORY - 99, 1 << 63])
@pytest.mark.parametrize("operation", [READ, WRITE])
def test_a_bad_pointer_ends_the_guest(data, operation):
    driver = Driver(frames=[b"f"])
    driver.submit(operation, data)
    with pytest.raises(GuestError, match=f"the pointer {data:#x}"):
        driver.ring.serve()


def test_what_the_guest_writes_to_the_hosts_words_is_not_believed():
    driver = Driver(frames=[b"a", b"b"])
    driver.submit(READ)
    driver.ring.serve()
    driver.put(64, 500)
    driver.put(68, 500)
    driver.submit(READ)
    assert driver.ring.serve() == 1
    assert (driver.word(64), driver.word(68)) == (2, 2)


@given(st.binary(max_size=400), st.integers(0, 2**32 - 1))
def test_any_entries_are_bounded_work_or_a_named_error(data, tail):
    driver = Driver(frames=[b"x" * 50])
    driver.page[ENTRIES : ENTRIES + len(data)] = data
    driver.put(0, tail % (SLOTS + 2))
    try:
        assert driver.ring.serve() <= SLOTS
    except GuestError:
        pass
    assert (driver.word(68) - driver.head) & 0xFFFFFFFF <= SLOTS
