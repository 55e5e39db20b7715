"""Pipes, event descriptors and the rest: fixed scripts, done by Linux and by the library OS."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Calls

NONBLOCK = 0x800
SCRIPTS = {
    "pipe": """
        pipe2 @8 0x800
        write 4 =616263 3
        read 3 @10 10
        read 3 @10 10
        fcntl 3 1032 0
        fcntl 4 1031 8192
        ioctl 3 0x541b @4
        close 3
        poll =0400000004000000 1 0
        """,
    "pipe, the writer gone": """
        pipe2 @8 0
        write 4 =6162 2
        close 4
        read 3 @10 10
        read 3 @10 10
        lseek 3 0 0
        pread64 3 @4 4 0
        """,
    "eventfd": """
        eventfd2 5 0x800
        read $0 @8 8
        read $0 @8 8
        write $0 =0300000000000000 8
        write $0 =ffffffffffffffff 8
        read $0 @4 4
        eventfd2 2 0x801
        read $6 @8 8
        read $6 @8 8
        read $6 @8 8
        """,
    "timerfd": """
        timerfd_create 1 0x800
        read $0 @8 8
        timerfd_settime $0 0 =00000000000000000000000000000000000000000000000001000000000000ff 0
        timerfd_settime $0 0 =0000000000000000000000000000000000000000000000000100000000000000 0
        poll [=0300000001000000] 0 5
        timerfd_create 99 0
        """,
    "epoll, level and edge": """
        epoll_create1 0
        eventfd2 1 0x800
        epoll_ctl $0 1 $1 =01000000aaaaaaaaaaaaaaaa
        epoll_wait $0 @24 2 0
        epoll_wait $0 @24 2 0
        epoll_ctl $0 3 $1 =01000080bbbbbbbbbbbbbbbb
        epoll_wait $0 @24 2 0
        epoll_wait $0 @24 2 0
        write $1 =0100000000000000 8
        epoll_wait $0 @24 2 0
        epoll_ctl $0 3 $1 =01000040cccccccccccccccc
        epoll_wait $0 @24 2 0
        epoll_wait $0 @24 2 0
        epoll_ctl $0 1 $1 =01000000aaaaaaaaaaaaaaaa
        epoll_ctl $0 1 $0 =01000000aaaaaaaaaaaaaaaa
        epoll_ctl $0 2 $1 0
        epoll_ctl $0 2 $1 0
        openat -100 "f" 0
        epoll_ctl $0 1 $17 =01000000aaaaaaaaaaaaaaaa
        epoll_wait $0 @24 0 0
        """,
    "epoll in epoll": """
        epoll_create1 0
        epoll_create1 0
        eventfd2 0 0x800
        epoll_ctl $0 1 $1 =010000000100000000000000
        epoll_ctl $1 1 $2 =010000000200000000000000
        epoll_ctl $1 1 $0 =010000000200000000000000
        epoll_wait $0 @12 1 0
        write $2 =0100000000000000 8
        epoll_wait $0 @12 1 0
        close $2
        epoll_wait $0 @12 1 0
        """,
    "descriptors": """
        openat -100 "f" 0
        dup $0
        dup2 $0 9
        dup2 $0 $0
        dup3 $0 $0 0
        dup3 $0 11 0x80000
        fcntl 11 1 0
        fcntl 11 2 0
        fcntl 11 1 0
        fcntl $0 0 20
        fcntl $0 3 0
        fcntl $0 4 0x800
        fcntl 9 3 0
        ioctl $0 0x5451 0
        fcntl $0 1 0
        close_range 9 20 0
        read 9 @1 1
        close 77
        flock $0 2
        dup2 $0 70000
        """,
    "vectors": """
        openat -100 "new" 0x42 0600
        writev $0 [=6869,=,=6f20] 3
        pwritev $0 [=414243] 1 10
        preadv $0 [@4,@9] 2 0
        readv $0 [@4] 5000
        readv $0 [@4] 1
        pwritev2 $0 [=58] 1 -1 0 0x10
        preadv2 $0 [@20] 1 0 0 0
        preadv2 $0 [@20] 1 0 0 0x8000
        """,
    "memfd and its seals": """
        memfd_create "name" 2
        write $0 =616263 3
        fcntl $0 1034 0
        fcntl $0 1033 2
        ftruncate $0 1
        fcntl $0 1033 1
        fcntl $0 1033 4
        memfd_create "name" 0
        fcntl $7 1034 0
        fcntl $7 1033 2
        memfd_create "name" 0x100000
        """,
    "bad pointers": """
        openat -100 8 0
        openat -100 "f" 0
        read $1 8 10
        write 1 8 10
        stat "f" 8
        pipe2 8 0
        getcwd 8 100
        readlink "l" 8 100
        poll 8 1 0
        select 3 8 0 0 0
        epoll_wait $1 8 1 0
        getdents64 $1 8 100
        utimensat -100 "f" 8 0
        """,
    "wrong flags": """
        openat -100 "d" 0x410000 0600
        openat -100 "f" 0x10000
        openat -100 "d" 1
        openat -100 "l" 0x20000
        openat -100 "l" 0x220000
        openat -100 "f/" 0
        openat -100 "" 0
        newfstatat -100 "f" @1 0x8
        unlinkat -100 "f" 0x1
        unlinkat -100 "d" 0
        renameat2 -100 "f" -100 "l" 1
        faccessat2 -100 "f" 8 0
        utimensat -100 "f" =00000000000000000000000000000080ffffffffffffffffffffffffffffffff 0
        lseek 0 0 99
        """,
    "select": """
        pipe2 @8 0
        select 5 =1800000000000000 0 0 =00000000000000000000000000000000
        select 5 =0800000000000000 =1000000000000000 0 =00000000000000000000000000000000
        write 4 =61 1
        select 5 =0800000000000000 =1000000000000000 0 =00000000000000000000000000000000
        select 99 =00000000000000000000000000000040 0 0 =00000000000000000000000000000000
        select -1 0 0 0 0
        """,
}


def compare(calls: Calls, scratch: Path, script: str) -> None:
    tree = scratch / "tree"
    (tree / "here" / "d").mkdir(parents=True)
    (tree / "here" / "f").write_bytes(b"contents")
    (tree / "here" / "l").symlink_to("f")
    lines = [line.strip() for line in script.strip().splitlines()]
    ours = calls.library_os(calls.image(tree), lines, "/here")
    linux = calls.linux(tree / "here", lines)
    for line, mine, other in zip(lines, ours, linux, strict=True):
        assert mine == other, line


@pytest.mark.parametrize("name", SCRIPTS)
def test_calls_give_what_linux_gives(calls: Calls, tmp_path: Path, name: str) -> None:
    compare(calls, tmp_path, SCRIPTS[name])


LOCAL = {
    "a pair of stream sockets": """
        socketpair 1 0x801 0 @8
        write 3 =616263 3
        write 3 =6465 2
        read 4 @4 4
        read 4 @4 4
        read 4 @4 4
        recvfrom 4 @4 4 0x40 0 0
        shutdown 3 1
        read 4 @4 4
        poll =0400010000000000 1 0
        write 4 =61 1
        close 3
        sendto 4 =61 1 0x4000 0 0
        poll =0400050000000000 1 0
        read 4 @4 4
        """,
    "a pair of datagram sockets": """
        socketpair 1 0x802 0 @8
        write 3 =616263 3
        write 3 = 0
        write 3 =6465 2
        recvfrom 4 @2 2 2 0 0
        recvfrom 4 @2 2 0x20 0 0
        read 4 @4 4
        read 4 @4 4
        read 4 @4 4
        ioctl 4 0x541b @4
        close 3
        write 4 =61 1
        """,
    "a server by its name": """
        socket 1 0x801 0
        bind $0 =010073 3
        bind $0 =010074 3
        socket 1 0x801 0
        connect $3 =010073 3
        listen $0 5
        connect $3 =010074 3
        connect $3 =010073 3
        connect $3 =010073 3
        accept4 $0 @110 =6e000000 0
        accept4 $0 @110 =6e000000 0
        write $3 =6869 2
        read $9 @9 9
        close $3
        read $9 @9 9
        openat -100 "s" 2
        stat "s" 8
        unlink "s"
        """,
    "an abstract name": """
        socket 1 0x802 0
        bind $0 =01000061 4
        socket 1 0x802 0
        sendto $2 =6869 2 0 =01000061 4
        sendto $2 =6869 2 0 =01000062 4
        recvfrom $0 @9 9 0 @20 =14000000
        bind $2 =01000061 4
        connect $2 =01000061 4
        write $2 =78 1
        recvfrom $0 @9 9 0 0 0
        """,
}


@pytest.mark.parametrize("name", LOCAL)
def test_local_sockets_do_what_linux_does(calls: Calls, tmp_path: Path, name: str) -> None:
    compare(calls, tmp_path, LOCAL[name])
