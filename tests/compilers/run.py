"""The engine by other compilers, and for other systems: without a warning, and with the same bits.

    python tests/compilers/run.py                all of them
    python tests/compilers/run.py clang mingw    these

Each compiles rules, kernels and engine (all of csrc/ that needs no Python) with warnings as errors,
and two programs that hold them: steps.cpp, and tests/native/automatic.cpp. Where this machine can
run what comes out, both must print what the first compiler's print.

Needs cmake, ninja, GCC 12 and 11, Clang and MinGW; wine, which runs programs for Windows; and for
zig's cross compilers the package ziglang. On Debian, what is missing of the system's is installed
where we are root.
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from programs import need, output

HERE = Path(__file__).resolve().parent
PROGRAMS = ("steps", "automatic")


@dataclass
class Target:
    """A compiler, and what it compiles for."""

    compiler: str = ""  # a program
    package: str = ""  # Debian's that has it
    zig: str = ""  # or what zig calls it
    system: str = "Linux"
    processor: str = "x86_64"
    options: tuple[str, ...] = ()

    @property
    def runs(self) -> bool:
        return self.system != "Darwin" and self.processor == "x86_64"


TARGETS = {
    "gcc": Target("g++", "g++"),
    "gcc-11": Target("g++-11", "g++-11"),
    "clang": Target("clang++", "clang"),
    "mingw": Target(
        "x86_64-w64-mingw32-g++-posix",
        "g++-mingw-w64-x86-64-posix",
        system="Windows",
        options=("-DCMAKE_EXE_LINKER_FLAGS=-static",),
    ),
    "zig-glibc": Target(zig="x86_64-linux-gnu.2.17"),
    "zig-musl": Target(zig="x86_64-linux-musl"),
    "zig-windows": Target(zig="x86_64-windows-gnu", system="Windows"),
    "zig-macos": Target(zig="aarch64-macos", system="Darwin", processor="arm64"),
    "zig-macos-x86": Target(zig="x86_64-macos", system="Darwin"),
}


def tools(target: Target, folder: Path) -> dict[str, Path | str]:
    """Return CMake's names of the programs that build, and where they are."""
    if not target.zig:
        return {"CXX_COMPILER": need(target.compiler, target.package)}
    found: dict[str, Path | str] = {}
    for name, tool in {
        "CXX_COMPILER": f"c++ -target {target.zig}",
        "AR": "ar",
        "RANLIB": "ranlib",
    }.items():
        script = folder / f"zig-{name.lower()}"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ziglang {tool} "$@"\n')
        script.chmod(0o755)
        found[name] = script
    return found


def build(target: Target, folder: Path) -> None:
    """Build the programs in the folder."""
    given = {f"CMAKE_{name}": path for name, path in tools(target, folder).items()}
    given |= {"CMAKE_BUILD_TYPE": "Release", "FUSEDOPT_WERROR": "ON"}
    if target.system != "Windows":
        given["FUSEDOPT_OPENMP_MODULE"] = "its name: nothing here loads it"
    if (target.system, target.processor) != ("Linux", "x86_64"):
        given |= {"CMAKE_SYSTEM_NAME": target.system, "CMAKE_SYSTEM_PROCESSOR": target.processor}
    definitions = [f"-D{name}={value}" for name, value in given.items()]
    output("cmake", "-G", "Ninja", "-S", HERE, "-B", folder, *definitions, *target.options)
    output("cmake", "--build", folder, "--", "-k", "0")  # to see all there is


def printed(target: Target, folder: Path) -> dict[str, str]:
    """Return what each program prints."""
    if target.system == "Windows":
        wine, ending = [need("wine", "wine")], ".exe"
    else:
        wine, ending = [], ""
    quiet = {"WINEDEBUG": "-all"}
    return {name: output(*wine, folder / f"{name}{ending}", **quiet) for name in PROGRAMS}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], metavar="TARGET")
    wanted = parser.parse_args().targets or [*TARGETS]
    first, *others = dict.fromkeys([next(iter(TARGETS)), *wanted])
    with tempfile.TemporaryDirectory() as temporary:
        expected: dict[str, str] = {}
        for name in (first, *others):
            begin = monotonic()
            target, folder = TARGETS[name], Path(temporary) / name
            folder.mkdir()
            build(target, folder)
            said = "compiled, not run"
            if target.runs:
                seen = printed(target, folder)
                expected = expected or seen
                for program, lines in seen.items():
                    if lines != expected[program]:
                        raise SystemExit(
                            f"{name}: {program} prints\n{lines}\nand {first}'s\n{expected[program]}"
                        )
                said = f"{sum(len(lines.splitlines()) for lines in seen.values())} lines the same"
            print(f"{name:14} {said} ({monotonic() - begin:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
