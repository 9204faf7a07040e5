"""A Slurm cluster of a test's own: two nodes on loopback, its daemons and files in a temporary folder."""

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from time import monotonic, sleep

DAEMONS = ("munged", "slurmctld", "slurmd")
NODES = ("one", "other")
CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={home}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
SlurmdTimeout=10
KillWait=5
MailProg=/bin/true
StateSaveLocation={home}/state
SlurmctldPidFile={home}/slurmctld.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdSpoolDir={home}/spool-%n
SlurmdPidFile={home}/slurmd-%n.pid
SlurmdLogFile={home}/slurmd-%n.log
NodeName={nodes[0]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 State=UNKNOWN
NodeName={nodes[1]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 State=UNKNOWN
PartitionName=short Nodes={nodes[0]},{nodes[1]} Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class SlurmCluster:
    """A controller and two nodes of one processor each, without accounting."""

    home: Path
    daemons: dict[str, subprocess.Popen] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """With which Slurm's commands talk to it."""
        return {"SLURM_CONF": str(self.home / "slurm.conf")}

    def start(self, name: str, *words: str) -> None:
        """Start a daemon that stays in the foreground."""
        with (self.home / f"{name}.out").open("w") as log:
            self.daemons[name] = subprocess.Popen(
                words, stdout=log, stderr=log, env={**os.environ, **self.environment}, cwd=self.home
            )

    def ask(self, *words: str) -> str:
        """What one of Slurm's commands prints."""
        environment = {**os.environ, **self.environment}
        return subprocess.run(words, check=True, capture_output=True, text=True, env=environment).stdout

    def jobs(self) -> dict[str, str]:
        """Job → the node it runs on, for those that are running."""
        lines = self.ask("squeue", "--noheader", "--states=RUNNING", "--format=%i %N").splitlines()
        return dict(line.split() for line in lines)


def missing() -> str | None:
    """Why there can be no cluster here, or None."""
    absent = [name for name in DAEMONS if program(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


def program(name: str) -> str | None:
    """Where a daemon is; Debian keeps them off the path of most users."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@contextmanager
def running() -> Iterator[SlurmCluster]:
    """A cluster for the block; its jobs and daemons end with it."""
    home = Path(mkdtemp(prefix="slurm-"))
    cluster = SlurmCluster(home)
    (home / "munge.key").write_bytes(os.urandom(128))
    (home / "munge.key").chmod(0o600)
    (home / "state").mkdir()
    home.chmod(0o755)  # munged looks at who can write above its socket
    with_ports = {"ports": free_ports(3), "nodes": NODES, "host": socket.gethostname().split(".")[0]}
    (home / "slurm.conf").write_text(CONFIGURATION.format(home=home, user=getpass.getuser(), **with_ports))
    munge = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munged.log"}
    words = [f"--{option}={home / file}" for option, file in {**munge, "seed-file": "munge.seed"}.items()]
    try:
        cluster.start("munged", str(program("munged")), "--foreground", "--force", *words)
        wait_until((home / "munge.socket").exists, home)
        cluster.start("slurmctld", str(program("slurmctld")), "-D")
        for node in NODES:
            cluster.start(node, str(program("slurmd")), "-D", "-N", node)
        wait_until(lambda: answers(cluster), home)
        yield cluster
    finally:
        with suppress(subprocess.CalledProcessError, OSError):
            cluster.ask("scancel", "--full", "--signal=KILL", "--user", getpass.getuser())
            wait_until(lambda: not cluster.jobs(), home, seconds=10)
        for daemon in reversed(cluster.daemons.values()):
            daemon.terminate()
        for daemon in cluster.daemons.values():
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(timeout=5)
            daemon.kill()
        shutil.rmtree(home, ignore_errors=True)


def answers(cluster: SlurmCluster) -> bool:
    """Whether every node can be given a job."""
    with suppress(subprocess.CalledProcessError):
        return cluster.ask("sinfo", "--noheader", "--Node", "--format=%T").split() == ["idle"] * len(NODES)
    return False


def wait_until(true: Callable[[], bool], home: Path, seconds: float = 60) -> None:
    """Until it is true, or an error with what the daemons have logged."""
    deadline = monotonic() + seconds
    while not true():
        if monotonic() > deadline:
            logs = [f"{path.name}:\n{path.read_text()[-800:]}" for path in sorted(home.glob("*.[ol]*"))]
            raise TimeoutError("Slurm does not start here:\n" + "\n".join(logs))
        sleep(0.1)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
