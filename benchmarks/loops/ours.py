"""Our training loop, `asr.training.run_stage`, on a method: of this commit or of an earlier one, whichever code Python
finds first."""

import itertools
import tempfile
from pathlib import Path

from speech import argument, turn, utterances

from asr.backbones import BackboneFactory, Batch
from asr.settings import TrainingSettings
from asr.training import StageData, make_fabric, run_stage
from methods.contract import Step, make_method

NEVER = 10**9


class Objective:
    """A method as the loop's objective; the end of a step is where it takes turns."""

    def __init__(self, method, stage, take_turn):
        self.method, self.stage, self.take_turn = method, stage, take_turn
        self.known = {"steps": stage.training.steps} if "steps" in Step.__dataclass_fields__ else {}

    def losses(self, module, batch, index, *place):
        return self.method.losses(module, batch, Step(self.stage.name, index, 0, place[-1], **self.known))

    def after_step(self, module, index):
        self.method.after_step(module, Step(self.stage.name, index, 0, **self.known))
        self.take_turn()

    def selection_term(self, terms):
        return self.method.selection_term(terms)

    def parameter_groups(self, module):
        return self.method.parameter_groups(module, self.stage)


def main() -> None:
    given = argument()
    rare = {"validate_every": NEVER, "checkpoint_every": NEVER, "tensorboard": False, "steps": NEVER - 1}
    settings = TrainingSettings(**{**given["training"], **rare, "precision": given["precision"]})
    fabric = make_fabric(settings)
    backbone = BackboneFactory(**given["backbone"], vocabulary=given["vocabulary"])
    method = make_method(given["method"], given["settings"], backbone)
    stage = method.stages(settings)[0]
    module = method.begin_stage(method.build().to(fabric.device), stage, iter(()))
    inputs, lengths, labels, label_lengths = utterances(given)
    batch = Batch(tuple(map(str, range(len(lengths)))), inputs, lengths, labels, label_lengths).to(fabric.device)
    data = StageData(lambda *_: itertools.repeat(batch), lambda: iter(()))
    objective = Objective(method, stage, turn(given))
    with tempfile.TemporaryDirectory() as folder:
        run_stage(fabric, module, objective, data, stage.training, 0, Path(folder), {}, stage.name)


if __name__ == "__main__":
    main()
