"""What a Solo5 guest is to be run with."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_MEMORY = 512 << 20


class Plan:
    """A guest to be run, as the command line says it.

    ``mem_size`` and block sizes are in bytes; ``blocks`` and ``nets`` say what each declared device
    is attached to, ``macs`` (six bytes) and ``block_sizes`` refine them.
    """

    __slots__ = (
        "arguments",
        "block_sizes",
        "blocks",
        "image",
        "kvm_device",
        "macs",
        "mem_size",
        "nets",
    )

    def __init__(
        self,
        image_path: str,
        *,
        arguments: bytes = b"",
        mem_size: int = DEFAULT_MEMORY,
        blocks: Mapping[str, str] | None = None,
        block_sizes: Mapping[str, int] | None = None,
        nets: Mapping[str, str] | None = None,
        macs: Mapping[str, bytes] | None = None,
        kvm_device: str = "/dev/kvm",
    ) -> None:
        self.image = image_path
        self.arguments = arguments
        self.mem_size = mem_size
        self.blocks = dict(blocks or {})
        self.block_sizes = dict(block_sizes or {})
        self.nets = dict(nets or {})
        self.macs = dict(macs or {})
        self.kvm_device = kvm_device
