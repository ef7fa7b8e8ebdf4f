"""Gradients in half precision: a loss scale, clipping, and steps that are skipped.

A small network is run in float16, and its parameters are kept in float32. Small gradients vanish in
float16, so the loss is multiplied by a scale. Where the scale is too large, gradients become
infinite: that step is skipped, and LossScaler makes the scale smaller. After some good steps it
tries a larger one. Unscaling, clipping and zeroing the gradients are options of the step.

    pip install .    # in the root of the repository
    python examples/mixed_precision.py
"""

import numpy as np
import numpy.typing as npt

import fusedopt

Params = dict[str, npt.NDArray[np.float32]]
Half = npt.NDArray[np.float16]
MAX_NORM = 0.005


def half_gradients(params: Params, x: Half, y: Half, scale: float) -> tuple[float, dict[str, Half]]:
    """Return the mean squared error, and the gradients of the error times scale, in float16."""
    w1, b1, w2 = (params[k].astype(np.float16) for k in ("w1", "b1", "w2"))
    # What is too large for float16 becomes infinite here. The step finds it.
    with np.errstate(over="ignore", invalid="ignore"):
        hidden = np.tanh(x @ w1 + b1)
        error = hidden @ w2 - y
        d_out = error * np.float16(2 * scale / len(y))
        d_hidden = np.outer(d_out, w2) * (1 - hidden**2)
        grads = {"w1": x.T @ d_hidden, "b1": d_hidden.sum(axis=0), "w2": hidden.T @ d_out}
    return float(np.mean(error.astype(np.float32) ** 2)), grads


def main() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((256, 8)).astype(np.float16)
    y = (0.01 * np.sin(x[:, 0] + x[:, 1])).astype(np.float16)  # small targets, small gradients
    params: Params = {
        "w1": rng.normal(0, 0.3, (8, 32)).astype(np.float32),
        "b1": np.zeros(32, np.float32),
        "w2": rng.normal(0, 0.001, 32).astype(np.float32),
    }
    grads = {name: np.zeros_like(p) for name, p in params.items()}
    opt = fusedopt.Adam(params, lr=1e-3, grads=grads)
    # By default it starts at 65,536 and grows after 2000 good steps. So there is more to see.
    scaler = fusedopt.LossScaler(init_scale=2.0**24, growth_interval=100)

    print(f"{'try':>4}{'loss':>12}{'scale':>12}{'grad norm':>11}  what happened")
    for attempt in range(301):
        scale, losses = scaler.scale, []
        for half in (slice(0, 128), slice(128, 256)):  # two parts of a batch, added up in float32
            loss, half_grads = half_gradients(params, x[half], y[half], scale / 2)
            losses.append(loss)
            for name, gradient in half_grads.items():
                grads[name] += gradient
        result = opt.step(loss_scale=scale, max_norm=MAX_NORM, on_nonfinite="skip", zero_grads=True)
        scaler.update(result)

        what = "skipped" if result.skipped else "stepped"
        what += ", clipped" if result.grad_norm > MAX_NORM else ""
        what += f", scale to {scaler.scale:,.0f}" if scaler.scale != scale else ""
        if what != "stepped" or attempt % 100 == 0:
            norm = result.grad_norm
            print(f"{attempt:4}{np.mean(losses):12.2e}{scale:12,.0f}{norm:11.5f}  {what}")
    print(f"301 tries, {opt.completed_steps} completed steps")

    for scale in (1.0, scaler.scale):
        half_grads = half_gradients(params, x, y, scale)[1]
        zeros = np.mean(np.concatenate([g.ravel() for g in half_grads.values()]) == 0)
        print(f"gradients that vanish in float16, with scale {scale:9,.0f}: {zeros:.0%}")


if __name__ == "__main__":
    main()
