"""Network devices from the records of ``/network-interfaces``: the tap is opened here."""

from __future__ import annotations

from pyrovm.backends.tap import Tap
from pyrovm.config.network import check_mtu
from pyrovm.devices.virtio_net import VirtioNet
from pyrovm.errors import ConfigError, HostError
from pyrovm.machine.factory_limiter import make_limiter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.config.network import NetworkInterfaceConfig
    from pyrovm.devices.virtio_net_protocols import KernelPlane, Mmds


def make_net(
    config: NetworkInterfaceConfig, *, mmds: Mmds | None = None, vhost: bool = False
) -> VirtioNet:
    """The device of a network interface.

    With ``vhost`` the kernel moves the frames while nothing has to look at them: no rate limit, no
    ``mmds`` (which may also be set later, before the start), no tracking of dirty pages.

    Raises:
        ConfigError: the name or the MTU is impossible.
        HostError: ``Open tap device failed: …``, or there is no vhost-net.
    """
    try:
        tap = Tap(config.host_dev_name)
    except ConfigError as error:
        raise ConfigError(f"Open tap device failed: {error}") from None
    except HostError as error:
        raise HostError(f"Open tap device failed: {error}", error.errno) from None
    try:
        if config.mtu is not None:
            check_mtu(config.mtu)
        kernel = _open_vhost(tap) if vhost else None
    except Exception:
        tap.close()
        raise
    return VirtioNet(
        config.iface_id,
        tap,
        mac=None if config.guest_mac is None else bytes.fromhex(config.guest_mac.replace(":", "")),
        mtu=config.mtu,
        rx_limiter=make_limiter(config.rx_rate_limiter),
        tx_limiter=make_limiter(config.tx_rate_limiter),
        mmds=mmds,
        kernel=kernel,
    )


def _open_vhost(tap: Tap) -> KernelPlane:
    from pyrovm.backends.vhost_net import VhostNet

    return VhostNet(tap.fd)
