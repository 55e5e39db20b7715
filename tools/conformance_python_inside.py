"""Run one of CPython's test modules and print a line of JSON for each test.

Run by the interpreter under test, inside the VM or beside it:

    python3 conformance_python_inside.py test_json

Lines are [name, outcome, what an error's last line says]; outcomes are ok, skipped, failed, error.
"""

# ruff: noqa: ANN001, ANN201, ANN204
import json
import os
import sys
import unittest

import test.support


class Result(unittest.TestResult):
    """Says how each test went as soon as it has ended."""

    def __init__(self):
        super().__init__()
        self.problem = None

    def startTest(self, test):
        super().startTest(test)
        self.problem = None

    def stopTest(self, test):
        super().stopTest(test)
        self.say(test, *(self.problem or ("ok", "")))

    def say(self, test, outcome, text):
        sys.__stdout__.write(json.dumps([test.id(), outcome, text]) + "\n")
        sys.__stdout__.flush()

    def note(self, test, outcome, text):
        if isinstance(test, unittest.TestCase):
            if self.problem is None or self.problem[0] == "skipped":
                self.problem = (outcome, text)
        else:  # of a class or module that could not be set up
            self.say(test, outcome, text)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.note(test, "skipped", reason)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.note(test, "failed", last_line(err))

    def addError(self, test, err):
        super().addError(test, err)
        self.note(test, "error", last_line(err))

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.note(test, "failed", last_line(err))

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.note(test, "failed", "unexpected success")


def last_line(err):
    kind, value = err[0], err[1]
    return f"{kind.__name__}: {value}".splitlines()[0][:200]


def main():
    test.support.use_resources = []  # as python3 -m test: nothing that is slow or needs a network
    test.support.verbose = 0
    suite = unittest.defaultTestLoader.loadTestsFromName(f"test.{sys.argv[1]}")
    suite.run(Result())
    os._exit(0)  # threads that tests have left behind are not waited for


if __name__ == "__main__":
    main()
