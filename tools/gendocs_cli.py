"""Command lines as tables, from the parsers themselves.

argparse's own help differs from one version of Python to the next, so it is not used.
"""

from __future__ import annotations

import argparse
import re
from importlib import import_module
from typing import TYPE_CHECKING

from pyrovm.cli.firecracker_args import FLAGS
from pyrovm.cli.main import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

ELSEWHERE = {"run": "run_options"}  # sub-commands whose parser is in another module
PROGRAMS = "run_program_options"  # of pyrovm run without --kernel


def module_of(command: str) -> ModuleType:
    """The module with the command line of ``pyrovm COMMAND``.

    It has ``_parser()``, or else a text ``USAGE`` and ``parse(words)``.

    Raises:
        ValueError: it has neither.
    """
    module = import_module(f"pyrovm.cli.{ELSEWHERE.get(command, COMMANDS[command][0])}")
    if not hasattr(module, "_parser") and not (
        hasattr(module, "USAGE") and hasattr(module, "parse")
    ):
        raise ValueError(f"{module.__name__} needs _parser(), or USAGE and parse()")
    return module


def option_words(command: str) -> set[str]:
    """All options of ``pyrovm COMMAND``, with those of its sub-commands."""
    module = module_of(command)
    if command == "run":
        programs = import_module(f"pyrovm.cli.{PROGRAMS}")
        return _options(module._parser()) | {*programs.WITH_VALUE, *programs.SWITCHES}
    if hasattr(module, "_parser"):
        return _options(module._parser())
    return set(re.findall(r"--[a-z][a-z-]*", module.USAGE))


def _options(parser: argparse.ArgumentParser) -> set[str]:
    found: set[str] = set()
    for action in parser._actions:
        found.update(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                found |= _options(inner)
    return found


def commands() -> str:
    """Every sub-command of ``pyrovm``."""
    lines = ["| command | what it does |", "| --- | --- |"]
    lines += [
        f"| [`pyrovm {name}`](#pyrovm-{name}) | {text} |" for name, (_, text) in COMMANDS.items()
    ]
    for name in COMMANDS:
        module = module_of(name)
        if name == "run":
            usage = import_module(f"pyrovm.cli.{PROGRAMS}").USAGE.strip()
            lines += ["", "## pyrovm run PROGRAM", "", f"```\n{usage}\n```"]
        if hasattr(module, "_parser"):
            lines += ["", *_described(module._parser(), "##")]
        else:
            lines += ["", f"## pyrovm {name}", "", f"```\n{module.USAGE.strip()}\n```"]
    return "\n".join(lines)


def _described(parser: argparse.ArgumentParser, mark: str) -> Iterator[str]:
    subparsers = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    yield f"{mark} {parser.prog}"
    yield ""
    yield f"```\n{_usage(parser)}\n```"
    if parser.description:
        yield ""
        yield _paragraphs(parser.description)
    if subparsers:
        about = {action.dest: action.help or "" for action in subparsers[0]._choices_actions}
        yield ""
        for name in subparsers[0].choices:
            yield f"* `{parser.prog} {name}`: {about[name]}"
    rows = list(_rows(parser))
    if rows:
        yield ""
        yield "| option | meaning |\n| --- | --- |"
        yield from rows
    if parser.epilog:
        yield ""
        yield f"```\n{parser.epilog.strip()}\n```" if "\n" in parser.epilog else parser.epilog
    for action in subparsers:
        for inner in action.choices.values():
            yield ""
            yield from _described(inner, mark + "#")


def _paragraphs(text: str) -> str:
    text = text.strip().replace("``", "`")
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _usage(parser: argparse.ArgumentParser) -> str:
    if parser.usage:
        return parser.usage
    words = [parser.prog]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            words.append("COMMAND ...")
        elif not action.option_strings:
            value = _value(action)
            words.append({"+": f"{value} ...", "?": f"[{value}]"}.get(str(action.nargs), value))
    if any(a.option_strings and a.dest != "help" for a in parser._actions):
        words.insert(1, "[OPTION...]")
    return " ".join(words)


def _rows(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or action.dest == "help":
            continue
        if isinstance(action, argparse._SubParsersAction):
            continue
        words = action.option_strings or [_value(action)]
        value = f" {_value(action)}" if action.option_strings and action.nargs != 0 else ""
        option = ", ".join(f"`{word}{value}`" for word in words)
        text = (action.help or "").replace("|", "\\|")
        if action.choices and action.metavar is None:
            text += f"{': ' if text else ''}{', '.join(f'`{c}`' for c in action.choices)}"
        if action.required and action.option_strings:
            text += "; required"
        yield f"| {option} | {text} |"


def _value(action: argparse.Action) -> str:
    if action.metavar is not None:
        return str(action.metavar)
    return action.dest.upper().replace("-", "_")


def firecracker_flags() -> str:
    """The flags of ``pyrovm-firecracker``."""
    lines = ["| flag | meaning |", "| --- | --- |"]
    for name, (value, text) in FLAGS.items():
        lines.append(f"| `--{name}{f' <{value}>' if value else ''}` | {text} |")
    return "\n".join(lines)
