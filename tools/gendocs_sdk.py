"""The SDK's reference from its source: signatures and docstrings, without running any of it."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).resolve().parent.parent / "src" / "pyrovm"
SDK, PROGRAMS = SOURCE / "sdk", SOURCE / "programs"
# Class -> its module, in the order of the page.
CLASSES = {
    "MicroVM": "microvm",
    "Console": "microvm",
    "Drive": "spec",
    "Network": "spec",
    "Vsock": "spec",
    "Pmem": "spec",
    "Balloon": "spec",
    "MemoryHotplug": "spec",
    "Snapshot": "snapshots",
    "AsyncMicroVM": "aio",
    "MicroVMError": "errors",
    "ApiError": "errors",
    "VmmExited": "errors",
    "WaitTimeout": "errors",
}
# The same of programs and functions in VMs.
PROGRAM_NAMES = {
    "run": "running",
    "arun": "running",
    "CompletedProgram": "running",
    "function": "function",
    "Function": "function",
    "FunctionError": "errors",
    "FunctionTimeout": "errors",
    "start": "live",
    "Running": "live",
    "Template": "template",
    "Branch": "branches",
    "AsyncTemplate": "template_async",
    "TemplateError": "template",
}
INHERITED = {"MicroVM": ("MicroVMBase", "_base")}  # shown with the class that has it
DEFINITIONS = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
SAME_AS = {"AsyncMicroVM": "MicroVM"}


def classes() -> str:
    """Every public class."""
    lines: list[str] = []
    for name, module in CLASSES.items():
        node = _class(name, module)
        lines += [f"## {name}", "", *_class_text(node)]
        if name in SAME_AS:
            lines += [*_same(name, node)]
            continue
        members = list(_members(node))
        if name in INHERITED:
            base = _class(*INHERITED[name])
            members = list(_members(base)) + members
        for text in members:
            lines += [text, ""]
    return "\n".join(lines)


def programs() -> str:
    """What there is to run programs and functions."""
    lines: list[str] = []
    for name, module in PROGRAM_NAMES.items():
        tree = ast.parse((PROGRAMS / f"{module}.py").read_text())
        found = [n for n in tree.body if isinstance(n, DEFINITIONS) and n.name == name]
        node = found[-1]  # behind the overloads
        lines += [f"## {name}", ""]
        if isinstance(node, ast.ClassDef):
            lines += [*_class_text(node), *(f"{text}\n" for text in _members(node, "__call__"))]
        else:
            text = _prose(ast.get_docstring(node) or "")
            lines += ["```", _signature(name, node), "```", "", text, ""]
    return "\n".join(lines)


def _class(name: str, module: str) -> ast.ClassDef:
    tree = ast.parse((SDK / f"{module}.py").read_text())
    return next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name)


def _class_text(node: ast.ClassDef) -> Iterator[str]:
    yield _prose(ast.get_docstring(node) or "")
    yield ""
    fields = [n for n in node.body if isinstance(n, ast.AnnAssign) and not _hidden(n)]
    if fields:
        yield "| field | type | default |\n| --- | --- | --- |"
        for field in fields:
            assert isinstance(field.target, ast.Name)
            kind = ast.unparse(field.annotation).replace("|", "\\|")
            default = "required" if field.value is None else f"`{ast.unparse(field.value)}`"
            yield f"| `{field.target.id}` | `{kind}` | {default} |"
        yield ""


def _hidden(node: ast.AnnAssign) -> bool:
    return isinstance(node.target, ast.Name) and node.target.id.startswith("_")


def _members(node: ast.ClassDef, special: str = "__init__") -> Iterator[str]:
    for member in node.body:
        if not isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        text = ast.get_docstring(member)
        if text is None or (member.name.startswith("_") and member.name != special):
            continue
        member.args.args = member.args.args[1:]  # self
        name = node.name.removesuffix("Base") if member.name == "__init__" else member.name
        if any(ast.unparse(each) == "classmethod" for each in member.decorator_list):
            name = f"{node.name}.{name}"
        yield f"```\n{_signature(name, member)}\n```\n\n{_prose(text)}"


def _signature(name: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    decorators = {ast.unparse(each) for each in node.decorator_list}
    result = "" if node.returns is None else f" -> {ast.unparse(node.returns)}"
    if "property" in decorators:
        return f"{name}:{result.removeprefix(' ->')}"
    result = "" if node.name == "__init__" else result
    # As it is formatted in source: blanks around the = of an annotated argument.
    arguments = re.sub(r"(: [^=,]+)=", r"\1 = ", ast.unparse(node.args))
    line = f"{name}({arguments}){result}"
    if len(line) > 96:
        pieces = re.split(r", (?![^\[]*\])", arguments)
        line = f"{name}(\n" + "".join(f"    {piece},\n" for piece in pieces) + f"){result}"
    return line


def _prose(text: str) -> str:
    """A docstring as Markdown: roles become code, Args and Raises become lists, doctests code."""
    text = re.sub(r":(?:meth|class|func|attr|mod|data):`([^`]+)`", r"`\1`", inspect.cleandoc(text))
    text = text.replace("``", "`")
    out: list[str] = []
    in_list = in_code = False
    for line in text.splitlines():
        if line in ("Args:", "Raises:"):
            in_list = True
            out += [f"{line}", ""]
        elif line.startswith((">>> ", "... ")):
            out += [] if in_code else ["```python"]
            in_code = True
            out.append(re.sub(r"\s+# doctest: \+SKIP$", "", line[4:]))
        elif in_code:  # what it prints, up to an empty line
            out.append(f"# {line}" if line.strip() else "```\n")
            in_code = bool(line.strip())
        elif in_list and line.startswith("        "):
            out[-1] += f" {line.strip()}"
        elif in_list and line.strip():
            name, colon, rest = line.strip().partition(": ")
            out.append(f"* `{name}`: {rest}" if colon else f"* {line.strip()}")
        else:
            in_list = in_list and not line.strip()
            out.append(line)
    return "\n".join([*out, "```"] if in_code else out)


def _same(name: str, node: ast.ClassDef) -> Iterator[str]:
    """An asynchronous class has the calls of its model; say which are awaited, not all again."""
    awaited = [
        member.name
        for member in node.body
        if isinstance(member, ast.AsyncFunctionDef)
        and not member.name.startswith("_")
        and not any(ast.unparse(each) != "classmethod" for each in member.decorator_list)
    ]
    yield f"The constructor and the calls are those of `{SAME_AS[name]}`. To be awaited: "
    yield ", ".join(f"`{word}`" for word in awaited)
    yield "(`paused` is an asynchronous context manager), and `write`, `wait_for` of its console."
    yield ""
