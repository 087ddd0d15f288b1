"""The scripts for several machines, run with what they call put in its place: each machine is a process here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.machines import ROOT, free_port

VIT = json.dumps({"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2})
RECIPE = ["recipes/transfer.py", "plain", "--data", "synthetic", "--student", "vit_tiny_patch16_224"]
RECIPE += [
    "--student-args",
    VIT,
    "--threat",
    "linf:1/255",
    "--batch-size",
    "32",
    "--test-images",
    "16",
    "--epochs",
    "1",
]
# A job of two nodes, both of which are this machine.
COMMANDS = {
    "scontrol": "echo 127.0.0.1; echo 127.0.0.1",
    "srun": 'for node in 0 1; do SLURM_NODEID=$node "$@" & done; wait -n && wait -n',
    # The name of the machine, and a command for its shell.
    "ssh": 'shift; exec bash -c "$*"',
}


@pytest.fixture
def environment(tmp_path) -> dict[str, str]:
    for name, body in COMMANDS.items():
        file = tmp_path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/usr/bin/env bash\n{body}\n")
        file.chmod(0o755)
    path = f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    told = {"PATH": path, "PORT": str(free_port()), "PRECISION": "no", "ACCELERATE_USE_CPU": "true"}
    told |= {"SLURM_JOB_NODELIST": "node[0-1]", "SLURM_NNODES": "2", "MACHINES": "here there", "ADDRESS": "127.0.0.1"}
    return {**os.environ, **told, "GLOO_SOCKET_IFNAME": "lo"}


@pytest.mark.slow
@pytest.mark.parametrize("script", ["slurm.sh", "ssh.sh"])
def test_two_machines_train_and_go_on(environment, tmp_path, script):
    command = ["bash", f"examples/{script}", str(tmp_path / "run"), *RECIPE]
    for _ in range(2):
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        told = json.loads((tmp_path / "run" / "student" / "config.json").read_text())["robustness"]
        assert told["training"]["hardware"].startswith("2 x (")
