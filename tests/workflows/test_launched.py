"""A training that a launcher starts is the one that starts its own processes."""

import socket
import subprocess
import sys

import pytest

from tests.workflows.commands import ROOT, train, with_systems

BOTH = """  both:
    method: methods.unfolding
    backbone: {layers: 2}
    settings: {depth: 4}
    training: {devices: 2, batch_norm: global, steps: 4}
"""


@pytest.mark.slow
def test_torchrun_as_on_two_machines_gives_the_same_weights(run, tmp_path):
    """Two agents of torchrun, with a process each; the first process alone writes."""
    experiment = with_systems(run, BOTH, tmp_path / "tiny.yaml")
    data, own, launched = run / "data/synth", tmp_path / "own", tmp_path / "launched"
    done = train("both", data, own, experiment)
    assert done.returncode == 0, done.stderr
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    words += ["--master-addr", "127.0.0.1", "--master-port", str(port)]
    command = ["-m", "workflows.train", "--experiment", experiment, "--system", "both", "--data", data]
    command += ["--out", launched]
    agents = [
        subprocess.Popen(
            [*map(str, [*words, "--node-rank", rank, *command])], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        for rank in (0, 1)
    ]
    said = [agent.communicate(timeout=300)[1] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], said
    assert (launched / "model.safetensors").read_bytes() == (own / "model.safetensors").read_bytes()
    assert sum("train 4/4" in line for line in "".join(said).splitlines()) == 2  # losses, and those of the dev set
