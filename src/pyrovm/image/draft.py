"""An image in the making: options in, tree and entry out; one method for each kind of source."""

from __future__ import annotations

import dataclasses
import os
import shlex
import stat
from collections.abc import Mapping
from pathlib import Path

from pyrovm.errors import ConfigError, HostError
from pyrovm.guest.progress import Progress
from pyrovm.image import base, c_source, elf, python, runtimes, script
from pyrovm.image.libraries import Libraries, read_elf
from pyrovm.image.tree import DEFAULT_MAX_BYTES, Tree
from pyrovm.image.which import find_program, is_python

APP = "/app"
_CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
_TLS_LIBRARIES = ("libssl.so", "libgnutls.so")


@dataclasses.dataclass(frozen=True)
class Options:
    """What a caller may say about an image."""

    name: str | None = None  # by default after the source
    args: tuple[str, ...] = ()  # default arguments; of a folder: the command
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    cwd: str | None = None  # by default / for programs, the folder of the application else
    at: str = APP  # where the contents of a folder go
    add: tuple[tuple[str, str], ...] = ()  # more files or folders: (on the host, in the image)
    python: str | None = None  # the interpreter; by default python3
    requirements: tuple[str, ...] = ()  # files for pip
    trim: bool = False  # only what is imported of Python's standard library
    include: tuple[str, ...] = ()  # modules besides those found by trimming
    site_packages: bool = False  # what is installed for the interpreter as well
    tests: bool = False  # Python's own regression tests as well
    cc: str | None = None  # the C compiler
    cflags: tuple[str, ...] = ()
    max_bytes: int = DEFAULT_MAX_BYTES


class Draft:
    """What goes into the image, and how it is started."""

    def __init__(self, options: Options, scratch: Path, progress: Progress) -> None:
        self.options = options
        self.tree = Tree(options.max_bytes)
        self.exe = ""
        self.argv: list[str] = []
        self.env = dict(base.ENV)
        self.cwd = "/"
        self.inputs: set[str] = set()  # files and folders of the host that decided over all this
        self._libraries = Libraries(self.tree)
        self._scratch = scratch
        self._progress = progress
        self._python: python.Interpreter | None = None
        self._scripts: list[str] = []

    def take(self, source: str) -> None:
        """Bring the source and all that it needs; ``source`` is an absolute path of the host.

        Raises:
            ConfigError: it cannot become an image; says what is wrong with which file.
            HostError: a tool failed or is missing.
        """
        self._take(source)
        for given, at in self.options.add:
            self._add(Path(given), at)
        if self._python is not None:
            self._take_python(self._python)
        self._take_certificates()
        self._take_runtime(runtimes.of_libraries(self._libraries.names), "read by a library")
        self._libraries.finish()
        self.inputs.update(self._libraries.paths)
        self.inputs.add("/etc/ld.so.cache")
        base.add(self.tree)
        if self._python is not None:
            self._progress.step("compiling Python modules")
            folder = self._scratch / "pyc"
            folder.mkdir()
            self._python.compile(self.tree, folder, self._progress.at)
        self.env.update(self.options.env)
        self.cwd = self.options.cwd or self.cwd
        node = self.tree.get(self.cwd)
        if node is None:
            self.tree.add_folder(self.cwd, "working folder")
        elif node.kind != "folder":
            raise ConfigError(f"working folder {self.cwd}: a {node.kind} in the image")

    def _take(self, source: str) -> None:
        path = Path(source)
        if path.is_dir():
            if self.options.args:
                self._folder(path)
            elif (path / "__main__.py").is_file():
                self._python_package(path)
            else:
                raise ConfigError(
                    f"{source}: a folder without __main__.py needs a command: "
                    f"pyrovm build {source} -- COMMAND"
                )
            return
        self.inputs.add(source)
        try:
            head = script.head(path)
        except OSError as error:
            raise HostError.wrap(source, error) from None
        if head.startswith(elf.MAGIC):
            self._program(source)
        elif source.endswith(".py"):
            self._python_script(path)
        elif source.endswith(".c"):
            self._c_source(path)
        elif head.startswith(script.MAGIC):
            self._script(path, head)
        else:
            raise ConfigError(
                f"{source}: neither an ELF program, a script with #!, a .py or .c source, "
                "nor a folder"
            )
        self.argv += self.options.args

    def _program(self, path: str) -> None:
        try:
            found = read_elf(Path(path))
        except elf.ElfError as error:
            raise ConfigError(f"{path}: {error}") from None
        if found.interpreter and is_python(path):
            self._interpreter(path)
            return
        self.exe = self.tree.add_host(path, "the program")
        self._libraries.add_program(self.exe)
        self._take_runtime(runtimes.of_program(path), f"read by {os.path.basename(path)}")
        self.argv = [path]

    def _script(self, path: Path, head: bytes) -> None:
        """A script of any language, at the path where it is on the host."""
        words = script.interpreter(head, str(path))
        if is_python(words[0]):
            self._python_script(path, words[1:])
            return
        self.inputs.add(words[0])
        if script.head(Path(words[0])).startswith(script.MAGIC):
            raise ConfigError(f"{path}: its interpreter {words[0]} is a script as well")
        self._program(words[0])
        self.tree.add_host(str(path), "the script")
        self.argv = [*words, str(path)]

    def _c_source(self, path: Path) -> None:
        self._progress.step(f"compiling {path.name}")
        folder = self._scratch / "cc"
        folder.mkdir()
        options = self.options
        program, compiler, inputs = c_source.compile_static(
            path, folder, options.cc, options.cflags
        )
        self.exe = self.tree.add_file(f"/{path.stem}", program, f"compiled by {compiler}")
        self._libraries.add_program(self.exe)
        self.argv = [self.exe]
        self.inputs.update(inputs)

    # ------------------------------------------------------------------------------- Python

    def _interpreter(self, path: str) -> None:
        self._progress.step(f"looking at {path}")
        self._python = python.describe(path)
        self.exe = self._python.add(self.tree, self._libraries)
        folder = os.path.dirname(path)
        if folder not in base.PATH.split(":"):
            self.env["PATH"] = f"{folder}:{base.PATH}"
        # in the C locale Python uses UTF-8 anyway, once it has looked for a better locale in vain
        self.env["PYTHONCOERCECLOCALE"] = "0"
        self.argv = [path]
        self.inputs.update(self._python.inputs)

    def _python_script(self, path: Path, flags: list[str] | None = None) -> None:
        """A script, and what it imports of its own folder."""
        self._interpreter(self._chosen_python())
        assert self._python is not None
        inside = f"{APP}/{path.name}"
        self.tree.add_file(inside, path, "the script")
        self._scripts.append(str(path))
        for found in self._python.ask({"do": "local_modules", "script": str(path)}):
            local = Path(found)
            if local.is_dir():
                self._add(local, f"{APP}/{local.name}", f"imported by {path.name}")
            else:
                self.tree.add_file(f"{APP}/{local.name}", local, f"imported by {path.name}")
                self.inputs.add(found)
                self._scripts.append(found)
        self.argv += [*(flags or []), inside]
        self.cwd = APP

    def _python_package(self, path: Path) -> None:
        """A folder with __main__.py: a package of modules, or a folder to run."""
        self._interpreter(self._chosen_python())
        self._add(path, f"{APP}/{path.name}", "the package")
        self._scripts += [str(found) for found in sorted(path.rglob("*.py"))]
        is_package = (path / "__init__.py").exists()
        self.argv += ["-m", path.name] if is_package else [f"{APP}/{path.name}"]
        self.argv += self.options.args
        self.cwd = APP

    def _chosen_python(self) -> str:
        word = self.options.python
        if word is None:
            return python.default()
        found = os.path.abspath(word) if "/" in word else find_program(word)
        if found is None or not os.path.isfile(found):
            raise ConfigError(f"--python {word}: no such program")
        return found

    def _take_python(self, interpreter: python.Interpreter) -> None:
        """The library and packages, once it is known what is imported."""
        options, packages = self.options, []
        if options.requirements:
            self._progress.step("installing requirements")
            folder = self._scratch / "packages"
            files = [Path(name).absolute() for name in options.requirements]
            for file in files:
                if not file.is_file():
                    raise ConfigError(f"requirements {file}: no such file")
                self.inputs.add(str(file))
            interpreter.install(files, folder)
            packages.append(str(folder))
            self._add(folder, interpreter.packages[0], "required package")
        if options.site_packages:
            for name in interpreter.packages:
                if os.path.isdir(name):
                    packages.append(name)
                    self._add(Path(name), name, "installed package")
        self._progress.step("collecting Python's standard library")
        if options.trim:
            if not self._scripts:
                raise ConfigError("--trim needs a script: what it imports is what remains")
            folder_of_script = [os.path.dirname(self._scripts[0])]
            interpreter.add_modules(
                self.tree,
                self._libraries,
                self._scripts,
                folder_of_script,
                packages,
                options.include,
            )
        else:
            interpreter.add_library(self.tree, self._libraries, tests=options.tests)

    # ------------------------------------------------------------------------------ folders

    def _folder(self, folder: Path) -> None:
        """A folder's contents, and the command that is run in it."""
        at = os.path.normpath(self.options.at)
        if not at.startswith("/"):
            raise ConfigError(f"--at {self.options.at}: an absolute path in the image is needed")
        self._add(folder, at, "given folder")
        self.cwd = at
        command = self.options.args[0]
        path = self._find_command(command)
        node = self.tree.get(path)
        if node is None:
            self._take_with_args(path)
            return
        source = node.source
        assert isinstance(source, Path)
        head = script.head(source)
        if head.startswith(script.MAGIC):
            words = script.interpreter(head, path)
            self._program(words[0])
            self.argv = [*words, path, *self.options.args[1:]]
            return
        if not head.startswith(elf.MAGIC):
            raise ConfigError(f"{source}: neither an ELF program nor a script with #!")
        self.exe = self.tree.resolve(path)
        self._libraries.add_program(self.exe)
        self.argv = [command if "/" in command else path, *self.options.args[1:]]

    def _take_with_args(self, path: str) -> None:
        """A command of the host for files of the folder: python3 app.py."""
        self.inputs.add(path)
        head = script.head(Path(path))
        if not head.startswith(elf.MAGIC):
            raise ConfigError(f"{path}: the command for a folder must be an ELF program")
        self._program(path)
        self.argv += self.options.args[1:]

    def _find_command(self, word: str) -> str:
        """Where a command is in the image or, failing that, on the host."""
        if "/" in word:
            path = os.path.normpath(os.path.join(self.cwd, word))
            if self._is_file(path) or os.path.isfile(path):
                return path
        else:
            for folder in base.PATH.split(":"):
                if self._is_file(f"{folder}/{word}"):
                    return f"{folder}/{word}"
            if self._is_file(f"{self.cwd}/{word}"):
                return f"{self.cwd}/{word}"
            found = find_program(word)
            if found:
                return found
        raise ConfigError(f"command {shlex.quote(word)}: neither in the folder nor on the host")

    def _is_file(self, path: str) -> bool:
        node = self.tree.get(path)
        return node is not None and node.kind == "file"

    def _add(self, source: Path, at: str, why: str = "added") -> None:
        """A file or a folder of the host, with the libraries that its ELF files need."""
        if not source.is_dir():
            files = [self.tree.add_file(at, source, why)]
        else:
            files = self.tree.add_host_folder(source, at, why, _is_bytecode)
            self.inputs.update(top for top, _, _ in os.walk(source))
        for path in files:
            node = self.tree.nodes[path]
            assert isinstance(node.source, Path)
            self.inputs.add(str(node.source))
            may_be_elf = ".so" in path or node.mode & stat.S_IXUSR
            if may_be_elf and script.head(node.source).startswith(elf.MAGIC):
                self._libraries.add_object(path)

    def _take_runtime(self, places: list[str], why: str) -> None:
        """What a program reads; of the many files only the folders decide if an image is fresh."""
        runtimes.add(self.tree, self._libraries, places, why)
        self.inputs.update(places)

    def _take_certificates(self) -> None:
        """Authorities' certificates, where something speaks TLS."""
        if not any(name.startswith(_TLS_LIBRARIES) for name in self._libraries.names):
            return
        for path in _CERTIFICATES:
            if os.path.isfile(path):
                place = self.tree.add_host(path, "whom TLS trusts")
                self.env.setdefault("SSL_CERT_FILE", place)
                return
        self.tree.remarks.append("no certificates of authorities were found for TLS")


def _is_bytecode(relative: str, is_folder: bool) -> bool:
    return is_folder and relative.rpartition("/")[2] == "__pycache__"
