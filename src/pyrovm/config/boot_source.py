"""``/boot-source``: the kernel, its initrd, its command line."""

from __future__ import annotations

from pyrovm.config.record import Record
from pyrovm.config.serde.schema import (
    optional,
    path_string,
    required,
    string,
    struct,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class BootSourceConfig(Record):
    """Paths on the host, and the kernel's words; ``boot_args`` None means the default line."""

    __slots__ = ("boot_args", "initrd_path", "kernel_image_path")

    def __init__(
        self,
        *,
        kernel_image_path: str = "",
        initrd_path: str | None = None,
        boot_args: str | None = None,
    ) -> None:
        self.kernel_image_path = kernel_image_path
        self.initrd_path = initrd_path
        self.boot_args = boot_args

    def to_json(self) -> Any:
        return {
            "kernel_image_path": self.kernel_image_path,
            "initrd_path": self.initrd_path,
            "boot_args": self.boot_args,
        }


BOOT_SOURCE = struct(
    "BootSourceConfig",
    (
        required("kernel_image_path", path_string),
        optional("initrd_path", path_string),
        optional("boot_args", string),
    ),
    BootSourceConfig,
)
