"""What is mutated, which tests matter for it, and what is left alone."""

from __future__ import annotations

import re
from fnmatch import fnmatch

from build import ROOT

#: For each file that is mutated the tests that matter, the likeliest first. The first row that fits
#: counts.
_TABLE = """
csrc/rules/average.hpp               ema functional
csrc/rules/*                         RULES
csrc/kernels/arrays.hpp              pipeline stats functional guard_pages
csrc/kernels/loop.hpp                RULES sizes guard_pages repeated_steps
csrc/engine/arena.*                  state neighbours native_types equality flat_views ARENA
csrc/engine/array_scan.*             pipeline stats functional subnormals
csrc/engine/forks.*                  pool_orders fork openmp threads
csrc/engine/float_mode.hpp           config subnormals pipeline stats
csrc/engine/measures.*               stats
csrc/engine/overlap.*                overlap CHECKS functional sizes
csrc/engine/plan.*                   neighbours equality groups pipeline repeated_steps PLAN
csrc/engine/pointer_filter.hpp       overlap CHECKS
csrc/engine/automatic.hpp            automatic
csrc/engine/experience.hpp           automatic
csrc/engine/chunk_ranges.hpp         pool_orders threads layers fork pipeline equality
csrc/engine/layer.hpp                automatic layers threads
csrc/engine/layers.*                 pool_orders layers openmp fork threads config subnormals
csrc/engine/openmp*                  openmp layers
csrc/engine/pool.*                   pool_orders signals threads fork pipeline equality
csrc/engine/sleeper.hpp              pool_orders threads signals
csrc/engine/threads.*                pool_orders threads fork config
csrc/bindings/arrays.*               owners CHECKS functional memmap state
csrc/bindings/adopted_state.*        adopted_state
csrc/bindings/binding.hpp            repeated_steps neighbours bad_input flat_views groups
csrc/bindings/chosen_work.*          FOREIGN while_a_step_runs TURNS
csrc/bindings/contents.*             contents
csrc/bindings/elsewhere.*            put_back forms ema groups memmap
csrc/bindings/float_counts.*         torch_state torch_front
csrc/bindings/foreign.*              foreign_arrays cast_grads step_some
csrc/bindings/functional.*           functional native_half native_types threads
csrc/bindings/gil.hpp                reading_gradients functional threads exit
csrc/bindings/given_gradients.*      foreign_arrays cast_grads step_some reading_gradients
csrc/bindings/gradients.*            reading_gradients groups bad_input while_a_step_runs
csrc/bindings/gradient_source.*      foreign_arrays groups bad_input native_half TURNS
csrc/bindings/holdings.*             HELD
csrc/bindings/live_rule.*            LIVE
csrc/bindings/load_state.*           adopted_state native_half SAVED memmap ema turns threads
csrc/bindings/module.cpp             config functional unloadable
csrc/bindings/native_type.hpp        native_types
csrc/bindings/parameters.*           FOREIGN CHECKS flat_views stats ema neighbours pipeline
csrc/bindings/rules.*                hyperparameters functional instruction_sets
csrc/bindings/rule_arguments.hpp     native_half hyperparameters functional
csrc/bindings/settings.cpp           config layers openmp threads subnormals
csrc/bindings/state_memory.*         native_half memmap threads fork native_types
csrc/bindings/states.*               LIES subnormals groups pipeline flat_views SAVED equality
csrc/bindings/step_arguments.*       step_method step_some pipeline
csrc/bindings/step_method.cpp        step_method step_some reading_gradients bad_input STEP TURNS
csrc/bindings/step_mutex.hpp         turns threads fork schedules state_dict
csrc/bindings/step_options.hpp       pipeline
csrc/bindings/step_counts.hpp        state neighbours LIES
csrc/bindings/step_with_options.cpp  stats subnormals bad_input MORE equality
csrc/bindings/step_work.*            CHECKS overlap flat_views LIES stats neighbours pipeline
csrc/bindings/stepper_type.cpp       NATIVE MODULE
csrc/bindings/stepper.hpp            hyperparameters unloadable state_dict LIES stats MORE
csrc/bindings/stepper.*              FOREIGN CHECKS overlap flat_views LIES stats MORE
csrc/bindings/updates.cpp            turns state_dict add_params copies
csrc/bindings/xla_step.cpp           jax_front
csrc/bindings/writable_memory.*      adopted_state overlap owners CHECKS state_dict memmap pipeline
python/fusedopt/_hyperparameters.py  LIVE choices forms ema pipeline
python/fusedopt/_param_group.py      live_numbers groups VALUES copies turns
python/fusedopt/_params.py           state_dict_values groups bad_input
python/fusedopt/_persistence/state_dict.py  adopted_state state_dict_values state_dict files ema
python/fusedopt/_persistence/files.py       FILES
python/fusedopt/_persistence/replacing.py   FILES
python/fusedopt/_persistence/safetensors.py FILES
python/fusedopt/_persistence/saved.py       FILES
python/fusedopt/_persistence/saving.py      FILES ema
python/fusedopt/_persistence/persistent.py  state_dict files copies
python/fusedopt/_stepping.py         step_some choices reading_gradients stats pipeline
python/fusedopt/_step_options.py     pipeline stats choices
python/fusedopt/optimizer.py         FOREIGN LIVE groups stats choices MORE ema SAVED
python/fusedopt/schedules.py         schedule_values schedules
python/fusedopt/loss_scaler.py       loss_scaler
python/fusedopt/adam.py              VALUES equality choices
python/fusedopt/sgd.py               VALUES equality choices
python/fusedopt/rmsprop.py           VALUES equality
"""
#: Mutants that matter when the library is loaded, by how their names begin: each needs a process
#: from its start.
AT_START = (
    "csrc/engine/threads.cpp",
    "csrc/bindings/rules.cpp",
    "csrc/bindings/module.cpp",
    "csrc/bindings/settings.cpp",
    "csrc/bindings/stepper_type.cpp",
    "csrc/bindings/arrays.cpp | if (PyArray_Import",
    "csrc/bindings/native_type.hpp | type.tp",
    "csrc/bindings/step_method.cpp | Py_TPFLAGS",
    "csrc/engine/float_mode.hpp | inline std::atomic<bool> flush_denormal",
)
_SETS = {
    "RULES": ["equality", "functional", "forms", "subnormals", "power"],
    "CHECKS": ["repeated_steps", "bad_input", "groups"],
    "NATIVE": ["native_types", "native_half"],
    "LIES": ["neighbours", "native_types", "native_half", "state", "forms", "ema"],
    "STEP": ["pipeline", "native_types", "native_half", "equality"],
    "FOREIGN": ["step_some", "foreign_arrays", "reading_gradients"],
    "HELD": [
        "groups",
        "add_params",
        "foreign_arrays",
        "bad_input",
        "native_half",
        "ema",
        "schedules",
        "state",
    ],
    "LIVE": ["live_numbers", "hyperparameters", "schedules"],
    "TURNS": ["turns", "threads"],
    "SAVED": ["state_dict", "files", "copies"],
    "MORE": ["while_a_step_runs", "pipeline", "schedules", "memmap", "turns", "threads"],
    "MODULE": ["turns", "functional", "state_dict", "unloadable"],
    "ARENA": ["memmap", "guard_pages"],
    "PLAN": ["stats", "ema", "subnormals", "functional", "threads"],
    "VALUES": ["state_dict_values", "forms", "hyperparameters", "schedules"],
    "FILES": ["headers", "files", "unloadable", "replacing", "leftovers", "hostile_files"],
}

#: Tests that are about time, or need much of it: what they say is no proof.
LEFT_OUT = [
    "-m",
    "not timed",
    "--deselect=tests/test_sizes.py::test_more_than_2_to_the_31_elements",
]

#: Mutants that nobody makes: what they change is how long something takes, and nothing else. A
#: pattern for the file, one for the line, and what the line is about.
PERFORMANCE = [
    (r"bindings/contents\.cpp", r"fetch|is_dict\(Py|is_dict\(place\)", "what is asked for ahead"),
    (
        r"kernels/loop\.hpp|engine/plan\.hpp",
        r"prefetch|asks_ahead|asking_ahead|at \+ distance",
        "what is asked for ahead",
    ),
    (r"", r"\.reserve\(|reserve_coefficients\(", "room that is made ahead"),
    (r"engine/(pool|layers)\.cpp", r"worth_waking|spin_time|last_end", "whether waking pays"),
    (r"engine/sleeper\.hpp", r"pause\(\)|yield\(\)|Clock::now|k < 16", "how long a thread spins"),
    (r"engine/arena\.cpp", r"madvise|2 \* huge_page", "which pages the system gives"),
    (r"engine/pointer_filter\.hpp", r"64 \* bits_|2 \* bits_|--shift_", "how large a filter is"),
    (r"fusedopt/_persistence/files\.py", r"^_AT_ONCE =", "how much is hashed at a time"),
    (r"engine/plan\.hpp", r"bool is_none\(\)", "what is in the cache"),
    (
        r"engine/plan\.cpp",
        r"work\.at_once|t\.at_once|at_once = gradients|averages_ ",
        "what is in the cache",
    ),
]

# What is glue, or decided when compiling. tests/test_instruction_sets.py holds the first two.
_NOT_MUTATED = r"kernels/(cpu|dispatch|indices|table|kernels)|rules/(list|interface)"


def _rows() -> list[tuple[str, list[str]]]:
    rows = []
    for line in _TABLE.split("\n"):
        if line:
            pattern, *names = line.split()
            rows.append((pattern, [n for name in names for n in _SETS.get(name, [name])]))
    return rows


TESTS = _rows()


def files() -> list[str]:
    """Return every file that is mutated."""
    found = []
    for pattern in (
        "csrc/**/*.[hc]pp",
        "python/fusedopt/*.py",
        "python/fusedopt/_persistence/*.py",
    ):
        for path in sorted(ROOT.glob(pattern)):
            file = path.relative_to(ROOT).as_posix()
            if not re.search(_NOT_MUTATED, file) and any(fnmatch(file, row) for row, _ in TESTS):
                found.append(file)
    return found


def tests_of(file: str) -> list[str]:
    """Return the files of tests that matter for a file, the likeliest to find a fault first."""
    names = next(names for pattern, names in TESTS if fnmatch(file, pattern))
    return [f"tests/test_{name}.py" for name in dict.fromkeys(names)]


def is_performance(file: str, line: str) -> bool:
    """Whether only time depends on a line."""
    return any(re.search(row[0], file) and re.search(row[1], line) for row in PERFORMANCE)
