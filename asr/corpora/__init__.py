"""Corpora: named sets of recordings, prepared into lhotse cuts that every later step reads.

Each corpus is one module with pydantic `Settings` and `prepare(settings, entry, folder) -> {set name: utterances}`;
it is registered in `config/corpora.yaml`, which says where the data comes from and under which licence. This
package looks the module up, checks what it yields, and writes what the rest of the project reads. It never imports
torch.

    python -m asr.corpora synth --out /tmp/synth
"""

from asr.corpora.manifests import iterate_cuts, read_cuts, write_cuts
from asr.corpora.preparation import check_source, prepare, settings_of
from asr.corpora.register import REGISTER, Entry, look_up
from asr.corpora.utterances import Utterance, read_audio

__all__ = [
    "REGISTER",
    "Entry",
    "Utterance",
    "check_source",
    "iterate_cuts",
    "look_up",
    "prepare",
    "read_audio",
    "read_cuts",
    "settings_of",
    "write_cuts",
]
