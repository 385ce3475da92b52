"""Batches read ahead of who wants them, by processes of their own.

Which examples form which batch is decided by the process that wants them (`BatchOrder`, a function of seed and
position). A worker, one of torch's `DataLoader`, gets a batch's examples as places in a file and sends back what
`Reader` makes of them; batches come in their order. So they are the same to the bit whatever the number of workers, and
a worker's memory does not grow with the corpus.

Workers are forked from a server that has imported what they need and nothing else (multiprocessing's `forkserver`).
Forked from the training process they would inherit its CUDA context, its threads' locks and a copy of its memory;
spawned ones would each import torch, which takes seconds and as much memory again.
"""

import multiprocessing
import multiprocessing.connection
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch.utils.data import DataLoader, Dataset

from asr.backbones import Batch
from asr.batches import Read, Reader, SpeechSet
from asr.examples import Wanted
from asr.settings import TrainingSettings
from common.errors import UserError


def load(
    speech: SpeechSet,
    batches: Iterable[Sequence[int]],
    device: torch.device,
    labelled: bool,
    settings: TrainingSettings,
) -> Iterator[Batch]:
    """The batches of these examples of a set, in this order, on `device`, read ahead as the settings say.

    On a GPU they come through pinned memory, and nothing waits for their copies. The random state of this process is
    left as it is. Raises `UserError` where a batch cannot be read, when it is its turn, and when a worker was killed.
    """
    reading = _Reading(speech.reader, labelled, device.type == "cpu" or settings.features_on == "workers")
    loader = DataLoader(
        reading,
        batch_size=None,  # the sampler gives whole batches
        sampler=map(speech.examples.wanted, batches),
        num_workers=settings.workers,
        collate_fn=_as_it_is,
        pin_memory=device.type == "cuda",
        prefetch_factor=settings.prefetch if settings.workers else None,
        multiprocessing_context=_server() if settings.workers else None,
        worker_init_fn=_end_with_the_training,
        generator=torch.Generator(),  # or it would draw a seed for its workers from the global one
    )
    read = iter(loader)
    while True:
        try:
            found = next(read, None)
        except (RuntimeError, EOFError, ConnectionError) as error:
            said = "DataLoader worker" in str(error) and "exited unexpectedly" in str(error)
            if isinstance(error, RuntimeError) and not said:  # others: it was killed while it sent a batch
                raise
            raise UserError(
                f"a process that reads batches was killed, often for want of memory (training.workers is "
                f"{settings.workers}, training.prefetch {settings.prefetch}; batches pass through /dev/shm); "
                "start the training again: it goes on from its last checkpoint"
            ) from None
        if found is None:
            return
        if isinstance(found, UserError):
            raise found
        yield speech.reader.finish(found, device)


class _Reading(Dataset):
    """What a worker does with each batch. What is wrong with it is handed on: raised there, it would come out with
    torch's account of the worker around it."""

    def __init__(self, reader: Reader, labelled: bool, make_features: bool):
        self.reader, self.labelled, self.make_features = reader, labelled, make_features

    def __getitem__(self, wanted: list[Wanted]) -> Read | UserError:
        try:
            return self.reader.read(wanted, self.labelled, self.make_features)
        except UserError as error:
            return error


def _as_it_is(read: Read | UserError) -> Read | UserError:
    return read


def _end_with_the_training(_: int) -> None:
    """In a worker: go when the process that wants the batches has gone, also when it was killed. torch looks at the
    worker's own parent, which is the server, and the server stays for as long as there are workers."""

    def watch(process: int) -> None:
        multiprocessing.connection.wait([process])
        os._exit(1)

    parent = multiprocessing.parent_process()
    threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()


def _server() -> multiprocessing.context.BaseContext:
    """The server that workers are forked from; it starts with the first of them. A worker runs the imports of the main
    module once more, so the server has done them."""
    context = multiprocessing.get_context("forkserver")
    used = {getattr(value, "__module__", None) for value in vars(sys.modules["__main__"]).values()}
    context.set_forkserver_preload([__name__, *sorted(name for name in used if name not in (None, "__main__"))])
    return context
