"""Reference tables of the machine and of KVM, and of what the process tells about itself."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from signal import Signals

from pyrovm import errors as error_tree
from pyrovm.abi import kvm as abi
from pyrovm.arch.x86 import layout as memory
from pyrovm.cli.firecracker_signals import FATAL
from pyrovm.kvm.system import REQUIRED_CAPABILITIES
from pyrovm.machine.metrics_table import GROUPS, PER_DEVICE, STORED, WITHOUT_SUM
from pyrovm.sdk import errors as sdk_errors

KVM = Path(__file__).resolve().parent.parent / "src" / "pyrovm" / "kvm"


def metrics() -> str:
    """All groups and their fields."""
    lines = ["| group | fields |", "| --- | --- |"]
    for group, fields in GROUPS.items():
        name = f"`{group}`"
        if group in PER_DEVICE:
            name = f"`{group}_<id>`" if group in WITHOUT_SUM else f"{name}, `{group}_<id>`"
        words = (f"`{field}`{' =' if (group, field) in STORED else ''}" for field in fields)
        lines.append(f"| {name} | {', '.join(words)} |")
    return "\n".join(lines)


def exceptions() -> str:
    """Both trees, as their modules draw them."""
    engine = _drawing(error_tree.__doc__ or "", "PyrovmError")
    sdk = _drawing(sdk_errors.__doc__ or "", "MicroVMError")
    return f"Inside the VMM (`pyrovm.errors`):\n\n{engine}\n\nIn the SDK (`pyrovm`):\n\n{sdk}"


def _drawing(docstring: str, root: str) -> str:
    lines = inspect.cleandoc(docstring).splitlines()
    start = next(i for i, line in enumerate(lines) if line.strip() == root)
    drawn = [lines[start], *(line for line in lines[start + 1 :] if re.match(r"\s*[+|]", line))]
    return "```\n" + inspect.cleandoc("\n".join(["", *drawn])) + "\n```"


def signals() -> str:
    """Exit codes of signals."""
    lines = ["| code | signal |", "| --- | --- |"]
    lines += [
        f"| {code} | {Signals(number).name} |"
        for number, (code, _) in sorted(FATAL.items(), key=lambda x: x[1])
    ]
    return "\n".join(lines)


def capabilities() -> str:
    """What a KVM must have."""
    lines = ["| capability | number |", "| --- | --- |"]
    lines += [f"| `KVM_CAP_{name}` | {number} |" for name, number in REQUIRED_CAPABILITIES.items()]
    return "\n".join(lines)


def ioctls() -> str:
    """Every request that the KVM layer makes, with its number."""
    found = set()
    for path in KVM.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "abi":
                value = getattr(abi, node.attr)
                if (
                    node.attr.startswith("KVM_")
                    and isinstance(value, int)
                    and value & 0xFF00 == 0xAE00
                ):
                    found.add((node.attr, value))
    lines = ["| ioctl | number |", "| --- | --- |"]
    lines += [f"| `{name}` | {value:#010x} |" for name, value in sorted(found)]
    return "\n".join(lines)


def layout() -> str:
    """The guest's address space, as its module draws it."""
    text = inspect.cleandoc(memory.__doc__ or "").partition("::\n")[2]
    return "```\n" + inspect.cleandoc("\n" + text.strip("\n")) + "\n```"
