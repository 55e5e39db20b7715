"""PV_TERMINAL: the user's terminal, as the program sets it, and as it was when it has ended."""

from __future__ import annotations

import contextlib
import os
import termios
from errno import EBADF, EFAULT, EINVAL, EIO
from struct import Struct

from pyrovm.abi import libos as abi
from pyrovm.errors import GuestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrovm.unikernel.calls import Calls

_TERMINAL = Struct("<5I2H20s")  # struct pv_terminal
_CC = 19  # NCCS
_SET_HOW = (termios.TCSANOW, termios.TCSADRAIN, termios.TCSAFLUSH)
_FLUSH_HOW = (termios.TCIFLUSH, termios.TCOFLUSH, termios.TCIOFLUSH)


class Terminal:
    """Serves PV_TERMINAL for one VM."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._saved: dict[int, list[Any]] = {}  # by descriptor: as tcgetattr gave them first

    def restore(self) -> None:
        """Make terminals as they were before the program set them."""
        for fd, attributes in self._saved.items():
            with contextlib.suppress(termios.error):  # it has been hung up
                termios.tcsetattr(fd, termios.TCSADRAIN, attributes)
        self._saved.clear()

    def call(self, operation: int, handle: int, gpa: int, *_: int) -> int:
        """PV_TERMINAL."""
        fd = self._calls.fd_of(handle) if handle <= abi.PV_STDERR else -1
        if fd < 0:
            return -EBADF
        try:
            record = self._calls.writable(gpa, _TERMINAL.size)
            how, *flags, _rows, _columns, cc = _TERMINAL.unpack(record)
            if operation == abi.PV_TERMINAL_GET:
                record[:] = self._get(fd)
            elif operation == abi.PV_TERMINAL_SET and how < len(_SET_HOW):
                self._set(fd, _SET_HOW[how], flags, cc)
            elif operation == abi.PV_TERMINAL_FLUSH and how < len(_FLUSH_HOW):
                termios.tcflush(fd, _FLUSH_HOW[how])
            else:
                return -EINVAL
        except GuestError:
            return -EFAULT
        except termios.error as error:
            return -int(error.args[0] or EIO)
        except OSError as error:
            return -(error.errno or EIO)
        return 0

    @staticmethod
    def _get(fd: int) -> bytes:
        iflag, oflag, cflag, lflag, _ispeed, _ospeed, cc = termios.tcgetattr(fd)
        size = os.get_terminal_size(fd)
        # VMIN and VTIME are numbers where lines are not put together
        values = bytes(v if isinstance(v, int) else v[0] for v in cc[:_CC])
        flags = (flag & 0xFFFFFFFF for flag in (iflag, oflag, cflag, lflag))
        return _TERMINAL.pack(0, *flags, size.lines, size.columns, values)

    def _set(self, fd: int, when: int, flags: list[int], cc: bytes) -> None:
        attributes = termios.tcgetattr(fd)
        self._saved.setdefault(fd, [*attributes[:6], list(attributes[6])])
        iflag, oflag, _cflag, lflag = flags
        values: list[bytes | int] = [cc[n : n + 1] for n in range(_CC)]
        if not lflag & termios.ICANON:
            for n in (termios.VMIN, termios.VTIME):
                values[n] = cc[n]
        attributes[0], attributes[1], attributes[3] = iflag, oflag, lflag
        attributes[6] = [*values, *attributes[6][_CC:]]
        termios.tcsetattr(fd, when, attributes)
