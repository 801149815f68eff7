"""A Slurm of one node on this machine's loopback, started and stopped by a fixture; needs root and Debian's slurm-wlm and munge."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "sinfo", "scontrol")
CONFIG = """\
ClusterName=cwpo
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={controller}
SlurmdPort={daemon}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1
MpiDefault=none
ReturnToService=2
SwitchType=switch/none
MessageTimeout=60
InactiveLimit=0
KillWait=5
MinJobAge=600
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Why there can be no Slurm here, or None."""
    path = os.environ.get("PATH", "") + ":/usr/sbin"
    absent = [name for name in DAEMONS if shutil.which(name, path=path) is None]
    if absent:
        return f"no {', '.join(absent)} here (Debian: slurm-wlm, munge)"
    return None if os.geteuid() == 0 else "Slurm's daemons are started as root only"


@contextmanager
def slurm(folder: Path, cpus: int) -> Iterator[dict[str, str]]:
    """The environment in which sbatch and srun speak to a Slurm that lives as long as the block."""
    host = socket.gethostname().partition(".")[0]
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(parents=True)
    config = folder / "slurm.conf"
    ports = {"controller": _free_port(), "daemon": _free_port()}
    config.write_text(CONFIG.format(host=host, folder=folder, cpus=cpus, **ports))
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    environment = os.environ | {
        "SLURM_CONF": str(config),
        "PATH": os.environ.get("PATH", "") + ":/usr/sbin",
        "MUNGE_SOCKET": str(folder / "munge" / "socket"),
    }
    environment = {k: v for k, v in environment.items() if not k.startswith("SLURM_") or k == "SLURM_CONF"}
    munged = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge/socket",
              f"--pid-file={folder}/munge/pid", f"--log-file={folder}/munge/log", f"--seed-file={folder}/munge/seed"]  # fmt: skip
    commands = [munged, ["slurmctld", "-D", "-f", str(config)], ["slurmd", "-D", "-f", str(config), "-N", host]]
    started: list[subprocess.Popen] = []
    try:
        for words in commands:
            log = (folder / f"{words[0]}.out").open("wb")
            started.append(subprocess.Popen(words, env=environment, stdout=log, stderr=log, start_new_session=True))
            time.sleep(1)
        _wait_until_idle(environment, folder)
        yield environment
    finally:
        subprocess.run(["scancel", "--user=root"], env=environment, capture_output=True, timeout=30, check=False)
        for process in reversed(started):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_idle(environment: dict[str, str], folder: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        done = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"], env=environment, capture_output=True, text=True, check=False
        )
        if done.stdout.strip() == "idle":
            return
        time.sleep(0.5)
    logs = {log.name: log.read_text(errors="replace")[-2000:] for log in folder.glob("*.log")}
    raise RuntimeError(f"Slurm did not come up: {done.stdout} {done.stderr} {logs}")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
