"""The application manifest: which devices an image needs (Solo5, mft_abi.h, version 1).

An entry's index in the manifest is the handle by which the guest names the device.  Entry 0 is
reserved, so that no device has handle 0.
"""

from __future__ import annotations

from struct import Struct

from pyrovm.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = 1
MAX_ENTRIES = 64
NAME_MAX = 67  # bytes, without the NUL

BLOCK, NET, RESERVED = 1, 2, 1 << 30
KINDS = {BLOCK: "block", NET: "net"}

_HEADER = Struct("<II")
_ENTRY = Struct("<68sI16s8sB7x")  # name, type, what the host fills in, host-private, attached
_BLOCK = Struct("<QH6x")  # capacity and block size in bytes
_NET = Struct("<6sH8x")  # MAC, MTU
MAX_SIZE = _HEADER.size + MAX_ENTRIES * _ENTRY.size


class ManifestError(ConfigError):
    """The image's manifest breaks the rules of its format."""


class Device:
    """One declared device; everything but ``handle``, ``name`` and ``kind`` is the host's to fill.

    ``capacity`` and ``block_size`` are in bytes and of a block device, ``mac`` (six bytes) and
    ``mtu`` of a network device.
    """

    __slots__ = ("attached", "block_size", "capacity", "handle", "kind", "mac", "mtu", "name")

    def __init__(self, handle: int, name: str, kind: int) -> None:
        self.handle = handle
        self.name = name
        self.kind = kind
        self.attached = False
        self.capacity = 0
        self.block_size = 0
        self.mac = bytes(6)
        self.mtu = 0


class Manifest:
    """The devices of an image, in the order of their handles 1, 2, ..."""

    __slots__ = ("devices",)

    def __init__(self, devices: list[Device]) -> None:
        self.devices = devices

    def find(self, name: str, kind: int) -> Device | None:
        """The device of that name and kind, or None."""
        return next((d for d in self.devices if d.name == name and d.kind == kind), None)

    def of_kind(self, kind: int) -> Iterator[Device]:
        """All devices of one kind."""
        return (d for d in self.devices if d.kind == kind)

    def pack(self) -> bytes:
        """The manifest as the guest finds it in its memory."""
        parts = [
            _HEADER.pack(VERSION, 1 + len(self.devices)),
            _ENTRY.pack(b"", RESERVED, b"", b"", 0),
        ]
        for d in self.devices:
            filled = (
                _BLOCK.pack(d.capacity, d.block_size)
                if d.kind == BLOCK
                else _NET.pack(d.mac, d.mtu)
            )
            parts.append(_ENTRY.pack(d.name.encode(), d.kind, filled, b"", d.attached))
        return b"".join(parts)


def parse(data: bytes) -> Manifest:
    """The manifest in an image's note, without the padding before it.

    Raises:
        ManifestError: it breaks a rule; the message says which.
    """
    if len(data) < _HEADER.size:
        raise ManifestError(f"manifest of {len(data)} bytes, at least {_HEADER.size} expected")
    version, count = _HEADER.unpack_from(data)
    if version != VERSION:
        raise ManifestError(f"manifest version {version}, {VERSION} expected")
    if not 1 <= count <= MAX_ENTRIES:
        raise ManifestError(f"manifest with {count} entries, 1 to {MAX_ENTRIES} allowed")
    size = _HEADER.size + count * _ENTRY.size
    if len(data) != size:
        raise ManifestError(f"manifest of {len(data)} bytes, {size} expected for {count} entries")
    entries = _ENTRY.iter_unpack(data[_HEADER.size :])
    name, kind, _, _, attached = next(entries)
    if kind != RESERVED or name.strip(b"\0") or attached:
        raise ManifestError("manifest entry 0 is not the reserved one")
    manifest = Manifest([])
    for handle, (raw, kind, _, _, attached) in enumerate(entries, 1):
        manifest.devices.append(_device(manifest, handle, raw, kind, attached))
    return manifest


def _device(manifest: Manifest, handle: int, raw: bytes, kind: int, attached: int) -> Device:
    name, nul, _ = raw.partition(b"\0")
    if not nul:
        raise ManifestError(f"manifest entry {handle}: the name is longer than {NAME_MAX} bytes")
    if not is_name(name.decode("latin-1")):
        raise ManifestError(f"manifest entry {handle}: {name!r} is no name, letters and digits are")
    if kind not in KINDS:
        raise ManifestError(
            f"manifest entry {handle}: type {kind:#x} is neither block (1) nor network (2)"
        )
    if attached:
        raise ManifestError(f"manifest entry {handle}: the image says that it is attached already")
    text = name.decode()
    if manifest.find(text, kind) is not None:
        raise ManifestError(f"manifest entry {handle}: {text!r} is declared twice")
    return Device(handle, text, kind)


def is_name(text: str) -> bool:
    """Whether ``text`` can be a device's name: 1 to 67 ASCII letters and digits."""
    return 1 <= len(text) <= NAME_MAX and text.isascii() and text.isalnum()
