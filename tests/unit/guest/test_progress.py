import io

from pyrovm.guest import progress
from pyrovm.guest.progress import Progress, Silent


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_has_one_line_that_is_cleared():
    stream = Terminal()
    shown = Progress("lab", stream)
    shown.step("working")
    shown.at(0.5)
    shown.done("ready")
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert "\r\x1b[Klab: working" in text
    assert text.rpartition("\x1b[K")[2].startswith("lab: ready (")


def test_elsewhere_each_step_is_a_line_and_percentages_are_few(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    stream = io.StringIO()
    shown = Progress("lab", stream)
    shown.step("compiling")
    for n in range(40):
        clock[0] = n
        shown.at(n / 40)
    shown.done("ready")
    assert stream.getvalue().splitlines() == [
        "lab: compiling",
        "lab: compiling: 78%",
        "lab: ready (39 s)",
    ]


def test_silence_is_silent():
    stream = io.StringIO()
    shown = Silent("x", stream)
    shown.step("a")
    shown.at(0.1)
    shown.done("b")
    assert stream.getvalue() == ""
