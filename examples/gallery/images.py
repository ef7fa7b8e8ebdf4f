"""Images to train on: CIFAR-10 from a folder, or the digits that come with scikit-learn.

They are in NCHW, with pixels from -1 to 1; their classes are 0 to 9.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from network import Images, load_data

# What a batch of CIFAR-10 is made of. A pickle may name any function of any module, to be called
# as it is loaded; one that names another than these is refused.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"): ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"): ("numpy", "ndarray"),
    ("numpy", "dtype"): ("numpy", "dtype"),
    ("_codecs", "encode"): ("_codecs", "encode"),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"a batch of CIFAR-10 has no {module}.{name} in it")
        return super().find_class(*_ALLOWED[module, name])


def _batch(path: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    with path.open("rb") as file:
        content = _Unpickler(file, encoding="bytes").load()
    pixels, labels = np.asarray(content[b"data"]), np.asarray(content[b"labels"], np.int64)
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), 3 * 32 * 32):
        raise ValueError(f"{path}: expected rows of 3,072 bytes, one for each label")
    return _scaled(pixels.reshape(-1, 3, 32, 32), 255), labels


def _scaled(pixels: npt.NDArray[Any], brightest: float) -> npt.NDArray[np.float32]:
    return (pixels.astype(np.float32) - np.float32(brightest / 2)) / np.float32(brightest / 2)


def load_cifar(folder: Path) -> Images:
    """Load "CIFAR-10 python version", unpacked: five batches to train on, and one for the test.

    A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """
    batches = [_batch(folder / f"data_batch_{k}") for k in range(1, 6)]
    images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return Images(images, labels, *_batch(folder / "test_batch"))


def load_digits() -> Images:
    """Load 1,797 handwritten digits of 8x8 pixels; a quarter is for the test."""
    digits = load_data()
    return digits._replace(
        train_images=_scaled(digits.train_images.reshape(-1, 1, 8, 8), 1),
        test_images=_scaled(digits.test_images.reshape(-1, 1, 8, 8), 1),
    )
