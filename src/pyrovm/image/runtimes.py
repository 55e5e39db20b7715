"""What programs read besides their libraries: standard libraries of languages, data of libraries.

A table by the name of the program, or of a library, with places as distributions have them; those
that are not there are passed over.  Python is not in it: its own interpreter is asked (python.py).
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable
from pathlib import Path

from pyrovm.image import elf, script
from pyrovm.image.libraries import Libraries
from pyrovm.image.tree import Tree

# name of the program (without links) -> places; {home} is the folder above the program's own
PROGRAMS: dict[str, tuple[str, ...]] = {
    r"perl[\d.]*": (
        *("/etc/perl", "/usr/share/perl", "/usr/share/perl5", "/usr/lib/perl5", "/usr/lib64/perl5"),
        *("/usr/lib/*/perl-base", "/usr/lib/*/perl", "/usr/lib/*/perl5"),
        *("/usr/local/share/perl", "/usr/local/lib/*/perl", "{home}/lib/perl5"),
    ),
    r"ruby[\d.]*": (
        *("/usr/lib/ruby", "/usr/lib/*/ruby", "/usr/lib64/ruby", "/usr/share/ruby"),
        *("/usr/share/rubygems*", "/usr/lib/*/rubygems-integration", "/var/lib/gems"),
        *("/usr/local/lib/site_ruby", "/usr/local/lib/*/site_ruby", "{home}/lib/ruby"),
    ),
    r"(tclsh|wish|expect)[\d.]*": (
        *("/usr/share/tcltk", "/usr/share/tcl[0-9]*", "/usr/lib/tcltk", "/usr/lib/tcl[0-9]*"),
        "/usr/lib64/tcl[0-9]*",
    ),
    r"lua(jit)?[\d.]*(-[\w.-]+)?": (
        *("/usr/share/lua", "/usr/lib/*/lua", "/usr/lib64/lua", "/usr/local/share/lua"),
        "/usr/local/lib/lua",
    ),
    r"guile[\d.-]*": (
        *("/usr/share/guile", "/usr/lib/*/guile/*/ccache", "/usr/lib64/guile"),
        *("/usr/lib/*/gconv", "/usr/lib64/gconv"),
    ),
    r"(java|javac|jar|jshell|keytool)": ("{home}/lib", "{home}/conf", "/etc/java-*-openjdk"),
    r"node(js)?": ("/usr/share/nodejs", "/usr/share/node_modules"),
    r"php[\d.]*": ("/etc/php", "/etc/php.*", "/usr/lib/php", "/usr/lib64/php", "/usr/share/php"),
    r"gawk": ("/usr/share/awk", "/usr/lib/*/gawk"),
    r"iconv": ("/usr/lib/*/gconv", "/usr/lib64/gconv"),
    r"git": ("/usr/share/git-core/templates",),
    r"(postgres|initdb)": ("{home}/lib", "{home}/share", "/usr/share/postgresql"),
    r"nginx": ("/etc/nginx", "/usr/share/nginx", "/usr/lib/nginx", "/var/lib/nginx"),
}
# a library's name up to its version -> places
LIBRARIES: dict[str, tuple[str, ...]] = {
    "libmagic.so": ("/usr/share/misc/magic*", "/usr/lib/file"),
    "libtinfo.so": ("/etc/terminfo", "/lib/terminfo"),
}
_SKIPPED = frozenset({"src.zip", "jmods", "demo", "__pycache__"})


def of_program(path: str) -> list[str]:
    """Files and folders of the host that the program at ``path`` reads."""
    real = os.path.realpath(path)
    home = os.path.dirname(os.path.dirname(real))
    name = os.path.basename(real)
    patterns = next((p for known, p in PROGRAMS.items() if re.fullmatch(known, name)), ())
    return _existing(pattern.format(home=glob.escape(home)) for pattern in patterns)


def of_libraries(names: list[str]) -> list[str]:
    """Files and folders of the host that libraries of these names read."""
    wanted = (p for known, p in LIBRARIES.items() if any(n.startswith(known) for n in names))
    return _existing(pattern for patterns in wanted for pattern in patterns)


def add(tree: Tree, libraries: Libraries, places: list[str], why: str) -> None:
    """Bring files and folders of the host to where they are, with the libraries of plug-ins."""
    for place in places:
        if not os.path.isdir(place):
            tree.add_host(place, why)
            continue
        real = tree.add_host_place(place, why)
        for path in tree.add_host_folder(Path(real), real, why, _is_skipped):
            source = tree.nodes[path].source
            assert isinstance(source, Path)
            if ".so" in path and script.head(source).startswith(elf.MAGIC):
                libraries.add_object(path, is_optional=True)
        for path, node in list(tree.nodes.items()):
            # what is in the folder by a link only, often a file of /etc
            if node.kind == "link" and path.startswith(f"{real}/") and os.path.isfile(path):
                tree.add_host(path, why)


def _is_skipped(relative: str, is_folder: bool) -> bool:
    return relative.rpartition("/")[2] in _SKIPPED


def _existing(patterns: Iterable[str]) -> list[str]:
    found = {path for pattern in patterns for path in glob.glob(pattern)}
    # one within another comes with it
    return sorted(p for p in found if not any(p.startswith(f"{other}/") for other in found))
