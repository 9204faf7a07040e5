"""A PostgreSQL cluster of a test's own: on loopback, in a temporary folder, as a user without privileges."""

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from sqlalchemy import create_engine, text


@dataclass(frozen=True)
class Cluster:
    """Where it listens."""

    port: int
    password: str = "between tests: only"

    def url(self, database: str, password: str | None = None) -> str:
        secret = (password or self.password).replace(" ", "%20").replace(":", "%3A")
        return f"postgresql://tester:{secret}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Make a database; its URL."""
        engine = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f'create database "{database}"'))
        engine.dispose()
        return self.url(database)


def missing() -> str | None:
    """Why there can be no cluster here, or None."""
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        return f"no driver: {error}"
    return None if binaries() else "PostgreSQL's initdb is not installed"


def binaries() -> Path | None:
    """The folder of initdb and pg_ctl; Debian keeps them off the path."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders else None


@contextmanager
def running() -> Iterator[Cluster]:
    """A cluster for the block, removed afterwards. PostgreSQL refuses root, so root hands it to another user."""
    home, folder = Path(mkdtemp(prefix="postgres-")), binaries()
    assert folder is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        cluster = Cluster(probe.getsockname()[1])
    (home / "password").write_text(cluster.password)
    as_user = {}
    if os.geteuid() == 0:
        users = {user.pw_name: user for user in pwd.getpwall()}
        user = users.get("postgres") or users["nobody"]
        as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        for path in (home, home / "password"):
            os.chown(path, user.pw_uid, user.pw_gid)
    data = home / "data"

    def call(*words: str) -> None:
        subprocess.run([str(folder / words[0]), *words[1:]], check=True, capture_output=True, cwd=home, **as_user)

    password = ("--auth=scram-sha-256", f"--pwfile={home / 'password'}", "--username=tester")
    options = f"-p {cluster.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={home} -c fsync=off"
    try:
        call("initdb", f"--pgdata={data}", "--no-sync", *password)
        call("pg_ctl", "start", "-w", f"--pgdata={data}", f"--log={home / 'log'}", f"--options={options}")
        yield cluster
    finally:
        if (data / "postmaster.pid").exists():
            call("pg_ctl", "stop", f"--pgdata={data}", "--mode=immediate")
        shutil.rmtree(home, ignore_errors=True)
