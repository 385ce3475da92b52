"""What is promised of a training done twice: on one machine, with one number of threads, the same seed gives the same
bytes, whoever reads the batches. Another processor adds up in another order, and another seed is another training."""

from tests.workflows.commands import ROOT, TINY, command, train


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(run, tmp_path):
    read_ahead = tmp_path / "tiny.yaml"
    read_ahead.write_text((ROOT / TINY).read_text().replace("  log_every: 2\n", "  log_every: 2\n  workers: 2\n", 1))
    done = train("f2", run / "data/synth", tmp_path / "again", read_ahead)
    assert done.returncode == 0, done.stderr
    again, first = (path / "model.safetensors" for path in (tmp_path / "again", run / "systems/f2/seed0"))
    assert again.read_bytes() == first.read_bytes()
    arguments = ["--experiment", TINY, "--system", "f2", "--seed", 1, "--data", run / "data/synth"]
    other = command("workflows.train", *arguments, "--out", tmp_path / "other")
    assert other.returncode == 0, other.stderr
    assert (tmp_path / "other" / "model.safetensors").read_bytes() != first.read_bytes()
