"""What only the interpreter that goes into an image can tell or do.

This file is run by that interpreter, of any version from 3.8 on, not imported: a request as JSON on
standard input, the answer as JSON on the last line of standard output, before it lines that count
what is done.
"""

from __future__ import annotations

import sys

if sys.path and sys.path[0] == __file__.rpartition("/")[0]:
    del sys.path[0]  # the modules beside this file are none of this interpreter's

AT_START = list(sys.modules.values())  # what the interpreter itself imports

import ast
import json
import os
import site
import sysconfig
from typing import Any

EVERY = 25  # files between two lines of progress


def describe(request: dict[str, Any]) -> dict[str, Any]:
    """Where the interpreter has its parts."""
    return {
        "implementation": sys.implementation.name,
        "version": ".".join(map(str, sys.version_info[:3])),
        "cache_tag": sys.implementation.cache_tag,
        "prefix": sys.prefix,
        "stdlib": sysconfig.get_path("stdlib"),
        "dynload": os.path.join(
            sysconfig.get_path("platstdlib", vars={"base": sys.base_exec_prefix}), "lib-dynload"
        ),
        "packages": site.getsitepackages(),
    }


def compile_files(request: dict[str, Any]) -> list[int]:
    """Write a .pyc for each [source, its path in the image, target]; indices of those that fail."""
    import py_compile
    import warnings

    warnings.simplefilter("ignore")
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    failed = []
    for number, (source, path, target) in enumerate(request["files"]):
        try:
            py_compile.compile(source, target, path, doraise=True, invalidation_mode=mode)
        except (py_compile.PyCompileError, OSError, ValueError):
            failed.append(number)  # templates and tests of the parser: not every .py is Python
        if number % EVERY == 0:
            print(number, flush=True)
    return failed


def modules(request: dict[str, Any]) -> list[str]:
    """The files of all modules that the scripts and modules import, as far as their code tells."""
    import modulefinder

    sources = [*request["scripts"]]
    for folder in request["packages"]:
        for top, _, files in os.walk(folder):
            sources += [os.path.join(top, name) for name in files if name.endswith(".py")]
    asked = {name.partition(".")[0] for source in sources for name, _ in _imports(source)}
    asked.update(name.partition(".")[0] for name in request["required"])
    finder = modulefinder.ModuleFinder(
        path=[*request["packages"], *request["path"], *sys.path],
        excludes=[name for name in request["excludes"] if name not in asked],
    )
    # not finder.run_script: it cannot take the parts of a package one by one
    for name, parts in sorted(
        {found for script in request["scripts"] for found in _imports(script)}
    ):
        try:
            finder.import_hook(name, None, list(parts))
        except ImportError:
            continue  # for another system or version; the script knows
    for name in request["modules"]:
        try:
            finder.import_hook(name)
        except ImportError:
            if name in request["required"]:
                raise SystemExit(f"no module {name}") from None
    both = [*finder.modules.values(), *AT_START]
    found = {getattr(module, "__file__", None) or "" for module in both}
    return sorted(os.path.abspath(path) for path in found if path and os.path.isfile(path))


def local_modules(request: dict[str, Any]) -> list[str]:
    """Files and folders beside a script that it imports, and what those import."""
    folder = os.path.dirname(os.path.abspath(request["script"]))
    found: set[str] = set()
    left = [os.path.abspath(request["script"])]
    while left:
        for name in {dotted.partition(".")[0] for dotted, _ in _imports(left.pop())}:
            for path in (os.path.join(folder, name), os.path.join(folder, name + ".py")):
                is_package = os.path.isdir(path) and os.path.exists(path + "/__init__.py")
                is_module = os.path.isfile(path) and path.endswith(".py")
                if path in found or not (is_package or is_module):
                    continue
                found.add(path)
                if is_package:
                    left += [
                        os.path.join(top, file)
                        for top, _, files in os.walk(path)
                        for file in files
                        if file.endswith(".py")
                    ]
                else:
                    left.append(path)
    return sorted(found)


def _imports(path: str) -> set[tuple[str, tuple[str, ...]]]:
    """What a file imports absolutely: (module, what of it)."""
    with open(path, "rb") as file:
        try:
            tree = ast.parse(file.read(), path)
        except (SyntaxError, ValueError):
            return set()  # it fails when it is run, and says so better
    found: set[tuple[str, tuple[str, ...]]] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add((node.module, tuple(alias.name for alias in node.names)))
    return found


if __name__ == "__main__":
    asked = json.loads(sys.stdin.read())
    answer = globals()[asked["do"]](asked)
    print(json.dumps(answer))
