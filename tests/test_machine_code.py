"""Contracts: every rule's loop is vectorized, and wide instructions stay in the sealed kernels.

Reads the built extension with the compiler's own binutils.
"""

import platform
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import fusedopt
from fusedopt import _core

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or sys.platform != "linux" or not shutil.which("objdump"),
    reason="reads x86-64 ELF files with objdump",
)

BUILT = fusedopt.show_config(mode="dict")["instruction sets"]["built"]
REGISTERS = {"baseline": "xmm", "avx2": "ymm", "avx512": "[yz]mm"}
TYPES = {"float": "ps", "double": "pd"}
BUILD_FOLDERS = Path(__file__).parent.parent / "build"


@cache
def functions() -> dict[str, list[str]]:
    """Return the instructions of each function of the extension, by demangled name."""
    command = ["objdump", "-d", "-C", "--no-show-raw-insn", _core.__file__]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, list[str]] = {}
    instructions: list[str] = []
    for line in text.splitlines():
        if header := re.match(r"^[0-9a-f]+ <(.*)>:$", line):
            instructions = found.setdefault(header[1], [])
        elif instruction := re.match(r"^ +[0-9a-f]+:\t(.*)$", line):
            instructions.append(instruction[1])
    return found


def kernels(isa: str, ctype: str) -> dict[str, list[str]]:
    """Return the instructions of the kernels of one instruction set and type, by name.

    Each rule has a loop for short pieces, and one that asks for memory ahead for long ones.
    """
    space = rf"fusedopt::{isa}::\(anonymous namespace\)::"
    name = re.compile(rf"{space}(update|long_loop)<{space}(\w+), {ctype}(, {ctype})*>\(")
    found = {
        f"{match[2]}, {match[1]}": code
        for key, code in functions().items()
        if (match := name.search(key)) and match[2] != "Traffic"
    }
    assert len(found) == 2 * len(_core.rules()), "a kernel that this test doesn't see"
    return found


@pytest.mark.parametrize("ctype", TYPES)
@pytest.mark.parametrize("isa", BUILT)
def test_every_loop_is_vectorized(isa: str, ctype: str) -> None:
    """What the scalar code for the last few elements does, the loop does with whole vectors."""
    packed_type = TYPES[ctype]
    for rule, code in kernels(isa, ctype).items():
        scalar = re.compile(rf"^v?(add|sub|mul|div|sqrt|max|min)s{packed_type[1]}\s")
        operations = {match[1] for line in code if (match := scalar.match(line))}
        if rule.startswith("Exchange"):  # which only moves
            assert any(re.match(rf"v?movup.\s.*{REGISTERS[isa]}", line) for line in code), rule
            continue
        assert "mul" in operations, f"{rule}: {operations}"
        assert operations & {"add", "sub"}, f"{rule}: {operations}"
        for operation in operations:
            # A maximum may also be a comparison and a choice.
            names = f"(max|cmp\\w*){packed_type}" if operation == "max" else operation + packed_type
            packed = re.compile(rf"^v?{names}\s.*{REGISTERS[isa]}")
            assert any(map(packed.match, code)), f"{rule}: no packed {operation}"


@pytest.mark.parametrize("ctype", TYPES)
@pytest.mark.parametrize("isa", BUILT)
def test_the_roofline_is_vectorized_too(isa: str, ctype: str) -> None:
    """Or it would not be one. There is a loop for each number of state arrays, from none."""
    space = rf"fusedopt::{isa}::\(anonymous namespace\)::"
    name = re.compile(rf"{space}long_loop<{space}Traffic, {ctype}((, {ctype})*)>\(")
    found = {
        match[1].count(","): code
        for key, code in functions().items()
        if (match := name.search(key))
    }
    assert sorted(found) == sorted({len(states) for _, states in _core.rules().values()})
    for states, code in found.items():
        packed = re.compile(rf"^v?addp{TYPES[ctype][1]}\s.*{REGISTERS[isa]}")
        assert sum(map(bool, map(packed.match, code))) >= 1 + states


@pytest.mark.parametrize("isa", BUILT)
def test_nothing_is_contracted(isa: str) -> None:
    """A fused multiply-add rounds once where the reference rounds twice."""
    for ctype in TYPES:
        for rule, code in kernels(isa, ctype).items():
            assert not [line for line in code if re.match(r"vf(n?m(add|sub))", line)], rule


def test_no_wide_instruction_outside_the_kernels() -> None:
    wide = re.compile(
        r"^(v(?!er[rw]\b|mcall\b)\w+|andn|bextr|bls\w+|bzhi|mulx|pdep|pext|rorx|sarx|shlx|shrx|movbe"
        r"|lzcnt|tzcnt|popcnt)\b|%[yz]mm|%k[0-7]"
    )
    sealed = re.compile(r"fusedopt::(avx2|avx512)::")
    found = 0
    for name, code in functions().items():
        lines = [line for line in code if wide.search(line)]
        found += len(lines)
        assert sealed.search(name) or not lines, f"{name}: {lines[0]}"
    assert found > 1000 * (len(BUILT) - 1), "the search found nothing where there is a lot"


@pytest.mark.parametrize("isa", BUILT)
def test_kernel_objects_share_nothing(isa: str) -> None:
    """One symbol goes out, and none is weak: the linker can't keep a wide copy for everyone."""
    version = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    name = f"kernels_{isa}.dir/kernels/kernels.cpp.o"
    objects = [*BUILD_FOLDERS.glob(f"{version}-*/csrc/CMakeFiles/{name}")]
    if not objects:
        pytest.skip("no build folder: the package was not built in this checkout")
    for path in objects:
        command = ["nm", "-C", str(path)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        symbols = [line[17:].split(" ", 1) for line in text.splitlines()]
        defined = {name for kind, name in symbols if kind.isupper() and kind != "U"}
        assert defined == {f"fusedopt::{isa}::kernels"}
        needed = {name for kind, name in symbols if kind == "U"} - {"_GLOBAL_OFFSET_TABLE_"}
        # A compiler may always call memcpy where a loop copies.
        assert needed <= {"memcpy"}, "a kernel calls a library function"
        assert not [name for kind, name in symbols if kind in "vwu"], "a weak symbol"
