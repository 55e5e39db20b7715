"""CPython and its standard library: which interpreter, which parts of it go into an image."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pyrovm.errors import ConfigError, HostError
from pyrovm.image.libraries import Libraries
from pyrovm.image.tree import Tree
from pyrovm.image.which import find_program

_INSIDE = Path(__file__).with_name("python_inside.py")
_TIMEOUT = 600  # seconds; compiling a large set of packages takes some
_PIP_TIMEOUT = 1800  # seconds; it may have to compile as well

# What of the standard library is left out: it needs a screen, other programs or a compiler.
_LEFT_OUT = {
    "__pycache__",
    "dist-packages",
    "ensurepip",
    "idlelib",
    "site-packages",
    "tkinter",
    "turtle.py",
    "turtledemo",
}
_TESTS = {"test", "tests", "idle_test"}
_TEST_EXTENSIONS = ("_test", "_ctypes_test", "_xx", "xx")
_NOT_LINUX = (".exe", ".bat", ".ps1", ".pyc")

# Modules that only tools for developers and graphical programs need.  Much of the library imports
# them in some rare branch, and they import half of the rest.
RARE = (
    "_tkinter",
    "distutils",
    "doctest",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "pdb",
    "pydoc",
    "rlcompleter",
    "test",
    "tkinter",
    "turtle",
    "unittest",
)

# Modules that C code and the start of the interpreter import, which no source tells.
HIDDEN = (
    "_compat_pickle",
    "_strptime",
    "abc",
    "ast",
    "codecs",
    "contextlib",
    "copyreg",
    "encodings.aliases",
    "encodings.ascii",
    "encodings.cp437",
    "encodings.idna",
    "encodings.latin_1",
    "encodings.utf_8",
    "importlib.abc",
    "importlib.machinery",
    "importlib.util",
    "io",
    "linecache",
    "locale",
    "os",
    "re",
    "runpy",
    "signal",
    "site",
    "stat",
    "threading",
    "traceback",
    "types",
    "warnings",
    "zipimport",
)


@dataclasses.dataclass(frozen=True)
class Interpreter:
    """A CPython of the host."""

    path: str  # as it was found: maybe a link, maybe in a virtual environment
    version: str
    cache_tag: str
    prefix: str
    stdlib: str
    dynload: str
    packages: tuple[str, ...]  # where installed packages are, first the place for new ones

    @property
    def inputs(self) -> list[str]:
        """Files and folders that change when the interpreter is exchanged."""
        return [self.path, self.stdlib, self.dynload, f"{self.stdlib}/os.py", self._environment]

    @property
    def _environment(self) -> str:
        return f"{os.path.dirname(os.path.dirname(self.path))}/pyvenv.cfg"

    def add(self, tree: Tree, libraries: Libraries) -> str:
        """Bring the interpreter without its library; its path in the image, without links."""
        place = tree.add_host(self.path, "the interpreter")
        libraries.add_program(place)
        if os.path.exists(self._environment):
            tree.add_host(self._environment, "the interpreter's virtual environment")
        return place

    def add_library(self, tree: Tree, libraries: Libraries, *, tests: bool) -> None:
        """Bring the standard library."""
        why = f"standard library of Python {self.version}"
        tree.add_host(f"{self.stdlib}/os.py", why)

        def skip(relative: str, is_folder: bool) -> bool:
            return _is_left_out(relative, tests)

        files = tree.add_host_folder(Path(self.stdlib), self.stdlib, why, skip)
        if tests and not any("/test/support/" in path for path in files):
            tree.remarks.append(f"{self.stdlib}: there are no tests to bring")
        inner = self.dynload.startswith(f"{self.stdlib}/")
        if not inner and os.path.isdir(self.dynload):
            files += tree.add_host_folder(Path(self.dynload), self.dynload, why, skip)
        for path, node in list(tree.nodes.items()):  # Debian: sitecustomize.py is in /etc
            if node.kind == "link" and path.startswith(self.stdlib) and os.path.isfile(path):
                tree.add_host(path, why)
        _add_objects(libraries, files)

    def add_modules(
        self,
        tree: Tree,
        libraries: Libraries,
        scripts: Sequence[str],
        path: Sequence[str],
        packages: Sequence[str],
        include: Sequence[str],
    ) -> None:
        """Bring what scripts (``path``: where their modules are) and packages import of it."""
        request = {
            "do": "modules",
            "scripts": list(scripts),
            "path": list(path),
            "packages": list(packages),
            "modules": [*HIDDEN, *include],
            "required": list(include),
            "excludes": RARE,
        }
        why = f"imported, of the standard library of Python {self.version}"
        own = []
        for found in self.ask(request, options=["-S", "-s"]):
            inside = found.removeprefix(f"{self.stdlib}/")
            is_installed = inside.startswith(("site-packages/", "dist-packages/"))
            if found.startswith((f"{self.stdlib}/", f"{self.dynload}/")) and not is_installed:
                own.append(tree.add_host(found, why))
        tree.add_host(f"{self.stdlib}/os.py", why)  # by which the interpreter finds its library
        if os.path.isdir(self.dynload):
            tree.add_folder(self.dynload, why)
        for name in sorted(os.listdir(self.stdlib)):
            if name.startswith("_sysconfigdata"):
                tree.add_host(f"{self.stdlib}/{name}", why)
        _add_objects(libraries, own)

    def compile(self, tree: Tree, scratch: Path, at: Callable[[float], None]) -> None:
        """Add bytecode for every .py of the image; it is loaded without a look at the source."""
        sources = [
            (path, node)
            for path, node in sorted(tree.nodes.items())
            if path.endswith(".py") and node.kind == "file" and isinstance(node.source, Path)
        ]
        targets = [scratch / f"{number}.pyc" for number in range(len(sources))]
        files = [
            [str(node.source), path, str(target)]
            for (path, node), target in zip(sources, targets, strict=True)
        ]

        def told(line: str) -> None:
            at(int(line) / max(1, len(files)))

        options = ["-S", "-s"]  # not -I: a fixed hash seed is needed for the same bytes every time
        failed = self.ask({"do": "compile_files", "files": files}, options=options, told=told)
        for number, ((path, node), target) in enumerate(zip(sources, targets, strict=True)):
            if number not in set(failed):
                folder, _, name = path.rpartition("/")
                pyc = f"{folder}/__pycache__/{name[:-3]}.{self.cache_tag}.pyc"
                tree.add_file(pyc, target, f"compiled: {node.why}")

    def install(self, requirements: Sequence[Path], into: Path) -> None:
        """Let pip install requirements into a folder.

        Raises:
            HostError: pip failed, or the interpreter has none.
        """
        words = [self.path, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        words += ["--no-compile", "--no-warn-script-location", "--target", str(into)]
        for file in requirements:
            words += ["-r", str(file)]
        try:
            done = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=_PIP_TIMEOUT,
            )
        except subprocess.TimeoutExpired:
            raise HostError(f"pip did not end within {_PIP_TIMEOUT} s") from None
        if done.returncode:
            said = (done.stderr or done.stdout).decode(errors="replace").strip()
            if "No module named pip" in said:
                said += "; on Debian: apt-get install python3-pip"
            raise HostError(f"pip failed with status {done.returncode}: {said[-1200:]}")

    def ask(
        self,
        request: dict[str, Any],
        options: Sequence[str] = ("-I",),
        told: Callable[[str], None] = lambda line: None,
    ) -> Any:
        """The interpreter's answer to a request for ``python_inside.py``."""
        return _ask(self.path, request, options, told)


def describe(path: str) -> Interpreter:
    """Ask an interpreter of the host for its parts.

    Raises:
        ConfigError: it is no CPython.
        HostError: it does not work.
    """
    facts = _ask(path, {"do": "describe"}, ["-I"], lambda line: None)
    if facts.pop("implementation") != "cpython":
        raise ConfigError(f"{path}: not CPython")
    facts["packages"] = tuple(facts["packages"])
    return Interpreter(path=path, **facts)


def default() -> str:
    """The interpreter for images by default: ``python3`` on PATH, else the one that runs this."""
    return find_program("python3") or sys.executable


def _ask(
    path: str, request: dict[str, Any], options: Sequence[str], told: Callable[[str], None]
) -> Any:
    env = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}
    last = ""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [path, *options, str(_INSIDE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd="/",
            env=env,
            text=True,
            errors="surrogateescape",
        )
        watch = threading.Timer(_TIMEOUT, process.kill)
        watch.start()
        try:
            with process:
                assert process.stdin
                assert process.stdout
                with contextlib.suppress(BrokenPipeError):  # it ends early, and says why
                    process.stdin.write(json.dumps(request))
                    process.stdin.close()
                for line in process.stdout:
                    if last:
                        told(last)
                    last = line.strip()
        finally:
            watch.cancel()
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip()
    if process.returncode or not last:
        raise HostError(f"{path}: {request['do']} failed ({process.returncode}): {said[-800:]}")
    return json.loads(last)


def _is_left_out(relative: str, tests: bool) -> bool:
    parts = relative.split("/")
    name = parts[-1]
    if parts[0] in _LEFT_OUT or "__pycache__" in parts or parts[0].startswith("config-"):
        return True
    if name.endswith(_NOT_LINUX) or name.startswith("_tkinter."):
        return True
    if tests:
        return False
    return bool(_TESTS & set(parts)) or (name.endswith(".so") and name.startswith(_TEST_EXTENSIONS))


def _add_objects(libraries: Libraries, files: Sequence[str]) -> None:
    for path in files:
        if path.endswith(".so") or ".so." in path:
            libraries.add_object(path)
