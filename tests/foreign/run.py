"""The same bits on machines that this one isn't, as QEMU emulates them.

    python tests/foreign/run.py old-x86          no AVX: this Python, and the installed fusedopt
    python tests/foreign/run.py haswell          the AVX2 kernels
    python tests/foreign/run.py aarch64          cross-compiled, in Debian's Python for 64-bit Arm
    python tests/foreign/run.py s390x            the same, big-endian
    python tests/foreign/run.py all --long       all of them, and the tests of kernels on each

Each runs digest.py in the emulated machine, whose hashes must be those of digest.txt; ``--long``
steps the reference beside it, and runs TESTS. A minute or two for the first two, four for each of
the others; ten times that with ``--long``. ``--cache FOLDER`` keeps what was downloaded and built
for the next time.

Needs qemu-user. What is cross-compiled needs Debian besides, whose sources are asked for packages
of the other architecture, and its cross compiler. The system stays as it is, but that qemu-user and
the compiler are installed where they are missing and we are root.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from programs import need

SOURCE = Path(__file__).resolve().parents[2]
DIGEST = SOURCE / "tests" / "foreign" / "digest.py"
# Where kernels are compared with the reference; what is left out needs other packages, or time.
TESTS = ["equality", "subnormals", "instruction_sets", "stats", "ema", "state", "flat_views"]
PACKAGES = ["python3-minimal", "libpython3-dev", "libpython3-stdlib", "libstdc++6"]


@dataclass
class Machine:
    """An emulated processor, and the instruction sets that fusedopt must find on it."""

    qemu: str
    cpu: str
    sets: list[str]
    architecture: str = ""  # Debian's name, where all has to be cross-compiled
    triplet: str = ""
    wheels: tuple[str, ...] = ()  # NumPy's platforms; without any, Debian's NumPy


# Nehalem is x86-64-v2, which NumPy's wheels ask for.
MACHINES = {
    "old-x86": Machine("x86_64", "Nehalem", ["baseline"]),
    "haswell": Machine("x86_64", "Haswell", ["baseline", "avx2"]),
    "aarch64": Machine(
        "aarch64",
        "cortex-a72",
        ["baseline"],
        architecture="arm64",
        triplet="aarch64-linux-gnu",
        wheels=("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64"),
    ),
    "s390x": Machine("s390x", "max", ["baseline"], architecture="s390x", triplet="s390x-linux-gnu"),
}


def run(command: Sequence[object], **more: str) -> None:
    words = [str(word) for word in command]
    done = subprocess.run(words, env=os.environ | more, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise SystemExit(f"failed ({done.returncode}): {' '.join(words)}")


def output(command: Sequence[object], **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command], env=os.environ | more, capture_output=True, text=True
    )


def write_script(path: Path, text: str) -> Path:
    path.write_text(f'#!/bin/sh\n{text} "$@"\n')
    path.chmod(0o755)
    return path


def download_system(machine: Machine, folder: Path) -> Path:
    """Unpack Debian's packages for another architecture, and return the root they make.

    With state of apt's own in the folder: the system's knows nothing of the other architecture.
    """
    root = folder / "root"
    if root.is_dir():
        return root
    for name in ("lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "status").touch()
    options = {
        "APT::Architecture": machine.architecture,
        "APT::Architectures": machine.architecture,
        "APT::Install-Recommends": "0",
        "APT::Sandbox::User": "",
        "Dir::State": folder,
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder,
        "Dir::Cache::archives": folder / "archives",
    }
    apt = [
        "apt-get",
        "-qq",
        *(w for key, value in options.items() for w in ("-o", f"{key}={value}")),
    ]
    run([*apt, "update"])
    packages = PACKAGES if machine.wheels else [*PACKAGES, "python3-numpy"]
    run([*apt, "-y", "--download-only", "install", *packages])
    unfinished = folder / "unfinished"
    for package in sorted((folder / "archives").glob("*.deb")):
        run(["dpkg", "-x", package, unfinished])
    return unfinished.rename(root)


def make_python(machine: Machine, folder: Path) -> Path:
    """Return a script that is Python on the emulated machine, and has NumPy and pytest."""
    root = download_system(machine, folder)
    name = (root / "usr/bin/python3").readlink().name
    site, libraries = folder / "site", root / "usr/lib" / machine.triplet
    if not site.is_dir():
        pip = [sys.executable, "-m", "pip", "install", "-q", "--target", folder / "unfinished"]
        wanted = ["pytest"]
        if machine.wheels:
            wanted.append("numpy")
            version = name.removeprefix("python")
            pip += ["--only-binary=:all:", "--implementation=cp", f"--python-version={version}"]
            pip += [f"--platform={platform}" for platform in machine.wheels]
        run([*pip, *wanted])
        (folder / "unfinished").rename(site)
    return write_script(
        folder / "python",
        f"exec qemu-{machine.qemu} -cpu {machine.cpu} -L '{root}' -E 'PYTHONPATH={site}'"
        f" -E 'LD_LIBRARY_PATH={libraries}/blas:{libraries}/lapack' '{root}/usr/bin/{name}'",
    )


def build(machine: Machine, folder: Path, python: Path) -> None:
    """Cross-compile the package, into the site folder of the emulated Python."""
    root = download_system(machine, folder)  # which is there by now
    site, tools = folder / "site", folder / "tools"
    if not tools.is_dir():
        pip = [sys.executable, "-m", "pip", "install", "-q", "--target", folder / "unfinished"]
        run([*pip, "cmake", "ninja", "pybind11>=3,<4"])
        (folder / "unfinished").rename(tools)
    shutil.rmtree(site / "fusedopt", ignore_errors=True)
    shutil.copytree(SOURCE / "python" / "fusedopt", site / "fusedopt")
    definitions = {
        "CMAKE_SYSTEM_NAME": "Linux",
        "CMAKE_SYSTEM_PROCESSOR": machine.qemu,
        "CMAKE_CXX_COMPILER": f"{machine.triplet}-g++",
        # Behind all else: of the other system only Python's headers are wanted.
        "CMAKE_CXX_FLAGS": f"-idirafter '{root}/usr/include'",
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_INSTALL_PREFIX": site,
        "Python_EXECUTABLE": python,
        "pybind11_DIR": tools / "pybind11/share/cmake/pybind11",
        "SKBUILD_PROJECT_VERSION_FULL": "0",
        "FUSEDOPT_WERROR": "ON",
    }
    if not machine.wheels:  # headers of NumPy 2, which work with what is older, too
        code = "import numpy; print(numpy.get_include())"
        definitions["Python_NumPy_INCLUDE_DIR"] = output(
            [sys.executable, "-c", code]
        ).stdout.strip()
    environment = {"PYTHONPATH": str(tools), "PATH": f"{tools}/bin:{os.environ['PATH']}"}
    cmake, build_folder = tools / "bin" / "cmake", folder / "build"
    given = [f"-D{key}={value}" for key, value in definitions.items()]
    run([cmake, "-G", "Ninja", "-S", SOURCE, "-B", build_folder, *given], **environment)
    run([cmake, "--build", build_folder, "--target", "install"], **environment)


def check_instruction_sets(machine: Machine, python: Path) -> None:
    """Make sure that the emulated processor is the one that was meant, and of loud errors."""
    code = (
        "import fusedopt as f; s = f.show_config(mode='dict')['instruction sets'];"
        "print(*s['available'], '/', *s['built'])"
    )
    done = output([python, "-c", code])
    if done.returncode:
        raise SystemExit(f"fusedopt can't be imported:\n{done.stderr}")
    available, built = (names.split() for names in done.stdout.split("/"))
    if available != machine.sets:
        raise SystemExit(f"expected the instruction sets {machine.sets}, got {available}")
    for name in [*built, "avx1024"]:
        done = output([python, "-c", "import fusedopt"], FUSEDOPT_ISA=name)
        loud = f"ImportError: FUSEDOPT_ISA={name}: " in done.stderr
        if (done.returncode == 0) != (name in available) or loud == (name in available):
            raise SystemExit(f"FUSEDOPT_ISA={name}: {done.returncode}\n{done.stderr}")
    print("instruction sets:", *available, "of", *built, flush=True)


def try_machine(machine: Machine, folder: Path, long: bool) -> None:
    need(f"qemu-{machine.qemu}", "qemu-user")
    folder.mkdir(parents=True, exist_ok=True)
    if machine.architecture:
        need("dpkg", "dpkg")
        need(f"{machine.triplet}-g++", f"g++-{machine.triplet}")
        python = make_python(machine, folder)
        build(machine, folder, python)
    else:
        emulated = f"exec qemu-{machine.qemu} -cpu {machine.cpu} '{sys.executable}'"
        python = write_script(folder / "python", emulated)
    check_instruction_sets(machine, python)
    run([python, DIGEST, *([] if long else ["--quick"])])
    if long:
        # A process that a test starts has to be emulated, too.
        code = f"import sys, pytest; sys.executable = {str(python)!r}; sys.exit(pytest.main())"
        tests = [SOURCE / "tests" / f"test_{name}.py" for name in TESTS]
        run([python, "-c", code, "-q", "-p", "no:cacheprovider", "--rootdir", SOURCE, *tests])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("machines", nargs="+", choices=[*MACHINES, "all"])
    parser.add_argument("--long", action="store_true", help="with the reference, and the tests")
    parser.add_argument("--cache", type=Path, help="a folder for downloads and builds")
    arguments = parser.parse_args()
    names = list(MACHINES) if "all" in arguments.machines else arguments.machines
    with tempfile.TemporaryDirectory() as temporary:
        for name in names:
            print(f"== {name}", flush=True)
            start = monotonic()
            folder = (arguments.cache or Path(temporary)).resolve() / name
            try_machine(MACHINES[name], folder, arguments.long)
            print(f"== {name}: as everywhere ({monotonic() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
