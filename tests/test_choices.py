"""Contract: an option that is one of several words is nothing else, or an error."""

from typing import Any

import numpy as np
import pytest

import fusedopt

# What == compares element by element, or as it likes.
ODD = [
    np.array(["skip"]),
    np.array("skip"),
    np.array(["skip", "raise"]),
    np.array([]),
    ["skip"],
    b"skip",
    True,
    0,
]
odd = pytest.mark.parametrize("value", ODD, ids=repr)


class Equal:
    """Equal to everything."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("skip")

    def __repr__(self) -> str:
        return "Equal()"


class Word(str):
    """A str that claims to be another."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


@pytest.mark.parametrize("value", [*ODD, Equal(), None], ids=repr)
def test_on_nonfinite(value: Any) -> None:
    p = np.zeros(2)
    opt = fusedopt.SGD([p], lr=1.0)
    with pytest.raises(TypeError, match="^on_nonfinite: expected 'propagate' or 'skip' or 'raise'"):
        opt.step([np.array([1.0, np.nan])], on_nonfinite=value)
    assert not p.any()
    assert opt.completed_steps == 0


@pytest.mark.parametrize("value", [*ODD, Equal()], ids=repr)
def test_hyperparameters(value: Any) -> None:
    for make, name in (
        (lambda **o: fusedopt.SGD([np.zeros(2)], momentum=0.5, **o), "momentum_init"),
        (lambda **o: fusedopt.Adam([np.zeros(2)], amsgrad=True, **o), "amsgrad_max"),
    ):
        with pytest.raises(TypeError, match=f"^{name}: expected "):
            make(**{name: value})
        opt = make()
        before = opt.param_groups[0][name]
        with pytest.raises(TypeError, match=f"^{name}: expected "):
            opt.param_groups[0][name] = value
        assert opt.param_groups[0][name] is before
        opt.step([np.ones(2)])


@odd
def test_show_config(value: Any) -> None:
    with pytest.raises(TypeError, match="^mode: expected 'stdout' or 'dict'"):
        fusedopt.show_config(mode=value)


def test_a_str_of_another_class_is_what_it_says() -> None:
    opt = fusedopt.SGD([np.zeros(2)], momentum=0.5, momentum_init=np.str_("zeros"))
    assert type(opt.param_groups[0]["momentum_init"]) is str
    with pytest.raises(ValueError, match="^momentum_init: expected .*, got 'other'"):
        fusedopt.SGD([np.zeros(2)], momentum=0.5, momentum_init=Word("other"))
    with pytest.raises(ValueError, match="^on_nonfinite: expected .*, got 'other'"):
        opt.step([np.ones(2)], on_nonfinite=Word("other"))
    opt.step([np.array([1.0, np.nan])], on_nonfinite=Word("skip"))
    assert opt.completed_steps == 0
