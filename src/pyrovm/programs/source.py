"""What a function consists of, as data: its source, and that of what it uses.

A global name that a function uses is

* a module, or a class or function of another module: imported in the VM too;
* a function or class of the same module: its source goes along, and what that uses;
* anything else: a constant, passed as it is at the time of the call (:mod:`pyrovm.programs.codec`).

So a function sees the world as its module does, yet nothing of the module is run but what it needs.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import symtable
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from types import CellType, FunctionType, ModuleType
from typing import Any

from pyrovm.programs.codec import Encoder

Owner = Callable[..., Any] | type[Any]


class Shipment:
    """A function's source with all that it uses; ``pieces`` are (file, source) in order."""

    def __init__(self, function: Owner, unwrap: Callable[[Any], Any], mark: object) -> None:
        """Collect it.

        Args:
            unwrap: gives the function behind what our decorator has made; else its argument.
            mark: our decorator, which is left out of what is shipped.

        Raises:
            TypeError: something cannot be shipped; says what.
        """
        self.name = function.__name__
        self.module = function.__module__
        self._unwrap, self._mark = unwrap, mark
        self._found: dict[str, object] = {self.name: function}
        self._pieces: list[tuple[str, int, str]] = []
        self.imports: list[list[str]] = []
        self._constants: dict[str, Owner] = {}  # who uses it
        self._add(function)
        self.pieces = [
            [file, "\n" * (line - 1) + text] for file, line, text in sorted(self._pieces)
        ]

    def constants(self) -> dict[str, Any]:
        """The constants as they are now."""
        return {name: _scope(owner)[name] for name, owner in self._constants.items()}

    def _add(self, owner: Owner) -> None:
        file, line, text = _source(owner)
        scope = _scope(owner)
        tree = ast.parse(text)
        text = self._without_mark(text, tree, scope)
        self._pieces.append((file, line, text))
        for name in sorted(_globals(text)):
            if name in scope:
                self._use(name, scope, owner)

    def _use(self, name: str, scope: Mapping[str, Any], owner: Owner) -> None:
        value = self._unwrap(scope[name])
        if name in self._found:
            if self._found[name] is not value:
                raise TypeError(f"{owner.__qualname__}: there are two different {name!r}")
            return
        self._found[name] = value
        if isinstance(value, ModuleType):
            self.imports.append([name, value.__name__, ""])
        elif self._is_ours(value):
            if value.__name__ != name:
                raise TypeError(
                    f"{owner.__qualname__}: it knows {value.__qualname__} as {name!r}; one name "
                    "is needed"
                )
            self._add(value)
        elif (place := _place(value)) is not None:
            self.imports.append([name, *place])
        else:
            try:
                Encoder().tree(value, f"{owner.__qualname__}: {name!r}, which it uses")
            except TypeError as error:
                raise TypeError(f"{error} to its VM") from None
            self._constants[name] = owner

    def _is_ours(self, value: object) -> bool:
        return getattr(value, "__module__", None) == self.module and (
            isinstance(value, type) or isinstance(_inner(value), FunctionType)
        )

    def _without_mark(self, text: str, tree: ast.Module, scope: Mapping[str, Any]) -> str:
        """Without our decorator, and those above it, which saw no function but what ours made."""
        lines = text.splitlines(True)
        decorators = tree.body[0].decorator_list  # type: ignore[attr-defined]
        ours = [n for n, each in enumerate(decorators) if self._is_mark(each, scope)]
        for each in decorators[: ours[-1] + 1] if ours else ():
            for number in range(each.lineno - 1, each.end_lineno):
                lines[number] = "\n"
        return "".join(lines)

    def _is_mark(self, node: ast.expr, scope: Mapping[str, Any]) -> bool:
        words = []
        if isinstance(node, ast.Call):
            node = node.func
        while isinstance(node, ast.Attribute):
            words.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return False
        found: object = scope.get(node.id)
        for word in reversed(words):
            found = getattr(found, word, None)
        return found is self._mark


def _inner(value: Any) -> object:
    """What decorators made with functools.wraps have wrapped."""
    try:
        return inspect.unwrap(value)
    except (TypeError, ValueError):
        return value


def _source(owner: Owner) -> tuple[str, int, str]:
    """File, first line, text."""
    if owner.__name__ == "<lambda>":
        raise TypeError("a lambda has no source of its own; a function with def is needed")
    try:
        lines, first = inspect.getsourcelines(owner)
        file = inspect.getsourcefile(_inner(owner))  # type: ignore[arg-type]
    except (OSError, TypeError):
        raise TypeError(f"{owner.__qualname__}: its source is in no file") from None
    return file or "<unknown>", max(first, 1), textwrap.dedent("".join(lines))


def _scope(owner: Owner) -> dict[str, Any]:
    """The names that a function or a class finds around it."""
    function = _inner(owner)
    if isinstance(function, FunctionType):
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        return {**function.__globals__, **dict(_filled(cells))}
    return vars(sys.modules[owner.__module__])


def _filled(cells: Iterator[tuple[str, CellType]] | Any) -> Iterator[tuple[str, Any]]:
    for name, cell in cells:
        try:
            yield name, cell.cell_contents
        except ValueError:  # assigned later, or never
            continue


def _place(value: object) -> list[str] | None:
    """The module and the name in it by which a function or class is imported elsewhere."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module == "__main__":
        return None
    found: object = sys.modules.get(module)
    for word in name.split("."):
        found = getattr(found, word, None)
    return [module, name] if found is value else None


class _Unannotated(ast.NodeTransformer):
    """Annotations are not evaluated in the VM."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)


def _globals(text: str) -> set[str]:
    """The names that are neither defined in a piece of source nor built in."""
    tree = _Unannotated().visit(ast.parse(text))
    names: set[str] = set()
    tables = [symtable.symtable(ast.unparse(tree), "<source>", "exec")]
    while tables:
        table = tables.pop()
        is_top = table.get_type() == "module"
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (is_top or symbol.is_global()):
                names.add(symbol.get_name())
        tables += table.get_children()
    return names - set(vars(builtins))
