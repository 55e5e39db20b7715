"""The documentation as tests read it: pages, code blocks, commands."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("fuzz/*.md")])
BLOCK = re.compile(r"^ *```([a-z]*)\n(.*?)^ *```$", re.S | re.M)
INNER = re.compile(r"\$\((pyrovm [^()]*)\)")
# Where a shell command ends, as words of shlex.
ENDS = {"|", ">", "&", "}", ";", "$@", "$@;"}
TUTORIAL_VM = ["pyrovm", "run", "--kernel", "debian"]  # what its shell function vm() stands for


def name(page):
    """A page's name in messages and test ids."""
    return str(page.relative_to(ROOT))


def blocks(page, *languages):
    """The texts of a page's code blocks in these languages."""
    return [text for language, text in BLOCK.findall(page.read_text()) if language in languages]


def prose(page):
    """A page without its code blocks."""
    return BLOCK.sub("", page.read_text())


def anchors(page):
    """The anchors of a page's headings, as repositories' web pages make them."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", prose(page), re.M):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w -]", "", text).strip().replace(" ", "-"))
    return found


def shell_lines(page):
    """Every command line of a page: behind a prompt in a console block, or in a shell block."""
    for language, text in BLOCK.findall(page.read_text()):
        joined = re.sub(r"\\\n\s*", " ", text)
        for line in joined.splitlines():
            if language == "console" and line.startswith(("$ ", "# ")):
                yield line[2:]
            elif language == "sh":
                yield line


def commands(page):
    """The words of each command of ours on a page, from ``pyrovm`` on."""
    for line in shell_lines(page):
        for inner in INNER.findall(line):
            yield shlex.split(inner)
        if "pyrovm" in line or line.startswith("vm "):
            yield from _ours(shlex.split(INNER.sub("FILE", line), comments=True))


def _ours(words):
    if words[:1] == ["vm"]:
        words = TUTORIAL_VM + words[1:]
    starts = [i for i, word in enumerate(words) if word in ("pyrovm", "pyrovm-firecracker")]
    if not starts:
        return
    words = words[starts[0] :]
    command = []
    for word in words:
        if word in ENDS or word.startswith((">", "2>")):
            break
        if word != "...":
            command.append(word)
    yield command
    if "pyrovm.cli.main" in command:  # inside the lab
        yield ["pyrovm", *command[command.index("pyrovm.cli.main") + 1 :]]
