"""Credentials in the environment reach nothing that is written or said: store, results, W&B's files, messages."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPO, SMOKE

from cwpo.commands import entry
from cwpo.plain import HIDDEN, shown, without_secrets

PLANTED = {
    "WANDB_API_KEY": "wandbsecret0123456789abcdef0123456789abcd",
    "HF_TOKEN": "hf_PlantedTokenPlantedTokenPlanted",
    "OPENAI_API_KEY": "sk-planted-openai-key-0123456789",
    "ANTHROPIC_API_KEY": "sk-ant-planted-0123456789",
    "AWS_SECRET_ACCESS_KEY": "PlantedAwsSecret/0123456789",
    "MY_DATABASE_PASSWORD": "planted-password-77",
    "HTTPS_PROXY": "http://proxyuser:plantedproxypass@127.0.0.1:9",
    "HF_ENDPOINT": "https://hubuser:plantedhubpass@127.0.0.1:9",
}
# What must not be found: the values, or of addresses the password in them.
SECRETS = [
    value.partition("://")[2].partition("@")[0].rpartition(":")[2] if "://" in value else value
    for value in PLANTED.values()
]


def run(folder: Path, *words: str) -> subprocess.CompletedProcess:
    """scripts/run.py with everything planted, W&B offline, and all that it writes below `folder`."""
    environment = os.environ | PLANTED | {"WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
    environment |= {
        name: str(folder / name.lower())
        for name in ("HOME", "TMPDIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR")
    }
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(REPO)}
    for name in ("home", "tmpdir"):
        (folder / name).mkdir(exist_ok=True)
    command = [sys.executable, str(REPO / "scripts" / "run.py"), *SMOKE, "logger=wandb", "logger.mode=offline", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    (folder / "said").mkdir(exist_ok=True)
    (folder / "said" / f"{len(list((folder / 'said').iterdir()))}.txt").write_text(done.stdout + done.stderr)
    return done


def leaks(folder: Path) -> list[str]:
    """Which files hold a secret, as text in any usual encoding."""
    found = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = file.read_bytes() + b"\n" + str(file.relative_to(folder)).encode()
        for secret in SECRETS:
            forms = {secret.encode(), secret.encode("utf-16-le"), secret.replace("/", "%2F").encode()}
            found += [f"{file.relative_to(folder)}: {secret}" for form in forms if form in content]
    return found


@pytest.mark.soak
@pytest.mark.parametrize("until", ["prepare", pytest.param("evaluate", marks=pytest.mark.slow)])
def test_no_secret_is_written_anywhere(tmp_path, until):
    done = run(tmp_path, f"until={until}")
    assert done.returncode == 0, done.stderr
    failed = run(tmp_path, "pair.weak=stranger/model")  # the hub client names the address it could not reach
    assert failed.returncode == 2 and "pair.weak=stranger/model" in failed.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    kinds = {path.name for path in files}
    assert {"manifest.json", "metrics.jsonl", "debug.log"} <= kinds and any(path.suffix == ".wandb" for path in files)
    assert leaks(tmp_path) == []


def test_the_search_for_leaks_finds_one(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"\x00..." + PLANTED["HF_TOKEN"].encode() + b"\x00")
    (tmp_path / "b.txt").write_text(PLANTED["HTTPS_PROXY"])
    assert [line.partition(":")[0] for line in leaks(tmp_path)] == ["a.bin", "b.txt"]


@pytest.fixture
def planted(monkeypatch):
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("name", PLANTED)
def test_a_secret_in_an_unforeseen_error_is_not_shown(planted, capsys, name):
    try:
        raise KeyError(f"request with {PLANTED[name]} failed")
    except KeyError as error:
        entry._say_traceback(type(error), error, error.__traceback__)
    said = capsys.readouterr().err
    assert "KeyError" in said and HIDDEN in said and not any(secret in said for secret in SECRETS)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("https://user:word@host/x", f"https://{HIDDEN}@host/x"),
        ("http://user:p@ss@host/x, http://u:v@host", f"http://{HIDDEN}@host/x, http://{HIDDEN}@host"),
        ("https://host/x?a=1&api_key=abc123&b=2", f"https://host/x?a=1&api_key={HIDDEN}&b=2"),
        ("https://host/x?X-Amz-Signature=abc", f"https://host/x?X-Amz-Signature={HIDDEN}"),
        ("git+ssh://token@host/x", f"git+ssh://{HIDDEN}@host/x"),
    ],
)
def test_credentials_in_addresses_are_hidden(text, kept):
    assert without_secrets(text, {}) == kept == shown(text)


def test_short_values_and_other_variables_are_no_secrets():
    environment = {
        "TOKEN": "true",
        "KEYBOARD": "qwertyuiop",
        "MONKEY": "a-long-enough-value",
        "MY_KEY": "a-real-key-123",
    }
    text = "true qwertyuiop a-real-key-123"
    assert without_secrets(text, environment) == f"true qwertyuiop {HIDDEN}"
    assert without_secrets("longer-key-123456", {"A_KEY": "longer-key", "B_KEY": "longer-key-123456"}) == HIDDEN
