"""Settings of the whole library, and what it was built with and runs on."""

import os
from contextlib import suppress
from typing import Any

from . import _core
from ._hyperparameters import flag, one_of


def get_num_threads() -> int:
    """Return how many threads a step uses at most.

    Starts as the first number in ``OMP_NUM_THREADS`` where that is a list of positive numbers, else
    as the number of CPUs that the process may run on; as 1 in a build without threads. Small steps
    run on the calling thread alone.

    Examples
    --------
    >>> import fusedopt
    >>> fusedopt.get_num_threads() >= 1
    True
    """
    return _core.get_num_threads()


def set_num_threads(num_threads: int) -> None:
    """Set how many threads a step uses at most, for all optimizers of this process.

    Results don't depend on it: they are the same, bit for bit, for any number of threads. A build
    without threads keeps the number and runs on one thread.

    Parameters
    ----------
    num_threads : int
        1 to 1024.

    Raises
    ------
    TypeError
        If it is not an integer.
    ValueError
        If it is out of range.

    Examples
    --------
    >>> import fusedopt
    >>> before = fusedopt.get_num_threads()
    >>> fusedopt.set_num_threads(2)
    >>> fusedopt.get_num_threads()
    2
    >>> fusedopt.set_num_threads(before)
    """
    _core.set_num_threads(num_threads)


_LAYERS = one_of("auto", "pool", "openmp", "serial")


def get_threading_layer() -> str:
    """Return the threading layer that was chosen: ``"auto"`` unless something else was.

    `show_config` tells which one is in effect.

    Examples
    --------
    >>> import fusedopt
    >>> fusedopt.get_threading_layer() in ("auto", "pool", "openmp", "serial")
    True
    """
    return _core.get_threading_layer()


def set_threading_layer(layer: str) -> None:
    """Choose the threads that steps run on, for all optimizers of this process, at any time.

    Results don't depend on it: they are the same, bit for bit, on any layer. The environment
    variable ``FUSEDOPT_THREADING_LAYER`` chooses one at import, where what would be an error here
    is an ImportError.

    Parameters
    ----------
    layer : {"auto", "pool", "openmp", "serial"}
        ``"pool"``: threads of fusedopt's own. A step never waits for one that has yet to start.

        ``"openmp"``: those of the compiler's OpenMP runtime, shared with every library in the
        process that uses the same, as torch does. Better right after one of these has computed,
        and much worse where others keep the cores busy. Brings the runtime where nobody has.

        ``"serial"``: no threads; everything runs on the calling thread.

        ``"auto"``: each thread that steps looks at how long its steps take, and uses the pool where
        that helps, else OpenMP where a library has brought its runtime and that helps, else
        neither. It is the default; ``fusedopt.torch`` makes that ``"openmp"``, if it can be had.

    Raises
    ------
    TypeError
        If it is not a str.
    ValueError
        If it is none of these.
    RuntimeError
        If this process can't have it: the build has none, its runtime isn't found, or the process
        is a fork in which the runtime is loaded already, as it may wait there for ever for threads
        of the parent's. From the environment that is no error, but falls back to the pool.

    Examples
    --------
    >>> import fusedopt
    >>> fusedopt.set_threading_layer("serial")
    >>> fusedopt.set_threading_layer("auto")
    """
    global _layer_was_chosen
    _core.set_threading_layer(_LAYERS("layer", layer))
    _layer_was_chosen = True


#: By a user, in this process or its environment.
_layer_was_chosen = False


def suggest_threading_layer(layer: str) -> None:
    """Choose a layer where no user has chosen one, and this process can have it."""
    if not _layer_was_chosen:
        with suppress(ValueError, RuntimeError):  # as in a build without it: the default stays
            _core.set_threading_layer(_LAYERS("layer", layer))


def set_flush_denormal(mode: bool) -> bool:
    """Choose whether kernels flush subnormal ("denormal") numbers to zero; on by default.

    On, subnormal inputs and results count as zero while a kernel runs (FTZ and DAZ on x86, FZ on
    Arm), on whichever thread it runs; the mode of the processor is put back afterwards, so no other
    code sees it. Arithmetic on subnormals is many times slower on most processors, and a moment
    whose gradient stays zero decays into them and stays there. Off, results are equal to
    `fusedopt.reference` for subnormals too.

    Parameters
    ----------
    mode : bool
        Whether to flush.

    Returns
    -------
    bool
        Whether this machine can flush. Where it can't, the setting has no effect.

    Raises
    ------
    TypeError
        If ``mode`` is not a bool.

    Examples
    --------
    >>> import fusedopt
    >>> supported = fusedopt.set_flush_denormal(False)
    >>> supported = fusedopt.set_flush_denormal(True)  # the default
    """
    return _core.set_flush_denormal(flag("mode", mode))


def show_config(mode: str = "stdout") -> dict[str, Any] | None:
    """Show how the library was built and what it runs on.

    Parameters
    ----------
    mode : {"stdout", "dict"}, default "stdout"
        Whether to print the configuration or to return it.

    Returns
    -------
    dict or None
        With ``mode="dict"``: ``"version"``; ``"compiler"``; ``"instruction sets"``, a dict of those
        ``"built"``, those ``"available"`` on this machine and the one ``"active"``;
        ``"threading"``, whether the build has threads; ``"threading layers"``, a dict of those
        ``"built"``, the one ``"chosen"``, the one ``"active"`` for the calling thread's next step,
        the file of OpenMP's ``"runtime"`` once fusedopt has loaded it, and, where a layer that was
        chosen can't be used any more, why there is a ``"fallback"``; ``"threads"``; ``"flush
        denormals"``.

    Raises
    ------
    TypeError
        If ``mode`` is not a str.
    ValueError
        If it is neither.

    Examples
    --------
    >>> import fusedopt
    >>> config = fusedopt.show_config(mode="dict")
    >>> config["instruction sets"]["active"] in config["instruction sets"]["available"]
    True
    """
    mode = one_of("stdout", "dict")("mode", mode)
    config: dict[str, Any] = {"version": _core.__version__, **_core.config()}
    if mode == "dict":
        return config
    sets = config["instruction sets"]
    layers = config["threading layers"]
    layer = (
        layers["chosen"]
        if layers["chosen"] == layers["active"]
        else (f"{layers['chosen']}, now {layers['active']}")
    )
    lines = {
        "fusedopt": config["version"],
        "compiler": config["compiler"],
        "instruction sets": f"{sets['active']} active"
        f" (available: {', '.join(sets['available'])}; built: {', '.join(sets['built'])})",
        "threading": "on" if config["threading"] else "off: a build without threads",
        "threading layer": f"{layer} (built: {', '.join(layers['built'])})",
        "OpenMP runtime": layers["runtime"] or "not loaded by fusedopt",
        "threads": config["threads"],
        "flush denormals": "on" if config["flush denormals"] else "off",
    }
    if layers["fallback"]:
        lines["fallback"] = layers["fallback"]
    for name, value in lines.items():
        print(f"{name + ':':18}{value}")
    return None


def _apply_environment() -> None:
    """Choose the threading layer that the environment names; an ImportError if it can't be had.

    A worker that is a fork isn't to fail for what its parent has loaded: it falls back.
    """
    variable = "FUSEDOPT_THREADING_LAYER"
    global _layer_was_chosen
    layer = os.environ.get(variable)
    if not layer:
        return
    try:
        _core.set_threading_layer(_LAYERS(variable, layer), even_if_stayed_behind=True)
        _layer_was_chosen = True
    except ValueError as error:
        raise ImportError(str(error)) from None
    except RuntimeError as error:
        raise ImportError(f"{variable}: {error}") from None


_apply_environment()
