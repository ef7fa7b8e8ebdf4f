"""Parameters by name, in groups with hyperparameters of their own.

A small network tells points inside a circle from points outside. First only its last layer is
trained: the weights with weight decay, the bias without. Then the first layer joins as a new group
with a smaller learning rate. (Either the parameters of all groups have names, or of none.)

It is done twice: with the gradients handed over in a dict at each step, and with gradients that are
bound to the optimizer once. Both end at the same bits.

    pip install .    # in the root of the repository
    python examples/groups.py
"""

import numpy as np
import numpy.typing as npt

import fusedopt

Array = npt.NDArray[np.float32]
SHAPES = {"w1": (2, 32), "b1": (32,), "w2": (32,), "b2": (1,)}


def forward(params: dict[str, Array], x: Array) -> tuple[Array, Array]:
    hidden = np.tanh(x @ params["w1"] + params["b1"])
    return hidden, 1 / (1 + np.exp(-hidden @ params["w2"] - params["b2"]))


def backward(params: dict[str, Array], x: Array, y: Array, grads: dict[str, Array]) -> None:
    """Write the gradients of the mean cross-entropy into the arrays of grads."""
    hidden, inside = forward(params, x)
    d_out = (inside - y) / len(y)
    d_hidden = np.outer(d_out, params["w2"]) * (1 - hidden**2)
    grads["w2"][...] = hidden.T @ d_out
    grads["b2"][...] = d_out.sum()
    grads["w1"][...] = x.T @ d_hidden
    grads["b1"][...] = d_hidden.sum(axis=0)


def train(bind: bool) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    params = {k: rng.normal(0, 0.5, shape).astype(np.float32) for k, shape in SHAPES.items()}
    x = rng.uniform(-1, 1, (512, 2)).astype(np.float32)
    y = ((x**2).sum(axis=1) < 0.5).astype(np.float32)
    flat_grad, grads = fusedopt.flat_views(SHAPES)  # one block of memory, and views of it
    hidden, out = [{k: grads[k] for k in layer} for layer in (("w1", "b1"), ("w2", "b2"))]

    groups = [
        {"params": {"w2": params["w2"]}, "weight_decay": 1e-3},
        {"params": {"b2": params["b2"]}, "lr": 0.05},
    ]
    opt = fusedopt.AdamW(groups, lr=0.02, weight_decay=0, grads=out if bind else None)
    for step in range(400):
        if step == 200:
            new = {"params": {k: params[k] for k in hidden}, "lr": 0.01}
            opt.add_param_group(new, grads=hidden if bind else None)
        backward(params, x, y, grads)
        if bind:
            opt.step()  # it knows where the gradients are
        else:
            opt.step(out if step < 200 else grads)  # of just those parameters that it has
        if step in (199, 399):
            correct = np.mean((forward(params, x)[1] > 0.5) == y)
            norm = np.linalg.norm(flat_grad)
            print(f"  after {step + 1} steps: {correct:.1%} correct, norm of gradients {norm:.4f}")
    for k, group in enumerate(opt.param_groups):
        shapes = [p.shape for p in group["params"]]
        print(f"  group {k}: lr {group['lr']}, decay {group['weight_decay']}, shapes {shapes}")
    return params


def main() -> None:
    print("Gradients in a dict at each step:")
    a = train(bind=False)
    print("Gradients bound once:")
    b = train(bind=True)
    print("Same parameters, bit for bit:", all(np.array_equal(a[k], b[k]) for k in SHAPES))


if __name__ == "__main__":
    main()
