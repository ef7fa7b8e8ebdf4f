"""Contract: fusedopt.autograd's functions do what autograd's do, and leave x0 as it was."""

import copy
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from published import peer

autograd = peer("autograd")
builtins = peer("autograd.builtins")  # to which a traced list is a list
anp = peer("autograd.numpy")
theirs = peer("autograd.misc.optimizers")
ours = peer("fusedopt.autograd")

CALLS: list[tuple[str, dict[str, Any]]] = [
    ("sgd", {}),
    ("sgd", {"mass": 0.0, "step_size": 0.01, "num_iters": 37}),
    ("sgd", {"mass": 0.5, "step_size": -0.01, "num_iters": 20}),
    ("sgd", {"mass": 1.0}),
    ("rmsprop", {}),
    ("rmsprop", {"gamma": 0.5, "eps": 1e-3, "step_size": 0.01, "num_iters": 50}),
    ("rmsprop", {"gamma": 0.0, "step_size": -0.001}),
    ("adam", {}),
    ("adam", {"b1": 0.5, "b2": 0.9, "eps": 1e-2, "step_size": 0.1, "num_iters": 60}),
    ("adam", {"b1": 0.0, "step_size": -0.01}),
]


def tree(seed: int = 0) -> Any:
    """Return parameters of all sizes around vectors' widths, in containers of all kinds."""
    rng = np.random.default_rng(seed)
    return {
        "z": [rng.normal(size=n) for n in (1, 2, 3, 7, 8, 9, 31, 33)],
        "a": (rng.normal(size=(17, 3)), {"k": rng.normal(size=(2, 3, 4)), "b": 0.5}),
        "m": np.array(-1.5),
        "e": [],
        "none": rng.normal(size=(0, 2)),
    }


def leaves(value: Any) -> list[Any]:
    if builtins.isinstance(value, dict):
        return [leaf for key in sorted(value) for leaf in leaves(value[key])]
    if builtins.isinstance(value, list | tuple):
        return [leaf for each in value for leaf in leaves(each)]
    return [value]


GOAL = [np.asarray(leaf) for leaf in leaves(tree(1))]


def loss(x: Any, i: int) -> Any:
    far = [anp.sum((leaf - goal) ** 2) for leaf, goal in zip(leaves(x), GOAL, strict=True)]
    return sum(far) * (1 + 0.3 * anp.sin(i)) + 0.1 * anp.sum(anp.sin(x["a"][0])) * x["a"][1]["b"]


def assert_same(mine: Any, other: Any, tolerance: float = 1e-12) -> None:
    assert type(mine) is type(other)
    if isinstance(mine, dict):
        assert mine.keys() == other.keys()
    for one, two in zip(leaves(mine), leaves(other), strict=True):
        assert type(one) is type(two)
        assert (one.dtype, one.shape) == (two.dtype, two.shape)
        np.testing.assert_allclose(one, two, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "settings"), CALLS)
def test_results_are_autograds(name: str, settings: dict[str, Any]) -> None:
    x0 = tree()
    mine = getattr(ours, name)(autograd.grad(loss), x0, **settings)
    assert_same(mine, getattr(theirs, name)(autograd.grad(loss), tree(), **settings))
    assert [*mine] == [*x0]
    for one, two in zip(leaves(x0), leaves(tree()), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adam"])
def test_arguments_by_place(name: str) -> None:
    rates = {"sgd": (0.05, 0.8), "rmsprop": (0.05, 0.8, 1e-4), "adam": (0.05, 0.8, 0.9, 1e-4)}
    seen: dict[Any, list[int]] = {ours: [], theirs: []}
    found = []
    for each in (ours, theirs):

        def callback(x: Any, i: int, g: Any, seen: list[int] = seen[each]) -> None:
            seen.append(i)

        found.append(getattr(each, name)(autograd.grad(loss), tree(), callback, 13, *rates[name]))
    assert_same(*found)
    assert seen[ours] == seen[theirs] == list(range(13))


STARTS: dict[str, Callable[[], Any]] = {
    "an array": lambda: np.random.default_rng(0).normal(size=(5, 7)),
    "an array in Fortran's order": lambda: np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "every second element": lambda: np.arange(20.0)[::2],
    "a number": lambda: 2.5,
    "a float32 array": lambda: np.arange(5, dtype=np.float32),
    "a tree with float32": lambda: [np.arange(5.0), np.arange(5, dtype=np.float32)],
    "whole numbers": lambda: np.arange(5),
    "nothing": list,
    "complex numbers": lambda: np.array([1 + 2j, 3 - 1j]),
}


@pytest.mark.filterwarnings("ignore:Output seems independent of input")  # of nothing
@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adam"])
def test_other_starts(name: str, start: Callable[[], Any]) -> None:
    def gradient(x: Any, i: int) -> Any:
        return [leaf * 0.5 + i for leaf in x] if isinstance(x, list) else x * 0.5 + i

    mine, other = (getattr(each, name)(gradient, start(), num_iters=25) for each in (ours, theirs))
    assert_same(mine, other)


@pytest.mark.parametrize("kind", ["x itself", "turned", "numbers", "float32", "one flat", "a view"])
def test_gradients_of_any_kind(kind: str) -> None:
    """autograd flattens what it gets, so all of these mean something to it."""

    def gradient(x: Any, i: int) -> Any:
        g = {
            "x itself": lambda: x["w"],
            "turned": lambda: np.asfortranarray(x["w"] * 2),
            "numbers": lambda: x["w"] * 2,
            "float32": lambda: (x["w"] * 2).astype(np.float32),
            "one flat": lambda: (x["w"] * 2).ravel(),
            "a view": lambda: (np.stack([x["w"]] * 2) * 2)[1],
        }[kind]()
        return {"w": g, "b": float(x["b"]) if kind == "numbers" else x["b"]}

    for name in ("sgd", "rmsprop", "adam"):
        mine, other = (
            getattr(each, name)(gradient, {"w": np.arange(12.0).reshape(3, 4), "b": 2.0})
            for each in (ours, theirs)
        )
        assert_same(mine, other, 1e-6 if kind == "float32" else 1e-12)


def test_grad_and_callback_get_what_autograd_gives_them() -> None:
    found: dict[Any, list[Any]] = {ours: [], theirs: []}
    for module, kept in found.items():

        def gradient(x: Any, i: int) -> Any:
            g = autograd.grad(loss)(x, i)
            x["new"] = x.pop("m")  # in a dict of its own
            return g

        def callback(x: Any, i: int, g: Any, kept: list[Any] = kept) -> None:
            kept += [x, copy.deepcopy(g)]
            g["z"][3] *= 2  # of a copy
            x["a"][0][...] += i

        kept.append(module.adam(gradient, tree(), callback, num_iters=5, step_size=0.1))
    for mine, other in zip(found[ours], found[theirs], strict=True):
        assert_same(mine, other, 1e-9)


def test_the_arrays_of_a_tree_are_the_same_ones_at_each_call() -> None:
    given = []

    def gradient(x: Any, i: int) -> Any:
        given.append(leaves(x))
        return x

    found = ours.sgd(gradient, tree(), num_iters=3)
    for arrays in given:
        for one, two, last in zip(arrays, given[0], leaves(found), strict=True):
            assert one is two
            assert np.shares_memory(one, last) or last.size == 0
    found["z"][0][...] = 1  # the result can be written to


def test_what_is_written_into_x() -> None:
    """Into an array it counts in autograd, too; into a tree it would not, and is refused."""
    goal = np.array([-1.0, 2.0])

    def project(x: Any, i: int, g: Any) -> None:
        np.clip(x, 0, None, out=x)
        g /= np.linalg.norm(g)

    def moving(x: Any, i: int) -> Any:
        x *= 0.9
        return x - goal

    for name in ("sgd", "rmsprop", "adam"):
        for arguments in ((lambda x, i: x - goal, np.ones(2), project, 50), (moving, np.ones(2))):
            mine, other = (getattr(module, name)(*arguments) for module in (ours, theirs))
            assert_same(mine, other)

    def into_a_tree(x: Any, i: int) -> Any:
        x["w"] /= 2
        return x

    with pytest.raises(ValueError, match="read-only"):
        ours.sgd(into_a_tree, {"w": np.ones(3)})


@pytest.mark.parametrize(
    ("gradient", "start"),
    [
        (lambda x, i: [2 * x[0], float(x[1])], np.array([-1.0, 1.0])),
        (lambda x, i: 2 * np.array(x), [1.0, 2.0]),
        (lambda x, i: np.arange(5.0), {"a": np.ones(3), "b": np.ones(2)}),
        (lambda x, i: [row * 2 for row in x], np.ones((2, 3))),
        (lambda x, i: [x[0] * 2, (x[1] * 3,)], (np.ones(3), np.ones((2, 2)))),
        (lambda x, i: np.arange(3), np.ones(3)),
        (lambda x, i: x[::-1], np.arange(4.0)),
    ],
)
@pytest.mark.parametrize("callback", [None, lambda x, i, g: None])
def test_gradients_of_another_form(gradient: Any, start: Any, callback: Any) -> None:
    """autograd makes a vector of whatever it gets."""
    for name in ("sgd", "rmsprop", "adam"):
        mine, other = (
            getattr(module, name)(gradient, copy.deepcopy(start), callback, 7)
            for module in (ours, theirs)
        )
        assert_same(mine, other)


def test_an_exception_of_grad_comes_through() -> None:
    def gradient(x: Any, i: int) -> Any:
        if i == 3:
            raise RuntimeError("stop here")
        return x

    with pytest.raises(RuntimeError, match="stop here"):
        ours.adam(gradient, np.ones(3))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("sgd", {"mass": 1.5}),
        ("sgd", {"mass": -0.5}),
        ("sgd", {"step_size": np.array([0.1, 0.2, 0.3])}),
        ("rmsprop", {"gamma": 1.0}),
        ("rmsprop", {"eps": -1e-3}),
        ("adam", {"b1": -0.1}),
        ("adam", {"step_size": float("nan")}),
    ],
)
def test_numbers_that_kernels_dont_take(name: str, settings: Any) -> None:
    mine, other = (
        getattr(module, name)(lambda x, i: x * 2 + i, np.ones(3), num_iters=7, **settings)
        for module in (ours, theirs)
    )
    assert_same(mine, other)


def test_wrong_numbers() -> None:
    for settings in ({"step_size": "0.1"}, {"b1": None}):
        with pytest.raises(TypeError):
            ours.adam(lambda x, i: x, np.ones(3), **settings)


def test_derivatives_through_numbers_are_autograds() -> None:
    def end(step_size: Any, module: Any) -> Any:
        return anp.sum(module.sgd(lambda x, i: 2 * x, np.ones(3), None, 5, step_size))

    mine, other = (autograd.grad(end)(0.1, module) for module in (ours, theirs))
    assert mine == other != 0


def test_gradients_that_dont_fit() -> None:
    start = [np.ones(3), np.ones((2, 2))]
    for wrong in ([np.ones(3)], [np.ones(3), np.ones(3)], [np.ones(3), np.ones((2, 2)), 1.0], []):
        with pytest.raises(ValueError, match="grad: expected 7 numbers, as many as x has, got"):
            ours.adam(lambda x, i, wrong=wrong: wrong, start)
    masked = np.ma.masked_array(np.ones(3), [True, False, False])
    for wrong in ("123", None, masked, lambda: 3):
        with pytest.raises(TypeError, match="grad: expected it to return arrays and floats, got"):
            ours.adam(lambda x, i, wrong=wrong: wrong, np.ones(3))
    for wrong in (np.array([1, None, 3]), np.ones(3, complex), 1j):
        with pytest.raises(TypeError, match="grad: expected"):
            ours.adam(lambda x, i, wrong=wrong: wrong, np.ones(3))


def test_all_of_autograds_optimizers_are_there() -> None:
    public = {
        name
        for name, value in vars(theirs).items()
        if inspect.isfunction(value) and value.__module__ == theirs.__name__
    }
    assert public - {"unflatten_optimizer"} == set(ours.__all__)
    for name in ours.__all__:
        inner = inspect.unwrap(getattr(theirs, name))
        mine = [*inspect.signature(getattr(ours, name)).parameters.values()]
        if inner is not getattr(theirs, name):
            other = [*inspect.signature(inner).parameters.values()]
            assert [p.default for p in mine] == [p.default for p in other]
