"""Settings of the whole library, and what it was built with and runs on."""

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
        ``"threading"``, whether the build has threads; ``"threads"``; ``"flush denormals"``.

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
    lines = {
        "fusedopt": config["version"],
        "compiler": config["compiler"],
        "instruction sets": f"{sets['active']} active"
        f" (available: {', '.join(sets['available'])}; built: {', '.join(sets['built'])})",
        "threading": "on" if config["threading"] else "off: a build without threads",
        "threads": config["threads"],
        "flush denormals": "on" if config["flush denormals"] else "off",
    }
    for name, value in lines.items():
        print(f"{name + ':':18}{value}")
    return None
