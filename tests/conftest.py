"""What a test needs is its marker; where that is absent the test is skipped, with the reason.

Each test's markers also go into the JUnit report, for tools/test_summary.py.
"""

import functools
import os
import signal

import pytest
from hypothesis import HealthCheck, settings

from pyrovm.errors import PyrovmError
from pyrovm.guest import programs
from pyrovm.lab.images import QEMU

# A busy machine is no failure: how long an example takes is not asserted anywhere.
settings.register_profile("pyrovm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pyrovm")

# A shell's background job ignores Ctrl-C, and so would every program under test.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@functools.cache
def why_no_kvm():
    """The reason why there is no KVM, or None."""
    if not os.path.exists("/dev/kvm"):
        return "there is no /dev/kvm"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "/dev/kvm may not be opened: group kvm is needed"
    return None


@functools.cache
def why_no_lab():
    """The reason why the lab cannot run, or None.  Its kernel is looked for by its fixture."""
    try:
        programs.require(QEMU, "mke2fs", "debugfs", "setpriv")
        programs.static_busybox()
    except PyrovmError as error:
        return f"no lab: {error}"
    return None


@functools.cache
def why_no_root():
    """The reason why root's work cannot be done, or None."""
    return None if os.geteuid() == 0 else "not root: taps and namespaces cannot be made"


NEEDS = {"kvm": why_no_kvm, "lab": why_no_lab, "root": why_no_root}


def pytest_collection_modifyitems(items):
    for item in items:
        for marker, why_not in NEEDS.items():
            if item.get_closest_marker(marker):
                item.user_properties.append(("marker", marker))
                if reason := why_not():
                    item.add_marker(pytest.mark.skip(reason=reason))
