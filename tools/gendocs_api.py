"""The API's reference: its endpoints, and the fields of every body as ``config`` declares them."""

from __future__ import annotations

import ast
import json
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from pyrovm.api.gets import GETS
from pyrovm.api.patches import PATCHES
from pyrovm.api.puts import DELETES, PUTS

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = Path(__file__).resolve().parent.parent / "src" / "pyrovm" / "config"

BEFORE, RUNNING, ALWAYS = ("yes", "no"), ("no", "yes"), ("yes", "yes")
NO_PCI = ("no", "refused: no PCI")

# (method, path, body: module.STRUCT, what it does, (before the start, while it runs))
ENDPOINTS = [
    ("GET", "/", "", "id, state (`Not started`, `Running`, `Paused`), version", ALWAYS),
    ("GET", "/version", "", "the version of the API", ALWAYS),
    ("PUT", "/actions", "actions.ACTION", "`InstanceStart`", BEFORE),
    ("PUT", "/actions", "actions.ACTION", "`FlushMetrics`, `SendCtrlAltDel`", RUNNING),
    ("PUT", "/machine-config", "machine.MACHINE_CONFIG", "vCPUs, memory", BEFORE),
    ("PATCH", "/machine-config", "machine.MACHINE_CONFIG_UPDATE", "some of it", BEFORE),
    ("GET", "/machine-config", "", "the machine", ALWAYS),
    ("PUT", "/cpu-config", "cpu_template.CPU_TEMPLATE", "a custom CPU template", BEFORE),
    ("PUT", "/boot-source", "boot_source.BOOT_SOURCE", "kernel, initrd, command line", BEFORE),
    ("PUT", "/drives/{drive_id}", "drive.DRIVE_CONFIG", "a block device", BEFORE),
    ("PATCH", "/drives/{drive_id}", "drive.DRIVE_UPDATE", "another file, other limits", RUNNING),
    ("DELETE", "/drives/{drive_id}", "", "unplug", NO_PCI),
    (
        *("PUT", "/network-interfaces/{iface_id}", "network.NETWORK_INTERFACE_CONFIG"),
        *("a network interface on a tap", BEFORE),
    ),
    (
        *("PATCH", "/network-interfaces/{iface_id}", "network.NETWORK_INTERFACE_UPDATE"),
        *("other limits", RUNNING),
    ),
    ("DELETE", "/network-interfaces/{iface_id}", "", "unplug", NO_PCI),
    ("PUT", "/pmem/{id}", "pmem.PMEM_CONFIG", "persistent memory over a file", BEFORE),
    ("PATCH", "/pmem/{id}", "pmem.PMEM_UPDATE", "other limits", RUNNING),
    ("DELETE", "/pmem/{id}", "", "unplug", NO_PCI),
    ("PUT", "/vsock", "vsock.VSOCK_CONFIG", "the socket device", BEFORE),
    ("PUT", "/entropy", "entropy.ENTROPY_CONFIG", "the entropy device", BEFORE),
    ("PUT", "/serial", "serial.SERIAL_CONFIG", "where the serial port's output goes", BEFORE),
    ("PUT", "/balloon", "balloon.BALLOON_CONFIG", "the balloon", BEFORE),
    ("GET", "/balloon", "", "the balloon as it is", ALWAYS),
    ("PATCH", "/balloon", "balloon.BALLOON_UPDATE", "another target", RUNNING),
    ("GET", "/balloon/statistics", "", "what the guest says of its memory", RUNNING),
    (
        *("PATCH", "/balloon/statistics", "balloon.BALLOON_STATS_UPDATE"),
        *("another interval", RUNNING),
    ),
    (
        *("PATCH", "/balloon/hinting/start", "balloon.HINTING_START"),
        *("begin free page hinting; the body is optional", RUNNING),
    ),
    ("PATCH", "/balloon/hinting/stop", "", "end it", RUNNING),
    ("GET", "/balloon/hinting/status", "", "the last commands of host and guest", RUNNING),
    (
        *("PUT", "/hotplug/memory", "memory_hotplug.MEMORY_HOTPLUG_CONFIG"),
        *("memory that may be added later", BEFORE),
    ),
    (
        *("PATCH", "/hotplug/memory", "memory_hotplug.MEMORY_HOTPLUG_UPDATE"),
        *("how much of it the guest shall plug", RUNNING),
    ),
    ("GET", "/hotplug/memory", "", "its sizes", RUNNING),
    ("PUT", "/mmds/config", "mmds.MMDS_CONFIG", "which interfaces reach the metadata", BEFORE),
    ("PUT", "/mmds", "", "any JSON: the metadata", ALWAYS),
    ("PATCH", "/mmds", "", "a JSON merge patch (RFC 7396)", ALWAYS),
    ("GET", "/mmds", "", "the metadata", ALWAYS),
    ("PUT", "/logger", "logger.LOGGER_CONFIG", "the log", BEFORE),
    ("PUT", "/metrics", "metrics.METRICS_CONFIG", "where metrics go; once a process", BEFORE),
    ("GET", "/vm/config", "", "the whole configuration", ALWAYS),
    ("PATCH", "/vm", "actions.VM_UPDATE", "pause, resume", RUNNING),
    ("PUT", "/snapshot/create", "snapshot.SNAPSHOT_CREATE", "save the paused microVM", RUNNING),
    (
        *("PUT", "/snapshot/load", "snapshot.SNAPSHOT_LOAD"),
        *("go on from a snapshot; a failure ends the process", BEFORE),
    ),
    ("PUT", "/branch", "branch.BRANCH", "clone or save it while it runs; pyrovm's own", RUNNING),
    ("GET", "/branch", "", "what became of snapshots that were written meanwhile", RUNNING),
]
# Bodies inside bodies, at the end of the page.
INNER = {
    "RATE_LIMITER": "rate_limiter.RATE_LIMITER",
    "TOKEN_BUCKET": "rate_limiter.TOKEN_BUCKET",
    "_LEAF_MODIFIER": "cpu_template._LEAF_MODIFIER",
    "_REGISTER_MODIFIER": "cpu_template._REGISTER_MODIFIER",
    "_MSR_MODIFIER": "cpu_template._MSR_MODIFIER",
    "_MEMORY_BACKEND": "snapshot._MEMORY_BACKEND",
    "NETWORK_OVERRIDE": "snapshot.NETWORK_OVERRIDE",
    "VSOCK_OVERRIDE": "snapshot.VSOCK_OVERRIDE",
    "_CLONE": "branch._CLONE",
    "_DRIVE_OVERRIDE": "branch._DRIVE_OVERRIDE",
    "_SNAPSHOT": "branch._SNAPSHOT",
}
SCALARS = {"string": "string", "path": "path", "path_string": "path", "boolean": "boolean"}
CONVERTED = {
    "parse_level": "`Off`, `Error`, `Warn` (`Warning`), `Info`, `Debug`, `Trace`, in any case",
    "parse_mac": "MAC address",
    "parse_ipv4": "IPv4 address",
    "parse_register": "`eax`, `ebx`, `ecx` or `edx`",
    "parse_number": "number as a string, `0x...` or `0b...`",
    "parse_capability": 'KVM capability as a string: `"171"` to need it, `"!171"` not to',
    "bitmap_parser(32)": "bitmap as a string: `0`, `1`, or `x` to keep",
    "bitmap_parser(64)": "bitmap as a string: `0`, `1`, or `x` to keep",
}


def endpoints() -> str:
    """The table of calls."""
    _check_complete()
    lines = ["| call | body | what | before the start | while it runs |"]
    lines += ["| --- | --- | --- | --- | --- |"]
    for method, path, body, what, (before, running) in ENDPOINTS:
        link = f"[fields](#{_anchor(body)})" if body else ""
        lines.append(f"| `{method} {path}` | {link} | {what} | {before} | {running} |")
    return "\n".join(lines)


def _check_complete() -> None:
    """Every handler of the API is in the table.

    Raises:
        ValueError: one is not.
    """
    tables = {"GET": GETS, "PUT": PUTS, "PATCH": PATCHES, "DELETE": DELETES}
    for method, table in tables.items():
        known = {path.split("/")[1] for m, path, *_ in ENDPOINTS if m == method}
        if known != set(table):
            raise ValueError(f"{method}: {known ^ set(table)} in the code or in ENDPOINTS only")


def bodies() -> str:
    """The fields of every body."""
    lines: list[str] = []
    for body in dict.fromkeys([*(body for _, _, body, *_ in ENDPOINTS if body), *INNER.values()]):
        lines += [f"### {_title(body)}", "", *_fields(body), ""]
    return "\n".join(lines)


def config_keys() -> str:
    """The keys of the document of ``--config-file``."""
    bodies_by_name = {body.partition(".")[2]: body for _, _, body, *_ in ENDPOINTS if body}
    lines = ["| key | required | value |", "| --- | --- | --- |"]
    for name, is_required, kind, _ in _declared("vm_file.VM_FILE"):
        inner = kind.removeprefix("sequence(").removesuffix(")")
        if inner in bodies_by_name:
            value = f"[{inner.lower()}](api.md#{_anchor(bodies_by_name[inner])})"
            value = f"list of {value}" if kind != inner else value
        else:
            value = "a custom CPU template, or the path of one"
        lines.append(f"| `{name}` | {'yes' if is_required else 'no'} | {value} |")
    return "\n".join(lines)


def _title(body: str) -> str:
    return body.partition(".")[2].strip("_").lower().replace("_", " ")


def _anchor(body: str) -> str:
    return _title(body).replace(" ", "-")


def _fields(body: str) -> Iterator[str]:
    yield "| field | type | required, or default |\n| --- | --- | --- |"
    module = import_module(f"pyrovm.config.{body.partition('.')[0]}")
    for name, is_required, kind, default in _declared(body):
        last = "required" if is_required else f"`{_json(default, vars(module))}`"
        yield f"| `{name}` | {_kind(kind, vars(module))} | {last} |"


def _declared(body: str) -> Iterator[tuple[str, bool, str, str]]:
    """(name, required, type, default) of the fields, types and defaults as their source text."""
    module, _, name = body.partition(".")
    call = _assigned(module, name)
    assert isinstance(call, ast.Call)
    fields = call.args[1]
    assert isinstance(fields, ast.Tuple)
    for field in fields.elts:
        assert isinstance(field, ast.Call)
        assert isinstance(field.func, ast.Name)
        first, *rest = field.args
        assert isinstance(first, ast.Constant)
        kind = _expanded(module, rest[0])
        default = ast.unparse(rest[1]) if len(rest) > 1 else "None"
        yield str(first.value), field.func.id == "required", kind, default


def _assigned(module: str, name: str) -> ast.expr | None:
    tree = ast.parse((CONFIG / f"{module}.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return node.value
    return None


def _expanded(module: str, kind: ast.expr) -> str:
    """The type's source text; a private name of the module stands for what it was set to."""
    if isinstance(kind, ast.Name) and kind.id.startswith("_") and kind.id not in INNER:
        value = _assigned(module, kind.id)
        return kind.id if value is None else ast.unparse(value)
    return ast.unparse(kind)


def _kind(text: str, names: dict[str, object]) -> str:
    """A type as the reader knows it."""
    if text in SCALARS:
        return SCALARS[text]
    if text in INNER:
        return f"[{_title(INNER[text])}](#{_anchor(INNER[text])})"
    outer, _, rest = text.partition("(")
    inner = rest.removesuffix(")")
    if outer == "sequence":
        return f"list of {_kind(inner, names)}"
    if outer == "mapping":
        return f"object of {_kind(inner, names)}s"
    if outer == "located":
        return _kind(inner, names)
    if outer == "converted":
        return CONVERTED[inner.partition(", ")[0]]
    if outer == "enum":
        words = eval(f"({inner},)", dict(names))
        return ", ".join(f"`{word}`" for word in words)
    if text[:1] == "u":
        return f"integer ({text})"
    raise ValueError(f"no words for the type {text}")


def _json(text: str, names: dict[str, object]) -> str:
    return json.dumps(eval(text, dict(names)))
