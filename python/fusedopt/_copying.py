"""Copies of an optimizer, in memory (`copy.deepcopy`) or elsewhere (`pickle`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._state_dict import to_state_dict

if TYPE_CHECKING:
    from .optimizer import Optimizer


def to_parts(opt: Optimizer) -> dict[str, Any]:
    """Return what an optimizer is made of: arrays, hyperparameters and plain data.

    The arrays are the user's own. Whoever copies this together with other references to them, as
    deepcopy and pickle do, makes one copy of each, and what is rebuilt uses that.
    """
    opt._engine.require_home("copying an optimizer")
    groups: list[dict[str, Any]] = []
    first = 0
    for group in opt._groups:
        arrays = list(group["params"])
        names = None if opt._names is None else opt._names[first : first + len(arrays)]
        first += len(arrays)
        params = arrays if names is None else dict(zip(names, arrays, strict=True))
        groups.append({"params": params, **group.hyperparameters()})
    own = set(type(opt)._own_attributes)
    return {
        "groups": groups,
        "grads": opt._engine.bound,
        "defaults": opt._defaults,
        "state_dir": opt._state_files and opt._state_files.folder,
        "state": to_state_dict(opt),
        "attributes": {name: value for name, value in vars(opt).items() if name not in own},
    }


def rebuild(opt: Optimizer, parts: dict[str, Any]) -> None:
    """Make an optimizer, whose constructor wasn't called, of such parts."""
    from .optimizer import Optimizer

    options = {name: parts[name] for name in ("grads", "state_dir")}
    Optimizer.__init__(opt, parts["groups"], **options, **parts["defaults"])
    opt.load_state_dict(parts["state"])
    vars(opt).update(parts["attributes"])
