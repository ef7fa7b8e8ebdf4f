"""Builds of the library: one that holds many mutants, and one of a mutant that needs its own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Collection, Mapping
from pathlib import Path

from instrument import instrumented, lines_of
from mutants import Mutant

ROOT = Path(__file__).resolve().parents[2]

_HEADER = """#pragma once
extern "C" int fusedopt_mutant;
#define FUSEDOPT_IS(number) (fusedopt_mutant == (number))
#ifndef FUSEDOPT_ISA  // what by_hand.py needs
#include <mutex>
#include <optional>
#endif
"""
_CHOICE = """#include "mutant.hpp"
#include <cstdlib>
int fusedopt_mutant = 0;
__attribute__((constructor(101))) static void choose() {  // before anything else is initialized
  if (const char* number = std::getenv("FUSEDOPT_MUTANT")) fusedopt_mutant = std::atoi(number);
}
extern "C" __attribute__((visibility("default"))) void fusedopt_choose(int number) {
  fusedopt_mutant = number;
}
"""
# Fast to compile; with checks of indices, as a mutant that reads one too far is wrong. The kernels
# have flags of their own, and one instruction set will do.
_FLAGS = (
    "-O0 -w -Wno-narrowing -D_GLIBCXX_ASSERTIONS "
    "-fsanitize=bounds,return -fsanitize-undefined-trap-on-error"
)


LIBRARY = f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"
_FIRST = "  kernels/cpu.cpp\n"  # among the sources


class BuildError(Exception):
    """The compiler refused a mutant."""


class Build:
    """A copy of the sources in a folder, and what is built of it."""

    def __init__(self, folder: Path, jobs: int, but: Collection[str] = ()) -> None:
        """Copy the sources, but for those of which a changed version will be put there."""
        self.source, self.binary, self.jobs = folder / "source", folder / "build", jobs
        for path in sorted((ROOT / "csrc").rglob("*")):
            if path.is_file() and path.relative_to(ROOT).as_posix() not in but:
                self.put(path.relative_to(ROOT).as_posix(), path.read_text())
        self.put("CMakeLists.txt", (ROOT / "CMakeLists.txt").read_text())
        lists = (ROOT / "csrc" / "CMakeLists.txt").read_text().replace("-O3", "-O1")
        assert _FIRST in lists
        self.put("csrc/CMakeLists.txt", lists.replace(_FIRST, f"  mutant.cpp\n{_FIRST}"))
        self.put("csrc/mutant.hpp", _HEADER)
        self.put("csrc/mutant.cpp", _CHOICE)

    def configure(self) -> None:
        import pybind11

        options = {
            "CMAKE_BUILD_TYPE": "",
            # Of eight files in one most of the time is saved: that of reading pybind11 and NumPy.
            "CMAKE_UNITY_BUILD": "ON",
            "CMAKE_UNITY_BUILD_BATCH_SIZE": "8",
            "CMAKE_CXX_FLAGS": f"{_FLAGS} -include {self.source}/csrc/mutant.hpp",
            "pybind11_DIR": pybind11.get_cmake_dir(),
            "Python_EXECUTABLE": sys.executable,
            "FUSEDOPT_HAS_avx2": "OFF",
            "FUSEDOPT_HAS_avx512": "OFF",
            "SKBUILD_PROJECT_VERSION_FULL": _version(),
        }
        if shutil.which("ccache"):
            options["CMAKE_CXX_COMPILER_LAUNCHER"] = "ccache"
        command = ["cmake", "-S", str(self.source), "-B", str(self.binary), "-G", "Ninja"]
        done = subprocess.run(
            [*command, *(f"-D{name}={value}" for name, value in options.items())],
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise BuildError(done.stdout + done.stderr)

    def compile(self) -> str:
        """Build all that changed; return what the compiler says where it fails, else nothing."""
        done = subprocess.run(
            ["cmake", "--build", str(self.binary), "-j", str(self.jobs), "--", "-k", "0"],
            capture_output=True,
            text=True,
        )
        return "" if done.returncode == 0 else done.stdout + done.stderr

    def put(self, file: str, text: str) -> None:
        """Write a file, unless it is like this: then nothing has to be built again."""
        path = self.source / file
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def _native_programs(self) -> None:
        """Build what tests run of tests/native/, with the mutants of the engine in it, too."""
        options = [*_FLAGS.split(), "-O1", "-std=c++20", "-include", "mutant.hpp"]
        native = ROOT / "tests" / "native"
        include = [f"-I{self.source / 'csrc'}", f"-I{native}"]
        for name in ("automatic", "pool_orders"):
            sources = [str(native / f"{name}.cpp"), str(self.source / "csrc" / "mutant.cpp")]
            command = ["c++", *options, *include, *sources, "-o", str(self.programs() / name)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise BuildError(done.stderr)

    def programs(self) -> Path:
        return self.binary

    def library(self) -> Path:
        return self.binary / LIBRARY

    def with_all(self, mutants: Mapping[int, Mutant]) -> set[int]:
        """Build the library with these mutants; return the numbers of those that can't be in it."""
        # What the compiler said about the same mutants before.
        known = self.binary.with_suffix(".json")
        names = [mutant.name for mutant in mutants.values()]
        before = json.loads(known.read_text()) if known.exists() else {}
        apart: set[int] = set(before["apart"]) if before.get("names") == names else set()
        for attempt in range(20):
            lines: dict[str, dict[int, set[int]]] = {}
            for file in sorted({mutant.file for mutant in mutants.values()}):
                inside = {n: m for n, m in mutants.items() if m.file == file and n not in apart}
                text, homeless = instrumented((ROOT / file).read_text(), inside)
                apart |= homeless
                self.put(file, text)
                lines[file] = dict(lines_of(text))
            if attempt == 0:
                self.configure()
            errors = self.compile()
            if not errors:
                known.write_text(json.dumps({"names": names, "apart": sorted(apart)}))
                self._native_programs()
                return apart
            found = _mutants_in(errors, self.source, lines)
            if not found - apart:
                raise BuildError(errors)
            apart |= found
        raise BuildError("mutants that don't compile, without end")


def _mutants_in(errors: str, source: Path, lines: Mapping[str, Mapping[int, set[int]]]) -> set[int]:
    """Return the mutants in the lines that the compiler complains about, or points to."""
    found: set[int] = set()
    kinds = (r"error:", r"(?:note|required from)")
    for kind in kinds:
        for match in re.finditer(rf"^(\S+?):(\d+):\d+:\s+{kind}", errors, re.M):
            path = Path(match[1])
            if not path.is_absolute() or not path.is_relative_to(source):
                path = source / path if (source / path).exists() else path
            if path.is_relative_to(source):
                file = str(path.relative_to(source))
                found |= lines.get(file, {}).get(int(match[2]), set())
        if found:
            break
    return found


def _version() -> str:
    found = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert found
    return found[1]


def package(folder: Path, library: Path) -> Path:
    """Make a folder from which fusedopt can be imported, with what lies beside the library."""
    target = folder / "fusedopt"
    if target.exists():
        shutil.rmtree(target)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "python" / "fusedopt", target, ignore=ignored)
    for module in (library, *library.parent.glob("_openmp*")):
        shutil.copy2(module, target / module.name)
    about = folder / f"fusedopt-{_version()}.dist-info"
    about.mkdir(exist_ok=True)
    text = f"Metadata-Version: 2.1\nName: fusedopt\nVersion: {_version()}\n"
    (about / "METADATA").write_text(text)
    return folder
