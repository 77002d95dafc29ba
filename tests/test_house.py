"""The three floors: imports only run down, and each floor imports no package beyond its own."""

import ast
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAY = {
    "sslm_core": {"torch", "numpy"},
    "baselines": {"sslm_core", "torch", "numpy"},
    "bench": {
        "baselines",
        "sslm_core",
        "torch",
        "numpy",
        "sklearn",
        "scipy",
        "tqdm",
        "matplotlib",
        "threadpoolctl",
        "jinja2",
        "pytest_benchmark",
    },
}

ALSO = {
    "baselines/timm_backbone.py": {"timm", "huggingface_hub"},
    "bench/speed/opponents.py": {"kornia", "monai", "cornucopia"},  # what speed is measured against
    "bench/data/importers/dicom.py": {"pydicom"},
    "bench/data/importers/nifti.py": {"nibabel"},
}


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
            odd = (
                imports(path)
                - allowed
                - ALSO.get(str(path.relative_to(ROOT)), set())
                - {floor}
                - set(sys.stdlib_module_names)
            )
            assert not odd, f"{path.relative_to(ROOT)} imports {odd}"


ROOMS = {  # of bench/ -> the rooms that it may import, beside itself and the modules of bench/ that stand alone
    "config": set(),
    "stats": set(),
    "phantom": {"config"},
    "store": {"stats", "config"},
    "data": {"phantom", "stats", "config"},
    "run": {"data", "store", "config"},
    "report": {"run", "data", "phantom", "store", "stats", "config"},
    "check": {"run", "data", "store", "stats", "config"},
    "speed": {"run", "phantom", "config"},
    "study": {"report", "speed", "run", "data", "store", "stats", "config"},
    "explain": {"report", "run", "store", "stats", "config"},
    "cli": {"study", "explain", "report", "check", "speed", "run", "data", "phantom", "store", "stats", "config"},
}
ALONE = {"machine", "processes", "text"}  # modules of bench/ that import nothing of it


def needs(path: Path, root: Path, lazy: bool) -> set[str]:
    """Modules under `root` that the module at `path` imports, as dotted names; lazy: within its functions too."""
    here, names = path.relative_to(root).parent.parts, set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if lazy else tree.body:
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*here[: len(here) - node.level + 1], *(node.module or "").split(".")]
            for alias in node.names:
                for parts in ([*base, alias.name], base):
                    name = ".".join(filter(None, parts))
                    if (root / f"{name.replace('.', '/')}.py").exists():
                        names.add(name)
                        break
    return names


def broken(root: Path) -> list[str]:
    """Imports in the folder `root` that the table above does not allow."""
    found = []
    for path in root.rglob("*.py"):
        mine = path.relative_to(root).with_suffix("").parts
        if mine == ("__main__",):
            continue
        for name in needs(path, root, lazy=True):
            room = name.partition(".")[0]
            if len(mine) == 1 or (room not in ALONE and room != mine[0] and room not in ROOMS[mine[0]]):
                found.append(f"{'.'.join(mine)} imports {name}")
    return found


def test_rooms_of_bench_import_only_what_the_table_allows(tmp_path):
    assert {path.name for path in (ROOT / "bench").iterdir() if path.is_dir() and path.name != "__pycache__"} == set(
        ROOMS
    )
    assert broken(ROOT / "bench") == []
    copy = tmp_path / "bench"
    shutil.copytree(ROOT / "bench", copy)
    for room, planted in (
        ("stats", "from ..store import results"),
        ("run", "def f():\n    from ..report.table import table"),
    ):
        (copy / room / "planted.py").write_text(planted + "\n")
        assert [line.partition(" ")[0] for line in broken(copy)] == [f"{room}.planted"]
        (copy / room / "planted.py").unlink()


def test_no_module_waits_for_itself():
    """Else a verb starts or fails by which module happens to be imported first."""
    for floor in MAY:
        root = ROOT / floor
        left = {
            ".".join(path.relative_to(root).with_suffix("").parts): needs(path, root, lazy=False)
            for path in root.rglob("*.py")
        }
        assert len(left) > 3
        while ready := [name for name, wanted in left.items() if not wanted & left.keys()]:
            for name in ready:
                del left[name]
        assert not left, f"{floor}: modules that import each other: {sorted(left)}"


def test_no_test_module_imports_another():
    """What they share lies in conftest.py and tools/."""
    for path in (ROOT / "tests").rglob("*.py"):
        imported = re.findall(r"^ *(?:from|import) +(tests\S*.*)", path.read_text(), re.MULTILINE)
        assert not [line for line in imported if "test_" in line], path


def test_the_version_is_in_step():
    texts = {name: (ROOT / name).read_text() for name in ("pyproject.toml", "CITATION.cff", "CHANGELOG.md")}
    found = [
        re.search(pattern, text, re.M)[1]
        for pattern, text in zip((r'^version = "(.+)"', r"^version: (.+)", r"^## ([\d.]+)"), texts.values())
    ]
    assert len(set(found)) == 1, found
