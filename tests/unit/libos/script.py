"""Scripts of system calls for driver.c: random ones, and what can be compared of their results."""

from __future__ import annotations

import random
import struct

NAMES = (
    *("a", "h", "l", "d", "d/big", "d/x", "n", "d/n", "m", "m/k", "d/l", "q"),
    *("l/", "m/", "d/.", "d/..", "..", "m/..", "missing/x", "a/x", "n/k", "n/k/z"),
)
OPENED = (
    0,
    0,
    1,
    2,
    2,
    0x42,
    0x242,
    0xC2,
    0x441,
    0x401,
    0x202,
    0x10000,
    0x20000,
    0x20042,
    0x200000,
)
OPERATIONS = (  # some more often than others
    *("open", "open", "open", "openat", "unnamed", "dup", "close"),
    *("read", "pread", "write", "pwrite", "lseek", "list", "fallocate", "copy", "sendfile"),
    *("truncate", "ftruncate", "stat", "stat", "lstat", "fstat", "readlink", "access", "chmod"),
    *("mkdir", "mkdir", "rmdir", "unlink", "unlink", "rename", "rename", "link", "symlink"),
)
SIZES = (0, 1, 4096, 5000, 9000, 20000)


def sequence(seed: int, length: int) -> list[str]:
    """Operations on a few names and whatever they opened."""
    random_ = random.Random(seed)
    opened: list[int] = []
    lines: list[str] = []
    for number in range(length):
        line, opens = _operation(random_, opened)
        lines.append(line)
        if opens:
            opened.append(number)
    return lines


def _operation(random_: random.Random, opened: list[int]) -> tuple[str, bool]:
    pick = random_.choice
    path, other = pick(NAMES), pick(NAMES)
    fd = f"${pick(opened)}" if opened and random_.random() < 0.95 else "77"
    fd2 = f"${pick(opened)}" if opened else "78"
    data = random_.randbytes(pick((0, 1, 10, 3000))).hex()
    count, offset = pick((0, 1, 10, 5000)), pick((0, 3, 4090, 8190, 20000))
    mode, start, length = pick((0, 1, 3)), pick((0, 100, 4096)), pick((1, 5000, 8192))
    operations = {
        "open": f'openat -100 "{path}" {pick(OPENED)} 0644',
        "openat": f'openat {fd} "{path}" {pick((0, 2, 0x42))} 0644',
        "unnamed": f'openat -100 "{pick(("d", ".", "m", "a"))}" 0x410002 0600',
        "dup": f"dup {fd}",
        "read": f"read {fd} @{count} {count}",
        "pread": f"pread64 {fd} @{count} {count} {offset}",
        "write": f"write {fd} ={data} {len(data) // 2}",
        "pwrite": f"pwrite64 {fd} ={data} {len(data) // 2} {offset}",
        "mkdir": f'mkdir "{path}" 0755',
        "rmdir": f'rmdir "{path}"',
        "unlink": f'unlink "{path}"',
        "rename": f'rename "{path}" "{other}"',
        "link": f'link "{path}" "{other}"',
        "symlink": f'symlink "{pick(("a", "d", "nowhere", "..", "m/k", "l", "../a"))}" "{other}"',
        "truncate": f'truncate "{path}" {pick(SIZES)}',
        "ftruncate": f"ftruncate {fd} {pick(SIZES)}",
        "stat": f'stat "{path}" @144',
        "lstat": f'lstat "{path}" @144',
        "fstat": f"fstat {fd} @144",
        "readlink": f'readlink "{path}" @20 20',
        "list": f"getdents64 {fd} @2000 2000",
        "close": f"close {fd}",
        "lseek": f"lseek {fd} {pick((-5, 0, 3, 4096))} {pick((0, 1, 2))}",
        "access": f'access "{path}" {pick((0, 1, 2, 4))}',
        "chmod": f'chmod "{path}" {pick(("0644", "0700"))}',
        "fallocate": f"fallocate {fd} {mode} {start} {length}",
        "copy": f"copy_file_range {fd} 0 {fd2} 0 3000 0",
        "sendfile": f"sendfile {fd} {fd2} 0 3000",
    }
    name = pick(OPERATIONS)
    return operations[name], name in ("open", "openat", "unnamed", "dup")


def entries(result: str) -> dict[str, int]:
    """Names and types in what getdents64 gave."""
    count, *data = result.split()
    records = bytes.fromhex(data[0])[: max(int(count), 0)] if data else b""
    found, at = {}, 0
    while at < len(records):
        length, kind = struct.unpack_from("<HB", records, at + 16)
        found[records[at + 19 : at + length].split(b"\0")[0].decode()] = kind
        at += length
    return found


def content(result: str) -> bytes:
    """What a read gave."""
    count, *data = result.split()
    return bytes.fromhex(data[0])[: int(count)] if data and int(count) > 0 else b""


def comparable(line: str, result: str) -> object:
    """What must be the same of a result: not where directories end, nor their sizes."""
    operation = line.split()[0]
    number = int(result.split()[0])
    match operation:
        case "stat" | "lstat" | "fstat" if number == 0:
            status = bytes.fromhex(result.split()[1])
            links, mode = struct.unpack_from("<QI", status, 16)
            size = struct.unpack_from("<q", status, 48)[0]
            return oct(mode) if mode >> 12 == 4 else (oct(mode), links, size)
        case "getdents64":
            return number >= 0 or number  # a second look at the end differs between file systems
        case "read" | "pread64" | "readlink" if number >= 0:
            return number, content(result)
        # Where a directory stands depends on the file system, and whether that is too far.
        case "lseek" | "read" | "sendfile" if number in (-21, -22, -9) or number > 1 << 40:
            return "no"
        case "lseek" if line.endswith("2"):
            return "end"
    return number
