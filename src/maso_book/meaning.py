"""Whether code could give other numbers: a digest of what a function does, not of the bytes it is written in.

The digest of a function covers every definition it reaches: functions, classes and constants of this tree, found by
reading the sources without running them.  An import counts as the content of what it names.  Docstrings, comments,
annotations, positions, file paths and names of modules do not count, nor does what stands beside a definition without
being reached.  So a move, a comment or a new experiment changes no digest; a constant, a default or a formula three
calls away does.

Two kinds of things are known by their content, which a record keeps, and not by the code that made them (`INSTEAD`):
data sets by their checksum, and trained networks by what their weights follow from.

Where a function is looked up by a name that its configuration holds (`getattr(networks, config.network)`), those
definitions of the module count whose names are among the strings of the configuration or of the code reached.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from maso.errors import MasoError

PACKAGES = ("maso", "maso_book")
INSTEAD: dict[str, tuple[str, ...]] = {
    "maso_book.datasets": (),
    "maso_book.trained.trained": ("maso_book.trained.WEIGHTS_FOLLOW_FROM",),
    "maso_book.trained.prepare": ("maso_book.trained.WEIGHTS_FOLLOW_FROM",),
}
"""Dotted name of a module or definition → what counts in its place."""

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Definition = tuple[str, str]
"""The module that holds it, and its name there; the name is empty where the module as a whole is meant."""


def digest(dotted: str, *, config: Any = None) -> str:
    """Digest of all that may be executed where a definition of this tree is used, 16 hexadecimal digits.

    Args:
        dotted: the definition, `"maso.affine.affine_map"`.
        config: a value with a JSON form; its strings choose among definitions that are looked up by name.

    Raises:
        MasoError: there is no such definition at the top of a module.

    Example:
        >>> len(digest("maso.affine.affine_map"))
        16
    """
    module, _, name = dotted.rpartition(".")
    if not name or _resolve(module, name) in (None, (dotted, "")):
        raise MasoError(
            f"{dotted} has no digest: expected a function, class or constant at the top of a module of this tree."
        )
    return _digest(dotted, tuple(sorted(set(_strings(config)))))


@cache
def _digest(dotted: str, chosen: tuple[str, ...]) -> str:
    reached = reach(Uses(definitions={_known(dotted)}, strings=set(chosen)))
    return _sha("".join(sorted({_full(definition) for definition in reached})))[:16]


def digest_of_cells(cells: Mapping[str, str], *, also: Iterable[str] = ()) -> str:
    """Digest of the cells of a notebook and of all they reach, 16 hexadecimal digits.

    Args:
        cells: what a message calls a cell → its statements.
        also: dotted names of further definitions.

    Raises:
        MasoError: a cell is no Python.
    """
    body = [statement for where, source in cells.items() for statement in parsed(source, where).body]
    imports = [s for s in _statements(body) if isinstance(s, ast.Import | ast.ImportFrom)]
    top = Module(imported={name: thing for each in imports for name, thing in _targets(each, "").items()})
    reader = _Reader("", top)
    text = _with_digests("".join(map(reader.text, body)), reader.uses)
    reader.uses.definitions.update(map(_known, also))
    return _sha("".join([text, *sorted({_full(definition) for definition in reach(reader.uses)})]))[:16]


def reach(uses: Uses) -> set[Definition]:
    """The definitions that are reached from these, these included.

    Where a module is used as a whole, those of its definitions count whose names are among the strings in `uses` and
    in the code reached; all of them where none is.
    """
    reached: set[Definition] = set()
    modules, strings, todo = set(uses.modules), set(uses.strings), set(uses.definitions)
    while True:
        while todo:
            definition = todo.pop()
            reached.add(definition)
            named = _uses(definition)
            modules |= named.modules
            strings |= named.strings
            effects = {(definition[0], EFFECTS)} if EFFECTS in _module(definition[0]).bound else set()
            todo |= (named.definitions | effects) - reached
        todo = {d for module in modules for d in _looked_up(module, strings)} - reached
        if not todo:
            return reached


def _looked_up(module: str, strings: set[str]) -> list[Definition]:
    """The definitions of a module used as a whole: those with a name among the strings; without one, all of them."""
    own = [name for name in _module(module).bound if name not in _module(module).imported]
    named = [name for name in own if name in strings]
    return [(module, name) for name in named or own]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


# A module -------------------------------------------------------------------------------------------------------------

EFFECTS = "(what the module does when it is imported)"


@dataclass(frozen=True)
class Module:
    """The top of a module's source: which statements define each name, and where imported names come from.

    Attributes:
        bound: name → the statements that bind or change it.
        imported: name → (module, name) that an import binds it to, (module, "") for a module.
    """

    bound: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imported: dict[str, Definition] = field(default_factory=dict)


@cache
def _file_of(module: str) -> Path | None:
    """The file of a module of this tree, None where there is none."""
    top, *parts = module.split(".")
    spec = importlib.util.find_spec(top) if top in PACKAGES else None
    if spec is None or spec.origin is None or "" in parts:
        return None
    base = Path(spec.origin).parent.joinpath(*parts)
    for file in (base / "__init__.py", base.with_suffix(".py")):
        if file.is_file():
            return file
    return None


@cache
def _module(name: str) -> Module:
    file = _file_of(name)
    if file is None:
        raise MasoError(f"There is no module {name!r} in {' or '.join(PACKAGES)}.")
    found = Module()
    for statement in _statements(ast.parse(file.read_text(encoding="utf-8")).body):
        if isinstance(statement, ast.Import | ast.ImportFrom):
            found.imported.update(_targets(statement, name))
            continue
        for each in _bound_by(statement) - set(found.imported) or {EFFECTS}:
            found.bound.setdefault(each, []).append(statement)
    return found


def parsed(source: str | bytes, where: str) -> ast.Module:
    """The syntax tree of a source text.

    Raises:
        MasoError: it is no Python; the message begins with `where`.
    """
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError) as error:  # ValueError: a null byte
        line = f" in line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise MasoError(f"{where} is no Python{line}: {getattr(error, 'msg', error)}.") from error


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module's top, those inside `if`, `try` and `with` each for itself, docstrings left out."""
    for statement in body:
        if isinstance(statement, ast.If | ast.Try | ast.With):
            for name in ("body", "handlers", "orelse", "finalbody"):
                for inner in getattr(statement, name, []):
                    yield from _statements(inner.body if isinstance(inner, ast.ExceptHandler) else [inner])
        elif not _is_text(statement):
            yield statement


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _bound_by(statement: ast.stmt) -> set[str]:
    """The names that a statement at a module's top binds, or whose object it changes (`TABLE["x"] = …`, `T.update`)."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    places = (node for node in ast.walk(statement) if isinstance(node, ast.Name | ast.Attribute | ast.Subscript))
    changed: list[ast.expr] = [node for node in places if not isinstance(node.ctx, ast.Load)]
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        changed.append(statement.value.func)
    return {name for name in map(_root, changed) if name is not None}


def _root(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _targets(statement: ast.Import | ast.ImportFrom, module: str) -> dict[str, Definition]:
    """Local name → what is imported, for one import statement of a module: (module, name), or (module, "")."""
    if isinstance(statement, ast.Import):
        tops = {alias.name: alias.name.partition(".")[0] for alias in statement.names}
        return {a.asname or tops[a.name]: (a.name if a.asname else tops[a.name], "") for a in statement.names}
    base = statement.module or ""
    if statement.level:
        file = _file_of(module)
        depth = statement.level - (file is not None and file.name == "__init__.py")
        package = module.split(".")[: len(module.split(".")) - depth]
        base = ".".join([*package, *([base] if base else [])])
    return {alias.asname or alias.name: (base, alias.name) for alias in statement.names}


@cache
def _resolve(module: str, name: str) -> Definition | None:
    """Where a name of a module is defined, re-exports followed: (module, name), or (module, "") for a module.

    None where it is nothing of this tree.
    """
    if _file_of(module) is None:
        return None
    if not name:
        return module, ""
    top = _module(module)
    if name in top.bound:
        return module, name
    if name in top.imported and top.imported[name] != (module, name):
        return _resolve(*top.imported[name])
    return (f"{module}.{name}", "") if _file_of(f"{module}.{name}") else None


def _follow(start: Definition, attributes: Sequence[str]) -> tuple[Definition, list[str]] | None:
    """The definition or module that these attributes lead to, and the attributes left; None if nothing of this tree."""
    thing = _resolve(*start)
    for number, attribute in enumerate(attributes):
        if thing is None or thing[1]:
            break
        inner = _resolve(thing[0], attribute)
        if inner is None:
            return thing, list(attributes[number:])
        thing = inner
    else:
        number = len(attributes)
    return None if thing is None else (thing, list(attributes[number:]))


_NAMED = re.compile(r"(?<=Name\()<([\w.]+):(\w*)>(?=\))")
"""A definition, or a module as a whole, in a text of `_Reader`: the module and the name there."""


# A definition ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Uses:
    """What a definition names: other definitions, modules as a whole, and strings."""

    definitions: set[Definition] = field(default_factory=set)
    modules: set[str] = field(default_factory=set)
    strings: set[str] = field(default_factory=set)


@cache
def _uses(definition: Definition) -> Uses:
    return _read(definition)[0]


@cache
def _shallow(definition: Definition) -> str:
    """Digest of a definition's own text, in which other definitions stand as their bare names."""
    return _sha(_NAMED.sub(r"\2", _read(definition)[1]))


@cache
def _full(definition: Definition) -> str:
    """The same, each definition that it names with the digest of its own text."""
    uses, text = _read(definition)
    return _sha(_with_digests(text, uses))


def _with_digests(text: str, uses: Uses) -> str:
    """A text of `_Reader` with the digests of the definitions in place of the modules that hold them."""
    digests = {definition: _shallow(definition) for definition in uses.definitions}
    return _NAMED.sub(lambda named: f"{named[2]}@{digests.get((named[1], named[2]))}", text)


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _read(definition: Definition) -> tuple[Uses, str]:
    module, name = definition
    reader = _Reader(module, _module(module))
    texts = [reader.text(statement) for statement in _module(module).bound.get(name, [])]
    return reader.uses, "\n".join(texts)


class _Reader:
    """Writes statements as text without what has no meaning, and collects what they name.

    The text is made here and not by `ast.dump`, whose form differs between versions of Python.
    """

    def __init__(self, module: str, top: Module) -> None:
        self.module, self.top, self.uses = module, top, Uses()
        self.scopes: list[dict[str, Definition | None]] = []
        """Names of each enclosing function: where an import in it points, None for a variable."""

    def text(self, node: Any) -> str:
        if isinstance(node, list):
            return "[" + ",".join(filter(None, map(self.text, node))) + "]"
        if not isinstance(node, ast.AST):
            return repr(node)
        special = getattr(self, f"_{type(node).__name__}", None)
        return special(node) if special else self._plain(node)

    def _plain(self, node: ast.AST, **change: str) -> str:
        parts = []
        for name, value in ast.iter_fields(node):
            if name in change:
                parts.append(f"{name}={change[name]}")
            elif value not in (None, []) and name not in ("ctx", "kind", "type_comment", "type_params"):
                parts.append(f"{name}={self.text(value)}")
        return f"{type(node).__name__}({','.join(parts)})"

    # what has no meaning

    def _Expr(self, node: ast.Expr) -> str:
        return "" if _is_text(node) else self._plain(node)

    def _Import(self, node: ast.Import | ast.ImportFrom) -> str:
        targets = _targets(node, self.module)
        if self.scopes:
            self.scopes[-1].update(targets)
        return "".join(f"import {'.'.join(target)};" for target in targets.values() if _resolve(*target) is None)

    _ImportFrom = _Import

    def _annotation(self, node: ast.expr | None) -> None:
        """An annotation has no meaning of its own, but a class that it names has methods that are called."""
        if node is not None:
            strings = set(self.uses.strings)
            self.text(node)
            self.uses.strings.clear()
            self.uses.strings.update(strings)

    def _arg(self, node: ast.arg) -> str:
        self._annotation(node.annotation)
        return node.arg

    def _AnnAssign(self, node: ast.AnnAssign) -> str:
        self._annotation(node.annotation)
        kind = ast.unparse(node.annotation).partition("[")[0].rpartition(".")[2]
        value = "" if node.value is None else self.text(node.value)
        return f"AnnAssign({self.text(node.target)},{kind if kind in ('ClassVar', 'InitVar') else ''},{value})"

    # scopes

    def _FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
        outside = [self.text(node.decorator_list), self.text(node.args.defaults), self.text(node.args.kw_defaults)]
        self._annotation(node.returns)
        self.scopes.append(_locals(node))
        inside = [self.text(node.args), self.text(node.body)]
        self.scopes.pop()
        return f"{type(node).__name__}({','.join([node.name, *outside, *inside])})"

    _AsyncFunctionDef = _FunctionDef

    def _Lambda(self, node: ast.Lambda) -> str:
        outside = [self.text(node.args.defaults), self.text(node.args.kw_defaults)]
        self.scopes.append(_locals(node))
        inside = [self.text(node.args), self.text(node.body)]
        self.scopes.pop()
        return f"Lambda({','.join([*outside, *inside])})"

    def _arguments(self, node: ast.arguments) -> str:
        return self._plain(node, defaults="", kw_defaults="")

    def _comprehension_scope(self, node: ast.AST) -> str:
        self.scopes.append(dict.fromkeys(_stored(ast.walk(node))))
        text = self._plain(node)
        self.scopes.pop()
        return text

    _ListComp = _SetComp = _DictComp = _GeneratorExp = _comprehension_scope

    # names

    def _Constant(self, node: ast.Constant) -> str:
        if isinstance(node.value, str):
            if node.value.partition(".")[0] in PACKAGES and _file_of(node.value):
                return self._add((node.value, ""))  # a module loaded by its name
            self.uses.strings.add(node.value)
        return f"Constant({node.value!r})"

    def _Name(self, node: ast.Name) -> str:
        return self._chain(node.id, []) or f"Name({node.id})"

    def _Attribute(self, node: ast.Attribute) -> str:
        attributes: list[str] = []
        base: ast.expr = node
        while isinstance(base, ast.Attribute):
            attributes.insert(0, base.attr)
            base = base.value
        text = self._chain(base.id, attributes) if isinstance(base, ast.Name) else None
        return text or self._plain(node)

    def _chain(self, name: str, attributes: list[str]) -> str | None:
        """What `name.attribute.attribute` leads to, as text; None where the name is a variable or a builtin."""
        target = self._target(name)
        if target is None:
            return None
        led = _follow(target, attributes)
        if led is None:
            return ".".join([f"Name({'.'.join(filter(None, target))})", *attributes])
        thing, left = led
        return ".".join([self._add(thing), *left])

    def _target(self, name: str) -> Definition | None:
        """What a name stands for where it is bound or imported at the module's top, or imported inside a function."""
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        return (self.module, name) if name in self.top.bound else self.top.imported.get(name)

    def _add(self, thing: Definition) -> str:
        """Count a definition, a module as a whole, or what counts in its place; the definition's bare name."""
        module, name = thing
        instead = INSTEAD.get(f"{module}.{name}", INSTEAD.get(module))
        if instead is not None:
            for dotted in instead:
                self._add(_known(dotted))
            return "Name(known by its content)"
        if name:
            self.uses.definitions.add(thing)
        else:
            self.uses.modules.add(module)
        return f"Name(<{module}:{name}>)"


def known_by_content() -> list[Path]:
    """The files of the modules in which something is known by its content."""
    files = {_file_of(dotted) or _file_of(dotted.rpartition(".")[0]) for dotted in INSTEAD}
    return sorted(file for file in files if file)


def _known(dotted: str) -> Definition:
    module, _, name = dotted.rpartition(".")
    found = _resolve(module, name)
    if found is None:
        raise MasoError(f"There is no {dotted} (asked for by `maso_book.meaning.INSTEAD`?).")
    return found


def _locals(node: Function) -> dict[str, Definition | None]:
    """The variables of a function, its arguments included; functions inside have their own."""
    arguments = node.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    names += [a.arg for a in (arguments.vararg, arguments.kwarg) if a]
    if isinstance(node, ast.Lambda):
        return dict.fromkeys([*names, *_stored(ast.walk(node.body))])
    inside = list(_own(node.body))
    outer = {name for each in inside if isinstance(each, ast.Global | ast.Nonlocal) for name in each.names}
    defined = [n.name for n in inside if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
    caught = [n.name for n in inside if isinstance(n, ast.ExceptHandler) and n.name]
    return {name: None for name in [*names, *_stored(inside), *defined, *caught] if name not in outer}


_SCOPES = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
)


def _own(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """These nodes and what is inside them, but for the insides of functions, classes and comprehensions."""
    for node in nodes:
        yield node
        if not isinstance(node, _SCOPES):
            yield from _own(ast.iter_child_nodes(node))


def _stored(nodes: Iterable[ast.AST]) -> list[str]:
    return [n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)]
