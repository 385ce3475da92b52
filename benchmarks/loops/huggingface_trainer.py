"""Hugging Face's `Trainer` on `Wav2Vec2ForCTC`, with its own defaults: AdamW, linear decay, clipping, log."""

import tempfile

import torch
from speech import argument, turn, utterances
from transformers import Trainer, TrainerCallback, TrainingArguments, Wav2Vec2Config, Wav2Vec2ForCTC

from asr.backbones.wav2vec2 import Config

MANY = 10**6


class AtTheEndOfAStep(TrainerCallback):
    def __init__(self, take_turn):
        self.take_turn = take_turn

    def on_step_end(self, *_, **__):
        self.take_turn()


def main() -> None:
    given = argument()
    config = Config(**given["backbone"]["settings"])
    model = Wav2Vec2ForCTC(Wav2Vec2Config(**config.transformers_settings(given["vocabulary"])))
    inputs, _, labels, _ = utterances(given)
    batch = {"input_values": inputs, "labels": labels.masked_fill(labels < 0, -100)}
    optimiser = given["training"].get("optimiser", {})
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=MANY,
            per_device_train_batch_size=len(inputs),
            learning_rate=optimiser.get("learning_rate", 5e-5),
            max_grad_norm=optimiser.get("clip_norm", 1.0),
            logging_steps=given["training"].get("log_every", 50),
            bf16=given["precision"] == "bf16-mixed",
            use_cpu=given["device"] == "cpu",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        trainer = Trainer(
            model,
            arguments,
            data_collator=lambda _: {name: value.clone() for name, value in batch.items()},
            train_dataset=torch.utils.data.TensorDataset(torch.arange(1000 * len(inputs))),
            callbacks=[AtTheEndOfAStep(turn(given))],
        )
        trainer.train()


if __name__ == "__main__":
    main()
