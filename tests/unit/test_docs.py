"""What the documentation says is so: links, commands, Python, requests, generated tables."""

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys

import pytest

import pyrovm
from pyrovm.cli import main, run_kind, run_options, run_program_options
from pyrovm.cli.firecracker_args import parse_arguments
from pyrovm.config.serde.schema import parse
from pyrovm.config.vm_file import VM_FILE
from tests.unit.doc_pages import PAGES, ROOT, anchors, blocks, commands, name, prose, shell_lines

sys.path.insert(0, str(ROOT / "tools"))

from gendocs_api import ENDPOINTS
from gendocs_cli import module_of, option_words

LINK = re.compile(r"\]\(([^)\s]+)\)")
REQUEST = re.compile(r"(PUT|PATCH) +(?:http://localhost)?(/[\w/-]+) +(?:-d )?'(\{.*?\})'")
every_page = pytest.mark.parametrize("page", PAGES, ids=name)


@every_page
def test_every_link_leads_somewhere(page):
    for link in LINK.findall(prose(page)):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_every_page_is_reached_from_the_readme():
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        paths = (link.partition("#")[0] for link in LINK.findall(prose(page)) if "://" not in link)
        waiting += [(page.parent / path).resolve() for path in paths if path]
    assert set(PAGES) <= reached


@every_page
def test_every_command_shown_is_understood(page):
    for words in commands(page):
        check_command(words)


def check_command(words):
    """Parse it with the parser that it would meet."""
    program, *words = words
    if program == "pyrovm-firecracker":
        parse_arguments(words)
        return
    if words[0] in ("version", "--help"):
        return
    command, *words = words
    assert command in main.COMMANDS, command
    try:
        if command == "run":
            if run_kind.is_kernel_run(words):
                check_run(run_options.parse(words))
            else:
                run_program_options.parse(words)
            return
        module = module_of(command)
        if not hasattr(module, "_parser"):
            module.parse(words)
            return
        mine = words[: words.index("--")] if "--" in words else words
        module._parser().parse_args(mine)
    except SystemExit:  # argparse has said why on standard error
        pytest.fail(f"pyrovm {command} {' '.join(words)} is refused")


def check_run(options):
    """The options of ``pyrovm run`` that are small languages."""
    from pyrovm.cli.run_network import Interface

    for index, text in enumerate(options.drive):
        run_options.drive(index, text)
    for index, text in enumerate(options.pmem):
        run_options.pmem(index, text)
    for index, text in enumerate(options.net):
        Interface(index, text)
    if options.vsock:
        run_options.vsock(options.vsock, "")


@every_page
def test_options_named_in_the_text_exist(page):
    for words in re.findall(r"`pyrovm ([a-z]+[^`]*)`", prose(page)):
        command, *rest = words.split(" -- ")[0].split()
        if command == "version":
            continue
        assert command in main.COMMANDS, words
        named = {re.split("[=:]", word)[0] for word in rest if word.startswith("--")}
        assert named <= option_words(command), words


@every_page
def test_python_compiles_and_what_it_uses_of_pyrovm_exists(page):
    for text in blocks(page, "python"):
        check_python(ast.parse(text, name(page)))


def check_python(tree):
    """Imports, attributes of ``pyrovm`` and of a ``vm``, and the arguments of what is called."""
    known = {"pyrovm": pyrovm}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pyrovm"):
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")
                known[alias.name] = getattr(module, alias.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in known:
                assert hasattr(known[node.value.id], node.attr), ast.unparse(node)
            elif node.value.id == "vm":
                assert hasattr(pyrovm.MicroVM, node.attr), ast.unparse(node)
        if isinstance(node, ast.Call) and (called := target_of(node.func, known)) is not None:
            words = {keyword.arg: None for keyword in node.keywords}
            inspect.signature(called).bind(*node.args, **words)


def target_of(func, known):
    """The class or function of pyrovm that a call's name stands for, or None."""
    if isinstance(func, ast.Name):
        found = known.get(func.id)
    elif isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name):
        if func.value.id == "vm":
            return getattr(pyrovm.MicroVM, func.attr).__get__(object())
        found = getattr(known.get(func.value.id), func.attr, None)
    else:
        return None
    return found if callable(found) else None


@every_page
def test_json_is_json(page):
    for text in blocks(page, "json"):
        json.loads(text)


def test_the_config_file_shown_is_one():
    (text,) = blocks(ROOT / "docs/reference/config.md", "json")
    assert parse(VM_FILE, text.encode()).machine_config.vcpu_count == 2


@every_page
def test_requests_shown_are_understood(page):
    for line in shell_lines(page):
        for method, path, body in REQUEST.findall(line):
            known = {
                (m, re.sub(r"\{\w+\}", "ID", p)): record for m, p, record, *_ in ENDPOINTS if record
            }
            path = re.sub(r"^/(drives|network-interfaces|pmem)/\w+$", r"/\1/ID", path)
            module, _, record = known[method, path].partition(".")
            schema = getattr(importlib.import_module(f"pyrovm.config.{module}"), record)
            parse(schema, body.encode())


def test_generated_tables_are_fresh():
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "gendocs.py", "--check"],
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@every_page
def test_no_page_names_folders_of_the_machine_it_was_written_on(page):
    assert not re.search(r"(?<![\w.~/])/(work|root|home)/\w|bash_jobs", page.read_text())
