"""a configuration -> nginx, running with it"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .servers import TIMEOUT, run, until_it_listens

PLACES = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@contextmanager
def nginx(http: str, port: int, directory: Path) -> Iterator[None]:
    """Run nginx with the content of its http block, which listens on a port; it writes to a directory only."""
    program = shutil.which("nginx", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin"]))
    assert program, "the test needs nginx (Debian: apt-get install nginx)"
    kept = "".join(f"{name}_temp_path {directory}/{name};\n" for name in PLACES)
    configuration = directory / "nginx.conf"
    configuration.write_text(
        f"daemon off;\npid {directory}/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{kept}{http}\n}}\n"
    )
    log = directory / "error.log"
    with subprocess.Popen([program, "-e", str(log), "-c", str(configuration)]) as process:
        try:
            run("asyncio", until_it_listens(port))
            yield
        finally:
            process.terminate()
            process.wait(TIMEOUT)
    assert "[emerg]" not in log.read_text(), log.read_text()
