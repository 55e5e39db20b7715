"""A page-fault handler as others write them: it knows the message and userfaultfd(2), no more.

``python page_server.py SOCKET MEMORY [PAGES]``: serves one VM, page by page, and exits after PAGES
pages as if it had died.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import socket
import struct
import sys

UFFDIO_COPY, UFFDIO_ZEROPAGE = 0xC028AA03, 0xC020AA04
PAGEFAULT, REMOVE = 0x12, 0x15
PAGE = 4096


def serve(path, memory_path, limit):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    print("listening", flush=True)
    connection, _ = listener.accept()
    data, fds, _, _ = socket.recv_fds(connection, 65536, 1)
    uffd = fds[0]
    os.set_blocking(uffd, True)
    regions = json.loads(data)
    with open(memory_path, "r+b") as file:
        memory = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE)
    at = memory_address(memory)
    removed, served = [], 0
    while served < limit:
        message = os.read(uffd, 32)
        kind = message[0]
        if kind == REMOVE:
            removed.append(struct.unpack_from("<QQ", message, 8))
            continue
        assert kind == PAGEFAULT, kind
        address = struct.unpack_from("<Q", message, 16)[0] & -PAGE
        region = next(r for r in regions if 0 <= address - r["base_host_virt_addr"] < r["size"])
        offset = region["offset"] + address - region["base_host_virt_addr"]
        try:
            if any(start <= address < end for start, end in removed):
                request = bytearray(struct.pack("<4Q", address, PAGE, 0, 0))
                fcntl.ioctl(uffd, UFFDIO_ZEROPAGE, request)
            else:
                request = bytearray(struct.pack("<5Q", address, at + offset, PAGE, 0, 0))
                fcntl.ioctl(uffd, UFFDIO_COPY, request)
        except FileExistsError:  # two faults of one page
            pass
        served += 1
    return 1


def memory_address(memory):
    import ctypes

    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


if __name__ == "__main__":
    words = sys.argv[1:]
    sys.exit(serve(words[0], words[1], int(words[2]) if len(words) > 2 else 1 << 60))
