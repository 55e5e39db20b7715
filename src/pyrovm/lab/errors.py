"""What goes wrong in the lab itself, as opposed to in the command that runs there."""

from __future__ import annotations

from pyrovm.errors import HostError


class LabError(HostError):
    """The lab could not do its work; the text says why."""
