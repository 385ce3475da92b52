"""ESPnet's training loop, `Trainer.train_one_epoch`, on its own model, `ESPnetASRModel`, with its own encoder, decoder,
SpecAugment, Adam and warm-up.

ESPnet's trainer imports what draws attention, which needs librosa; nothing is drawn here, and a stand-in takes its
place. ESPnet has bf16 on GPUs only: on a CPU, precision bf16-mixed runs its model under torch's autocast.
"""

import sys
import types
from pathlib import Path

import torch
from espnet2.asr.ctc import CTC
from espnet2.asr.decoder.transformer_decoder import TransformerDecoder
from espnet2.asr.encoder.conformer_encoder import ConformerEncoder
from espnet2.asr.espnet_model import ESPnetASRModel
from espnet2.asr.specaug.specaug import SpecAug
from espnet2.schedulers.warmup_lr import WarmupLR
from espnet2.train.distributed_utils import DistributedOption
from espnet2.train.reporter import Reporter
from speech import argument, turn, utterances

from asr.backbones.conformer import Config, decoder_settings, encoder_settings

sys.modules["espnet2.main_funcs.calculate_all_attentions"] = types.SimpleNamespace(calculate_all_attentions=None)

from espnet2.train.trainer import Trainer, TrainerOptions  # noqa: E402  (the stand-in has to be there)


class InBf16(torch.nn.Module):
    """A model under autocast on a CPU."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model

    def forward(self, **batch: torch.Tensor):
        with torch.autocast("cpu", torch.bfloat16):
            return self.model(**batch)


def build(config: Config, vocabulary: int) -> ESPnetASRModel:
    """The model that ESPnet makes of the same settings."""
    masks = config.spec_augment
    spec_augment = masks and SpecAug(
        apply_time_warp=masks.time_warp_window > 0,
        time_warp_window=masks.time_warp_window,
        freq_mask_width_range=(0, masks.frequency_width),
        num_freq_mask=masks.frequency_masks,
        time_mask_width_range=(0, masks.time_width),
        num_time_mask=masks.time_masks,
    )
    return ESPnetASRModel(
        vocab_size=vocabulary,
        token_list=["<blank>", *map(str, range(vocabulary - 2)), "<sos/eos>"],
        frontend=None,
        specaug=spec_augment,
        normalize=None,
        preencoder=None,
        encoder=ConformerEncoder(config.input_dim, **encoder_settings(config), stochastic_depth_rate=config.layer_drop),
        postencoder=None,
        decoder=TransformerDecoder(vocabulary, config.width, **decoder_settings(config)),
        ctc=CTC(odim=vocabulary, encoder_output_size=config.width),
        joint_network=None,
        ctc_weight=config.ctc_weight,
        lsm_weight=config.label_smoothing,
        report_cer=False,
        report_wer=False,
    )


def options(clip: float, on_gpu: bool, log_every: int) -> TrainerOptions:
    """As a recipe has them, with nothing drawn and nothing written."""
    return TrainerOptions(
        ngpu=int(on_gpu),
        resume=False,
        use_amp=False,
        train_dtype="float32",
        grad_noise=False,
        accum_grad=1,
        grad_clip=clip,
        grad_clip_type=2.0,
        log_interval=log_every,
        no_forward_run=False,
        use_matplotlib=False,
        use_tensorboard=False,
        use_wandb=False,
        adapter="",
        use_adapter=False,
        save_strategy="all",
        output_dir=Path("."),
        max_epoch=1,
        seed=0,
        sharded_ddp=False,
        patience=None,
        keep_nbest_models=1,
        nbest_averaging_interval=0,
        early_stopping_criterion=("valid", "loss", "min"),
        best_model_criterion=(("valid", "loss", "min"),),
        val_scheduler_criterion=("valid", "loss"),
        unused_parameters=False,
        wandb_model_log_interval=-1,
        create_graph_in_tensorboard=False,
        gradient_as_bucket_view=True,
        ddp_comm_hook=None,
    )


def main() -> None:
    given = argument()
    on_gpu, bf16 = given["device"] == "cuda", given["precision"] == "bf16-mixed"
    model = build(Config(**given["backbone"]["settings"]), given["vocabulary"]).to(given["device"])
    adam = given["training"].get("optimiser", {})
    optimiser = torch.optim.Adam(model.parameters(), lr=adam.get("learning_rate", 2e-3), betas=(0.9, 0.98))
    scheduler = WarmupLR(optimiser, warmup_steps=25000)
    inputs, lengths, labels, label_lengths = utterances(given)
    batch = {"speech": inputs, "speech_lengths": lengths, "text": labels, "text_lengths": label_lengths}
    take_turn = turn(given)

    def batches():
        while True:
            yield [str(number) for number in range(len(lengths))], dict(batch)
            take_turn()

    reporter = Reporter()
    reporter.set_epoch(1)
    with reporter.observe("train") as part:
        Trainer.train_one_epoch(
            model=InBf16(model) if bf16 and not on_gpu else model,
            iterator=batches(),
            optimizers=[optimiser],
            schedulers=[scheduler],
            scaler=torch.amp.GradScaler("cuda") if bf16 and on_gpu else None,
            reporter=part,
            summary_writer=None,
            options=options(adam.get("clip_norm", 5.0), on_gpu, given["training"].get("log_every", 50)),
            distributed_option=DistributedOption(),
        )


if __name__ == "__main__":
    main()
