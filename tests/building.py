"""Builds as users may have to make them, and what they are told where that fails.

    python tests/building.py                    all of them
    python tests/building.py clang editable     these

Each installs the source distribution by pip into a fresh environment, and looks at what came out:
an optimizer that is bit for bit its reference, or an error whose last lines say what to install.

Needs git, a C++ compiler, and ``build`` beside this Python. What isn't there of the system's
(Clang, ccache) is installed on Debian, where we are root.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from clean_room import link_programs, source_distribution
from programs import need, output

STRICT = "--config-settings=cmake.define.FUSEDOPT_WERROR=ON"
ADVICE = "apt install g++ python3-dev"
STEPS = """
import numpy as np, fusedopt, fusedopt.reference
p = [np.linspace(-1, 1, n) for n in (1, 63, 100_000)]
q = [x.copy() for x in p]
ours, theirs = fusedopt.AdamW(p), fusedopt.reference.AdamW(q)
for k in range(5):
    g = [x * (k + 1) for x in q]
    ours.step(g)
    theirs.step(g)
assert all((x == y).all() for x, y in zip(p, q))
"""


@dataclass
class Place:
    """Unpacked sources, and a fresh environment."""

    folder: Path
    source: Path

    @property
    def python(self) -> Path:
        return self.folder / "environment" / "bin" / "python"

    def pip(self, *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
        words = [str(word) for word in (self.python, "-m", "pip", "install", *arguments)]
        return subprocess.run(words, env=os.environ | more, capture_output=True, text=True)

    def install(self, *arguments: object, editable: bool = False, **more: str) -> str:
        """Install from the sources, step, and return what show_config() says."""
        how = ("--editable", self.source) if editable else (self.source,)
        done = self.pip(*how, *arguments, **more)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        self.output("-c", STEPS)
        return self.output("-c", "import fusedopt; fusedopt.show_config()")

    def fail(self, *arguments: object, **more: str) -> str:
        """Install from the sources in vain, and return what pip says last."""
        done = self.pip(self.source, *arguments, **more)
        if done.returncode == 0:
            raise SystemExit("could be installed, and should not")
        lines = (done.stdout + done.stderr).splitlines()
        last = "\n".join(lines[-20:])
        if ADVICE not in last:
            raise SystemExit(f"not told what to install: {last}")
        return "\n".join(lines)

    def with_tools(self, pybind11: str) -> dict[str, str]:
        """Install what builds it here; return what to set for --no-build-isolation."""
        tools = ("scikit-build-core>=0.11", f"pybind11{pybind11}", "numpy>=2", "cmake", "ninja")
        done = self.pip(*tools)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        return {"PATH": f"{self.python.parent}:{os.environ['PATH']}"}

    def output(self, *arguments: object) -> str:
        return output(self.python, *arguments)


def expect(text: str, said: str) -> None:
    if text not in " ".join(said.split()):
        raise SystemExit(f"expected {text!r} in\n{said}")


def no_compiler(place: Place) -> None:
    programs = link_programs(place.folder / "programs")
    expect("CMAKE_CXX_COMPILER not set", place.fail(PATH=str(programs)))


def no_headers(place: Place) -> None:
    nowhere = place.folder / "include"
    said = place.fail(f"--config-settings=cmake.define.Python_INCLUDE_DIR={nowhere}")
    expect("missing: Development.Module", said)


def old_compiler(place: Place) -> None:
    """One that takes the option and knows no more than C++17."""
    script = place.folder / "old-g++"
    script.write_text('#!/bin/sh\nexec g++ "$@" -std=c++17\n')
    script.chmod(0o755)
    expect("written in C++20, of which this compiler", place.fail(CXX=str(script)))


def editable(place: Place) -> None:
    place.install(editable=True)
    marker = "imported from where it is written"
    with (place.source / "python" / "fusedopt" / "__init__.py").open("a") as file:
        file.write(f"\nprint({marker!r})\n")
    expect(marker, place.output("-c", "import fusedopt"))


def odd_path(place: Place) -> None:
    """In a folder whose name has a space, and letters that aren't in ASCII."""
    place.source = place.source.rename(place.folder / "größer, β₂ = 0.999")
    place.install()


def debug(place: Place) -> None:
    place.install("--config-settings=cmake.build-type=Debug")
    (cache,) = place.source.glob("build/*/CMakeCache.txt")
    expect("CMAKE_BUILD_TYPE:STRING=Debug", cache.read_text("utf-8"))


def clang(place: Place) -> None:
    said = place.install(STRICT, CXX=need("clang++", "clang"))
    expect("compiler: Clang", said)


def gcc_11(place: Place) -> None:
    how = {"CXX": need("g++-11", "g++-11")}
    expect("compiler: GCC 11", place.install(STRICT, **how))


def ccache(place: Place) -> None:
    """The second time nothing of ours has to be compiled, but for what CMake tries."""
    program, folder = need("ccache", "ccache"), place.folder / "cache"
    # One folder for both, as the compiler is called with paths in it.
    how = {"CMAKE_CXX_COMPILER_LAUNCHER": program, "CCACHE_DIR": str(folder)}
    isolated = (f"--config-settings=build-dir={place.folder / 'b'}", "--no-build-isolation")
    how |= place.with_tools(">=3,<4")
    place.install(*isolated, **how)
    shutil.rmtree(place.folder / "b")
    output(program, "--zero-stats", CCACHE_DIR=str(folder))
    place.install(*isolated, "--force-reinstall", "--no-deps", **how)
    stats = output(program, "--show-stats", CCACHE_DIR=str(folder))
    known = re.search(r"Hits: +(\d+) /", stats)
    objects = len([*(place.folder / "b").rglob("*.cpp.o")])
    if not known or int(known[1]) < objects:
        raise SystemExit(f"{objects} objects, and not all of them were known:\n{stats}")


def other_pybind11(place: Place) -> None:
    """One that is installed, and not the one that the build would get."""
    place.install("--no-build-isolation", **place.with_tools("==3.0.0"))


CASES: dict[str, Callable[[Place], None]] = {
    case.__name__.replace("_", "-"): case
    for case in (
        no_compiler,
        no_headers,
        old_compiler,
        editable,
        odd_path,
        debug,
        clang,
        gcc_11,
        ccache,
        other_pybind11,
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], metavar="CASE")
    names = parser.parse_args().cases or [*CASES]
    with tempfile.TemporaryDirectory() as temporary:
        archive = source_distribution(Path(temporary))
        for name in names:
            begin = monotonic()
            folder = Path(temporary) / name
            folder.mkdir()
            with tarfile.open(archive) as opened:
                opened.extractall(folder, filter="data")
            (source,) = folder.iterdir()
            output(sys.executable, "-m", "venv", folder / "environment")
            CASES[name](Place(folder, source))
            print(f"{name}: as expected ({monotonic() - begin:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
