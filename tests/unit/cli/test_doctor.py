"""pyrovm doctor: what it concludes from a host, and how it says so."""

import io
import json

import pytest

from pyrovm.cli import doctor, doctor_checks
from pyrovm.cli.doctor_checks import BAD, GOOD, NOTE, Finding, Report
from pyrovm.errors import HostError
from pyrovm.host import facts
from pyrovm.kvm import system
from pyrovm.machine import probe


class FakeKvm:
    missing: tuple[str, ...] = ()

    def __init__(self, _device):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def missing_capabilities(self):
        return list(self.missing)


@pytest.fixture
def host(monkeypatch):
    """A host with everything; tests take away what they are about."""

    class Host:
        access = dict.fromkeys(
            ("/dev/kvm", "/dev/net/tun", "/dev/vhost-net", "/dev/vhost-vsock"), facts.OK
        )
        kind = probe.HARDWARE

    Host.access = dict(Host.access)

    def kvm_kind(_kvm, *, thorough):
        assert thorough
        if isinstance(Host.kind, Exception):
            raise Host.kind
        return Host.kind

    monkeypatch.setattr(system, "Kvm", FakeKvm)
    monkeypatch.setattr(FakeKvm, "missing", ())
    monkeypatch.setattr(facts, "device_access", lambda path: Host.access[path])
    monkeypatch.setattr(probe, "kvm_kind", kvm_kind)
    monkeypatch.setattr(facts, "nested_virtualization", lambda: True)
    monkeypatch.setattr(facts, "huge_pages", lambda: facts.HugePages(512, 512, "madvise"))
    monkeypatch.setattr(facts, "userfaultfd", lambda: facts.OK)
    monkeypatch.setattr(facts, "io_uring", lambda: facts.OK)
    monkeypatch.setattr(facts, "swap_bytes", lambda: 0)
    monkeypatch.setattr(facts, "same_page_merging", lambda: False)
    monkeypatch.setattr(facts, "cgroups", lambda: facts.Cgroups(2, "/", ("memory",), True))
    monkeypatch.setattr(facts, "limits", lambda: facts.Limits((4096, None), (None, None)))
    monkeypatch.setattr(facts, "find_program", lambda name: f"/bin/{name}")
    return Host


def find(report, name):
    (found,) = [finding for finding in report.findings if finding.name == name]
    return found


def test_a_complete_host_has_nothing_to_fix(host, capsys):
    report = Report()
    assert report.linux_guests
    assert [f.name for f in report.findings if f.state != GOOD] == []
    assert doctor.main([]) == 0
    assert capsys.readouterr().out.endswith("\n\nLinux guests can run here.\n")


@pytest.mark.parametrize(
    ("access", "value"), [(facts.MISSING, "no /dev/kvm"), (facts.DENIED, "no permission")]
)
def test_without_kvm_nothing_runs(host, access, value):
    host.access["/dev/kvm"] = access
    report = Report()
    assert not report.linux_guests
    kvm = find(report, "kvm")
    assert kvm.state == BAD
    assert value in kvm.value
    assert kvm.fix


def test_a_software_only_kvm_blocks_linux_and_leads_to_the_lab(host, capsys):
    host.kind = probe.SOFTWARE
    assert doctor.main([]) == 1
    out = capsys.readouterr().out
    assert "software-only" in out
    assert "pyrovm lab run" in " ".join(out.split())


def test_missing_capabilities_block_everything(host, monkeypatch):
    monkeypatch.setattr(FakeKvm, "missing", ("PIT2",))
    report = Report()
    assert not report.linux_guests
    assert find(report, "kvm capabilities").value == "without PIT2"


def test_a_probe_that_fails_is_a_finding_not_a_crash(host):
    host.kind = HostError("The KVM probe ended with exit reason 8")
    report = Report()
    assert not report.linux_guests
    assert find(report, "kvm kind").value.endswith("reason 8")


@pytest.mark.parametrize(
    ("attribute", "answer", "name"),
    [
        ("nested_virtualization", False, "nested virtualization"),
        ("nested_virtualization", None, "nested virtualization"),
        ("huge_pages", facts.HugePages(0, 0, "madvise"), "huge pages"),
        ("huge_pages", facts.HugePages(512, 512, "never"), "transparent huge pages"),
        ("userfaultfd", facts.DENIED, "userfaultfd"),
        ("userfaultfd", facts.MISSING, "userfaultfd"),
        ("io_uring", facts.DENIED, "io_uring"),
        ("io_uring", facts.MISSING, "io_uring"),
        ("swap_bytes", 1 << 30, "swap"),
        ("same_page_merging", True, "same-page merging"),
        ("cgroups", facts.Cgroups(0, "", (), False), "cgroups"),
        ("cgroups", facts.Cgroups(1, "", (), True), "cgroups"),
        ("cgroups", facts.Cgroups(2, "/x", (), False), "cgroups"),
        ("limits", facts.Limits((256, 256), (None, None)), "open files"),
    ],
)
def test_what_is_optional_is_a_note_that_says_what_it_blocks(
    host, monkeypatch, attribute, answer, name
):
    monkeypatch.setattr(facts, attribute, lambda: answer)
    report = Report()
    assert report.linux_guests
    finding = find(report, name)
    assert finding.state == NOTE
    assert finding.blocks
    assert [f.name for f in report.findings if f.state != GOOD] == [name]


@pytest.mark.parametrize("device", ["tun", "vhost-net", "vhost-vsock"])
@pytest.mark.parametrize("access", [facts.MISSING, facts.DENIED])
def test_absent_devices_name_their_remedy(host, device, access):
    host.access["/dev/net/tun" if device == "tun" else f"/dev/{device}"] = access
    finding = find(Report(), device)
    assert finding.state == NOTE
    assert finding.fix.startswith("modprobe" if access == facts.MISSING else "give this user")


def test_missing_lab_programs_are_named_with_their_packages(host, monkeypatch):
    monkeypatch.setattr(facts, "find_program", lambda name: "" if name == "mke2fs" else "x")
    finding = find(Report(), "lab programs")
    assert finding.value == "without mke2fs"
    assert finding.fix == "apt install e2fsprogs"


def test_json_has_the_same_findings_and_the_same_exit_status(host, capsys):
    host.kind = probe.SOFTWARE
    assert doctor.main(["--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["linux_guests"] is False
    (kind,) = [f for f in document["findings"] if f["name"] == "kvm kind"]
    assert kind["state"] == BAD
    assert set(kind) == {"name", "state", "value", "blocks", "fix"}


FINDINGS = [
    Finding("short", GOOD, "fine", "never shown", "never shown"),
    Finding("a longer name", NOTE, "word " * 40, "something " * 10, "do " * 40),
]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_line_is_wider_than_the_terminal(width):
    lines = doctor.render(FINDINGS, width, coloured=False)
    assert max(map(len, lines)) <= width
    assert lines[0] == "short          ok       fine"
    assert "never shown" not in " ".join(lines)
    text = " ".join(" ".join(lines).split())
    assert "blocks: something something" in text
    assert "fix: do do" in text


def test_a_long_path_is_not_broken():
    path = "/sys/" + "x" * 100
    lines = doctor.render([Finding("n", NOTE, "v", "b", f"echo > {path}")], 60, coloured=False)
    assert any(path in line for line in lines)


def test_colours_change_no_column():
    plain = doctor.render(FINDINGS, 80, coloured=False)
    coloured = doctor.render(FINDINGS, 80, coloured=True)
    for code in (*doctor.COLOURS.values(), doctor.RESET):
        coloured = [line.replace(code, "") for line in coloured]
    assert coloured == plain


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_only_a_terminal_gets_colours_and_only_if_it_wants_them(host, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    report = Report()
    pipe, terminal, plain = io.StringIO(), Terminal(), Terminal()
    doctor.print_report(report, pipe)
    doctor.print_report(report, terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    doctor.print_report(report, plain)
    assert "\x1b" not in pipe.getvalue()
    assert "\x1b[32mok" in terminal.getvalue()
    assert "\x1b" not in plain.getvalue()


def test_an_unknown_option_is_an_error(host, capsys):
    with pytest.raises(SystemExit) as caught:
        doctor.main(["--frobnicate"])
    assert caught.value.code == 2
    assert "--frobnicate" in capsys.readouterr().err


def test_this_host_can_be_examined():
    names = [finding.name for finding in doctor_checks.Report().findings]
    assert len(set(names)) == len(names)
    assert {"kvm", "cpu", "kernel", "python", "cgroups", "open files"} <= set(names)
