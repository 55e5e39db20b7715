"""The bodies of all API requests: JSON into validated records."""

from __future__ import annotations

import importlib
import json
import pkgutil
from typing import Any

import pyrovm.config
from pyrovm.config.rate_limiter import RateLimiterConfig, TokenBucketConfig
from pyrovm.config.record import Record
from pyrovm.config.serde.reader import JsonError
from pyrovm.config.serde.schema import parse
from pyrovm.config.serde.writer import dumps
from pyrovm.devices.rate_limiter import U64_MAX, RateLimiter, make_bucket
from pyrovm.errors import ConfigError


def _schemas() -> dict[str, Any]:
    """Every record that the API reads, by the name of its schema."""
    found = {}
    for module_info in pkgutil.iter_modules(pyrovm.config.__path__):
        if module_info.name == "serde":
            continue
        module = importlib.import_module(f"pyrovm.config.{module_info.name}")
        for name, value in vars(module).items():
            made_here = getattr(value, "__module__", "") == "pyrovm.config.serde.schema"
            if name.isupper() and name[0] != "_" and callable(value) and made_here:
                found[name] = value
    return found


SCHEMAS = _schemas()
NAMES = sorted(SCHEMAS)


def one_input(data: bytes) -> None:
    """The first line names the record, or has so many bytes.  Only ConfigError escapes, a syntax
    error only where there is one, and what a record prints is JSON that the record reads again.
    """
    line, _, body = data.partition(b"\n")
    name = line.decode("ascii", "replace")
    if name not in SCHEMAS:
        name = NAMES[len(line) % len(NAMES)]
    try:
        record = parse(SCHEMAS[name], body)
    except JsonError as error:
        assert error.line >= 1, f"{error.text!r} has no place"
        return
    except ConfigError:
        return
    # Bytes that are no UTF-8 pass where nobody looks: in the values of fields that are ignored.
    json.loads(body.decode("utf-8", "replace"))
    if not isinstance(record, Record):
        return
    try:
        printed = record.to_json()
    except NotImplementedError:
        return
    text = dumps(printed)
    json.loads(text)
    if isinstance(record, TokenBucketConfig):
        _check_bucket(record)
    if isinstance(record, RateLimiterConfig):
        for bucket in (record.bandwidth, record.ops):
            if bucket is not None:
                _check_bucket(bucket)
    elif printed is not None:
        try:
            again = parse(SCHEMAS[name], text.encode())
        except ConfigError:
            return  # printed for people: with fields that are not read
        assert dumps(again.to_json()) == text


def _check_bucket(config: TokenBucketConfig) -> None:
    """A bucket of any legal numbers counts without overflow, and ends what it limits."""
    now = 0

    def clock() -> int:
        return now

    bucket = make_bucket(config.size, config.refill_time, config.one_time_burst or 0, clock)
    assert (bucket is None) == config.is_unlimited
    limiter = RateLimiter(bandwidth=bucket)
    for size in (1, config.size, config.size + 1, U64_MAX, 0):
        limiter.consume(size)
        now += config.refill_time * 500_000
        limiter.refund(size)
        if bucket is not None:
            assert 0 <= bucket.budget <= config.size
            assert 0 <= bucket.burst <= (config.one_time_burst or 0)
    state = limiter.state()
    other = RateLimiter()
    other.restore(state)
    assert other.state() == state


def _seed(name: str, **fields: Any) -> bytes:
    return f"{name}\n{json.dumps(fields)}".encode()


BUCKET = {"size": 1000, "refill_time": 100, "one_time_burst": 5}
LIMITER = {"bandwidth": BUCKET, "ops": BUCKET}
SEEDS = [
    _seed("MACHINE_CONFIG", vcpu_count=2, mem_size_mib=128, smt=False, huge_pages="2M"),
    _seed("BOOT_SOURCE", kernel_image_path="/k", boot_args="a b", initrd_path=None),
    _seed(
        "DRIVE_CONFIG", drive_id="a", is_root_device=True, path_on_host="/d", rate_limiter=LIMITER
    ),
    _seed(
        "NETWORK_INTERFACE_CONFIG", iface_id="e", host_dev_name="t", guest_mac="06:00:00:00:00:01"
    ),
    _seed("MMDS_CONFIG", network_interfaces=["a"], version="V2", ipv4_address="169.254.1.1"),
    _seed("RATE_LIMITER", **LIMITER),
    _seed("TOKEN_BUCKET", size=U64_MAX, refill_time=U64_MAX // 1_000_000),
    _seed("BALLOON_CONFIG", amount_mib=5, deflate_on_oom=True, stats_polling_interval_s=1),
    _seed("MEMORY_HOTPLUG_CONFIG", total_size_mib=1024),
    _seed("PMEM_CONFIG", id="a", path_on_host="/p"),
    _seed(
        "CPU_TEMPLATE",
        kvm_capabilities=["!56"],
        cpuid_modifiers=[
            {
                "leaf": "0x1",
                "subleaf": "0x0",
                "flags": 0,
                "modifiers": [{"register": "eax", "bitmap": "0b0xx1"}],
            }
        ],
        msr_modifiers=[{"addr": "0x10a", "bitmap": "0b1x0"}],
    ),
    _seed("METRICS_CONFIG", metrics_path="/m", emit_id=True, properties={"a": "b"}),
    _seed("MACHINE_CONFIG", vcpu_count=1, mem_size_mib=128, huge_pages={"2M": None}),
    _seed("MACHINE_CONFIG", vcpu_count=[1], mem_size_mib=1.5, smt="x", huge_pages={}),
    _seed(
        "VM_FILE", **{"boot-source": {"kernel_image_path": "/k"}, "drives": [], "cpu-config": "/c"}
    ),
    *(f"{name}\n{{}}".encode() for name in NAMES),
]
FIELDS = (
    "vcpu_count mem_size_mib smt drive_id path_on_host rate_limiter bandwidth ops size "
    "refill_time one_time_burst iface_id host_dev_name guest_mac mtu leaf subleaf flags "
    "modifiers register bitmap addr version network_interfaces amount_mib state"
)
WORDS = (
    *(f'"{field}":'.encode() for field in FIELDS.split()),
    *(f"{name}\n".encode() for name in NAMES),
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b'""',
        b"null",
        b"true",
        b"-1",
        b"256",
        b"18446744073709551616",
    ),
)
