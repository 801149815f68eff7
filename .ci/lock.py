"""Resolve pyproject.toml into requirements.lock (with hashes) and environment.yml. Run by `make lock`.

PyTorch is left out of the lock, and with it the CUDA packages that some of its builds bring: which build a machine
gets is its index's choice, so torch is pinned by version alone. Existing pins are kept unless --upgrade is given.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
ENVIRONMENT = ROOT / "environment.yml"
BROUGHT_BY_TORCH = re.compile(r"(nvidia|cuda|triton|pytorch-triton)\b")
LOCK_HEADER = """\
# Every package that cwpo needs (extras lora and dev included) except PyTorch, with hashes.
# Regenerate, keeping the pins: make lock        Move to the newest versions: make lock UPGRADE=1
# Install: python -m pip install --require-hashes --no-deps -r requirements.lock
#          python -m pip install torch=={torch}
"""
ENVIRONMENT_HEADER = """\
# The versions of requirements.lock for conda users; written by `make lock`, do not edit.
# conda env create -f environment.yml && conda activate cwpo && pip install --no-deps -e .
name: cwpo
channels:
  - conda-forge
dependencies:
  - python=3.11
  - pip
  - pip:
      - torch=={torch}
"""
OPTIONS = "--quiet --no-config --generate-hashes --strip-extras --no-header --no-emit-options --no-allow-unsafe"


def resolve(torch: str, upgrade: bool) -> str:
    """Return pip-compile's output for the base dependencies and the lora and dev extras."""
    with tempfile.TemporaryDirectory() as folder:
        output, constraint = Path(folder, "requirements.txt"), Path(folder, "constraint.txt")
        constraint.write_text(f"torch=={torch}\n")
        if LOCK.exists():
            output.write_text(LOCK.read_text())
        command = [sys.executable, "-m", "piptools", "compile", *OPTIONS.split(), "--unsafe-package", "torch"]
        command += ["--extra", "lora", "--extra", "dev", "--constraint", str(constraint)]
        command += ["--output-file", str(output), *(["--upgrade"] if upgrade else []), "pyproject.toml"]
        subprocess.run(command, cwd=ROOT, check=True)
        return output.read_text()


def locked_packages(compiled: str) -> list[str]:
    """Return one block per package, its pin, hashes and origin, without the packages that torch's builds bring."""
    blocks = re.split(r"^(?=[A-Za-z0-9])", compiled.partition("\n# WARNING")[0] + "\n", flags=re.M)
    blocks = [re.sub(r"^ +#   -c .*\n", "", block, flags=re.M) for block in blocks if "==" in block]
    return [block.rstrip() + "\n" for block in blocks if not BROUGHT_BY_TORCH.match(block)]


def main() -> None:
    torch, upgrade = sys.argv[1], "--upgrade" in sys.argv[2:]
    blocks = locked_packages(resolve(torch, upgrade))
    pins = [block.split("\\", 1)[0].strip() for block in blocks]
    LOCK.write_text(LOCK_HEADER.format(torch=torch) + "".join(blocks))
    quoted = [f'"{pin}"' if ";" in pin else pin for pin in pins]
    ENVIRONMENT.write_text(ENVIRONMENT_HEADER.format(torch=torch) + "".join(f"      - {pin}\n" for pin in quoted))
    print(f"{LOCK.name}: {len(pins)} packages; {ENVIRONMENT.name}: the same and torch {torch}")


if __name__ == "__main__":
    main()
