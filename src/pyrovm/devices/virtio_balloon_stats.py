"""The balloon's memory statistics (virtio 1.2, section 5.5.6.4)."""

from __future__ import annotations

from struct import Struct

from pyrovm.abi.virtio import (
    VIRTIO_BALLOON_S_AVAIL,
    VIRTIO_BALLOON_S_CACHES,
    VIRTIO_BALLOON_S_HTLB_PGALLOC,
    VIRTIO_BALLOON_S_HTLB_PGFAIL,
    VIRTIO_BALLOON_S_MAJFLT,
    VIRTIO_BALLOON_S_MEMFREE,
    VIRTIO_BALLOON_S_MEMTOT,
    VIRTIO_BALLOON_S_MINFLT,
    VIRTIO_BALLOON_S_SWAP_IN,
    VIRTIO_BALLOON_S_SWAP_OUT,
)
from pyrovm.errors import GuestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.virtio.queue import Chain

# The API's names.  Tags 10 to 15 came with Linux 6.12 (uapi/linux/virtio_balloon.h).
NAMES = {
    VIRTIO_BALLOON_S_SWAP_IN: "swap_in",
    VIRTIO_BALLOON_S_SWAP_OUT: "swap_out",
    VIRTIO_BALLOON_S_MAJFLT: "major_faults",
    VIRTIO_BALLOON_S_MINFLT: "minor_faults",
    VIRTIO_BALLOON_S_MEMFREE: "free_memory",
    VIRTIO_BALLOON_S_MEMTOT: "total_memory",
    VIRTIO_BALLOON_S_AVAIL: "available_memory",
    VIRTIO_BALLOON_S_CACHES: "disk_caches",
    VIRTIO_BALLOON_S_HTLB_PGALLOC: "hugetlb_allocations",
    VIRTIO_BALLOON_S_HTLB_PGFAIL: "hugetlb_failures",
    10: "oom_kill",
    11: "alloc_stall",
    12: "async_scan",
    13: "direct_scan",
    14: "async_reclaim",
    15: "direct_reclaim",
}
ENTRY = Struct("<HQ")  # tag, value
MAX_SIZE = 256 * ENTRY.size  # of one report; drivers know some 16 tags


def parse_stats(chain: Chain) -> dict[str, int]:
    """What a driver reports, by the API's names; tags that we do not know are skipped.

    Raises:
        GuestError: the report is no array of entries, or too long a one.
    """
    size = chain.readable_size
    if size % ENTRY.size or size > MAX_SIZE:
        raise GuestError(
            f"balloon: statistics of {size} bytes; up to {MAX_SIZE}, in entries of {ENTRY.size}"
        )
    entries = ENTRY.iter_unpack(chain.read(0, size))
    return {NAMES[tag]: value for tag, value in entries if tag in NAMES}
