"""An average of the weights, which is better than the last ones where gradients are noisy.

A linear model is trained on mini-batches of four, so that its weights never come to rest. With
ema_decay the optimizer keeps a moving average of them, updated in the same pass as the step. Inside
`with opt.swap_ema()` the parameters hold that average; behind it they are back.

Two decays are compared: 0.99 all the time, whose average remembers the first weights for long, and
one that starts small and grows to 0.99.

    pip install .    # in the root of the repository
    python examples/averaged_weights.py
"""

import numpy as np
import numpy.typing as npt

import fusedopt

Array = npt.NDArray[np.float64]


def warming_up(step: int) -> float:
    """A decay that suits how many weights there were to average."""
    return min(0.99, (1 + step) / (10 + step))


def main() -> None:
    rng = np.random.default_rng(0)
    true_weights = rng.standard_normal(20)
    x, x_test = rng.standard_normal((2, 2000, 20))
    y = x @ true_weights + rng.standard_normal(2000)
    y_test = x_test @ true_weights

    def test_error(w: Array) -> float:
        return float(np.mean((x_test @ w - y_test) ** 2))

    w, w_fixed = np.zeros(20), np.zeros(20)
    opt = fusedopt.SGD([w], lr=0.02, ema_decay=warming_up)
    opt_fixed = fusedopt.SGD([w_fixed], lr=0.02, ema_decay=0.99)

    print("Mean squared error on test data:")
    print(f"{'step':>6}{'decay':>8}{'last':>10}{'average':>10}{'average, 0.99 from the start':>32}")
    for step in range(1, 2001):
        batch = rng.integers(0, 2000, 4)
        for weights, optimizer in ((w, opt), (w_fixed, opt_fixed)):
            error = x[batch] @ weights - y[batch]
            optimizer.step([x[batch].T @ error / 2])
        if step in (1, 10, 30, 100, 300, 1000, 2000):
            decay = opt.param_groups[0].values_at(step - 1)["ema_decay"]
            last = test_error(w)
            with opt.swap_ema(), opt_fixed.swap_ema():
                averages = f"{test_error(w):10.4f}{test_error(w_fixed):32.4f}"
            print(f"{step:6}{decay:8.3f}{last:10.4f}{averages}")

    # swap_ema exchanges contents: the average is in w, and w's own bits wait in opt.ema.
    before, average = w.copy(), opt.ema[0].copy()
    with opt.swap_ema():
        print("In the block the parameters are the average:", np.array_equal(w, average))
    print("Behind it they are back, bit for bit:", w.tobytes() == before.tobytes())
    print("And so is the average:", opt.ema[0].tobytes() == average.tobytes())


if __name__ == "__main__":
    main()
