"""A real SLURM of one node, without accounts or keys: its controller and its node are two processes of the test."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.loopback import free_port
from tests.processes import PATIENCE_S, ROOT

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "scontrol", "srun", "squeue")
_FOUND_IN = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
KillWait=30
SlurmctldPort={port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Return why there can be no SLURM here; None if there can."""
    lacking = [name for name in PROGRAMS if shutil.which(name, path=_FOUND_IN) is None]
    if lacking:
        return f"SLURM is not installed (apt-get install slurm-wlm): no {', '.join(lacking)}"
    return None if os.geteuid() == 0 else "only root can start jobs as slurmd does"


@dataclass(frozen=True)
class Cluster:
    """A running SLURM."""

    folder: Path
    """Folder of its configuration, state and logs."""

    @property
    def variables(self) -> dict[str, str]:
        """Variables with which its commands find it."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": _FOUND_IN}

    def run(self, *command: str, **variables: str) -> str:
        """Run one of SLURM's commands, and return what it prints."""
        environment = {**os.environ, **self.variables, **variables}
        ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, (command, ended.stdout, ended.stderr)
        return ended.stdout

    def submit(self, script: str, flags: Sequence[str], options: Sequence[str], **variables: str) -> str:
        """Submit a script, and return the job's number."""
        output = f"--output={self.folder}/%x-%A_%a.out"
        said = self.run("sbatch", "--parsable", output, *options, str(ROOT / "slurm" / script), *flags, **variables)
        return said.strip()

    def states(self, job: str) -> list[str]:
        """Return the states of a job's tasks, such as RUNNING."""
        told = self.run("scontrol", "show", "job", job, "--oneliner").splitlines()
        return [word.removeprefix("JobState=") for line in told for word in line.split() if "JobState=" in word]

    def said(self) -> str:
        """Return all that jobs, controller and node have written."""
        files = [*self.folder.glob("*.out"), *self.folder.glob("*.log")]
        return "\n".join(f"== {file.name}\n{file.read_text(errors='replace')[-3000:]}" for file in files)

    def until(self, job: str, *states: str) -> None:
        """Wait until all tasks of a job are in one of some states."""
        end_s = time.monotonic() + PATIENCE_S
        while not all(state in states for state in self.states(job)):
            bad = {"FAILED", "NODE_FAIL", "BOOT_FAIL", "TIMEOUT", "CANCELLED", "OUT_OF_MEMORY"} - set(states)
            assert not bad & set(self.states(job)), self.said()
            assert time.monotonic() < end_s, (self.states(job), self.said())
            time.sleep(0.2)


@contextlib.contextmanager
def cluster(folder: Path, cpus: int = 2) -> Iterator[Cluster]:
    """Start a SLURM of one node, and end it with all its jobs."""
    host = socket.gethostname().partition(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir()
    conf = folder / "slurm.conf"
    conf.write_text(_CONF.format(host=host, folder=folder, cpus=cpus, port=free_port(), node_port=free_port()))
    running = Cluster(folder)
    environment = {**os.environ, **running.variables}
    programs = [shutil.which(name, path=_FOUND_IN) or name for name in ("slurmctld", "slurmd")]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    with (
        subprocess.Popen([programs[0], "-D", "-f", str(conf)], **quiet) as controller,
        subprocess.Popen([programs[1], "-D", "-f", str(conf)], **quiet) as node,
    ):
        try:
            _wait_for_node(running)
            yield running
        finally:
            with contextlib.suppress(AssertionError):
                running.run("scancel", "--signal=KILL", "--full", f"--user={os.environ.get('USER', 'root')}")
            for process in (node, controller):
                process.terminate()


def _wait_for_node(running: Cluster) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while True:
        with contextlib.suppress(AssertionError):
            if "idle" in running.run("sinfo", "--noheader", "--format=%T"):
                return
        assert time.monotonic() < end_s, running.said()
        time.sleep(0.2)
