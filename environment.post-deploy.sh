#!/usr/bin/env bash
# With `snakemake --sdm conda` the rules run in an environment made from environment.yml; this fills it as `make setup` fills .venv.
set -euo pipefail
python -m pip install --quiet torch -c requirements.lock
python -m pip install --quiet --no-deps -r requirements.lock
