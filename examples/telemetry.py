"""What a step did, measured on the way: norms of gradients and updates, and a NaN that is found.

With stats=True a step returns, for each parameter group, the norm of its gradients, of its update
and of its parameters, and how many elements of its gradients aren't finite. With a group for each
layer that says where training goes wrong. Here one gradient is made NaN by hand.

    pip install .    # in the root of the repository
    python examples/telemetry.py
"""

import numpy as np
import numpy.typing as npt

import fusedopt

Array = npt.NDArray[np.float32]

LAYERS = ("hidden", "out")
BAD_STEP = 130


def loss_and_gradients(
    params: dict[str, Array], x: Array, y: Array
) -> tuple[float, dict[str, Array]]:
    """Return the mean squared error of a network with one hidden layer, and its gradients."""
    hidden = np.tanh(x @ params["hidden.weight"] + params["hidden.bias"])
    error = hidden @ params["out.weight"] + params["out.bias"] - y
    d_out = error * np.float32(2 / len(y))
    d_hidden = np.outer(d_out, params["out.weight"]) * (1 - hidden**2)
    gradients = {
        "hidden.weight": x.T @ d_hidden,
        "hidden.bias": d_hidden.sum(axis=0),
        "out.weight": hidden.T @ d_out,
        "out.bias": d_out.sum(keepdims=True),
    }
    return float(np.mean(error**2)), gradients


def main() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (256, 4)).astype(np.float32)
    y = np.sin(x.sum(axis=1))
    params = {
        "hidden.weight": rng.normal(0, 0.5, (4, 64)).astype(np.float32),
        "hidden.bias": np.zeros(64, np.float32),
        "out.weight": rng.normal(0, 0.1, 64).astype(np.float32),
        "out.bias": np.zeros(1, np.float32),
    }
    groups = [
        {"params": {k: p for k, p in params.items() if k.startswith(layer)}} for layer in LAYERS
    ]
    opt = fusedopt.Adam(groups, lr=1e-2)

    heading = f"{'layer':8}{'grad norm':>10}{'update':>9}{'ratio':>9}{'nonfinite':>11}"
    print(f"{'step':>5}{'loss':>9}  {heading}")
    for step in range(301):
        loss, grads = loss_and_gradients(params, x, y)
        if step == BAD_STEP:
            grads["hidden.weight"][2, 7] = np.nan
        result = opt.step(grads, stats=True, on_nonfinite="skip")
        if step % 100 and not result.skipped:
            continue
        for layer, stats in zip(LAYERS, result.stats, strict=True):
            numbers = f"{stats.grad_norm:10.4f}{stats.update_norm:9.4f}{stats.update_ratio:9.2g}"
            print(f"{step:5}{loss:9.4f}  {layer:8}{numbers}{stats.nonfinite:11}")
        if result.skipped:
            print(f"{step:5}  A NaN was found. The step is skipped, and changes nothing.")
    finite = all(np.isfinite(p).all() for p in params.values())
    print(f"301 tries, {opt.completed_steps} completed steps; all parameters are finite: {finite}")
    print("The ratio is update to parameters: often about 0.001 where a learning rate suits.")


if __name__ == "__main__":
    main()
