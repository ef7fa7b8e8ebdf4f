"""Contract: parameters can be added to a group that is there, and are as those that were."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedopt
from cases import copies, every_dtype, random_arrays
from fusedopt import reference, schedules

SHAPES = [(3, 5), 130, 7, (), 33]


def assert_equal(arrays: list[Any], others: list[Any]) -> None:
    for array, other in zip(arrays, others, strict=True):
        np.testing.assert_array_equal(array, other)


BOTH = pytest.mark.parametrize("library", [fusedopt, reference], ids=["fused", "reference"])


def grown(library: Any, params: list[Any], *, named: bool = False, **options: Any) -> Any:
    """Two groups; then one more of the first, one of the second, and a group of its own."""

    def group(*own: int) -> Any:
        return {f"p{i}": params[i] for i in own} if named else [params[i] for i in own]

    opt = library.SGD(
        [{"params": group(0)}, {"params": group(1), "lr": 0.01}],
        **{"lr": 0.1, "momentum": 0.5, **options},
    )
    opt.step(random_arrays(90, params[0].dtype.type, SHAPES[:2]))
    opt.add_params(group(2))
    opt.add_params(group(3), group=1)
    opt.add_param_group({"params": group(4), "lr": 0.5})
    return opt


@every_dtype
@pytest.mark.parametrize("options", [{}, {"ema_decay": 0.5}, {"velocity": True}], ids=str)
def test_fused_is_the_reference(options: dict[str, Any], dtype: type) -> None:
    params = [random_arrays(0, dtype, SHAPES) for _ in range(2)]
    ours, theirs = (
        grown(m, p, **options) for m, p in zip((fusedopt, reference), params, strict=True)
    )
    for step in range(6):
        for opt in (ours, theirs):
            opt.param_groups[0]["lr"] = 0.1 / (1 + step)
            opt.param_groups[1]["momentum"] = 0.5 + 0.05 * step
        grads = random_arrays(step, dtype, SHAPES)
        if step == 3:
            grads[2] = None
        given = [[None if g is None else g.copy() for g in grads] for _ in range(2)]
        results = [
            opt.step(g, max_norm=2.0, stats=True)
            for opt, g in zip((ours, theirs), given, strict=True)
        ]
        assert results[0] == results[1]
        assert len(results[0].stats) == 3
        assert_equal(*params)
        for i in range(5):
            mine, others = ours.state[i], theirs.state[i]
            assert mine.keys() == others.keys()
            assert_equal([mine[name] for name in mine], [others[name] for name in mine])
    assert ours.step_counts.tolist() == [7, 7, 5, 6, 6]


@BOTH
def test_groups_show_what_they_have(library: Any) -> None:
    params = random_arrays(0, np.float32, SHAPES)
    opt = grown(library, params)
    own = [[id(p) for p in group["params"]] for group in opt.param_groups]
    assert own == [[id(params[i]) for i in part] for part in ([0, 2], [1, 3], [4])]
    state = opt.state_dict()
    assert [group["params"] for group in state["param_groups"]] == [[0, 2], [1, 3], [4]]
    assert "48 elements" not in repr(opt)
    assert "2 arrays, 22 elements" in repr(opt)


@BOTH
def test_names(library: Any) -> None:
    params = random_arrays(0, np.float32, SHAPES)
    opt = grown(library, params, named=True)
    assert list(opt.state) == [f"p{i}" for i in range(5)]
    names = [group["param_names"] for group in opt.state_dict()["param_groups"]]
    assert names == [["p0", "p2"], ["p1", "p3"], ["p4"]]
    before = copies(params)
    opt.step({f"p{i}": np.ones_like(p) for i, p in enumerate(params)})
    assert all((p != b).all() for p, b in zip(params, before, strict=True))
    with pytest.raises(ValueError, match="given twice"):
        opt.add_params({"p2": np.ones(3, np.float32)})
    with pytest.raises(ValueError, match="expected names"):
        opt.add_params([np.ones(3, np.float32)])


WAYS: list[Callable[[Any, Any, Path], Any]] = [
    lambda opt, params, _: copy.deepcopy((params, opt)),
    lambda opt, params, _: pickle.loads(pickle.dumps((params, opt))),
]


@BOTH
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("way", WAYS, ids=["deepcopy", "pickle"])
def test_copies_go_on_as_the_original(
    library: Any, named: bool, way: Callable[..., Any], tmp_path: Path
) -> None:
    params = random_arrays(0, np.float32, SHAPES)
    opt = grown(library, params, named=named)
    others, other = way(opt, params, tmp_path)
    for step in range(3):
        for one in (opt, other):
            one.param_groups[0]["lr"] = 0.2
            one.step(random_arrays(step, np.float32, SHAPES))
    assert_equal(params, others)
    assert other.state_dict()["param_groups"] == opt.state_dict()["param_groups"]


@BOTH
@pytest.mark.parametrize("in_file", [False, True], ids=["state_dict", "file"])
def test_state_goes_to_an_optimizer_that_was_made_at_once(
    library: Any, in_file: bool, tmp_path: Path
) -> None:
    """Whose numbers are others: in the order of the groups."""
    params = random_arrays(0, np.float32, SHAPES)
    opt = grown(library, params)
    order = [0, 2, 1, 3, 4]
    others = [params[i].copy() for i in order]
    at_once = library.SGD(
        [{"params": others[:2]}, {"params": others[2:4]}, {"params": others[4:]}],
        lr=0.1,
        momentum=0.5,
    )
    if in_file:
        opt.save(tmp_path / "state")
        at_once.load(tmp_path / "state")
    else:
        at_once.load_state_dict(copy.deepcopy(opt.state_dict()))
    for step in range(3):
        grads = random_arrays(step, np.float32, SHAPES)
        opt.step(grads)
        at_once.step([grads[i] for i in order])
    assert_equal([params[i] for i in order], others)
    # And back.
    opt.load_state_dict(copy.deepcopy(at_once.state_dict()))
    assert opt.step_counts.tolist() == [4, 4, 3, 3, 3]


def test_schedules_bound_gradients_and_lookahead() -> None:
    params, grads = ([np.full(n, 1.0) for n in (3, 4)] for _ in range(2))
    opt = fusedopt.SGD(
        params[:1],
        lr=schedules.linear(0.5, 0.1, steps=4),
        momentum=0.5,
        velocity=True,
        grads=grads[:1],
    )
    opt.step()
    opt.add_params(params[1:], grads=grads[1:])
    other = [p.copy() for p in params]
    opt.step()
    # Both with the second rate, and the first with a velocity besides.
    assert (params[1] == other[1] - 0.4).all()
    assert (params[0] == other[0] + (0.5 * -0.5 - 0.4)).all()
    with opt.lookahead():
        assert (params[1] == other[1] - 0.4 + 0.5 * -0.4).all()
        with pytest.raises(RuntimeError, match=r"add_params\(\)"):
            opt.add_params([np.ones(2)])
    with pytest.raises(ValueError, match="grads: needed"):
        opt.add_params([np.ones(2)])


@BOTH
def test_rebinding(library: Any) -> None:
    params = random_arrays(0, np.float64, SHAPES)
    opt = grown(library, params)
    others = copies(params)
    opt.rebind(others)
    grads = random_arrays(1, np.float64, SHAPES)
    opt.step(grads)
    assert all((p != q).all() for p, q in zip(params, others, strict=True))
    assert opt.param_groups[0]["params"][1] is others[2]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (([np.ones(2)], 3), ValueError, "^group: expected the number of one of 3 groups, got 3$"),
        (([np.ones(2)], -1), ValueError, "^group: expected the number of one of 3 groups"),
        (([np.ones(2)], 0.0), TypeError, "^group: expected an int"),
        (([np.ones(2)], True), TypeError, "^group: expected an int"),
        ((np.ones(2),), TypeError, "^params: expected a list"),
        (([np.ones(2, np.int64)],), TypeError, r"^params\[5\]"),
        (([np.ones(2), np.ones(4)[::2]],), ValueError, r"^params\[6\]"),
        (([{"params": []}],), TypeError, r"^params\[0\]: expected a NumPy array"),
    ],
)
def test_what_is_wrong_changes_nothing(
    arguments: tuple[Any, ...], error: type[Exception], text: str
) -> None:
    params = random_arrays(0, np.float64, SHAPES)
    opt = grown(fusedopt, params)
    shown = repr(opt)
    with pytest.raises(error, match=text):
        opt.add_params(*arguments)
    assert repr(opt) == shown
    assert len(opt.state) == 5
    opt.step(random_arrays(1, np.float64, SHAPES))


def test_numbers_that_dont_fit_the_new_dtype() -> None:
    opt = fusedopt.SGD([np.ones(2)], lr=1e300)
    with pytest.raises(ValueError, match="finite in float32"):
        opt.add_params([np.ones(2, np.float32)])
    opt.step([np.zeros(2)])
    opt.param_groups[0]["lr"] = 0.1
    opt.add_params([np.ones(2, np.float32)])
    opt.param_groups[0]["lr"] = 1e300
    with pytest.raises(ValueError, match="finite in float32"):
        opt.step([np.zeros(2), np.zeros(2, np.float32)])


def test_an_error_names_the_group() -> None:
    params = random_arrays(0, np.float64, SHAPES)
    opt = grown(fusedopt, params)
    opt.param_groups[1]["nesterov"] = True
    opt.param_groups[1]["momentum"] = 0
    with pytest.raises(ValueError, match=r"^param_groups\[1\]: nesterov"):
        opt.step(random_arrays(1, np.float64, SHAPES))
