"""Mutants that no operator makes: locks, memory orders, the floating-point mode, sizes."""

from __future__ import annotations

from mutants import Mutant, line_at, numbered

_LOCK = "const std::scoped_lock lock(mutex_);"
_NO_LOCK = "std::unique_lock lock(mutex_, std::defer_lock); if (!MUTANT) lock.lock();"
_MODE = "const ScopedFloatMode mode("
_FLUSHES = "flush_denormal.load(std::memory_order_relaxed)"
_POOL, _SLEEPER = "csrc/engine/pool.cpp", "csrc/engine/sleeper.hpp"
_LAYERS, _RANGES = "csrc/engine/layers.cpp", "csrc/engine/chunk_ranges.hpp"
_WITH_OPTIONS = "csrc/bindings/step_with_options.cpp"

#: File, what stands there, what is put in its place, and in words what that is. With MUTANT in it,
#: the new text is there for every mutant, and does what the old one did where MUTANT is false. Of a
#: text with two @ only what is between them is replaced.
CHANGES: list[tuple[str, str, str, str]] = [
    ("csrc/bindings/stepper.cpp", _LOCK, _NO_LOCK, "not locked"),
    # The pool: what is one operation becomes two, and what is in order for all is for one alone.
    (
        _LAYERS,
        "all->busy.exchange(true)",
        "(all->busy.load() || (all->busy.store(true), false))",
        "in two steps",
    ),
    (
        _LAYERS,
        "const ScopedFloatMode own_flags(false);",
        "std::optional<ScopedFloatMode> own_flags; if (!MUTANT) own_flags.emplace(false);",
        "leaves flags",
    ),
    (
        _POOL,
        "state_.compare_exchange_strong(state, state + 1)",
        "(state_.load() == state && (state_.store(state + 1), true))",
        "in two steps",
    ),
    (
        _POOL,
        "state_.compare_exchange_strong(state, state + 1)",
        "(state_.fetch_add(1), true)",
        "without a comparison",
    ),
    (
        _POOL,
        "state_.fetch_sub(1) - 1",
        "[this] { const auto s = state_.load() - 1; state_.store(s); return s; }()",
        "in two steps",
    ),
    (
        _RANGES,
        "range.next.fetch_add(1, std::memory_order_relaxed)",
        "[&] { const auto n = range.next.load(); range.next.store(n + 1); return n; }()",
        "in two steps",
    ),
    (_POOL, "state_ &= ~team_mask;", "state_.store(state_.load() & ~team_mask);", "in two steps"),
    (
        _POOL,
        "state_ = number * one_job | std::uint64_t(team) << 16;",
        "state_.store(number * one_job | std::uint64_t(team) << 16, std::memory_order_relaxed);",
        "relaxed",
    ),
    (
        _POOL,
        "const ScopedNoSignals no_signals;",
        "std::optional<ScopedNoSignals> no_signals; if (!MUTANT) no_signals.emplace();",
        "dropped",
    ),
    (
        _SLEEPER,
        "asleep_ = true;",
        "asleep_.store(true, std::memory_order_relaxed);",
        "relaxed",
    ),
    (
        _SLEEPER,
        "const std::lock_guard lock(mutex_);",
        "std::unique_lock lock(mutex_, std::defer_lock); if (!MUTANT) lock.lock();",
        "not locked",
    ),
    # The floating-point mode.
    (
        "csrc/engine/float_mode.hpp",
        "flush_to_zero | inputs_too",
        "flush_to_zero",
        "inputs are not flushed",
    ),
    (
        "csrc/engine/float_mode.hpp",
        "flush_to_zero | inputs_too",
        "inputs_too",
        "results are not flushed",
    ),
    *(
        (f"csrc/engine/{name}.cpp", _FLUSHES, value, f"flushes: {value}")
        for name in ("plan", "array_scan")
        for value in ("true", "false")
    ),
    *(
        (
            file,
            f"{_MODE}{value});",
            f"std::optional<ScopedFloatMode> mode; if (!MUTANT) mode.emplace({value});",
            "the caller's mode",
        )
        for file, value in [
            ("csrc/engine/plan.cpp", _FLUSHES),
            ("csrc/engine/plan.cpp", "false"),
            ("csrc/engine/array_scan.cpp", _FLUSHES),
            ("csrc/bindings/states.cpp", "false"),
            (_WITH_OPTIONS, "false"),
        ]
    ),
    # Memory.
    ("csrc/engine/arena.cpp", "cache_line = 64;", "cache_line = 4;", "64 to 4"),
    ("csrc/engine/arena.hpp", "return bytes + stride(bytes);", "return bytes;", "no room to align"),
    (
        "csrc/bindings/stepper.cpp",
        "given.given = py::tuple(given.given)",
        "if (!MUTANT) given.given = py::tuple(given.given)",
        "the caller's list itself",
    ),
    # Once for all is right only where a plan's pieces don't depend on it.
    (
        "csrc/bindings/step_work.hpp",
        "if (@b.follows && (distance == last_distance) != b.joined@)",
        "b.joined && distance != last_distance",
        "only what parts is seen",
    ),
    (
        "csrc/bindings/gil.hpp",
        "    @without_gil(work);@",
        "MUTANT ? work() : without_gil(work);",
        "keeps the GIL",
    ),
    (
        "csrc/bindings/gil.hpp",
        "while (true) std::this_thread::sleep_for(std::chrono::hours(1));",
        "if (MUTANT) throw; while (true) std::this_thread::sleep_for(std::chrono::hours(1));",
        "unwinds",
    ),
]


def mutants_of(file: str, source: str) -> list[Mutant]:
    """Return those of a file; each has to stand there."""
    found = []
    for its_file, old, new, change in CHANGES:
        if its_file != file:
            continue
        around, _, old = old.rpartition("@")[0].partition("@") if "@" in old else ("", "", old)
        at = source.find(around + old)
        if at < 0:
            raise SystemExit(f"by_hand.py: {file} has no {around + old!r}")
        while at >= 0:
            begin = at + len(around)
            found.append(Mutant(file, line_at(source, begin), change, begin, begin + len(old), new))
            at = source.find(around + old, at + 1)
    return numbered(found)
