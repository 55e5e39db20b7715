"""The eight hypercalls: answers in the guest's block, and pointers that are never believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.errors import GuestError
from pyrovm.solo5 import hypercalls as hc
from tests.unit.solo5.fakes import BLOCK_AT, DATA_AT, SIZE, Disk, FakeHost, Guest, Port

BLOCK, NET = "<QQQQi", "<QQQi"


@pytest.fixture
def guest():
    return Guest()


@pytest.fixture
def host():
    return FakeHost()


def serve(guest, host, blocks=(), nets=()):
    return hc.Hypercalls(guest.window, dict(blocks), dict(nets), host)


def test_walltime(guest, host):
    assert serve(guest, host).call(hc.WALLTIME, BLOCK_AT)
    assert guest.get("<Q") == (1_700_000_000_123_456_789,)


def test_puts_writes_exactly_what_it_is_pointed_to(guest, host):
    guest.memory.write(DATA_AT, b"hello, world")
    assert serve(guest, host).call(hc.PUTS, guest.put("<QQ", DATA_AT, 5))
    assert host.console == b"hello"


def test_puts_may_read_what_the_guest_may_read(guest, host):
    calls = serve(guest, host)
    calls.call(hc.PUTS, guest.put("<QQ", 0x10000, 3))  # the command line is there
    calls.call(hc.PUTS, guest.put("<QQ", 0x100000, 3))  # text and constants
    assert host.console == bytes(6)


def test_poll_tells_which_handles_are_ready(guest, host):
    host.ready = [2, 5]
    assert serve(guest, host).call(hc.POLL, guest.put("<QQi", 12345, 0, -1))
    assert guest.get("<QQi") == (12345, 1 << 2 | 1 << 5, 2)
    assert host.waits == [12345]


def test_halt_gives_the_status_and_ends_the_guest(guest, host):
    calls = serve(guest, host)
    assert not calls.call(hc.HALT, guest.put("<Qi", 0, -1))
    assert calls.exit_status == -1


def test_a_disk_is_read_and_written(guest, host):
    disk = Disk()
    disk.data[512:516] = b"disk"
    calls = serve(guest, host, blocks={1: disk})
    assert calls.call(hc.BLOCK_READ, guest.put(BLOCK, 1, 512, DATA_AT, 1024, -1))
    assert guest.get(BLOCK) == (1, 512, DATA_AT, 1024, hc.OK)
    assert guest.memory.read(DATA_AT, 4) == b"disk"
    assert calls.call(hc.BLOCK_WRITE, guest.put(BLOCK, 1, 4096 - 512, DATA_AT, 512, -1))
    assert guest.get(BLOCK)[4] == hc.OK
    assert disk.data[-512:-508] == b"disk"


@pytest.mark.parametrize("number", [hc.BLOCK_READ, hc.BLOCK_WRITE])
@pytest.mark.parametrize(
    ("handle", "offset", "size"),
    [(0, 0, 512), (2, 0, 512), (1 << 63, 0, 512), (1, 4096, 0), (1, 4096, 512), (1, 3584, 1024),
     (1, 1 << 63, 512), (1, 512, (1 << 64) - 512)],
)  # fmt: skip
def test_a_range_that_the_disk_has_not_is_einval_and_touches_nothing(
    guest, host, number, handle, offset, size
):
    disk = Disk()
    guest.memory.write(DATA_AT, b"x" * 512)
    calls = serve(guest, host, blocks={1: disk})
    assert calls.call(number, guest.put(BLOCK, handle, offset, DATA_AT, size, -1))
    assert guest.get(BLOCK)[4] == hc.EINVAL
    assert disk.data == bytes(4096)
    assert guest.memory.read(DATA_AT, 512) == b"x" * 512


@pytest.mark.parametrize("number", [hc.BLOCK_READ, hc.BLOCK_WRITE])
def test_a_disk_that_fails_is_eunspec(guest, host, number):
    calls = serve(guest, host, blocks={1: Disk(fails=True)})
    calls.call(number, guest.put(BLOCK, 1, 0, DATA_AT, 512, -1))
    assert guest.get(BLOCK)[4] == hc.EUNSPEC


def test_frames_are_sent_and_received_and_their_size_is_told(guest, host):
    port = Port([b"frame one", b"two"])
    calls = serve(guest, host, nets={3: port})
    calls.call(hc.NET_READ, guest.put(NET, 3, DATA_AT, 1500, -1))
    assert guest.get(NET) == (3, DATA_AT, 9, hc.OK)
    assert guest.memory.read(DATA_AT, 9) == b"frame one"
    calls.call(hc.NET_WRITE, guest.put(NET, 3, DATA_AT, 5, -1))
    assert guest.get(NET)[3] == hc.OK
    assert port.sent == [b"frame"]


def test_no_frame_and_no_room_are_again(guest, host):
    calls = serve(guest, host, nets={3: Port(room=0)})
    for number in (hc.NET_READ, hc.NET_WRITE):
        calls.call(number, guest.put(NET, 3, DATA_AT, 100, -1))
        assert guest.get(NET)[3] == hc.AGAIN


def test_an_unknown_network_handle_is_einval(guest, host):
    calls = serve(guest, host, nets={3: Port([b"x"])})
    for number in (hc.NET_READ, hc.NET_WRITE):
        calls.call(number, guest.put(NET, 4, DATA_AT, 100, -1))
        assert guest.get(NET)[3] == hc.EINVAL


# --------------------------------------------------------------- pointers


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("gpa", [SIZE - 7, SIZE, 0xFFFF_FFFF])
def test_an_argument_block_outside_of_memory_ends_the_guest(guest, host, number, gpa):
    calls = serve(guest, host, blocks={1: Disk()}, nets={2: Port()})
    with pytest.raises(GuestError, match=f"the pointer {gpa:#x} to"):
        calls.call(number, gpa)


@pytest.mark.parametrize(
    "number",
    [hc.WALLTIME, hc.POLL, hc.BLOCK_READ, hc.BLOCK_WRITE, hc.NET_READ, hc.NET_WRITE],
)
@pytest.mark.parametrize("gpa", [0x2000, 0x10000, 0xFFFFF, 0x100000, 0x100FFF])
def test_answers_go_only_where_the_guest_could_write(guest, host, number, gpa):
    calls = serve(guest, host, blocks={1: Disk()}, nets={2: Port([b"x"])})
    before = guest.memory.read(0, 0x101000)
    with pytest.raises(GuestError, match=f"the pointer {gpa:#x} for an answer"):
        calls.call(number, gpa)
    assert guest.memory.read(0, 0x101000) == before


@pytest.mark.parametrize(
    ("pointer", "size"),
    [(SIZE - 1, 2), (SIZE, 1), (1 << 63, 64), ((1 << 64) - 1, 64), (DATA_AT, (1 << 64) - 1)],
)
def test_data_outside_of_memory_ends_the_guest(guest, host, pointer, size):
    disk = Disk()
    disk.capacity = 1 << 70
    calls = serve(guest, host, blocks={1: disk}, nets={2: Port([b"x"])})
    for number, block in (
        (hc.PUTS, guest.put("<QQ", pointer, size)),
        (hc.BLOCK_READ, guest.put(BLOCK, 1, 0, pointer, size, 0, at=BLOCK_AT + 64)),
        (hc.BLOCK_WRITE, BLOCK_AT + 64),
        (hc.NET_READ, guest.put(NET, 2, pointer, size, 0, at=BLOCK_AT + 128)),
        (hc.NET_WRITE, BLOCK_AT + 128),
    ):
        with pytest.raises(GuestError, match=f"the pointer {pointer:#x} to {size:#x} bytes"):
            calls.call(number, block)


def test_a_halt_cookie_must_be_readable(guest, host):
    calls = serve(guest, host)
    with pytest.raises(GuestError, match="to 0x200 bytes"):
        calls.call(hc.HALT, guest.put("<Qi", SIZE - 511, 0))
    assert not calls.call(hc.HALT, guest.put("<Qi", SIZE - 512, 0))


@pytest.mark.parametrize("number", [0, 9, 4, 5, 6, 7])
def test_a_call_that_does_not_exist_ends_the_guest(guest, host, number):
    with pytest.raises(GuestError, match=f"Invalid guest hypercall: num={number}"):
        serve(guest, host).call(number, BLOCK_AT)


@given(
    number=st.integers(0, 10),
    gpa=st.one_of(st.integers(0, SIZE + 64), st.just(BLOCK_AT)),
    words=st.lists(
        st.one_of(
            st.integers(0, 5), st.integers(SIZE - 4096, SIZE + 4096), st.integers(0, 2**64 - 1)
        ),
        min_size=5,
        max_size=5,
    ),
)
def test_whatever_a_guest_asks_it_reaches_only_its_own_memory(number, gpa, words):
    guest, host, disk = Guest(), FakeHost(), Disk()
    guest.put("<5Q", *words)
    text = guest.memory.read(0x100000, 0x1000)
    calls = serve(guest, host, blocks={1: disk}, nets={2: Port([b"f" * 99])})
    try:
        calls.call(number, gpa)
    except GuestError:
        pass
    assert guest.memory.read(0x100000, 0x1000) == text
    assert guest.memory.read(SIZE, 0x10000) == bytes(0x10000)
