"""The balloon with every option: page numbers, statistics, hints and reports of any kind."""

from __future__ import annotations

from struct import pack

from fuzz.devices import MEMORY_SIZE, Harness
from fuzz.source import Source
from pyrovm.devices.virtio_balloon import VirtioBalloon
from pyrovm.errors import HostError, StateError


def request(source: Source) -> tuple[bytes, int]:
    """Page numbers, statistics, a hinting command, or buffers to report."""
    kind = source.u8() & 3
    if kind == 0:
        count = source.below(20)
        return b"".join(pack("<I", _pfn(source)) for _ in range(count)), 0
    if kind == 1:
        count = source.below(20)
        return b"".join(pack("<HQ", source.below(20), source.edge()) for _ in range(count)), 0
    if kind == 2:
        return pack("<I", source.below(6)), 0
    return source.blob(40), source.choice((0x1000, 0x2000, 0x1800, 0, 5))


def _pfn(source: Source) -> int:
    return source.below(MEMORY_SIZE >> 12) if source.u8() & 7 else source.edge(32)


def one_input(data: bytes) -> None:
    """The first byte selects the options.  Only memory of the guest is ever released."""
    source = Source(data)
    options = source.u8()

    def release(gpa: int, size: int) -> None:
        assert gpa % 0x1000 == 0
        assert size % 0x1000 == 0
        assert size > 0
        assert gpa >= 0
        assert gpa + size <= MEMORY_SIZE
        if options & 16:
            raise HostError("madvise: Invalid argument", 22)

    def make() -> VirtioBalloon:
        device = VirtioBalloon(
            0,
            deflate_on_oom=bool(options & 1),
            stats_interval_s=1 if options & 2 else 0,
            free_page_hinting=bool(options & 4),
            free_page_reporting=bool(options & 8),
        )
        device.release = release
        return device

    def host(device: VirtioBalloon) -> None:
        """What the API may ask for between two steps of the driver."""
        try:
            source.choice(
                (
                    lambda: device.start_hinting(source.flag()),
                    device.stop_hinting,
                    device.stats,
                    lambda: device.update_stats_interval(source.below(3)),
                    device.hinting_status,
                )
            )()
        except StateError:
            pass

    harness = Harness(make, source, request, host=host)  # type: ignore[arg-type]
    harness.run()
    harness.finish()


SEEDS = [
    b"\x0f" + b"\x00\x00\x04\x01\x10\x01\x11\x01\x13\x01\x20\x00\x00",
    b"\x0f" + b"\x00\x01\x03\x05\x10\x01\x05\x02\x09\x00\x02\x0a\x03",
    b"\x0f\x0e\x00\x01\x00\x02\x02\x00\x03\x00\x03\x01\x00\x03\x00\x03",
    b"\x1f" + b"\x00\x03\x00\x00\x00\x04\x00\x03\x00\x01\x00\x05",
    b"\x02" + b"\x00\x01\x03\x05\x10\x01\x05\x02\x0a\x04\x0a\x04",
]
