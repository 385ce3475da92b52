"""A corpus of one's own, without code: a table, a Kaldi data folder or a lhotse manifest, with splits given or made.

    python -m asr.corpora folder --out /tmp/own --settings '{"source": "/data/recordings.csv"}'

`docs/own_corpus.md` shows the ways. `sources` says what lies at a path; `tables`, `kaldi` and `lhotse_manifests` read
it; `splits` shares it out, and refuses what is in two splits; `sound` reads what libsndfile or FFmpeg can.
"""

from asr.corpora.folder.corpus import check_source, prepare
from asr.corpora.folder.settings import Settings
from asr.corpora.folder.sources import source_files

__all__ = ["Settings", "check_source", "prepare", "source_files"]
