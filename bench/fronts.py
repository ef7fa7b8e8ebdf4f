"""Training as the users of other libraries do it, with their optimizers and with ours.

    pip install '.[peers]'
    python bench/fronts.py            # some ten minutes
    python bench/fronts.py --quick    # seconds: that all of it runs
    python bench/fronts.py jax        # of one library

Both sides take turns, and a ratio is the median over the rounds: how many times as long theirs
takes, the optimizer's part alone and the whole of it, and of that how much the part is with theirs.
A table in docs/performance.md is made of what this prints.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

#: The layers of networks, and how many examples they see at once.
NETWORKS = {
    "8-16-1": ((8, 16, 1), 16),
    "64-128-10": ((64, 128, 10), 64),
    "784-200-100-10": ((784, 200, 100, 10), 64),
    "512-1024-1024-10": ((512, 1024, 1024, 10), 64),
}


@dataclass
class Taken:
    """How many seconds an iteration took, and the optimizer's part of it."""

    part: float
    whole: float


Run = Callable[[], Taken]


class Clock:
    """How long calls took, while they are timed."""

    def __init__(self) -> None:
        self.calls, self.seconds = 0, 0.0

    @contextmanager
    def of(self, owner: Any, name: str) -> Iterator[None]:
        plain = getattr(owner, name)

        def timed(*arguments: Any, **named: Any) -> Any:
            begin = time.perf_counter()
            result = plain(*arguments, **named)
            self.seconds += time.perf_counter() - begin
            self.calls += 1
            return result

        setattr(owner, name, timed)
        try:
            yield
        finally:
            setattr(owner, name, plain)


def seconds_of(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def show(what: str, theirs: Run, ours: Run, rounds: int) -> None:
    for run in (theirs, ours):
        run()
    pairs = [(theirs(), ours()) for _ in range(rounds)]
    part = statistics.median(a.part / b.part for a, b in pairs)
    whole = statistics.median(a.whole / b.whole for a, b in pairs)
    share = statistics.median(a.part / a.whole for a, _ in pairs)
    each = [1e6 * statistics.median(pair[k].part for pair in pairs) for k in (0, 1)]
    print(
        f"| {what} | {each[0]:,.1f} µs | {each[1]:,.1f} µs | {part:.2f} | {share:.0%} "
        f"| {whole:.2f} |",
        flush=True,
    )


def weights_of(sizes: tuple[int, ...], dtype: Any) -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(0)
    return [
        (np.asarray(rng.normal(size=(m, n)) / m**0.5, dtype), np.zeros(n, dtype))
        for m, n in pairwise(sizes)
    ]


def batch_of(sizes: tuple[int, ...], count: int, dtype: Any) -> tuple[Any, Any]:
    rng = np.random.default_rng(1)
    x = np.asarray(rng.normal(size=(count, sizes[0])), dtype)
    return x, np.tanh(x[:, :1] @ np.ones((1, sizes[-1]), dtype))


def some_of(iterations: int, sizes: tuple[int, ...]) -> int:
    return max(1, iterations // (10 if sizes[1] > 1000 else 1))


def thinc(iterations: int, rounds: int) -> None:
    from thinc import api, optimizers

    import fusedopt.thinc

    def run(module: Any, rule: str, sizes: tuple[int, ...], count: int) -> Taken:
        x, y = batch_of(sizes, count, np.float32)
        layers = [api.Relu(n, m) for m, n in pairwise(sizes[:-1])]
        model = api.chain(*layers, api.Linear(sizes[-1], sizes[-2])).initialize()
        optimizer = getattr(module, rule)(0.001, L2=0.01)
        clock = Clock()

        def update() -> None:
            guesses, backprop = model.begin_update(x)
            backprop(guesses - y)
            model.finish_update(optimizer)
            optimizer.step_schedules()

        update()
        update()  # after thinc's own first step ours takes over its state
        with clock.of(type(optimizer), "__call__"):
            whole = seconds_of(lambda: [update() for _ in range(iterations)])
        return Taken(clock.seconds / iterations, whole / iterations)

    for name, network in NETWORKS.items():
        for rule in ("Adam", "SGD"):
            sides = (partial(run, side, rule, *network) for side in (optimizers, fusedopt.thinc))
            show(f"thinc, {rule}, {name}", *sides, rounds)


def sklearn(iterations: int, rounds: int) -> None:
    from sklearn import neural_network
    from sklearn.datasets import load_digits
    from sklearn.neural_network import _stochastic_optimizers as theirs

    import fusedopt.sklearn as front

    warnings.filterwarnings("ignore", category=UserWarning)  # that it hasn't converged
    x, y = load_digits(return_X_y=True)
    data = np.asarray(x / 16, np.float32)

    def run(module: Any, optimizer: Any, solver: str, hidden: tuple[int, ...]) -> Taken:
        epochs = max(1, iterations // (200 if hidden[0] == 1000 else 10))
        model = module.MLPClassifier(hidden, solver=solver, max_iter=epochs, random_state=0)
        clock = Clock()
        with clock.of(optimizer, "update_params"):
            whole = seconds_of(lambda: model.fit(data, y))
        return Taken(clock.seconds / clock.calls, whole / clock.calls)

    kinds = {
        "adam": (theirs.AdamOptimizer, front._Adam),
        "sgd": (theirs.SGDOptimizer, front._SGD),
    }
    for hidden in ((10,), (100,), (256, 256), (1000, 1000)):
        for solver, (their_kind, own) in kinds.items():
            show(
                f"scikit-learn, {solver}, 64-{'-'.join(map(str, hidden))}-10",
                partial(run, neural_network, their_kind, solver, hidden),
                partial(run, front, own, solver, hidden),
                rounds,
            )


def autograd(iterations: int, rounds: int) -> None:
    import autograd.numpy as anp
    from autograd import grad
    from autograd.misc import optimizers

    import fusedopt.autograd

    def run(module: Any, rule: str, sizes: tuple[int, ...], count: int) -> Taken:
        x, y = batch_of(sizes, count, np.float64)

        def loss(params: Any, _: int) -> Any:
            found = x
            for weight, bias in params[:-1]:
                found = anp.tanh(found @ weight + bias)
            weight, bias = params[-1]
            return anp.mean((found @ weight + bias - y) ** 2)

        start = weights_of(sizes, np.float64)
        fixed = grad(loss)(start, 0)
        minimize, some = getattr(module, rule), some_of(iterations, sizes)
        part = seconds_of(lambda: minimize(lambda x, i: fixed, start, num_iters=some))
        whole = seconds_of(lambda: minimize(grad(loss), start, num_iters=some))
        return Taken(part / some, whole / some)

    for name, network in NETWORKS.items():
        for rule in ("adam", "sgd"):
            sides = (partial(run, side, rule, *network) for side in (optimizers, fusedopt.autograd))
            show(f"autograd, {rule}, {name}", *sides, rounds)


def jax(iterations: int, rounds: int) -> None:
    import jax
    import jax.numpy as jnp
    import optax

    import fusedopt.jax

    theirs = optax.adamw(1e-3, weight_decay=0.01)

    def their_step(params: Any, grads: Any, state: Any) -> Any:
        updates, state = theirs.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    def compiled(step: Any, gradients: Any, how: str, some: int) -> Any:
        def one(params: Any, state: Any) -> Any:
            return step(params, gradients(params), state)

        def all_of_them(*begin: Any) -> Any:
            return jax.lax.scan(lambda carried, _: (one(*carried), None), begin, length=some)[0]

        if how == "in a scan":
            return jax.jit(all_of_them)
        return jax.jit(one, donate_argnums=(0, 1) if how == "donated" else ())

    def runs_of(init: Any, step: Any, how: str, sizes: tuple[int, ...], count: int) -> Run:
        x, y = batch_of(sizes, count, np.float32)

        def loss(params: Any) -> Any:
            found = x
            for weight, bias in params[:-1]:
                found = jnp.tanh(found @ weight + bias)
            weight, bias = params[-1]
            return jnp.mean((found @ weight + bias - y) ** 2)

        start, some = weights_of(sizes, np.float32), some_of(iterations, sizes)
        fixed = jax.jit(jax.grad(loss))(start)
        functions = [
            compiled(step, gradients, how, some) for gradients in (lambda _: fixed, jax.grad(loss))
        ]

        def taken(function: Any) -> float:
            params = jax.tree.map(jnp.array, start)
            both = jax.block_until_ready(function(params, init(params)))

            def steps() -> None:
                nonlocal both
                for _ in range(1 if how == "in a scan" else some):
                    both = function(*both)
                jax.block_until_ready(both)

            return seconds_of(steps) / some

        return lambda: Taken(*map(taken, functions))

    ours = fusedopt.jax.adamw(1e-3)
    for name, network in NETWORKS.items():
        for how in ("donated", "in a scan", "kept"):
            sides = [(theirs.init, their_step), (ours.init, ours.step)]
            runs = (runs_of(*side, how, *network) for side in sides)
            show(f"JAX, AdamW, {name}, {how}", *runs, rounds)


LIBRARIES = {"thinc": thinc, "sklearn": sklearn, "autograd": autograd, "jax": jax}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("libraries", nargs="*", metavar="library", choices=[[], *LIBRARIES])
    parser.add_argument("--quick", action="store_true", help="only see that all of it runs")
    arguments = parser.parse_args()
    iterations, rounds = (10, 1) if arguments.quick else (500, 7)
    print("| what | a step by theirs | by ours | the part | its share | the whole |")
    print("|---|--:|--:|--:|--:|--:|")
    for name in arguments.libraries or LIBRARIES:
        LIBRARIES[name](iterations, rounds)


if __name__ == "__main__":
    main()
