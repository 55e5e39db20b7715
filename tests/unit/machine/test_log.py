"""The log: how lines look, which are written, and what happens to those that cannot be."""

from __future__ import annotations

import os
import re

import pytest

from pyrovm.config.logger import LoggerConfig
from pyrovm.errors import ConfigError
from pyrovm.machine import log as log_module
from pyrovm.machine.log import BURST, DEBUG, INFO, PERIOD, Log

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}"


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "log")


@pytest.fixture
def log(path):
    log = Log("vm-1")
    log.update(LoggerConfig(log_path=path))
    yield log
    log.close()


def lines(path):
    with open(path) as file:
        return file.read().splitlines()


def test_a_line_has_time_id_thread_and_message(log, path):
    log.info("hello")
    assert re.fullmatch(rf"{STAMP} \[vm-1:main\] hello", lines(path)[0])


def test_level_and_origin_are_shown_when_asked_for(log, path):
    log.update(LoggerConfig(level="Debug", show_level=True, show_log_origin=True))
    for write, name in [
        (log.error, "ERROR"),
        (log.warn, "WARN"),
        (log.info, "INFO"),
        (log.debug, "DEBUG"),
    ]:
        write("x")
        origin = r"\S*test_log\.py:\d+"
        assert re.fullmatch(rf"{STAMP} \[vm-1:main:{name}:{origin}\] x", lines(path)[-1])


def test_the_level_falls_back_to_info_and_the_rest_stays(log, path):
    log.update(LoggerConfig(level="Error", show_level=True))
    log.warn("lost")
    log.update(LoggerConfig())
    log.debug("lost")
    log.info("kept")
    assert [line.split("] ")[1] for line in lines(path)] == ["kept"]
    assert ":INFO]" in lines(path)[0]


@pytest.mark.parametrize(("level", "count"), [("Off", 0), ("Error", 1), ("Warn", 2), ("Trace", 4)])
def test_levels_are_cumulative(log, path, level, count):
    log.update(LoggerConfig(level=level))
    log.error("x")
    log.warn("x")
    log.info("x")
    log.debug("x")
    assert len(lines(path)) == count
    assert log.is_enabled(INFO) == (count > 2)
    assert log.is_enabled(DEBUG) == (count > 3)


def test_only_the_wanted_modules_are_written(log, path):
    log.update(LoggerConfig(module="tests::unit::machine"))
    log.info("mine")
    log.update(LoggerConfig(module="pyrovm::api"))
    log.info("not mine")
    assert len(lines(path)) == 1


def test_a_view_has_its_own_name_and_shares_the_rest(log, path):
    view = log.named("fc_api")
    log.update(LoggerConfig(level="Error"))
    view.info("lost")
    view.error("kept")
    log.set_instance_id("other")
    view.error("kept")
    assert re.fullmatch(rf"{STAMP} \[vm-1:fc_api\] kept", lines(path)[0])
    assert re.fullmatch(rf"{STAMP} \[other:fc_api\] kept", lines(path)[1])


def test_threads_have_their_names(log, path):
    import threading

    def work():
        log.name_thread("fc_vcpu 0")
        log.info("x")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    log.info("y")
    assert [line.split()[1] for line in lines(path)] == ["[vm-1:fc_vcpu", "[vm-1:main]"]


def test_a_file_is_created_and_not_truncated(tmp_path):
    path = tmp_path / "old"
    path.write_text("x" * 1000)
    log = Log("a")
    log.update(LoggerConfig(log_path=str(path)))
    log.info("new")
    log.close()
    assert path.stat().st_size == 1000


def test_a_file_that_cannot_be_opened_is_the_callers_fault():
    with pytest.raises(ConfigError, match=r"Failed to open target file: No such .*\(os error 2\)"):
        Log("a").update(LoggerConfig(log_path="/none/log"))


def test_a_fifo_needs_no_reader_and_never_blocks(tmp_path):
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    log = Log("a")
    log.update(LoggerConfig(log_path=path))
    for _ in range(100):
        log.info("x" * 4000)
    assert log.missed > 50
    log.close()


def test_a_guest_can_write_10_lines_from_one_place_in_5_seconds(log, path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(log_module, "monotonic", lambda: now[0])

    def provoke(count):
        for _ in range(count):
            log.guest("bad guest")

    provoke(BURST + 15)
    assert len(lines(path)) == BURST
    assert log.rate_limited == 15
    log.guest("another place")
    assert len(lines(path)) == BURST + 1
    now[0] += PERIOD
    provoke(1)
    assert [line.split("] ")[1] for line in lines(path)[-2:]] == [
        "15 messages like the next were suppressed",
        "bad guest",
    ]


def test_what_is_switched_off_does_not_count_as_suppressed(log):
    log.update(LoggerConfig(level="Error"))
    for _ in range(BURST * 2):
        log.guest("x")
    assert log.rate_limited == 0


def test_text_that_is_no_utf_8_keeps_its_bytes(log, path):
    log.info(os.fsdecode(b"\xff"))
    with open(path, "rb") as file:
        assert file.read().endswith(b"] \xff\n")
