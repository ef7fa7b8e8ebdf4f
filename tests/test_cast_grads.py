"""Contract: with cast_grads=True gradients of other floating dtypes count as cast, as by astype."""

import copy
import math
from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import assert_same, copies, random_arrays
from exchange import Foreign, Plain
from fusedopt import reference

SHAPES: list[Any] = [3, (2, 5), (), 0, 1000]
FLOATS = [np.float16, np.float32, np.float64, np.longdouble]


def pair(dtype: Any, **options: Any) -> tuple[fusedopt.Optimizer, fusedopt.Optimizer]:
    params = random_arrays(0, dtype, SHAPES)
    ours = fusedopt.Adam(params, lr=0.1, cast_grads=True, **options)
    return ours, reference.Adam(copies(params), lr=0.1, cast_grads=True, **options)


def gradients(seed: int, dtype: Any) -> list[Any]:
    return [g.astype(dtype) for g in random_arrays(seed, np.float64, SHAPES)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("given", [*FLOATS, ">f4", ">f2"], ids=str)
@pytest.mark.parametrize(
    "options",
    [{}, {"max_norm": 0.5, "zero_grads": True}, {"stats": True, "clip_value": 0.1}],
    ids=str,
)
def test_they_count_as_cast(dtype: Any, given: Any, options: dict[str, Any]) -> None:
    ours, theirs = pair(dtype)
    for seed in range(1, 6):
        grads = gradients(seed, given)
        grads[0] = grads[0].astype(dtype)  # one that needs no cast
        if seed == 3:
            grads[1] = None
        other = [None if g is None else g.copy() for g in grads]
        assert ours.step(grads, **options) == theirs.step(other, **options)
        for g, h in zip(grads, other, strict=True):
            np.testing.assert_array_equal(g, h)
            assert g is None or not options.get("zero_grads") or not g.any()
    assert_same(ours, theirs)


def test_with_other_ways_to_give_them(tmp_path: Any) -> None:
    grads = gradients(1, np.float16)
    for named in (False, True):
        params = random_arrays(0, np.float32, SHAPES)
        names: list[Any] = [f"p{i}" for i in range(len(SHAPES))] if named else [*range(len(SHAPES))]
        own: Any = dict(zip(names, params, strict=True)) if named else params
        theirs = reference.Adam(copies(params), lr=0.1, cast_grads=True)
        bound = copies(grads)
        ours = fusedopt.Adam(own, lr=0.1, cast_grads=True, grads=bound)
        for _ in range(2):
            ours.step()
            theirs.step(grads)
        ours.step_some({names[0]: grads[0], names[4]: grads[4].astype(np.float32)})
        theirs.step_some({0: grads[0], 4: grads[4].astype(np.float32)})
        assert_same(ours, theirs) if not named else None
        for p, q in zip(params, theirs.param_groups[0]["params"], strict=True):
            np.testing.assert_array_equal(p, q)
        ours.zero_grad()
        assert not any(g.any() for g in bound)
        again = copy.deepcopy(ours)
        again.step()


@pytest.mark.parametrize("kind", [Foreign, Plain])
def test_those_of_other_libraries(kind: Any) -> None:
    ours, theirs = pair(np.float32)
    for seed in range(1, 4):
        grads = gradients(seed, np.float16 if seed > 1 else np.float64)
        ours.step([kind(g) for g in grads], zero_grads=kind is Foreign)
        theirs.step(gradients(seed, grads[0].dtype))
        assert any(g.any() for g in grads) == (kind is not Foreign)
    assert_same(ours, theirs)


def test_bfloat16_of_torch() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed (extra: peers)")
    for dtype in (np.float32, np.float64):
        p, q = np.ones(1000, dtype), np.ones(1000, dtype)
        ours, theirs = fusedopt.SGD([p], lr=0.1, cast_grads=True), reference.SGD([q], lr=0.1)
        for seed in range(3):
            torch.manual_seed(seed)
            g = (torch.randn(1000) * 10.0 ** torch.randint(-40, 38, (1000,))).bfloat16()
            theirs.step([g.double().numpy().astype(dtype)])
            ours.step([g], zero_grads=seed == 2)
            assert bool(g.any()) == (seed < 2)
        np.testing.assert_array_equal(p, q)


def test_bfloat16_without_dimensions_and_what_only_looks_like_it() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed (extra: peers)")
    p = torch.zeros(())
    opt = fusedopt.SGD([p], lr=1.0, cast_grads=True)
    for _ in range(3):
        opt.step([torch.tensor(2.0, dtype=torch.bfloat16)])
    opt.step_some({0: torch.tensor(2.0, dtype=torch.bfloat16)})
    assert p.item() == -8.0
    words = np.array([1, 0x3F80], np.uint16)
    q = np.zeros(2, np.float32)
    opt = fusedopt.SGD([q], lr=1.0, cast_grads=True)
    for bad in (Plain(words), Foreign(words), torch.from_numpy(words), words):
        with pytest.raises(TypeError, match=r"^grads\[0\]: expected dtype float32"):
            opt.step([bad])
    assert not q.any()


def test_what_is_cast_may_lie_anyhow_but_not_be_anything() -> None:
    p = np.zeros(3, np.float32)
    opt = fusedopt.SGD([p], lr=1.0, cast_grads=True)
    opt.step([np.arange(6.0)[::2]])
    assert p.tolist() == [0.0, -2.0, -4.0]
    frozen = np.ones(3)
    frozen.flags.writeable = False
    opt.step([frozen])
    before = p.copy()
    bad: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
        (np.ones(3, int), {}, TypeError, r"^grads\[0\]: expected dtype float32.* got int64"),
        (np.ones(3, complex), {}, TypeError, r"^grads\[0\]: expected dtype float32.* got complex"),
        (np.ones(3, bool), {}, TypeError, r"^grads\[0\]: expected dtype"),
        (np.ones(4), {}, ValueError, r"^grads\[0\]: expected shape \(3,\)"),
        (np.ones(6, np.float32)[::2], {}, ValueError, r"^grads\[0\]: expected a C-contiguous"),
        (Foreign(np.ones(3, np.int32)), {}, TypeError, r"^grads\[0\]: expected dtype"),
        ([1.0, 2.0, 3.0], {}, TypeError, r"^grads\[0\]: expected a NumPy array, got list"),
        (frozen, {"zero_grads": True}, ValueError, r"^grads\[0\]: .*writeable array"),
        (np.ones(6)[::2], {"zero_grads": True}, ValueError, r"^grads\[0\]: .*writeable array"),
        (p[:2].view(np.float16)[1:], {"zero_grads": True}, ValueError, r"^grads\[0\] overlaps"),
    ]
    for grad, options, error, text in bad:
        for _ in range(2):
            with pytest.raises(error, match=text):
                opt.step([grad], **options)
    np.testing.assert_array_equal(p, before)
    assert opt.completed_steps == 2


def test_without_being_asked_nothing_is_cast() -> None:
    opt = fusedopt.SGD([np.zeros(3, np.float32)])
    with pytest.raises(TypeError, match=r"^grads\[0\]: expected dtype float32.* got float64"):
        opt.step([np.ones(3)])
    for bad in (1, None, "yes"):
        with pytest.raises(TypeError, match="^cast_grads: expected True or False"):
            fusedopt.SGD([np.zeros(3)], cast_grads=bad)  # type: ignore[arg-type]


def test_what_is_too_large_becomes_infinite() -> None:
    p = np.zeros(2, np.float32)
    opt = fusedopt.SGD([p], lr=1.0, cast_grads=True)
    with pytest.raises(FloatingPointError, match=r"^grads\[0\]: 1 of 2 elements not finite"):
        opt.step([np.array([1e39, 1.0])], on_nonfinite="raise")
    g = np.array([1e39, 1.0])
    assert opt.step([g], on_nonfinite="skip", zero_grads=True).skipped
    assert not g.any()
    with np.errstate(all="raise"):
        opt.step([np.array([1e39, 1.0])])
    assert p.tolist() == [-math.inf, -1.0]
