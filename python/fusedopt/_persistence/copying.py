"""Copies of an optimizer, in memory (`copy.deepcopy`) or elsewhere (`pickle`)."""

from __future__ import annotations

import sys
from typing import Any

from .. import _core
from .._params import read_arrays
from .._types import GroupRule
from .persisted import Persisted


def to_parts(opt: Persisted) -> dict[str, Any]:
    """Return what an optimizer is made of: arrays, hyperparameters and plain data.

    The arrays are the user's own. Whoever copies this together with other references to them, as
    deepcopy and pickle do, makes one copy of each, and what is rebuilt uses that.
    """
    opt._engine.require_home("copying an optimizer")
    states = [opt._engine.state(i) for i in range(len(opt._states))]
    params: dict[int, Any] = {}
    names: dict[int, str] | None = None
    for group, indices, its_names in opt._groups_in_order():
        params.update(zip(indices, group["params"], strict=True))
        if its_names is not None:
            names = {**(names or {}), **dict(zip(indices, its_names, strict=True))}
    return {
        "groups": [group.hyperparameters() for group in opt._groups],
        "params": [
            (k, [params[i] for i in part] if names is None else {names[i]: params[i] for i in part})
            for k, part in opt._parts
        ],
        "grads": opt._engine.bound,
        "defaults": opt._defaults,
        "state_dir": opt._state_files and opt._state_files.folder,
        "states": [arrays for _, arrays in states],
        "steps": [step for step, _ in states],
        "completed_steps": opt.completed_steps,
        "cast_grads": opt._cast_grads,
        "attributes": _attributes_of_subclasses(opt),
    }


def refuse_joblib() -> None:
    """Raise TypeError where joblib is writing the optimizer to a file.

    Its pickler writes an array anew wherever it meets it: what is loaded would have an optimizer
    that steps other arrays than its model's.
    """
    # Its pickler, which is Python code, asks for the parts itself: pickle's, in C, has no frame.
    caller = sys._getframe(1).f_back  # None where C code alone is on the stack
    pickler = caller and caller.f_locals.get("self")
    if type(pickler).__module__ == "joblib.numpy_pickle":
        raise TypeError(
            "an optimizer can't be written by joblib, which makes two arrays of one that is in two "
            "places: the model's and the optimizer's. Use pickle, or opt.save() beside the model's "
            "file"
        )


def rebuild(opt: Persisted, parts: dict[str, Any]) -> None:
    """Make an optimizer, whose constructor wasn't called, of such parts.

    Schedules aren't asked here: one may be a part of something that is still being made. Nor are
    hyperparameters looked at, which may not fit each other just now: the next step does both.
    """
    opt._begin(parts["defaults"], parts["state_dir"], parts["cast_grads"])
    name = type(opt)._rules[0]
    any_rule: GroupRule = (name, dict.fromkeys(_core.rules()[name][0], 0.0), None)
    for k, params in parts["params"]:
        is_new = k == len(opt._groups)
        spec = read_arrays(params, parts["groups"][k] if is_new else {})
        opt._add(spec, "", rule=any_rule, to=None if is_new else k)
    if parts["grads"] is not None:
        opt._engine.bind(parts["grads"])
    numbers = parts["steps"], parts["completed_steps"]
    rules = [any_rule] * len(parts["params"])
    opt._engine.load(parts["states"], *numbers, rules, None, [])
    for name, value in parts["attributes"].items():
        object.__setattr__(opt, name, value)


def _attributes_of_subclasses(opt: Persisted) -> dict[str, Any]:
    own = set(type(opt)._own_attributes)
    attributes = {name: value for name, value in vars(opt).items() if name not in own}
    for cls in type(opt).__mro__:
        slots = vars(cls).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(opt, name):
                attributes[name] = getattr(opt, name)
    return attributes
