"""Reports about programs that have ended, from a process that may be an enemy's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrovm.errors import ConfigError, HostError, PyrovmError
from pyrovm.programs import wire
from pyrovm.programs.execution import Report

GOOD = {
    "status": ["0"],
    "signal": ["0"],
    "exits": ["3"],
    "build_ns": ["2000000"],
    "run_ns": ["1500000"],
    "panic": [""],
}


def test_a_report_is_read():
    report = Report(GOOD)
    assert (report.returncode, report.exits, report.build_ms, report.run_ms) == (0, 3, 2.0, 1.5)
    assert Report({**GOOD, "status": ["139"], "signal": ["11"]}).returncode == -11


def test_an_error_is_one_of_ours_and_never_another():
    with pytest.raises(ConfigError, match="no memory"):
        Report({"error": ["ConfigError"], "message": ["no memory"]})
    with pytest.raises(HostError, match="words"):
        Report({"error": ["SystemExit"], "message": ["words"]})
    with pytest.raises(HostError, match="has failed: out of pages"):
        Report({**GOOD, "panic": ["out of pages"]})


@pytest.mark.parametrize("change", [{"status": ["x"]}, {"run_ns": [""]}, {"error": ["HostError"]}])
def test_a_report_that_is_none_is_refused(change):
    with pytest.raises(wire.BrokenRecord):
        Report({**GOOD, **change})


@given(
    st.dictionaries(st.sampled_from([*GOOD, "error", "message"]), st.lists(st.text(), min_size=1))
)
def test_any_fields_are_a_report_or_an_error(fields):
    try:
        report = Report(fields)
    except (PyrovmError, wire.BrokenRecord):
        return
    assert isinstance(report.returncode, int)
