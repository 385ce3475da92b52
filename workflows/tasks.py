"""Under SLURM, a training on several devices is several tasks of one job: srun starts one for each.

A job of SLURM runs its command once. A command that needs more calls `start_tasks`, which runs it again under srun, as
so many tasks, in the place of this process; Lightning Fabric then finds the others by SLURM's variables. Without SLURM
nothing happens here: Fabric starts the processes itself.
"""

import os
import sys


def start_tasks(count: int, cpus: int) -> None:
    """Run this command as `count` tasks with so many CPUs each, on one node, where it is a job of SLURM and not yet one
    of its tasks; otherwise return. A task that fails ends the others."""
    if count == 1 or "SLURM_JOB_ID" not in os.environ or "SLURM_STEP_ID" in os.environ:
        return
    shape = ["--nodes=1", f"--ntasks={count}", f"--ntasks-per-node={count}", f"--cpus-per-task={cpus}"]
    command = [sys.executable, *sys.orig_argv[1:]]
    os.execvp("srun", ["srun", *shape, "--kill-on-bad-exit=1", *command])
