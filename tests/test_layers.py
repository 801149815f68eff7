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
REPORT = -1

# Module or package -> layer; the longest prefix counts. validation looks at checkpoints, so it stands above the models.
LAYERS = {
    **dict.fromkeys(
        [
            "errors",
            "config",
            "commands",
            "manifest",
            "store",
            "runtime",
            "tracking",
            "results",
            "plain",
            "finite",
            "digests",
        ],
        0,
    ),
    **dict.fromkeys(["weighting", "objectives", "statistics", "calibration"], 1),
    "data": 2,
    "models": 3,
    "training": 4,
    "stages": 5,
    **dict.fromkeys(
        [
            "pipeline",
            "plan",
            "sweep",
            "kept",
            "collect",
            "excerpts",
            "derived",
            "runner",
            "cli",
            "validation",
            "method_checks",
            "explain",
            "store_tools",
            "leaf_checks",
            "command_checks",
            "foreign_config",
            "assets",
            "lock_assets",
            "model_checks",
            "preflight",
            "bench",
            "own",
            "board",
            "launch",
            "launched",
            "launchers",
            "levels",
            "machine_checks",
            "costs",
            "cost_table",
            "forecast",
        ],
        6,
    ),
    "report": REPORT,
}
REPORT_MAY_IMPORT = {
    *(
        "errors",
        "config",
        "digests",
        "plain",
        "results",
        "statistics",
        "store",
        "runtime",
        "tracking",
        "report",
    ),
}


def name_of(file: Path) -> str:
    parts = file.relative_to(REPO).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    """`cwpo.models.gold` belongs to `models`."""
    return module.split(".")[1]


def imports(file: Path, top_level_only: bool = False) -> set[str]:
    """The modules that a file imports, anywhere or only when it is itself imported."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found.add(node.module)
            found |= {
                f"{node.module}.{alias.name}" for alias in node.names if is_module(node.module, alias.name)
            }
    return found


def is_module(package: str, name: str) -> bool:
    path = REPO.joinpath(*package.split("."), name)
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def ours(modules: set[str]) -> set[str]:
    return {module for module in modules if module.startswith("cwpo.")}


def test_every_module_has_a_layer():
    assert len(FILES) > 30
    assert {part_of(name_of(f)) for f in FILES if name_of(f) != "cwpo"} <= set(LAYERS)


@pytest.mark.parametrize("file", [f for f in FILES if name_of(f) != "cwpo"], ids=name_of)
def test_imports_only_go_down(file):
    layer = LAYERS[part_of(name_of(file))]
    if layer == REPORT:
        assert {part_of(module) for module in ours(imports(file))} <= REPORT_MAY_IMPORT
        return
    allowed = {name for name, level in LAYERS.items() if REPORT < level <= layer}
    if name_of(file) == "cwpo.runner":  # the command that writes results also asks for their tables
        allowed.add("report")
    above = {module for module in ours(imports(file)) if part_of(module) not in allowed}
    assert above == set()


def test_no_import_cycles():
    graph = {name_of(f): {m for m in ours(imports(f, top_level_only=True)) if m != name_of(f)} for f in FILES}
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError
    assert {"cwpo.plan", "cwpo.errors"} <= set(order)


def test_report_never_touches_torch():
    files = sorted((PACKAGE / "report").rglob("*.py"))
    if not files:
        pytest.skip("there is no cwpo/report")
    heavy = {"torch", "transformers", "datasets", "tokenizers", "accelerate", "peft"}
    assert {f.name: {m.split(".")[0] for m in imports(f)} & heavy for f in files} == {
        f.name: set() for f in files
    }


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


def test_planning_a_sweep_loads_neither_torch_nor_transformers():
    code = "import sys, cwpo.plan, cwpo.cli; print(sorted({'torch', 'transformers', 'datasets', 'wandb'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_is_called_utils():
    assert [str(f) for f in FILES if f.stem in ("utils", "util", "helpers", "misc", "common")] == []


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_files_stay_small(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 320


def test_scripts_stay_thin():
    scripts = sorted((REPO / "scripts").glob("*.py"))
    assert {"run", "plan", "reproduce", "report"} <= {f.stem for f in scripts}
    assert {f.name: n for f in scripts if (n := len(f.read_text().splitlines())) > 25} == {}
