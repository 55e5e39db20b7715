"""The library OS's system calls: from its table, what programs were seen to call, and suites."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from tests.fakes.deviations import DEVIATIONS  # noqa: E402

TABLE = ROOT / "src/pyrovm/libos/syscalls.c"
RESULTS = ROOT / "docs/reference/conformance.json"  # written by tools/conformance.py
_ENTRY = re.compile(r"^\t(CALL|ABSENT)\((\w+), (?:(\w+), )?", re.M)
# Functions of the table that answer without doing anything.
_ANSWERS = {
    "nothing": "answered: 0, and nothing happens",
    "forbidden": "refused: EPERM",
    "fork": "refused: ENOSYS, with a message (one process)",
    "execve": "refused: ENOSYS, with a message (one process)",
    "no_xattr": "refused: no extended attributes",
    "fno_xattr": "refused: no extended attributes",
    "mlock": "answered: 0, pages never leave memory",
    "accept_identity": "answered: 0 for the identity that one has",
    "wait4": "refused: ECHILD, there are no children",
    "waitid": "refused: ECHILD, there are no children",
}
_CONSTANTS = re.compile(r"^CONSTANT\((\w+), ", re.M)


def calls() -> str:
    """Every call of the table: what it does, and which programs make it."""
    constants = set(_CONSTANTS.findall((ROOT / "src/pyrovm/libos/identity.c").read_text()))
    programs: dict[str, list[str]] = {}
    for program, names in _results().get("calls", {}).items():
        for name in names:
            programs.setdefault(name, []).append(program)
    lines = ["| call | how | programs that make it |", "| --- | --- | --- |"]
    counted = {"carried out": 0, "answered": 0, "refused": 0, "absent": 0}
    for kind, name, function in _ENTRY.findall(TABLE.read_text()):
        if kind == "ABSENT":
            how = "absent: ENOSYS"
        elif function in _ANSWERS:
            how = _ANSWERS[function]
        elif function in constants:
            how = "answered: always the same"
        else:
            how = "carried out"
        counted[how.partition(":")[0]] += 1
        lines.append(f"| `{name}` | {how} | {', '.join(programs.get(name, [])) or '-'} |")
    summary = ", ".join(f"{number} {how}" for how, number in counted.items())
    return "\n".join([f"{summary}; whatever is not listed is absent.", "", *lines])


def deviations() -> str:
    """What a program in a VM sees that it does not see as a process."""
    lines = ["| program | case | in a VM | why |", "| --- | --- | --- | --- |"]
    for program, cases in DEVIATIONS.items():
        lines += [
            f"| {program} | {name} | {answer} | {why} |" for name, (answer, why) in cases.items()
        ]
    return "\n".join(lines)


def suites() -> str:
    """Counts of the suites, and the tests that pass natively only."""
    results = _results()
    return "\n".join([*_posix(results["posix"]), "", *_python(results["python"])])


def _posix(r: dict[str, Any]) -> list[str]:
    lines = [
        "### Open POSIX Test Suite",
        "",
        f"Debian's posixtestsuite {r['version']}, {r['date']}, beside Linux {r['kernel']}: "
        f"{r['programs']} programs were run; {r['with processes']} more make processes, which is "
        f"not possible. Of {r['passed natively']} that pass as processes, "
        f"**{r['passed in both']} pass in VMs** ("
        f"{_share(r['passed in both'], r['passed natively'])}); "
        f"{len(r['only in a VM'])} pass in VMs only.",
        "",
        "| outcome | as processes | in VMs |",
        "| --- | --- | --- |",
    ]
    outcomes = sorted({*r["natively"], *r["in a VM"]})
    lines += [f"| {o} | {r['natively'].get(o, 0)} | {r['in a VM'].get(o, 0)} |" for o in outcomes]
    return [*lines, "", *_only_natively(r["only natively"])]


def _python(r: dict[str, Any]) -> list[str]:
    modules = r["modules"]
    lines = [
        "### CPython's regression tests",
        "",
        f"Debian's python3.11 {r['version']}, {r['date']}, beside Linux {r['kernel']}. A test that "
        "starts a process cannot pass: there is one.",
        "",
        "| module | tests | pass as processes | in VMs | start a process | other differences |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, m in modules.items():
        numbers = (m["tests"], m["passed natively"], m["passed in both"], m["need processes"])
        lines.append(f"| {name} | {' | '.join(map(str, numbers))} | {len(m['only natively'])} |")
    different = {n: why for m in modules.values() for n, why in m["only natively"].items()}
    return [*lines, "", *_only_natively(different)]


def _only_natively(tests: dict[str, str]) -> list[str]:
    if not tests:
        return ["None passes as a process only."]
    groups: dict[tuple[str, str], list[str]] = {}
    for name, why in sorted(tests.items()):
        group, _, test = name.removeprefix("test.").replace("/", ".").rpartition(".")
        groups.setdefault((group, _plain(why)), []).append(test)
    lines = ["| only as processes | in VMs |", "| --- | --- |"]
    for (group, why), names in groups.items():
        what = f"{group}: {names[0]}" if len(names) == 1 else f"{group}: {len(names)} tests"
        if group.count(".") == 0:
            what = f"{group}: {', '.join(names)}"
        lines.append(f"| {what} | {why} |")
    return lines


def _plain(text: str) -> str:
    return re.sub(r"[<>\[\]_*`|\\]", " ", text)[:100].strip()


def _share(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.1f} %"


def _results() -> dict[str, Any]:
    results: dict[str, Any] = json.loads(RESULTS.read_text())
    return results
