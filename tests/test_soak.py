"""Contract: nothing grows, whatever happens, and what fails or is skipped keeps no memory.

The soak takes as long as it is told: ``FUSEDOPT_SOAK_MINUTES=10 pytest tests/test_soak.py``, or
``python tests/soak.py --minutes 10``. By default it is ten seconds here.
"""

import os
import sys

import pytest

from subprocesses import output_of, run_python

if sys.platform != "linux":
    pytest.skip("reads /proc", allow_module_level=True)

import soak

MINUTES = os.environ.get("FUSEDOPT_SOAK_MINUTES", "0.17")


def test_everything_at_once_and_nothing_grows() -> None:
    code = "import sys, soak; sys.argv = ['soak', '--minutes', sys.argv[1]]; soak.main()"
    done = run_python(code, MINUTES, timeout=60 * float(MINUTES) + 300)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)


@pytest.mark.parametrize("name", soak.MARGINS)
def test_what_grows_is_seen(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Twice as much of anything, or one descriptor, in the last part of the time."""
    steady = {"resident MiB": 60.0, "virtual MiB": 900.0, "blocks": 180_000.0}
    steady |= {"descriptors": 6.0, "threads": 14.0, "files": 0.0}
    samples = [dict(steady) for _ in range(20)]
    assert soak.grown(samples) == []
    for late in samples[15:]:
        late[name] = late[name] * 2 + 1
    (complaint,) = soak.grown(samples)
    assert complaint.startswith(f"{name} grew from")


# A large state that is made, and unmade untouched, is not in the memory that is resident.
VIRTUAL_MEMORY = """
import sys
import numpy as np
import fusedopt
from subprocesses import own_memory

def virtual():
    return own_memory("VmSize") / (1 << 20)

n = 1_000_000
p = np.ones(n, np.float32)
bad = np.full(n, np.nan, np.float32)
def make():
    return fusedopt.Adam([p], amsgrad=True, ema_decay=0.9, state_dir=sys.argv[2] or None)
opt = make()
def refused(kind, action):
    try:
        action()
    except kind:
        return
    raise AssertionError("no error")
def skip():
    assert opt.step([bad], on_nonfinite="skip").skipped
def fail():
    refused(FloatingPointError, lambda: opt.step([bad], on_nonfinite="raise"))
def fail_early():
    refused(TypeError, lambda: opt.step([bad.astype(float)]))
def add():
    new = np.ones(n, np.float32)
    refused(ValueError, lambda: opt.add_param_group({"params": [new, new[1:]]}))
    refused(ValueError, lambda: opt.add_param_group({"params": [new], "lr": -1}))
def load():
    state = {"param_groups": opt.state_dict()["param_groups"], "completed_steps": 1, "state": {0: {
        "step": 1, "exp_avg": bad, "exp_avg_sq": bad, "max_exp_avg_sq": bad[1:]}}}
    refused(ValueError, lambda: opt.load_state_dict(state))
def away():
    make().step([p * 0])
action = globals()[sys.argv[1]]
for _ in range(5):
    action()
before = virtual()
for _ in range(int(sys.argv[3])):
    action()
assert opt.completed_steps == 0 and not opt.state[0]
print(virtual() - before < 16, virtual() - before)
"""


@pytest.mark.parametrize("in_files", [False, True])
@pytest.mark.parametrize("action", ["skip", "fail", "fail_early", "add", "load", "away"])
def test_many_times_keep_no_memory(action: str, in_files: bool, tmp_path: object) -> None:
    """Each time 16 MB of state: 3 GB, or in files 300 MB, if it weren't given back."""
    folder, times = (str(tmp_path), "20") if in_files else ("", "200")
    assert output_of(VIRTUAL_MEMORY, action, folder, times).startswith("True")


LAID_OUT_ANEW = """
import numpy as np
import fusedopt
from subprocesses import own_memory
opt = fusedopt.Adam([np.ones(3), np.ones(3, np.float32), np.ones(2)], lr=0.01)
grads = [np.ones(3), np.ones(3, np.float32), np.ones(2)]
forms = [grads, [None, *grads[1:]], [*grads[:1], None, None]]
def steps(count):
    for k in range(count):
        opt.step(forms[k % 3])
steps(300)
before = own_memory("VmRSS")
steps(9000)
print(own_memory("VmRSS") - before < 1 << 20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_steps_that_lay_all_out_anew_keep_nothing_of_the_last() -> None:
    assert output_of(LAID_OUT_ANEW) == "True"
