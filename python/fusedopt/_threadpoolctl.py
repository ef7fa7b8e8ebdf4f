"""threadpoolctl sees how many threads fusedopt uses, and limits them, beside those of others."""

from threadpoolctl import LibController, register

from . import _core


class Controller(LibController):
    """The library that has our threads, for ``threadpool_info`` and ``threadpool_limits``."""

    user_api = "fusedopt"
    internal_api = "fusedopt"
    # Others have a library of this name, too; none has this symbol.
    filename_prefixes = ("_core.",)
    check_symbols = ("fusedopt_core",)

    def get_version(self) -> str:
        """Return fusedopt's version."""
        return _core.__version__

    def get_num_threads(self) -> int:
        """Return how many threads a step uses at most."""
        return _core.get_num_threads()

    def set_num_threads(self, num_threads: int) -> None:
        """Set it, for the whole process: to the nearest number that may be, as others do."""
        _core.set_num_threads(min(max(num_threads, 1), 1024))

    def set_additional_attributes(self) -> None:
        """Tell the threading layer, as is done for BLAS."""
        self.threading_layer = _core.config()["threading layers"]["active"]


register(Controller)
