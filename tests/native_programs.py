"""Programs of tests/native/, which hold parts of the engine."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMPILER = shutil.which(os.environ.get("CXX", "g++"))


def shared_library(source: str, folder: Path, *options: str) -> str:
    """Return the path of a library, built from source text, for other processes to load."""
    written, library = folder / "library.cpp", folder / "library.so"
    written.write_text(source)
    assert COMPILER is not None
    command = [COMPILER, "-std=c++20", "-shared", "-fPIC", "-o", str(library), str(written)]
    subprocess.run([*command, *options], check=True)
    return str(library)


def built(name: str, folder: Path) -> Path:
    """Return the program, built in the folder, where there is a compiler."""
    made = os.environ.get("FUSEDOPT_NATIVE")  # by tests/mutation, with mutants in them
    if made:
        return Path(made) / name
    native = ROOT / "tests" / "native"
    include = [f"-I{ROOT / 'csrc'}", f"-I{native}"]
    options = ["-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror"]
    assert COMPILER is not None
    command = [COMPILER, *options, *include, str(native / f"{name}.cpp"), "-o", str(folder / name)]
    subprocess.run(command, check=True)
    return folder / name
