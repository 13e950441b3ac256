"""Imports run strictly downwards: a room may use the floors below its own, and never the ones above."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2] / "chaosd"
FLOORS = (
    {"errors", "places", "timer", "journald"},
    {"markup"},
    {"units", "document", "verdict", "events"},
    {"shape", "interrupt"},
    {"kernel"},
    {"journal", "targets", "patience"},
    {"restore"},
    {"watchdog", "faults"},
    {"checks", "safety"},
    {"step", "canary", "expectation"},
    {"scenario"},
    {"plan", "direct", "judge"},
    {"follow"},
    {"timeline"},
    {"engine"},
    {"report", "catalog", "doctor"},
    {"byhand"},
    {"metrics", "orchestrate"},
    {"daemon", "client"},
    {"embed"},
    {"cli", "pytest_plugin", "chaostoolkit"},
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "chaosd":
            names = [node.module] if "." in node.module else [f"chaosd.{alias.name}" for alias in node.names]
            found |= {name.split(".")[1] for name in names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("chaosd.")}
    return found


def test_every_import_goes_down() -> None:
    files = [
        path
        for path in ROOT.rglob("*.py")
        if path.parent != ROOT or path.stem not in ("__init__", "__main__")
    ]
    assert len(files) > 20
    for path in files:
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if room == "demo":
            assert _imports(path) <= {"demo"}, f"{path}: the demo imports nothing of the rest"
            continue
        for other in _imports(path) - {room, "__version__"}:
            assert FLOOR_OF[other] < FLOOR_OF[room], f"{path} imports {other}, which is not below {room}"


def test_the_core_names_no_fault() -> None:
    names = {path.stem for path in (ROOT / "faults").glob("[a-z]*_*.py")}
    assert names
    for core in ("engine", "timeline", "plan", "journal", "restore", "watchdog"):
        text = (ROOT / f"{core}.py").read_text("utf-8")
        assert not [name for name in names if name in text or name.replace("_", ".", 1) in text]
