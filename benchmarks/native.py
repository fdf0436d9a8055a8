"""Compiles the C programs of this room with gcc, again only if their sources have changed."""

import shutil
import subprocess
from hashlib import blake2b
from pathlib import Path

ROOM = Path(__file__).resolve().parent
BUILD = ROOM / "build"
_FLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror")


class CompilerMissing(RuntimeError):
    """Raised when there is no gcc. Without it, neither the load generator nor the C floor can be built."""

    def __init__(self) -> None:
        super().__init__("the benchmarks need gcc for their load generator (Debian: apt-get install gcc libc6-dev)")


def compiled(name: str, folder: Path) -> Path:
    """The program that is made of all `*.c` of a folder. It is compiled if the sources have changed.

    Raises:
        CompilerMissing: there is no gcc.
        subprocess.CalledProcessError: the sources do not compile; gcc has said why on stderr.
    """
    sources = sorted(folder.glob("*.c"))
    digest = blake2b(digest_size=6)
    for source in (*sources, *sorted(folder.glob("*.h"))):
        digest.update(source.read_bytes())
    program = BUILD / f"{name}-{digest.hexdigest()}"
    if not program.exists():
        compiler = shutil.which("gcc")
        if compiler is None:
            raise CompilerMissing
        BUILD.mkdir(exist_ok=True)
        unfinished = program.with_suffix(".new")
        subprocess.run([compiler, *_FLAGS, "-o", unfinished, *sources], check=True)
        unfinished.rename(program)
    return program


def load_generator() -> Path:
    return compiled("load", ROOM / "load")


def floor() -> Path:
    return compiled("floor", ROOM / "peers" / "floor")
