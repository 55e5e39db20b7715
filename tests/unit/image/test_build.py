import io
import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from pyrovm.errors import ConfigError, HostError
from pyrovm.guest import programs
from pyrovm.image import build as build_module
from pyrovm.image import index, store
from pyrovm.image.build import Options, build, build_for_run
from pyrovm.image.store import Image

pytestmark = pytest.mark.usefixtures("mkfs")
HELLO = '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n'


@pytest.fixture
def hello(tmp_path):
    if programs.find("gcc") is None:
        pytest.skip("no gcc")
    (tmp_path / "hello.c").write_text(HELLO)
    return tmp_path / "hello.c"


def contents(image):
    return set(image.manifest.files)


def test_a_c_source_becomes_one_static_program(hello, extract):
    image = build(hello)
    assert image.manifest.name == "hello"
    assert image.manifest.argv == ("/hello",)
    assert Image.load("hello") == image
    root = extract(image)
    assert subprocess.run([root / "hello"], capture_output=True, check=True).stdout == b"hello\n"
    assert (root / "etc/resolv.conf").read_text() == "nameserver 127.0.0.53\n"
    assert not list((root / "proc").iterdir())


@pytest.mark.skipif(programs.find("musl-gcc") is None, reason="no musl-gcc")
def test_a_hello_is_small(hello):
    assert build(hello).manifest.root_size_bytes < 100 << 10


def test_the_same_source_makes_the_same_image(hello, tmp_path, monkeypatch):
    first = build(hello)
    (tmp_path / "elsewhere").mkdir()
    moved = shutil.copy(hello, tmp_path / "elsewhere" / "hello.c")
    os.utime(moved, (0, 0))
    monkeypatch.setenv("PYROVM_CACHE", str(tmp_path / "other-cache"))
    old = os.umask(0o077)
    try:
        second = build(moved)
    finally:
        os.umask(old)
    assert second.digest == first.digest
    assert second.root.read_bytes() == first.root.read_bytes()


def test_a_source_that_does_not_compile_shows_what_the_compiler_says(tmp_path, hello):
    hello.write_text("int main(void) { return nonsense; }")
    with pytest.raises(ConfigError, match=r"(?s)hello.c: does not compile.*nonsense"):
        build(hello)


def test_a_dynamic_program_runs_from_its_image_alone(gcc, extract):
    if os.geteuid():
        pytest.skip("not root: chroot is needed")
    text = (
        "#include <math.h>\n#include <stdio.h>\n"
        'int main(int c, char **v) { printf("%f", cbrt(c)); return 0; }'
    )
    image = build(gcc(text, "-lm"))
    root = extract(image)
    done = subprocess.run(["chroot", root, image.manifest.exe], capture_output=True, check=False)
    assert (done.stdout, done.stderr) == (b"1.000000", b"")


def test_the_digest_tells_arguments_and_environment_apart(hello):
    digests = {
        build(hello, options).digest
        for options in (
            Options(),
            Options(args=("a",)),
            Options(env={"A": "b"}),
            Options(cwd="/tmp"),
            Options(name="other"),
        )
    }
    assert len(digests) == 5


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("data.bin", b"\0\1\2", "neither an ELF program"),
        ("empty", b"", "neither an ELF program"),
        ("short", b"\x7fELF\2\1\1", "truncated ELF file: 7 bytes"),
        ("script", b"#!/no/such/shell\n", "interpreter /no/such/shell is missing"),
    ],
)
def test_what_is_no_program_is_refused_by_name(tmp_path, name, text, said):
    (tmp_path / name).write_bytes(text)
    with pytest.raises(ConfigError, match=f"{name}: .*{said}"):
        build(tmp_path / name)
    assert store.installed() == []


def test_a_truncated_program_is_refused(gcc):
    path = gcc(HELLO)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ConfigError, match="truncated ELF file"):
        build(path)


def test_what_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no such file or program"):
        build(tmp_path / "gone")


def test_a_shell_script_brings_its_shell(tmp_path):
    (tmp_path / "task").write_text("#!/bin/sh -e\necho hi\n")
    image = build(tmp_path / "task")
    assert image.manifest.argv == ("/bin/sh", "-e", str(tmp_path / "task"))
    assert image.manifest.exe == os.path.realpath("/bin/sh")
    assert {image.manifest.exe, str(tmp_path / "task")} <= contents(image)


def test_a_folder_and_a_command(tmp_path, gcc, extract):
    folder = tmp_path / "site"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "x").write_text("x")
    shutil.copy(gcc(HELLO), folder / "serve")
    image = build(folder, Options(args=("./serve", "-p", "80")))
    assert image.manifest.exe == "/app/serve"
    assert image.manifest.argv == ("./serve", "-p", "80")
    assert image.manifest.cwd == "/app"
    assert any(path.endswith("/libc.so.6") for path in contents(image))
    of_host = build(folder, Options(args=("ls", "data")))
    assert of_host.manifest.argv[1:] == ("data",)
    assert of_host.manifest.cwd == "/app"
    at_root = build(folder, Options(args=("/serve",), at="/"))
    assert (at_root.manifest.exe, at_root.manifest.cwd) == ("/serve", "/")
    assert "/data/x" in contents(at_root)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Options(), "needs a command"),
        (Options(args=("no-such-command",)), "neither in the folder nor on the host"),
        (Options(args=("./text",)), "neither an ELF program nor a script"),
        (Options(args=("ls",), at="relative"), "absolute path"),
        (Options(args=("ls",), max_bytes=1 << 10), "--max-size"),
        (Options(args=("ls",), cwd="/app/text"), "a file in the image"),
        (Options(args=("ls",), name="No"), "image name"),
    ],
)
def test_a_folder_that_makes_no_image_is_refused(tmp_path, options, said):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "text").write_text("text" * 1000)
    with pytest.raises(ConfigError, match=said):
        build(tmp_path / "folder", options)
    assert store.installed() == []


# ------------------------------------------------------------------------------------ Python

PYTHON = Options(python=sys.executable, trim=True)


def run_in(root, image, *args):
    env = dict(image.manifest.env)
    words = ["chroot", root, *image.manifest.argv, *args]
    return subprocess.run(words, capture_output=True, text=True, check=False, env=env)


@pytest.fixture
def app(tmp_path):
    folder = tmp_path / "project"
    (folder / "package").mkdir(parents=True)
    (folder / "package" / "__init__.py").write_text("from fractions import Fraction\n")
    (folder / "package" / "data.txt").write_text("data")
    (folder / "helper.py").write_text("import package\nhalf = package.Fraction(1, 2)\n")
    (folder / "unrelated.py").write_text("")
    (folder / "app.py").write_text("import sys, helper\nprint(helper.half, sys.argv[1:])\n")
    return folder / "app.py"


def test_a_python_script_brings_what_it_imports(app, extract):
    image = build(app, PYTHON)
    assert image.manifest.name == "app"
    files = contents(image)
    assert {"/app/app.py", "/app/helper.py", "/app/package/data.txt"} <= files
    assert "/app/unrelated.py" not in files
    assert any(path.endswith("/fractions.py") for path in files)
    assert not any("/tkinter/" in path or "/unittest/" in path for path in files)
    if os.geteuid() == 0:
        done = run_in(extract(image), image, "a")
        assert (done.stdout, done.stderr) == ("1/2 ['a']\n", "")


def test_bytecode_is_there_and_the_same_every_time(app, extract, tmp_path, monkeypatch):
    image = build(app, PYTHON)
    pyc = f"/app/__pycache__/helper.{sys.implementation.cache_tag}.pyc"
    assert pyc in contents(image)
    flags = (extract(image) / pyc[1:]).read_bytes()[4:8]
    assert int.from_bytes(flags, "little") == 1  # by hash, and not to be checked
    monkeypatch.setenv("PYROVM_CACHE", str(tmp_path / "other"))
    monkeypatch.setenv("PYTHONHASHSEED", "77")
    assert build(app, PYTHON).digest == image.digest


def test_requirements_are_installed_into_the_image(app, tmp_path, extract):
    wheel = tmp_path / "tiny_thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_thing.py", "value = 'of a wheel'\n")
        info = "tiny_thing-1.0.dist-info"
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    (tmp_path / "requirements.txt").write_text(f"{wheel}\n")
    app.write_text("import tiny_thing\nprint(tiny_thing.value)\n")
    options = Options(
        python=sys.executable, trim=True, requirements=(str(tmp_path / "requirements.txt"),)
    )
    image = build(app, options)
    assert any(path.endswith("/tiny_thing.py") for path in contents(image))
    if os.geteuid() == 0:
        done = run_in(extract(image), image)
        assert (done.stdout, done.stderr) == ("of a wheel\n", "")


def test_a_package_is_run_by_its_name(tmp_path):
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool" / "__main__.py").write_text("from . import part\n")
    (tmp_path / "tool" / "part.py").write_text("import colorsys\n")
    image = build(tmp_path / "tool", PYTHON)
    assert image.manifest.argv[1:] == ("/app/tool",)
    (tmp_path / "tool" / "__init__.py").write_text("")
    image = build(tmp_path / "tool", PYTHON)
    assert image.manifest.argv[1:] == ("-m", "tool")
    assert any(path.endswith("/colorsys.py") for path in contents(image))


def test_modules_that_trimming_cannot_see_are_included_or_missed(app):
    with pytest.raises(HostError, match="no module no_such_module"):
        build(app, Options(python=sys.executable, trim=True, include=("no_such_module",)))
    image = build(app, Options(python=sys.executable, trim=True, include=("unittest",)))
    assert any("/unittest/" in path for path in contents(image))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Options(python="no-such-python"), "--python no-such-python"),
        (Options(python=sys.executable, requirements=("/no/such.txt",)), "no such file"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused(app, options, said):
    with pytest.raises(ConfigError, match=said):
        build(app, options)


# ------------------------------------------------------------------------------ for a run


def test_a_program_is_built_once_and_again_when_it_changes(hello, monkeypatch):
    first = index.find_or_build([str(hello), "some", "argument"])
    with monkeypatch.context() as patch:
        patch.setattr(build_module, "Draft", None)  # building would fail
        assert index.find_or_build([str(hello)]).digest == first.digest
        assert build_for_run(str(hello)).digest == first.digest
    hello.write_text(HELLO.replace("hello", "other"))
    second = index.find_or_build([str(hello)])
    assert second.digest != first.digest
    assert store.names() == {}  # only pyrovm build gives names
    assert store.prune() == [first.digest]
    assert [image.digest for image in store.installed()] == [second.digest]


def test_images_of_programs_that_changed_long_ago_go_away(hello, tmp_path):
    named = build(hello)
    digests = []
    for word in ("one", "two", "three"):
        hello.write_text(HELLO.replace("hello", word))
        digests.append(index.find_or_build([str(hello)]).digest)
        if word == "one":
            os.utime(index.folder_of(digests[0]), (0, 0))
    os.utime(named.folder, (0, 0))
    other = tmp_path / "other.c"
    other.write_text(HELLO)
    digests.append(index.find_or_build([str(other)]).digest)
    present = {image.digest for image in store.installed()}
    assert present == {named.digest, *digests[1:]}


def test_a_changed_header_makes_a_new_image(hello):
    (hello.parent / "text.h").write_text('#define TEXT "one"\n')
    hello.write_text('#include "text.h"\n' + HELLO.replace('"hello"', "TEXT"))
    first = index.find_or_build([str(hello)])
    (hello.parent / "text.h").write_text('#define TEXT "another"\n')
    assert index.find_or_build([str(hello)]).digest != first.digest


# ------------------------------------------------------------------------------- the store


def test_an_image_goes_to_another_machine_and_back(hello, tmp_path, monkeypatch):
    image = build(hello)
    file = io.BytesIO()
    store.export("hello", file)
    monkeypatch.setenv("PYROVM_CACHE", str(tmp_path / "other"))
    file.seek(0)
    taken = store.import_(file)
    assert taken == image
    assert taken.names == ["hello"]
    assert index.named("hello").argv == ("/hello",)
    taken.verify()
    file.seek(0)
    assert store.import_(file, "again").names == ["again", "hello"]


def test_a_refused_import_leaves_nothing(hello, fresh_cache):
    file = io.BytesIO()
    store.export(build(hello).digest, file)
    store.remove("hello")
    data = file.getvalue()
    with pytest.raises(ConfigError):
        store.import_(io.BytesIO(data[:-20_000]))
    assert store.installed() == []
    assert not [path for path in (fresh_cache / "images").iterdir() if "tmp-" in path.name]


def test_a_name_stands_for_the_last_image_of_it(hello):
    first = build(hello)
    hello.write_text(HELLO.replace("hello", "other"))
    second = build(hello)
    assert Image.load("hello") == second
    assert first.names == []
    assert store.remove("hello") == second.digest
    with pytest.raises(ConfigError, match="no image 'hello'"):
        Image.load("hello")


def test_damage_is_noticed(hello):
    image = build(hello)
    with open(image.root, "r+b") as file:
        file.seek(5000)
        file.write(b"damage")
    with pytest.raises(HostError, match="damaged"):
        image.verify()
    manifest = image.folder / index.MANIFEST
    manifest.write_bytes(manifest.read_bytes().replace(b"hello", b"hallo"))
    with pytest.raises(HostError, match="damaged"):
        Image.load("hello")
    store.remove("hello")
    assert store.installed() == []


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/x/Hello World.py", "hello-world"),
        ("/x/_.c", "image"),
        ("/x/python3.11", "python3.11"),
        ("/x/" + "ab" * 32, "image"),
        ("/x/é", "image"),
        ("/x/" + "y" * 200, "y" * 128),
    ],
)
def test_images_are_called_after_their_source(source, name):
    assert build_module.default_name(source) == name
