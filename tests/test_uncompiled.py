"""torch's optimizers do what they do without its compiler, and with it where somebody compiles."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

STEPS = """
import sys
import torch
from lth_runner.uncompiled import leave_compiler_out

if {leave_out}:
    leave_compiler_out()
    leave_compiler_out()  # again for the next point of a sweep
kinds = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop)

def train(step_of):
    found = []
    for kind in kinds:
        torch.manual_seed(0)
        weights = torch.nn.Parameter(torch.randn(4))
        optimizer = kind([weights], lr=0.1)
        step = step_of(optimizer)
        for _ in range(3):
            optimizer.zero_grad()
            weights.pow(2).sum().backward()
            step()
        optimizer.load_state_dict(optimizer.state_dict())
        assert torch.is_grad_enabled()
        found.append(weights.tolist())
    return found

plain = train(lambda optimizer: optimizer.step)
print("torch._dynamo" in sys.modules)
import torch._dynamo
calls = []
torch._dynamo.graph_break = lambda: calls.append(1)  # what torch's own step calls, twice
print(train(lambda optimizer: optimizer.step) == plain, len(calls))
print(plain)
"""


def python(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_steps_are_the_same_and_torchs_own_once_the_compiler_is_loaded() -> None:
    stock, ours = (python(STEPS.format(leave_out=leave_out)) for leave_out in (False, True))
    assert ours[0] == "False"
    assert ours[1:] == stock[1:]
    assert ours[1] == "True 24"


def test_the_first_step_waits_for_no_compiler_and_no_report(tmp_path: Path) -> None:
    heavy = ["torch._dynamo", "sympy", "sklearn", "scipy", "matplotlib", "torchvision"]
    arguments = ["+scale=smoke", "dataset=digits", "record=local", f"paths.outputs={tmp_path}"]
    said = python(f"""
import sys
from lth_runner import cli, launch

def stopped(*arguments):  # some steps have been timed by then
    print([name for name in {heavy} if name in sys.modules])
    sys.exit()

launch.run = stopped
sys.argv[1:] = {arguments}
cli.main()
""")
    assert "[]" in said, said
