"""The three floors: imports only run down, and each floor imports no package beyond its own."""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAY = {
    "sslm_core": {"torch", "numpy"},
    "baselines": {"sslm_core", "torch", "numpy"},
    "bench": {"baselines", "sslm_core", "torch", "numpy", "sklearn", "scipy", "tqdm", "matplotlib", "threadpoolctl", "pytest_benchmark"},
}

ALSO = {"bench/speed_opponents.py": {"kornia", "monai"}}  # what speed is measured against


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


def test_imports_run_down():
    for floor, allowed in MAY.items():
        files = list((ROOT / floor).rglob("*.py"))
        assert files
        for path in files:
            odd = imports(path) - allowed - ALSO.get(str(path.relative_to(ROOT)), set()) - {floor} - set(sys.stdlib_module_names)
            assert not odd, f"{path.relative_to(ROOT)} imports {odd}"


def within(path: Path) -> set[str]:
    """Modules of its own floor that a module imports when it is loaded."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            names |= {node.module} if node.module else {alias.name for alias in node.names}
    return names


def test_no_module_waits_for_itself():
    """Else a verb starts or fails by which module happens to be imported first."""
    for floor in MAY:
        left = {path.stem: within(path) for path in (ROOT / floor).glob("*.py")}
        while ready := [name for name, needs in left.items() if not needs & left.keys()]:
            for name in ready:
                del left[name]
        assert not left, f"{floor}: modules that import each other: {sorted(left)}"


def test_no_test_module_imports_another():
    """What they share lies in conftest.py and tools/."""
    for path in (ROOT / "tests").rglob("*.py"):
        assert "from tests.test_" not in path.read_text().replace('"from tests.test_"', ""), path
