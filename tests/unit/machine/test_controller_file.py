"""A machine from one JSON document."""

from __future__ import annotations

import json

import pytest

from pyrovm.errors import ConfigError
from pyrovm.machine.controller_file import configure_from_file
from tests.unit.machine.test_controller import World


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.loop.close()


def document(world, **more):
    fields = {
        "boot-source": {"kernel_image_path": str(world.folder / "kernel")},
        "drives": [],
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    return json.dumps(fields).encode()


def test_everything_in_the_document_is_configured(world):
    text = document(
        world,
        machine_config={"vcpu_count": 2, "mem_size_mib": 256},
        drives=[
            {"drive_id": "a", "path_on_host": str(world.folder / "disk"), "is_root_device": True}
        ],
        network_interfaces=[{"iface_id": "1", "host_dev_name": "tap0"}],
        vsock={"guest_cid": 3, "uds_path": str(world.folder / "v")},
        balloon={"amount_mib": 1, "deflate_on_oom": True},
        mmds_config={"network_interfaces": ["1"], "version": "V2"},
        entropy={},
        pmem=[{"id": "p", "path_on_host": "x"}],
        memory_hotplug={"total_size_mib": 128},
        cpu_config={"kvm_capabilities": ["!171"]},
        metrics={"metrics_path": str(world.folder / "m")},
        logger={"level": "Error"},
        serial={"serial_out_path": "ignored"},
    )
    configure_from_file(world.controller, text, {"meta": 1})
    config = world.controller.vm_config()
    assert config["machine-config"]["vcpu_count"] == 2
    assert config["mmds-config"]["version"] == "V2"
    assert [name for name, value in config.items() if not value] == [
        "cpu-config",
        "logger",
        "metrics",
    ]
    assert world.resources.cpu_template.kvm_capabilities[0].is_removed
    assert world.controller.get_mmds() == {"meta": 1}
    assert world.resources.serial is None


def test_a_template_may_be_in_a_file_of_its_own(world):
    template = world.folder / "t.json"
    template.write_text('{"kvm_capabilities":["171"]}')
    configure_from_file(world.controller, document(world, cpu_config=str(template)))
    assert world.resources.cpu_template.kvm_capabilities[0].number == 171


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"cpu_config": "/none"}, "No such file or directory"),
        (
            {"machine_config": {"vcpu_count": 0, "mem_size_mib": 1}},
            "Machine config error: The number",
        ),
        (
            {"entropy": {"x": 1}},
            "Invalid JSON: unknown field `x`, expected `rate_limiter` at line 1",
        ),
        ({"network_interfaces": 1}, "Invalid JSON: invalid type: integer `1`, expected a sequence"),
        ({"mmds_config": {"network_interfaces": ["1"]}}, "does not correspond to any existing"),
        ({"boot_source": {"kernel_image_path": "/none"}}, "Boot source error: The kernel file"),
    ],
)
def test_what_is_wrong_is_said(world, more, message):
    with pytest.raises(ConfigError) as caught:
        configure_from_file(world.controller, document(world, **more))
    assert message in str(caught.value)


def test_the_order_is_fixed_whatever_the_documents_order_is(world):
    """The balloon is checked against the machine's memory, which comes later in this text."""
    text = document(
        world,
        balloon={"amount_mib": 512, "deflate_on_oom": True},
        machine_config={"vcpu_count": 1, "mem_size_mib": 1024},
    )
    configure_from_file(world.controller, text)
    assert world.resources.balloon.amount_mib == 512
