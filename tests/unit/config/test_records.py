"""The records: what they print, how updates merge, what the checks say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.config import (
    balloon,
    boot_source,
    cpu_template,
    drive,
    entropy,
    logger,
    machine,
    memory_hotplug,
    metrics,
    mmds,
    network,
    pmem,
    rate_limiter,
    snapshot,
    vm_file,
    vsock,
)
from pyrovm.config.serde.schema import parse
from pyrovm.errors import ConfigError

LIMIT = b'{"bandwidth":{"size":1,"refill_time":2},"ops":{"size":0,"refill_time":5}}'


def test_records_are_equal_by_their_fields_and_show_them():
    one = boot_source.BootSourceConfig(kernel_image_path="a")
    assert one == boot_source.BootSourceConfig(kernel_image_path="a")
    assert one != boot_source.BootSourceConfig(kernel_image_path="b")
    assert one != vsock.VsockConfig(guest_cid=3, uds_path="a")
    assert repr(one) == (
        "BootSourceConfig(boot_args=None, initrd_path=None, kernel_image_path='a')"
    )


def test_a_record_that_the_api_never_prints_says_so():
    with pytest.raises(NotImplementedError):
        logger.LoggerConfig().to_json()


# --------------------------------------------------------------- rate limiters


@pytest.mark.parametrize(
    ("size", "refill_time", "is_unlimited"),
    [
        (1, 1, False),
        (0, 1, True),
        (1, 0, True),
        (1, 18446744073709, False),
        (1, 18446744073710, True),
    ],
)
def test_some_buckets_mean_no_limit(size, refill_time, is_unlimited):
    bucket = rate_limiter.TokenBucketConfig(size=size, refill_time=refill_time)
    assert bucket.is_unlimited == is_unlimited


def test_a_limiter_prints_only_what_limits():
    limiter = parse(rate_limiter.RATE_LIMITER, LIMIT)
    assert limiter.to_json() == {
        "bandwidth": {"size": 1, "one_time_burst": None, "refill_time": 2},
        "ops": None,
    }
    assert parse(rate_limiter.RATE_LIMITER, b"{}").to_json() is None


def test_an_update_changes_the_named_bucket_only():
    old = parse(rate_limiter.RATE_LIMITER, LIMIT)
    new = old.updated(parse(rate_limiter.RATE_LIMITER, b'{"ops":{"size":9,"refill_time":9}}'))
    assert new.bandwidth == old.bandwidth
    assert new.ops.size == 9


# --------------------------------------------------------------------- machine


def test_put_resets_everything_but_the_template():
    config = machine.MachineConfig(vcpu_count=4, smt=True, cpu_template="T2", huge_pages="2M")
    update = parse(machine.MACHINE_CONFIG, b'{"vcpu_count":1,"mem_size_mib":5}')
    assert update.apply(config) == machine.MachineConfig(mem_size_mib=5, cpu_template="T2")


def test_patch_is_checked_on_the_merged_machine():
    config = machine.MachineConfig(vcpu_count=3)
    update = parse(machine.MACHINE_CONFIG_UPDATE, b'{"smt":true}')
    with pytest.raises(ConfigError, match="The number of vCPUs must be"):
        update.apply(config)
    assert config == machine.MachineConfig(vcpu_count=3)


@given(st.integers(0, 255), st.booleans())
def test_vcpus_are_1_to_32_and_even_with_smt(count, smt):
    is_fine = 1 <= count <= 32 and not (smt and count > 1 and count % 2)
    config = machine.MachineConfig(vcpu_count=count, smt=smt)
    if is_fine:
        machine.check_machine(config)
    else:
        with pytest.raises(ConfigError):
            machine.check_machine(config)


# ---------------------------------------------------------------- single fields


@pytest.mark.parametrize("text", ["06:00:00:00:00:01", "FF:ff:aA:00:12:34"])
def test_mac_addresses_are_kept_in_lower_case(text):
    assert network.parse_mac(text) == text.lower()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "06:00:00:00:00",
        "06:00:00:00:00:01:02",
        "6:00:00:00:00:01",
        "06-00",
        "0g:00:00:00:00:01",
        "+6:00:00:00:00:01",
    ],
)
def test_other_texts_are_no_mac_addresses(text):
    with pytest.raises(ConfigError, match=r"The provided MAC address is invalid\."):
        network.parse_mac(text)


@pytest.mark.parametrize(
    "text",
    [
        "1.2.3",
        "1.2.3.4.5",
        "256.1.1.1",
        "01.1.1.1",
        "1.1.1.",
        "a.b.c.d",
        "",
        "1.1.1.1 ",
        "\uff11.1.1.1",
    ],
)
def test_other_texts_are_no_ipv4_addresses(text):
    with pytest.raises(ConfigError, match="invalid IPv4 address syntax"):
        mmds.parse_ipv4(text)


@pytest.mark.parametrize(
    ("address", "is_fine"),
    [
        ("169.254.1.0", True),
        ("169.254.254.255", True),
        ("169.254.0.255", False),
        ("169.254.255.0", False),
        ("169.253.1.1", False),
    ],
)
def test_the_metadata_address_is_link_local(address, is_fine):
    config = mmds.MmdsConfig(network_interfaces=["a"], ipv4_address=address)
    if is_fine:
        mmds.check_mmds(config, ["a"])
    else:
        with pytest.raises(ConfigError, match="is not link local"):
            mmds.check_mmds(config, ["a"])


@pytest.mark.parametrize(
    ("word", "level"), [("off", "Off"), ("WARNING", "Warn"), ("wArN", "Warn"), ("Trace", "Trace")]
)
def test_log_levels_are_read_in_any_case(word, level):
    assert logger.parse_level(word) == level


@pytest.mark.parametrize(
    ("fields", "is_vhost_user"),
    [({"path_on_host": "p"}, False), ({"socket": "s"}, True)],
)
def test_a_drive_has_a_file_or_a_socket(fields, is_vhost_user):
    config = drive.DriveConfig(drive_id="a", **fields).checked()
    assert config.is_vhost_user == is_vhost_user
    assert config.io_engine == (None if is_vhost_user else "Sync")
    assert config.is_read_only == (None if is_vhost_user else False)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"is_read_only": True},
        {"socket": "s", "path_on_host": "p"},
        {"socket": "s", "is_read_only": False},
        {"socket": "s", "io_engine": "Sync"},
        {"socket": "s", "rate_limiter": rate_limiter.RateLimiterConfig()},
    ],
)
def test_a_drive_with_neither_or_both_is_refused(fields):
    with pytest.raises(ConfigError, match=r"Invalid block config\."):
        drive.DriveConfig(drive_id="a", **fields).checked()


def test_updates_of_devices_make_new_records():
    limiter = parse(rate_limiter.RATE_LIMITER, LIMIT)
    disk = drive.DriveConfig(drive_id="a", path_on_host="old")
    update = drive.DriveUpdate(drive_id="a", path_on_host="new", rate_limiter=limiter)
    assert disk.updated(update).to_json()["path_on_host"] == "new"
    assert disk.path_on_host == "old"
    assert disk.updated(drive.DriveUpdate(drive_id="a")) == disk
    memory = pmem.PmemConfig(id="a", path_on_host="p")
    assert memory.updated(pmem.PmemUpdate(id="a")) == memory
    assert memory.updated(pmem.PmemUpdate(id="a", rate_limiter=limiter)).rate_limiter == limiter
    nic = network.NetworkInterfaceConfig(iface_id="a", host_dev_name="t")
    changed = nic.updated(network.NetworkInterfaceUpdate(iface_id="a", tx_rate_limiter=limiter))
    assert (changed.rx_rate_limiter, changed.tx_rate_limiter) == (None, limiter)


def test_the_defaults_of_what_may_be_left_out():
    assert parse(balloon.BALLOON_CONFIG, b'{"amount_mib":1,"deflate_on_oom":true}').to_json() == {
        "amount_mib": 1,
        "deflate_on_oom": True,
        "stats_polling_interval_s": 0,
        "free_page_hinting": False,
        "free_page_reporting": False,
    }
    assert parse(balloon.HINTING_START, b"{}").acknowledge_on_stop is True
    assert parse(entropy.ENTROPY_CONFIG, b"{}").to_json() == {"rate_limiter": None}
    assert parse(memory_hotplug.MEMORY_HOTPLUG_CONFIG, b'{"total_size_mib":256}').to_json() == {
        "total_size_mib": 256,
        "block_size_mib": 2,
        "slot_size_mib": 128,
    }
    assert parse(mmds.MMDS_CONFIG, b'{"network_interfaces":["a"]}').to_json() == {
        "version": "V1",
        "network_interfaces": ["a"],
        "ipv4_address": "169.254.169.254",
        "imds_compat": False,
    }
    found = parse(metrics.METRICS_CONFIG, b'{"metrics_path":"m","x":{},"properties":{"a":"b"}}')
    assert (found.emit_id, found.properties) == (False, {"a": "b"})


def test_snapshot_memory_is_named_in_either_way():
    old = parse(snapshot.SNAPSHOT_LOAD, b'{"snapshot_path":"s","mem_file_path":"m"}')
    new = parse(
        snapshot.SNAPSHOT_LOAD,
        b'{"snapshot_path":"s","mem_backend":{"backend_type":"File","backend_path":"m"},'
        b'"network_overrides":[{"iface_id":"a","host_dev_name":"b","c":1}],'
        b'"vsock_override":{"uds_path":"u","c":1},"huge_pages":"Transparent"}',
    )
    assert old.mem_backend == new.mem_backend
    assert (old.is_deprecated, new.is_deprecated) == (True, False)
    assert new.network_overrides[0].host_dev_name == "b"
    assert (old.huge_pages, new.huge_pages) == ("Snapshot", "Transparent")


def test_the_old_word_for_tracking_dirty_pages_still_works():
    params = parse(
        snapshot.SNAPSHOT_LOAD,
        b'{"snapshot_path":"s","mem_backend":{"backend_type":"Uffd","backend_path":"m"},'
        b'"enable_diff_snapshots":true}',
    )
    assert params.track_dirty_pages
    assert params.is_deprecated


# --------------------------------------------------------------- CPU templates


def test_a_template_is_made_of_masks():
    template = parse(
        cpu_template.CPU_TEMPLATE,
        b'{"kvm_capabilities":["171","!172"],'
        b'"cpuid_modifiers":[{"leaf":"0x7","subleaf":"0b1","flags":1,'
        b'"modifiers":[{"register":"ebx","bitmap":"0b1x_0"}]}],'
        b'"msr_modifiers":[{"addr":"0x10a","bitmap":"1xx0"}]}',
    )
    assert [(c.number, c.is_removed) for c in template.kvm_capabilities] == [
        (171, False),
        (172, True),
    ]
    leaf = template.cpuid_modifiers[0]
    assert (leaf.leaf, leaf.subleaf, leaf.flags) == (7, 1, 1)
    assert leaf.modifiers[0].bitmap == cpu_template.BitMask(filter=0b101, value=0b100)
    msr = template.msr_modifiers[0]
    assert (msr.addr, msr.bitmap.filter, msr.bitmap.value) == (0x10A, 0b1001, 0b1000)


@given(st.text(alphabet="01x_", max_size=70), st.integers(0, 2**64 - 1))
def test_a_bitmap_forces_bits_and_keeps_others(text, register):
    digits = text.replace("_", "")
    parse_bitmap = cpu_template.bitmap_parser(64)
    if len(digits) > 64:
        with pytest.raises(ConfigError, match="string is too long"):
            parse_bitmap(text)
        return
    result = parse_bitmap(f"0b{text}").apply(register)
    for position in range(64):
        wanted = digits[-1 - position] if position < len(digits) else "x"
        kept = str(register >> position & 1)
        assert str(result >> position & 1) == (kept if wanted == "x" else wanted)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0x", "ParseIntError { kind: Empty }"),
        ("0xg", "ParseIntError { kind: InvalidDigit }"),
        ("0b2", "ParseIntError { kind: InvalidDigit }"),
        ("0x_1", "ParseIntError { kind: InvalidDigit }"),
        ("0x100000000", "ParseIntError { kind: PosOverflow }"),
        ("0x" + "f" * 5000, "ParseIntError { kind: PosOverflow }"),
    ],
)
def test_numbers_that_do_not_fit_are_named(text, reason):
    with pytest.raises(ConfigError) as caught:
        cpu_template.parse_number(text)
    assert str(caught.value) == (
        f"Failed to parse string [{text}] as a number for CPU template - {reason}"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cannot parse integer from empty string"),
        ("!", "cannot parse integer from empty string"),
        ("1a", "invalid digit found in string"),
        ("-1", "invalid digit found in string"),
        ("4294967296", "number too large to fit in target type"),
    ],
)
def test_capabilities_are_32_bit_numbers(text, reason):
    with pytest.raises(ConfigError) as caught:
        cpu_template.parse_capability(text)
    assert str(caught.value) == (
        f"Failed to parse string [{text}] as a kvm capability - can not convert to numeric: "
        f"{reason}"
    )


# ------------------------------------------------------------------ config file


def test_a_config_file_needs_a_kernel_and_drives_and_may_say_more():
    vm = parse(
        vm_file.VM_FILE,
        b'{"boot-source":{"kernel_image_path":"k"},"drives":[],"cpu-config":"t.json",'
        b'"serial":{"x":1},"unknown":[{}],"vsock":null,'
        b'"machine-config":{"vcpu_count":2,"mem_size_mib":5},"pmem":[{"id":"p","path_on_host":"x"}]}',
    )
    assert vm.cpu_config == "t.json"
    assert vm.machine_config.vcpu_count == 2
    assert vm.pmem[0].id == "p"
    assert (vm.vsock, vm.network_interfaces) == (None, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{}", "missing field `drives`"),
        (b'{"drives":[]}', "missing field `boot-source`"),
        (b'{"drives":[],"boot-source":{"kernel":"k"}}', "unknown field `kernel`"),
        (b'{"cpu-config":{"x":1}}', "unknown field `x`"),
    ],
)
def test_what_is_wrong_with_a_config_file(text, message):
    with pytest.raises(ConfigError, match=message):
        parse(vm_file.VM_FILE, text)
