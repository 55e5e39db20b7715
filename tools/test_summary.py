#!/usr/bin/env python3
"""Say in one plain line how the tests went, and see to it that the lab tests did run.

tools/test_summary.py JUNIT_XML

Exit status 1: there were failures, or QEMU is there and yet no lab test has passed.
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from xml.etree import ElementTree


def outcome(case: ElementTree.Element) -> str:
    """What became of a test: passed, failed, error or skipped."""
    for kind, word in (("error", "error"), ("failure", "failed"), ("skipped", "skipped")):
        if case.find(kind) is not None:
            return word
    return "passed"


def marked(case: ElementTree.Element, marker: str) -> bool:
    """Whether a test had this marker (tests/conftest.py notes it as a property)."""
    return any(
        each.get("name") == "marker" and each.get("value") == marker
        for each in case.iter("property")
    )


def main() -> int:
    """The exit status."""
    root = ElementTree.parse(sys.argv[1]).getroot()
    cases = list(root.iter("testcase"))
    counts = Counter(outcome(case) for case in cases)
    seconds = sum(float(suite.get("time", 0)) for suite in root.iter("testsuite"))
    lab = Counter(outcome(case) for case in cases if marked(case, "lab"))
    faults = counts["failed"] + counts["error"]
    if not lab["passed"] and shutil.which("qemu-system-x86_64"):
        print(f"QEMU is there, but no lab test has passed: {dict(lab) or 'none was collected'}")
        faults += 1
    print(f"lab tests: {lab['passed']} passed of {lab.total()}")
    words = [f"{counts[word]} {word}" for word in ("failed", "passed", "skipped", "error")]
    print(", ".join(word for word in words if not word.startswith("0 ")) + f" in {seconds:.2f}s")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
