"""API calls up to the machine: paths, identifiers and bodies; the machine says yes or no."""

from __future__ import annotations

import json
from typing import Any

from pyrovm.api.http import Request
from pyrovm.api.routes import Routes
from pyrovm.machine.controller_fault import Fault
from pyrovm.machine.metrics import Metrics

METHODS = ("GET", "PUT", "PATCH", "DELETE")


class QuietLog:
    """Forgets what it is told."""

    def is_enabled(self, _level: int) -> bool:
        """Everything is worth saying."""
        return True

    def error(self, _text: str) -> None:
        """Nothing."""

    warn = info = error


class Empty(dict[str, Any]):
    """An answer, or a record that prints as one."""

    def to_json(self) -> Empty:
        """Itself."""
        return self


class Anything:
    """A controller that has every attribute and every method; ``refuses`` makes them raise."""

    def __init__(self, refuses: bool) -> None:
        self._refuses = refuses

    def __getattr__(self, name: str) -> Any:
        return Empty if name == "to_json" else self

    def __call__(self, *_arguments: Any, **_options: Any) -> Empty:
        if self._refuses:
            raise Fault("the machine said no")
        return Empty()


def one_input(data: bytes) -> None:
    """The first line is a method and a path, the rest the body.  Whatever it is, it is answered
    with a well-formed response that says what was wrong.
    """
    line, _, rest = data.partition(b"\n")
    word, _, path = line.decode("utf-8", "replace").partition(" ")
    method = word if word in METHODS else METHODS[len(word) % len(METHODS)]
    log: Any = QuietLog()
    for refuses in (False, True):
        controller: Any = Anything(refuses)
        metrics = Metrics(log)
        routes = Routes(controller, log, metrics)
        raw = routes.handle(Request(method, path, "HTTP/1.1", rest or None))
        head, separator, body = raw.partition(b"\r\n\r\n")
        assert separator
        status = int(head.split(b" ", 2)[1])
        assert status in (200, 204, 400, 413)
        if status == 204:
            assert not body
            assert not refuses
        else:
            assert f"Content-Length: {len(body)}".encode() in head
            answer = json.loads(body.decode("utf-8", "surrogateescape"))
            if status != 200:
                assert list(answer) == ["fault_message"]
                assert answer["fault_message"]


def _seed(method: str, path: str, **fields: Any) -> bytes:
    return f"{method} {path}\n{json.dumps(fields) if method in ('PUT', 'PATCH') else ''}".encode()


PATHS = (
    "/ /version /machine-config /vm/config /mmds /mmds/config /actions /boot-source /cpu-config "
    "/drives/a /pmem/a /network-interfaces/a /vsock /entropy /serial /logger /metrics /vm /balloon "
    "/balloon/statistics /balloon/hinting/start /balloon/hinting/stop /balloon/hinting/status "
    "/hotplug/memory /snapshot/create /snapshot/load /drives /nothing"
)
SEEDS = [
    *(_seed(method, path) for method in METHODS for path in PATHS.split()),
    _seed("PUT", "/drives/a", drive_id="a", is_root_device=True, path_on_host="/d"),
    _seed("PUT", "/drives/a", drive_id="b", is_root_device=True, path_on_host="/d"),
    _seed("PATCH", "/drives/a", drive_id="a", path_on_host="/d"),
    _seed("PUT", "/network-interfaces/a", iface_id="a", host_dev_name="t"),
    _seed("PATCH", "/network-interfaces/a", iface_id="b"),
    _seed("PUT", "/machine-config", vcpu_count=1, mem_size_mib=128, cpu_template="T2"),
    _seed("PATCH", "/vm", state="Paused"),
    _seed("PATCH", "/vm", state="Resumed"),
    _seed("PUT", "/mmds/config", network_interfaces=["a"]),
    _seed("PUT", "/snapshot/create", snapshot_path="/s", mem_file_path="/m", snapshot_type="Diff"),
    _seed("PUT", "/snapshot/load", snapshot_path="/s", mem_file_path="/m", resume_vm=True),
    _seed("PUT", "/actions", action_type="InstanceStart"),
    _seed("PUT", "/actions", action_type="FlushMetrics"),
    _seed("PUT", "/actions", action_type="SendCtrlAltDel"),
    _seed("PATCH", "/balloon", amount_mib=5),
    _seed("PATCH", "/balloon/statistics", stats_polling_interval_s=5),
    _seed("PATCH", "/hotplug/memory", requested_size_mib=5),
    _seed("PATCH", "/pmem/a", id="a"),
    _seed("PUT", "/vsock", guest_cid=3, uds_path="/v", vsock_id="x"),
]
WORDS = (
    *(f"{method} ".encode() for method in METHODS),
    *(path.encode() for path in PATHS.split()),
    *(b"\n{", b'"', b":", b",", b"}", b"null", b"true", b"0", b"[", b"]", b"/", b"//", b"\xff"),
)
