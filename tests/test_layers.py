"""The shape of the code: imports go down the layers only, files stay small, nothing is called utils."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
PACKAGE = REPO / "cwpo"
FILES = sorted(PACKAGE.rglob("*.py"))

FOUNDATION = set(
    "atomic errors finite pages plain results runtime tracking weighting objectives statistics calibration".split()
)
# From the ground up. A package imports from itself and from the packages below it.
FLOORS = "config store data models training checks stages pipeline execution planning own bench commands".split()
# The report reads results/ alone: it stands beside the floors, and only commands import it.
REPORT_MAY_IMPORT = FOUNDATION | {"config", "store", "report"}


def name_of(file: Path) -> str:
    parts = file.relative_to(REPO).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    """`cwpo.models.gold` belongs to `models`."""
    return module.split(".")[1]


def imports(file: Path) -> set[str]:
    """The modules that a file imports, at its top or in a function."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names if is_module(node.module, alias.name)}
    return found


def is_module(package: str, name: str) -> bool:
    path = REPO.joinpath(*package.split("."), name)
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def ours(modules: set[str]) -> set[str]:
    return {module for module in modules if module.startswith("cwpo.")}


def allowed(part: str) -> set[str]:
    """The parts of cwpo that modules of `part` may import."""
    if part in FOUNDATION:
        return FOUNDATION
    if part == "report":
        return REPORT_MAY_IMPORT
    below = FLOORS[: FLOORS.index(part) + 1]
    return FOUNDATION | set(below) | ({"report"} if part == "commands" else set())


def test_the_house_has_few_rooms():
    modules = [f.stem for f in PACKAGE.glob("*.py") if f.name != "__init__.py"]
    packages = [f.parent.name for f in PACKAGE.glob("*/__init__.py")]
    assert set(modules) == FOUNDATION
    assert set(packages) == {*FLOORS, "report"}
    assert len(modules) <= 12
    assert len(packages) <= 14


def test_every_package_says_what_it_is_for():
    silent = [f for f in PACKAGE.rglob("__init__.py") if not ast.get_docstring(ast.parse(f.read_text()))]
    assert silent == []


@pytest.mark.parametrize("part", [*FLOORS, "report", *sorted(FOUNDATION)])
def test_imports_only_go_down(part):
    files = [f for f in FILES if name_of(f) != "cwpo" and part_of(name_of(f)) == part]
    assert files
    upwards = {
        f"{name_of(file)} -> {module}"
        for file in files
        for module in ours(imports(file))
        if part_of(module) not in allowed(part)
    }
    assert upwards == set()


def test_no_import_cycles():
    graph = {name_of(f): {m for m in ours(imports(f)) if m != name_of(f)} for f in FILES}
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError
    assert {"cwpo.pipeline.arms", "cwpo.errors"} <= set(order)


def test_report_never_touches_torch():
    files = sorted((PACKAGE / "report").rglob("*.py"))
    heavy = {"torch", "transformers", "datasets", "tokenizers", "accelerate", "peft"}
    assert {f.name: {m.split(".")[0] for m in imports(f)} & heavy for f in files} == {f.name: set() for f in files}


def test_pure_method_knows_no_models():
    for name in ("weighting", "objectives", "statistics", "calibration"):
        top = {module.split(".")[0] for module in imports(PACKAGE / f"{name}.py")}
        assert top <= {
            "__future__",
            "math",
            "typing",
            "collections",
            "dataclasses",
            "functools",
            "numpy",
            "scipy",
            "torch",
        }, name


def test_planning_and_reporting_load_neither_torch_nor_transformers():
    code = "import sys, cwpo.report.build, cwpo.planning.plan, cwpo.commands.entry, cwpo.pipeline.arms as arms; arms.expand(['seed=0']); print(sorted({'torch', 'transformers', 'datasets', 'wandb'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_is_called_utils():
    assert [str(f) for f in FILES if f.stem in ("utils", "util", "helpers", "misc", "common")] == []


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_files_stay_small(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 320


# No function has more than LINES lines or LEVELS levels of nesting.
LINES, LEVELS = 60, 3
BLOCKS = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match)
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def levels(node: ast.AST) -> int:
    """Blocks inside each other below a node. An elif is on the level of its if; functions inside count for themselves."""
    inner = [child for child in ast.iter_child_nodes(node) if not isinstance(child, SCOPES)]
    chained = isinstance(node, ast.If) and len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If)
    flat = node.orelse if chained else []
    return max((levels(child) + (isinstance(child, BLOCKS) and child not in flat) for child in inner), default=0)


def test_levels_are_counted():
    code = "if a:\n for b in c:\n  with d: pass\nelif e:\n  pass\nelif f:\n  while g: pass"
    assert levels(ast.parse(code)) == 3
    assert levels(ast.parse("def f():\n if a:\n  def g():\n   if b: pass").body[0]) == 1


def test_functions_stay_small_and_flat():
    large = {
        f"{name_of(file)}.{node.name}"
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and (node.end_lineno - node.lineno >= LINES or levels(node) > LEVELS)
    }
    assert large == set(), "split these functions"


def test_scripts_stay_thin():
    scripts = sorted((REPO / "scripts").glob("*.py"))
    assert {"run", "plan", "reproduce", "report"} <= {f.stem for f in scripts}
    assert {f.name: n for f in scripts if (n := len(f.read_text().splitlines())) > 25} == {}
