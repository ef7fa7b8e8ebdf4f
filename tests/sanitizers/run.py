"""The tests under a sanitizer: ``python tests/sanitizers/run.py address`` or ``thread``.

``address`` is AddressSanitizer with UndefinedBehaviorSanitizer, over the whole suite; ``thread`` is
ThreadSanitizer, over what has threads, and over the pool alone in a program of its own. The library
is built so in a temporary folder (or in ``--build FOLDER``, which is kept, and only brought up to
date), with pip's usual settings, and run by this Python, whose packages the tests need. Further
arguments are pytest's. ``--quick`` runs what goes through most code in least time. It ends with 1
where a test fails or a sanitizer reports anything, in whatever process.

Only g++ is needed: its runtimes come with it. The kernels are those for the baseline: without
optimization the other instruction sets' are the same statements.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

# What can't run with a sanitizer, and why. Whole files, or tests by name.
NOT_HERE = {
    "address": {
        "tests/test_machine_code.py": "looks at optimized code",
        "tests/test_pool_orders.py": "compiles a program of its own",
        "tests/test_automatic.py": "compiles a program of its own",
        "tests/test_guard_pages.py::test_a_guard_is_one": "segmentation faults, on purpose",
        "tests/test_hostile_files.py": "limits the address space, of which shadows take most",
        "tests/test_soak.py": "counts memory, and the sanitizer keeps what was freed",
        "tests/test_openmp.py::test_where_no_thread_can_be_made": "limits the address space",
        "tests/test_openmp.py::test_a_fork_while_auto_looks_for_a_runtime": "preloads a library",
        "tests/test_sizes.py::test_more_than_2_to_the_31_elements": "16 GiB, and as much shadow",
        "tests/test_examples.py": "the same calls as in other tests, for minutes",
        "tests/test_docs.py": "the same calls as in other tests",
        "tests/test_torch.py": "another library's allocator and threads",
        "tests/test_optax.py": "another library's allocator and threads",
        "tests/test_keras.py": "another library's allocator and threads",
        "tests/test_thinc.py": "another library's allocator and threads",
        **{
            f"tests/test_{name}": "another library's allocator and threads"
            for name in (
                "foreign_arrays.py::test_torch_tensors_are_read_where_they_lie",
                "foreign_arrays.py::test_tensors_that_another_thread_replaces_meanwhile",
                "foreign_arrays.py::test_what_their_code_does_to_parameters_counts",
                "cast_grads.py::test_bfloat16_of_torch",
                "cast_grads.py::test_bfloat16_without_dimensions_and_what_only_looks_like_it",
            )
        },
    },
    "thread": {},
}
# What goes through most native code in least time.
QUICK = {
    "address": [
        f"tests/test_{name}.py"
        for name in (
            *("bad_input", "ema", "flat_views", "functional", "fuzz", "groups", "native_types"),
            *("neighbours", "overlap", "reading_gradients", "repeated_steps", "state", "stats"),
        )
    ],
    "thread": ["tests/test_turns.py", "tests/sanitizers/threads_together.py"],
}
# For `thread`: whatever has two threads in one process. The runtime lets the child of a fork make
# no threads, so nothing forks here; tests/native/ has the pool in a child.
WITH_THREADS = [
    "tests/test_threads.py",
    "tests/test_turns.py",
    "tests/test_signals.py",
    "tests/test_ema.py",
    "tests/test_pipeline.py",
    "tests/sanitizers/threads_together.py",
]
NO_FORKS = "not fork and not child and not gil_is_released"

OPTIONS = {
    "address": {
        # What Python and NumPy allocate once for good are no leaks, and most of all there is: the
        # interpreter frees little when it ends. test_copies and the soak look for ours.
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    },
    "thread": {
        "TSAN_OPTIONS": f"suppressions={HERE / 'thread.supp'}:history_size=4:atexit_sleep_ms=0"
    },
}


def runtime(name: str) -> str:
    """Return the path of a library that comes with the compiler."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise SystemExit(f"{compiler} is needed, and was not found")
    command = [compiler, f"-print-file-name={name}"]
    path = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    if not os.path.isabs(path):
        raise SystemExit(f"{compiler} has no {name}: is it GCC, with its sanitizers' runtimes?")
    return os.path.realpath(path)


def fixed_addresses() -> list[str]:
    """Return what to begin a command with: ThreadSanitizer can't bear much randomness."""
    setarch = shutil.which("setarch")
    return [setarch, "-R"] if setarch else []


def build(sanitizer: str, folder: Path) -> Path:
    """Build and install into a folder; return the one to import from."""
    settings = {"FUSEDOPT_SANITIZE": sanitizer, "FUSEDOPT_HAS_avx2": 0, "FUSEDOPT_HAS_avx512": 0}
    defines = [f"-Ccmake.define.{key}={value}" for key, value in settings.items()]
    packages = folder / "packages"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--upgrade"]
    command += ["--target", str(packages), f"-Cbuild-dir={folder / 'build'}", *defines, str(ROOT)]
    subprocess.run(command, check=True)
    return packages


def run_pool(folder: Path) -> bool:
    """Run pool_stress.cpp with ThreadSanitizer."""
    program = folder / "pool_stress"
    sources = [
        HERE / "pool_stress.cpp",
        *(ROOT / f"csrc/engine/{n}.cpp" for n in ("forks", "layers", "openmp", "pool", "threads")),
    ]
    options = ["-std=c++20", "-O1", "-g1", "-fsanitize=thread", "-pthread", "-DFUSEDOPT_POOL"]
    compiler = os.environ.get("CXX", "g++")
    command = [compiler, *options, f"-I{ROOT / 'csrc'}", *map(str, sources), "-o", str(program)]
    subprocess.run(command, check=True)
    return subprocess.run([*fixed_addresses(), str(program), "4000"]).returncode == 0


def run_tests(sanitizer: str, packages: Path, reports: Path, arguments: list[str]) -> bool:
    """Run the tests, and show what was reported."""
    libraries = {"address": ["libasan.so", "libstdc++.so"], "thread": ["libtsan.so"]}[sanitizer]
    environment = os.environ | {
        "LD_PRELOAD": ":".join(map(runtime, libraries)),
        "PYTHONPATH": str(packages),
        "PYTHONMALLOC": "malloc",  # so that each object's end is known
        "FUSEDOPT_SANITIZER": sanitizer,
    }
    for key, value in OPTIONS[sanitizer].items():
        environment[key] = f"{value}:log_path={reports / 'report'}"
    begin = fixed_addresses() if sanitizer == "thread" else []
    command = [*begin, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    passed = subprocess.run(command, cwd=ROOT, env=environment).returncode == 0
    found = sorted(reports.glob("report*"))
    for report in found:
        print(report.read_text(errors="replace"))
    print(f"{len(found)} processes with reports")
    return passed and not found


def main() -> None:
    parser = argparse.ArgumentParser(description="The tests under a sanitizer.")
    parser.add_argument("sanitizer", choices=sorted(NOT_HERE))
    parser.add_argument("--build", type=Path, help="a folder to build in, which is kept")
    parser.add_argument("--quick", action="store_true")
    options, arguments = parser.parse_known_args()
    sanitizer = options.sanitizer
    if not any(argument.startswith("tests/") for argument in arguments):
        every = WITH_THREADS if sanitizer == "thread" else ["tests"]
        arguments = [*(QUICK[sanitizer] if options.quick else every), *arguments]
    arguments += ["-m", "not timed"]
    for name in NOT_HERE[sanitizer]:
        arguments += ["--deselect" if "::" in name else "--ignore", name]
    if sanitizer == "thread":
        arguments += ["-k", NO_FORKS]
    with TemporaryDirectory() as temporary:
        folder = (options.build or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        right = run_pool(folder) if sanitizer == "thread" else True
        packages = build(sanitizer, folder)
        right &= run_tests(sanitizer, packages, Path(temporary), arguments)
    raise SystemExit(0 if right else 1)


if __name__ == "__main__":
    main()
