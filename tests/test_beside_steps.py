"""Contract: gradients are zeroed before a step or after it, not while it reads them."""

import threading
import time

import numpy as np

import fusedopt


def test_bound_gradients_are_not_zeroed_while_a_step_reads_them() -> None:
    p, g = np.zeros(4_000_000, np.float32), np.empty(4_000_000, np.float32)
    opt = fusedopt.SGD([p], lr=1.0, grads=[g])
    fusedopt.set_num_threads(1)
    together = threading.Barrier(2)

    def step() -> None:
        together.wait()
        opt.step()

    for k in range(30):
        p[:], g[:] = 0, 1
        thread = threading.Thread(target=step)
        thread.start()
        together.wait()
        time.sleep(k % 10 * 3e-4)
        opt.zero_grad()
        thread.join()
        assert p[0] in (0, -1)
        assert (p == p[0]).all()
        assert (g == 0).all()
