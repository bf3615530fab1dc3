"""Sources: which Python code a number depends on, as a digest of each module and the version of each package."""

import ast
import functools
import hashlib
import sys
import sysconfig
from collections.abc import Collection, Iterable
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path


def of_modules(names: Iterable[str], own: Collection[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The code that modules consist of: their own, and what they import of the same package or beside it.

    A module counts as code that may change if no installed distribution brought it: a file of the user's, or a package
    that is installed to be edited. Of this project's package, wherever it lies, what `own` names counts; of the rest
    of it, modules that are among the names, and what these import.

    Args:
        names: The full names of the modules.
        own: Modules of this project, and packages with all that they hold, whose code makes numbers.

    Returns:
        The digest of each module by its name, and the version of each distribution that the modules came with.
    """
    project = __name__.partition(".")[0]
    digests: dict[str, str] = {}
    versions: dict[str, str] = {}
    seen: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in seen or name == project:
            continue
        seen.add(name)
        if "." in name:
            waiting.append(name.rpartition(".")[0])  # a package runs before what is in it
        is_projects = name.partition(".")[0] == project
        if not is_projects and _is_installed(name):
            versions |= _distributions(name.partition(".")[0])
        elif _parsed(name) is not None:
            digests[name] = digest(name)
            beside = [imported for imported in imports(name) if _is_beside(imported, name)]
            if not is_projects or _is_in(name, own):  # the rest of the project, which these use, makes no numbers
                beside = [imported for imported in beside if _is_in(imported, own) or not _is_in(imported, [project])]
            waiting += beside
    return dict(sorted(digests.items())), dict(sorted(versions.items()))


@functools.cache  # a process runs the code that it imported, whatever becomes of the file
def digest(name: str) -> str:
    """The first 12 hex digits of SHA-256 over a module's code, without its comments, docstrings and line breaks.

    Args:
        name: The full name of a module of Python code.
    """
    tree = _parsed(name)
    assert tree is not None
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [each for each in node.body if not _is_text(each)]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:12]


@functools.cache
def imports(name: str) -> tuple[str, ...]:
    """The full names of what a module imports; of `from a import b` both a and a.b, which may be a module.

    Args:
        name: The full name of the module, from which its relative imports count.
    """
    tree, spec = _parsed(name), find_spec(name)
    assert tree is not None
    assert spec is not None
    parts = name.split(".") if spec.submodule_search_locations is not None else name.split(".")[:-1]
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = parts[: len(parts) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return tuple(found)


def _is_in(name: str, packages: Iterable[str]) -> bool:
    """Whether a module is one of several, or lies in one of them."""
    return any(name == each or name.startswith(f"{each}.") for each in packages)


def _parsed(name: str) -> ast.Module | None:
    """The code of a module, from its file or its archive; None if there is no such module of Python code."""
    try:
        spec = find_spec(name)
        get_source = getattr(spec and spec.loader, "get_source", None)
        source = get_source(name) if get_source else None
    except (ImportError, AttributeError, ValueError):  # `a.b` of `from a import b`, where b is no module
        return None
    return None if source is None else ast.parse(source)


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _is_beside(imported: str, name: str) -> bool:
    """Whether a module that another one imports can be code of the same author: no module of Python or of a library."""
    top = imported.partition(".")[0]
    return top == name.partition(".")[0] or not (top in sys.stdlib_module_names or _is_installed(top))


@functools.cache
def _is_installed(name: str) -> bool:
    """Whether a module lies where Python or pip install, and not where its author edits it."""
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names:
        return True
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:  # a name space, or no module
        return bool(packages_distributions().get(top))
    places = {Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib", "stdlib", "platstdlib")}
    return any(place in Path(spec.origin).resolve().parents for place in places)


@functools.cache
def _distributions(top: str) -> dict[str, str]:
    """The version of each distribution that brought a package."""
    found = {}
    for name in packages_distributions().get(top, ()):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # removed since
            continue
    return found
