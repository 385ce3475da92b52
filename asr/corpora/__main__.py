"""Prepare one corpus.

python -m asr.corpora synth --out /tmp/synth --settings '{"grammar": "sentences", "train": {"hours": 0.1}}'
python -m asr.corpora fsdd --out /tmp/fsdd --settings settings.yaml
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from asr.corpora.preparation import prepare, summary_lines
from asr.corpora.register import REGISTER
from common.errors import UserError, run


def main() -> None:
    """Read the arguments, prepare the corpus, print what it holds."""
    parser = argparse.ArgumentParser(prog="python -m asr.corpora", description="Prepare one corpus.")
    parser.add_argument("name", help="a corpus of the register (config/corpora.yaml)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--settings", default="{}", help="a YAML or JSON file, or JSON text; default: the corpus' own")
    parser.add_argument("--register", type=Path, default=REGISTER, help="the register (default: %(default)s)")
    arguments = parser.parse_args()
    settings, where = read_settings(arguments.settings)
    corpus = prepare(arguments.name, settings, arguments.out, arguments.register, where)
    print("\n".join(summary_lines(corpus)))


def read_settings(argument: str) -> tuple[dict[str, Any], str]:
    """Settings from JSON text (it begins with a brace) or a file, and where they stand, for error messages."""
    inline = argument.lstrip().startswith("{")
    where = "--settings" if inline else argument
    try:
        settings = yaml.safe_load(argument if inline else Path(argument).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--settings: {argument}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{where}: neither YAML nor JSON ({error})") from None
    if not isinstance(settings, dict):
        raise UserError(f"{where}: settings are a mapping of keys to values")
    return settings, where


if __name__ == "__main__":
    sys.exit(run(main))
