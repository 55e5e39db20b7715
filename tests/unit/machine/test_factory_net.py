"""From an interface's record to its device."""

import os

import pytest

from pyrovm.config.network import NetworkInterfaceConfig
from pyrovm.config.rate_limiter import RateLimiterConfig, TokenBucketConfig
from pyrovm.errors import ConfigError, HostError, Unsupported
from pyrovm.machine import factory_net
from pyrovm.machine.factory_net import make_net


class FakeTap:
    def __init__(self, name):
        self.fd = -5
        self.name = name
        self.closed = False
        made.append(self)

    def close(self):
        self.closed = True


made = []


@pytest.fixture
def taps(monkeypatch):
    made.clear()
    monkeypatch.setattr(factory_net, "Tap", FakeTap)
    return made


def config(**fields):
    return NetworkInterfaceConfig(iface_id="eth0", host_dev_name="tap0", **fields)


def test_an_interface_becomes_a_device(taps):
    limit = RateLimiterConfig(ops=TokenBucketConfig(size=9, refill_time=10, one_time_burst=3))
    device = make_net(config(guest_mac="06:00:00:00:00:0a", mtu=1400, tx_rate_limiter=limit))
    assert (device.name, device.mac, device.mtu) == ("eth0", bytes.fromhex("06000000000a"), 1400)
    assert device.rx_limiter.is_unlimited
    assert device.tx_limiter.ops.burst == 3
    assert taps[0].name == "tap0"


def test_an_impossible_mtu_is_found_after_the_tap_was_opened_and_closes_it(taps):
    with pytest.raises(ConfigError) as caught:
        make_net(config(mtu=60))
    assert str(caught.value) == "MTU 60 is out of range [68, 65535]"
    assert taps[0].closed


def test_a_host_without_vhost_net_is_told_so_and_the_tap_is_closed(taps, monkeypatch, tmp_path):
    from pyrovm.backends import vhost_net

    monkeypatch.setattr(vhost_net, "VHOST_NET", str(tmp_path / "vhost-net"))
    with pytest.raises(Unsupported, match="vhost-net does not exist"):
        make_net(config(), vhost=True)
    assert taps[0].closed


@pytest.mark.parametrize("name", ["a" * 16, ""])
def test_an_impossible_name_gives_the_contract_s_words(name):
    with pytest.raises(ConfigError, match=r"^Open tap device failed: Invalid interface name"):
        make_net(NetworkInterfaceConfig(iface_id="eth0", host_dev_name=name))


def test_an_unusable_tap_gives_the_contract_s_words(monkeypatch):
    from pyrovm.backends import tap

    monkeypatch.setattr(tap, "TUN_DEVICE", "/dev/null")
    before = os.listdir("/proc/self/fd")
    with pytest.raises(HostError) as caught:
        make_net(config())
    assert str(caught.value) == (
        "Open tap device failed: Error while creating ifreq structure: Not a tty (os error 25). "
        "Invalid TUN/TAP Backend provided by tap0. "
        "Check our documentation on setting up the network devices."
    )
    assert os.listdir("/proc/self/fd") == before
