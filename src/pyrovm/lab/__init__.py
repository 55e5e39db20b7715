"""A software-emulated KVM host: see :mod:`pyrovm.lab.lab`."""

from pyrovm.lab.errors import LabError
from pyrovm.lab.lab import Lab, Result

__all__ = ["Lab", "LabError", "Result"]
