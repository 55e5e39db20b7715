"""How often does a boot need the VMM itself?

Every exit from the guest that KVM does not settle in the kernel is counted by the lab's kernel, for
both VMMs alike, from the first instruction to init.
"""

from __future__ import annotations

from typing import Any

from pyrovm.bench import guests, labs
from pyrovm.bench.figures import Answer, Detail, Figure, Sample
from pyrovm.bench.questions.boot import QEMU
from pyrovm.bench.terms import Terms

Exit = tuple[str, str, int]  # reason, access, how often

TARGET = 1.5  # times the fewest that any peer needs, serial off

_Range = tuple[int, int, str]  # first, last, what for
_PORTS: tuple[_Range, ...] = (
    (0x20, 0xA1, "PIC"),
    (0x40, 0x43, "PIT"),
    (0x60, 0x64, "keyboard controller: probe, self test"),
    (0x70, 0x71, "RTC: time of day"),
    (0x80, 0x80, "delay"),
    (0x2E8, 0x2EF, "fourth serial port: probe"),
    (0x2F8, 0x2FF, "second serial port: probe"),
    (0x3E8, 0x3EF, "third serial port: probe"),
    (0x3F8, 0x3FF, "serial port"),
    (0x510, 0x51B, "fw_cfg: the firmware reads its orders, kernel and initrd"),
    (0xCF8, 0xCFF, "PCI: is there a bus?"),
)
_PAGES: tuple[_Range, ...] = (
    (0xC0000000, 0xC0000FFF, "boot timer"),
    (0xC0001000, 0xC00FFFFF, "virtio device registers"),
    (0xFEB00000, 0xFEBFFFFF, "virtio device registers"),
    (0xFEC00000, 0xFEC00FFF, "IOAPIC"),
)


def purpose(reason: str, access: str) -> str:
    """What an exit is for, in words."""
    direction, _, where = access.partition(" ")
    if reason == "IO":
        ranges = _PORTS
    elif reason == "MMIO":
        ranges = _PAGES
    else:
        return {"SHUTDOWN": "the guest's reset", "restart": "a signal", "HLT": "halt"}.get(
            reason, ""
        )
    address = int(where, 16)
    for first, last, words in sorted(ranges, key=lambda r: r[1] - r[0]):
        if first <= address <= last:
            return words
    return f"unknown ({direction})"


def answer(terms: Terms) -> Answer:
    """Boot every kernel there is, serial off and on."""
    found = Answer()
    for flavour, kernel in guests.available().items():
        for serial in (False, True):
            title = f"{flavour} kernel, serial {'on' if serial else 'off'}"
            seen = labs.ask(
                "exits",
                {"serial": serial, "args": guests.args(serial=serial)},
                assets={"kernel": kernel.vmlinux, "initrd": guests.tiny_initrd()},
                counted=False,
                show=lambda text, title=title: terms.show(f"{title}: {text}"),  # type: ignore[misc]
            )
            counts = {
                vmm: sum(number for _, _, number in seen[vmm]["exits"])
                for vmm in ("pyrovm", "qemu")
            }
            found.figures.append(
                Figure(
                    question="exits",
                    name=f"{title}: exits to user space until init",
                    unit="exits",
                    ours=Sample.of([counts["pyrovm"]]),
                    peer=Sample.of([counts["qemu"]]),
                    peer_name=QEMU,
                    target=None if serial else TARGET,
                    headline="" if serial else f"Linux, {flavour} kernel: exits until init",
                    note=f"{_own(seen)} by pyrovm's own metrics, the guest's reset included",
                )
            )
            rows = side_by_side(seen["pyrovm"]["exits"], seen["qemu"]["exits"])
            columns = ["exit", "access", "what for", "pyrovm", QEMU]
            found.details.append(Detail("exits", f"{title}: what the exits are", columns, rows))
    return found


def side_by_side(ours: list[Exit], theirs: list[Exit]) -> list[list[str]]:
    """A row for every kind of exit that either had, those that we have most of first."""
    counts = [
        {(reason, access): number for reason, access, number in rows} for rows in (ours, theirs)
    ]
    kinds = sorted(
        {*counts[0], *counts[1]}, key=lambda kind: tuple(-c.get(kind, 0) for c in counts)
    )
    return [
        [reason, access, purpose(reason, access)]
        + [str(count.get((reason, access), 0)) for count in counts]
        for reason, access in kinds
    ]


def _own(seen: dict[str, Any]) -> int:
    own = seen["pyrovm"]["own"]
    names = ("exit_io_in", "exit_io_out", "exit_mmio_read", "exit_mmio_write")
    return sum(own[name] for name in names)
