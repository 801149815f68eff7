"""The files that say what to install agree with each other and bind nobody to one package index."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.M)
# In two halves, so that this file passes its own test.
INDEX_HOSTS = [
    "py" + "pi.org",
    "python" + "hosted.org",
    "download.py" + "torch.org",
    "py" + "pi.nvidia.com",
    "repo.ana" + "conda.com",
    "conda.ana" + "conda.org",
    "registry.npm" + "js.org",
]


def locked() -> dict[str, str]:
    return dict(PIN.findall(LOCK.read_text()))


def torch_of_makefile() -> str:
    (version,) = re.findall(r"^TORCH_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.M)
    return version


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def name_of(requirement: str) -> str:
    return re.match(r"[A-Za-z0-9._-]+", requirement).group().lower().replace("_", "-")


def test_environment_yml_pins_what_the_lock_and_the_makefile_pin():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip_section,) = [item["pip"] for item in environment["dependencies"] if isinstance(item, dict)]
    pins = dict(PIN.findall("\n".join(pip_section)))
    assert len(pins) == len(pip_section)
    assert pins == {**locked(), "torch": torch_of_makefile()}


def test_lock_hashes_every_package_and_leaves_torch_and_cuda_out():
    blocks = re.split(r"^(?=[A-Za-z0-9])", LOCK.read_text(), flags=re.M)[1:]
    assert len(blocks) == len(locked()) > 0
    assert [block for block in blocks if "--hash=sha256:" not in block] == []
    assert [name for name in locked() if re.match(r"torch$|nvidia|cuda|triton", name)] == []


@pytest.mark.parametrize("extra", ["", "lora", "dev"])
def test_lock_holds_every_direct_dependency(extra):
    requirements = project()["optional-dependencies"][extra] if extra else project()["dependencies"]
    names = {name_of(requirement) for requirement in requirements} - {"torch"}
    assert names <= set(locked())


def test_lock_and_pins_name_no_source_and_no_folder():
    for line in LOCK.read_text().splitlines():
        assert not re.search(r"index-url|find-links|trusted-host|://|file:|@ ", line), line


def test_extras_exist():
    assert {"lora", "bench", "slurm", "dev"} <= set(project()["optional-dependencies"])


def test_every_script_that_make_calls_exists():
    called = set(re.findall(r"(?:scripts|tests|\.ci)/[\w/]+\.(?:py|sh)\b", (ROOT / "Makefile").read_text()))
    assert {"scripts/setup.sh", "scripts/reproduce.py"} <= called
    assert all((ROOT / script).is_file() for script in called)


@pytest.mark.parametrize("target", ["reproduce", "plan", "preflight", "report"])
def test_make_passes_the_scale_on(target):
    shown = subprocess.run(["make", "-n", target, "SCALE=paper"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert " scale=paper" in shown.stdout


def test_no_tracked_file_names_a_package_index():
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    found = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file():
            text = path.read_bytes()
            found += [f"{name}: {host}" for host in INDEX_HOSTS if host.encode() in text]
    assert found == []
