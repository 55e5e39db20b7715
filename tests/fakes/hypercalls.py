"""A guest that makes hypercalls by hand: memory without a VM, the VMM's handlers as they are."""

import os

from pyrovm.abi import libos as abi
from pyrovm.memory.guest_memory import GuestMemory, Region
from pyrovm.unikernel.calls import Calls

RAM = 1 << 20
ARGS_AT, IOVEC_AT, PATH_AT, PATH2_AT, DATA_AT = 0x1000, 0x2000, 0x3000, 0x5000, 0x10000


class NoWaiting:
    """Where handles are announced; nobody waits."""

    def add(self, handle, fd):
        pass

    def remove(self, handle):
        pass


class Guest:
    """Its calls; results as the guest gets them."""

    def __init__(self):
        self.ram = bytearray(RAM)
        memory = GuestMemory([Region(0, memoryview(self.ram))])
        nothing = os.open(os.devnull, os.O_RDWR)
        self._nothing = nothing
        self.calls = Calls(memory, RAM, NoWaiting(), lambda _gpa, _size: None, (nothing,) * 4)

    def call(self, number, *arguments):
        return self.calls.handlers[number](*arguments, *[0] * (6 - len(arguments)))

    def close(self):
        self.calls.close()
        os.close(self._nothing)

    # ------------------------------------------------------------------------------- sockets

    def socket_call(self, operation, handle=0, a=0, b=0, c=0, data=b"", length=None, pieces=()):
        args = abi.pv_socket_args(self.ram, ARGS_AT)
        args.a, args.b, args.c = a, b, c
        args.length = len(data) if length is None else length
        self.ram[ARGS_AT + 32 : ARGS_AT + 32 + len(data)] = data
        args.iov_gpa, args.iov_count = IOVEC_AT, len(pieces)
        for number, (gpa, size) in enumerate(pieces):
            at = IOVEC_AT + 16 * number
            self.ram[at : at + 16] = gpa.to_bytes(8, "little") + size.to_bytes(8, "little")
        return self.call(abi.PV_SOCKET, operation, handle, ARGS_AT, abi.pv_socket_args.SIZE)

    @property
    def address(self):
        """The address that the last call gave."""
        args = abi.pv_socket_args(self.ram, ARGS_AT)
        return bytes(self.ram[ARGS_AT + 32 : ARGS_AT + 32 + min(args.length, 128)])

    def send(self, handle, data, to=b"", flags=0):
        self.ram[DATA_AT : DATA_AT + len(data)] = data
        pieces = [(DATA_AT, len(data))]
        return self.socket_call(abi.PV_SOCKET_SEND, handle, b=flags, data=to, pieces=pieces)

    def receive(self, handle, size=4096, flags=0):
        """The bytes, or a negative errno."""
        count = self.socket_call(
            abi.PV_SOCKET_RECEIVE, handle, b=flags, length=128, pieces=[(DATA_AT, size)]
        )
        return count if count < 0 else bytes(self.ram[DATA_AT : DATA_AT + min(count, size)])

    # -------------------------------------------------------------------------------- folders

    def file_call(self, operation, handle=0, path=b"", path2=b"", **fields):
        args = abi.pv_file_args(self.ram, ARGS_AT)
        args.path_gpa, args.path_length = PATH_AT, len(path)
        args.path2_gpa, args.path2_length = PATH2_AT, len(path2)
        self.ram[PATH_AT : PATH_AT + len(path)] = path
        self.ram[PATH2_AT : PATH2_AT + len(path2)] = path2
        args.flags = args.mode = args.offset = args.gpa = args.length = 0
        for name, value in fields.items():
            setattr(args, name, value)
        return self.call(abi.PV_FILE, operation, handle, ARGS_AT, abi.pv_file_args.SIZE)

    @property
    def stat(self):
        """What the last PV_FILE_STAT gave."""
        return abi.pv_file_args(self.ram, ARGS_AT).stat
