"""A real PgBouncer in front of a stack's PostgreSQL."""

import contextlib
import os
import pathlib
import pwd
import re
import shlex
import shutil
import subprocess

import pytest

from local_stack import eventually, listens, temporary_folder

# Another one, as of a newer system's root, with its own loader: "ROOT/lib64/ld-linux-x86-64.so.2 --library-path … ROOT/usr/sbin/pgbouncer".
PGBOUNCER = shlex.split(os.environ.get("PGBOUNCER", "")) or [shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")]
USER = "postgres"


def version():
    """(1, 18)"""
    said = subprocess.run([*PGBOUNCER, "--version"], capture_output=True, text=True).stdout
    return tuple(map(int, re.search(r"(\d+)\.(\d+)", said).groups()))


@contextlib.contextmanager
def pooler(stack, mode, user="forkloop", **settings):
    """The settings of responders that use it: the stock configuration but for the pool's mode, and what is said."""
    if not PGBOUNCER[0]:
        pytest.skip("PgBouncer is not installed: apt-get install pgbouncer")
    with temporary_folder() as folder:
        pathlib.Path(folder, "users").write_text(f'"{user}" ""\n')
        said = {"listen_addr": "", "unix_socket_dir": folder, "listen_port": 6432, "auth_type": "trust", "auth_file": f"{folder}/users", "pool_mode": mode,
                "logfile": f"{folder}/log", "pidfile": f"{folder}/pid", **settings}
        pathlib.Path(folder, "ini").write_text(
            f"[databases]\n* = host={stack.path('run')} port=5432\n[pgbouncer]\n" + "".join(f"{name} = {value}\n" for name, value in said.items()))
        as_other = {}
        if os.geteuid() == 0:
            account = pwd.getpwnam(USER)
            os.chown(folder, account.pw_uid, account.pw_gid)
            as_other = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        process = subprocess.Popen([*PGBOUNCER, f"{folder}/ini"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **as_other)
        try:
            eventually(lambda: listens(f"{folder}/.s.PGSQL.6432"), message="PgBouncer did not start")
            yield {"DB_HOST": folder, "DB_PORT": 6432, "DB_USER": user}
        finally:
            process.kill()
            process.wait()
