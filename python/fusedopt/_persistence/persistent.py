"""What an optimizer does with what lasts of it."""

from __future__ import annotations

import copyreg
import os
from collections.abc import Mapping
from typing import Any, NoReturn

from .._hyperparameters import flag
from .copying import rebuild, refuse_joblib, to_parts
from .persisted import Persisted
from .saving import load_file, save
from .state_dict import load, read_state_dict, to_state_dict


class Persistent:
    """The part of an optimizer that is saved, loaded and copied."""

    def __copy__(self) -> NoReturn:
        raise TypeError(
            "a shallow copy would step the same parameters; copy.deepcopy copies an optimizer, "
            "with its parameters or, as in deepcopy([params, opt]), beside them"
        )

    def __reduce_ex__(self: Persisted, protocol: object) -> tuple[Any, ...]:
        refuse_joblib()
        return copyreg.__newobj__, (type(self),), to_parts(self)  # type: ignore[attr-defined]

    def __setstate__(self: Persisted, parts: dict[str, Any]) -> None:
        rebuild(self, parts)

    def state_dict(self: Persisted) -> dict[str, Any]:
        """Return the state as plain data, in torch's layout.

        Returns
        -------
        dict
            ``"state"``: for each parameter that has taken a step, by number, a dict of ``"step"``,
            an int, and its state arrays. None stands for an array that the next step will make.
            ``"param_groups"``: for each group a dict of hyperparameters, the numbers of its
            parameters as ``"params"`` and, where they have names, ``"param_names"``. A schedule of
            `fusedopt.schedules` is there as what `Schedule.to_dict` gives, another function as
            ``{"callable": its name}``. Besides, which torch ignores, ``"optimizer"`` and
            ``"completed_steps"``.

            As in torch, arrays are the live ones: for a snapshot take a `copy.deepcopy`.

        Raises
        ------
        RuntimeError
            Inside ``with opt.lookahead()`` or ``opt.swap_ema()``.

        Examples
        --------
        >>> import numpy as np, fusedopt
        >>> opt = fusedopt.SGD([np.ones(2)], lr=0.5, momentum=0.9)
        >>> opt.step([np.array([1.0, 2.0])])
        >>> opt.state_dict()["state"]
        {0: {'step': 1, 'momentum_buffer': array([1., 2.])}}
        """
        with self._engine.held(None):
            return to_state_dict(self)

    def load_state_dict(
        self: Persisted, state_dict: Mapping[str, Any], strict: bool = True, *, copy: bool = True
    ) -> None:
        """Continue where another optimizer was, of this class or of torch's.

        State arrays are copied, or adopted; dtypes are kept exactly; other threads wait with their
        steps.
        Hyperparameters and schedules in ``state_dict`` replace those that the optimizer was made
        with: to change one, assign it afterwards. Those that aren't there, as ours in torch's
        state, stay. Where there was a function that no state can hold, the optimizer's own stays.
        Averages that aren't there begin at the next step. Of torch's state, ``foreach``,
        ``fused``, ``capturable``, ``differentiable`` and what its schedulers left in groups are
        ignored; its learning rate is a number, and replaces a schedule.

        Parameters
        ----------
        state_dict : dict
            What `state_dict` returns, or torch's, whose tensors may be NumPy arrays.
        strict : bool, default True
            If False, ignore entries and hyperparameters that the optimizer doesn't have, names of
            parameters, and the class that the state is from; make state arrays that are missing.
        copy : bool, default True
            If False, the NumPy arrays in ``state_dict`` are the state from now on, and updated in
            place: C-contiguous, aligned, writeable, and sharing no memory with each other or a
            parameter.

        Raises
        ------
        TypeError
            If something is of the wrong type, or an array of another dtype than its parameter.
        ValueError
            If the number of groups or parameters, or the shape of an array, is another; if a
            hyperparameter is out of range, or can't change, as it says what the state means; with
            ``strict``, for all that is then not ignored. Nothing has changed then.
        RuntimeError
            Inside ``with opt.lookahead()`` or ``opt.swap_ema()``.

        Examples
        --------
        >>> import copy, numpy as np, fusedopt
        >>> p = np.ones(2)
        >>> opt = fusedopt.Adam([p], lr=0.5)
        >>> opt.step([p * 2])
        >>> saved = copy.deepcopy(opt.state_dict())
        >>> other = fusedopt.Adam([np.ones(2)])
        >>> other.load_state_dict(saved)
        >>> other.param_groups[0]["lr"], other.state[0]["step"]
        (0.5, 1)
        """
        with self._engine.held("load_state_dict()"):
            adopts = not flag("copy", copy)
            loaded = read_state_dict(self, state_dict, strict=flag("strict", strict), adopts=adopts)
            load(self, loaded, None, adopts=adopts)

    def save(
        self: Persisted, path: str | os.PathLike[str], *, params: bool = False, extra: Any = None
    ) -> None:
        """Save the state to a file, which `load` reads; the parameters only if asked for.

        The file is a safetensors file with a checksum of all its content. It is written beside and
        then renamed: whenever the process or the machine stops, the old file is there whole, or the
        new one. A process that is killed while it saves may leave a hidden ``.tmp`` file beside,
        which the next one that saves into that folder removes. Other threads wait with their steps
        until it is written.

        Parameters
        ----------
        path : str or path
            The file; the folder has to exist.
        params : bool, default False
            Save the parameters, too, so that one file holds all that a run is at.
        extra : plain data, optional
            Anything that JSON can hold, as ``{"epoch": 3, "scaler": scaler.state_dict(), "rng":
            rng.bit_generator.state}``: `load` returns it.

        Raises
        ------
        TypeError
            If ``extra`` is something else.
        ValueError
            If no optimizer could load the file, because hyperparameters that were assigned don't
            fit each other, or a parameter was given another type or shape; if its header, with
            ``extra`` and all names, were larger than 100 MB. The old file is there then.
        OSError
            If the file can't be written, or what is there is no file but a folder, a pipe, a socket
            or a device. What was there is there then.
        RuntimeError
            Inside ``with opt.lookahead()`` or ``opt.swap_ema()``.

        Examples
        --------
        >>> import os, tempfile, numpy as np, fusedopt
        >>> p = np.ones(2)
        >>> opt = fusedopt.SGD([p], lr=0.5, momentum=0.9)
        >>> opt.step([np.array([1.0, 2.0])])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "run.safetensors")
        ...     opt.save(path, params=True, extra={"epoch": 3})
        ...     other = fusedopt.SGD([np.zeros(2)], lr=0.5, momentum=0.9)
        ...     other.load(path)
        {'epoch': 3}
        >>> other.param_groups[0]["params"][0]
        array([0.5, 0. ])
        """
        save(self, path, params=flag("params", params), extra=extra)

    def load(self: Persisted, path: str | os.PathLike[str], *, strict: bool = True) -> Any:
        """Continue from a file that `save` wrote; parameters are restored if it has them.

        Parameters
        ----------
        path : str or path
            The file.
        strict : bool, default True
            As for `load_state_dict`.

        Returns
        -------
        plain data or None
            What was given to `save` as ``extra``.

        Raises
        ------
        OSError
            If the file can't be read.
        ValueError
            If the file is damaged, as truncated or with a bit flipped, or not one that an optimizer
            has saved, or doesn't fit this one, for every reason for which `load_state_dict` raises.
            Nothing has changed then.
        TypeError
            If an argument is of the wrong type.
        RuntimeError
            Inside ``with opt.lookahead()`` or ``opt.swap_ema()``.
        MemoryError
            If there is no memory for the file's content, which is read before it is used.

        Notes
        -----
        Whatever a file says, no code runs that it names, and it takes as much memory as it is long,
        and a multiple of its header, which has at most 100 MB.
        """
        return load_file(self, path, strict=flag("strict", strict))
