"""A VM's memory without the VM: restored by Uffd, touched as told on standard input.

``python uffd_vm.py SOCKET SIZE [HUGE_PAGES]``; then lines, each with one line of answer:
``read OFFSET``, ``write OFFSET VALUE``, ``drop OFFSET SIZE``, ``sum OFFSET SIZE``, ``death``.
"""

import mmap
import sys
import zlib

from pyrovm.errors import PyrovmError
from pyrovm.snapshot import uffd
from pyrovm.snapshot.layout import Layout


def main():
    path, size, huge_pages = sys.argv[1], int(sys.argv[2]), (*sys.argv[3:], "None")[0]
    half = size // 2
    layout = Layout([(0, half), (1 << 32, size - half)])
    try:
        mappings, handler = uffd.restore(path, layout, huge_pages)
    except PyrovmError as error:
        print(f"error {error}", flush=True)
        return
    print("ready", flush=True)
    for line in sys.stdin:
        word, *numbers = line.split()
        first, second = ([int(number) for number in numbers] + [0, 0])[:2]
        each, at = (mappings[0], first) if first < half else (mappings[1], first - half)
        match word:
            case "read":
                answer = each.view[at]
            case "write":
                each.view[at] = second
                answer = "written"
            case "drop":
                each.advise(mmap.MADV_DONTNEED, at, second)
                answer = "dropped"
            case "sum":
                answer = zlib.crc32(each.view[at : at + second])
            case "death":
                answer = handler.watch.death() or "none"
        print(answer, flush=True)
    for each in mappings:
        each.close()
    handler.close()


main()
