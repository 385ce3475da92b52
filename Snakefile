# From speech to tables: one experiment, chosen by --config experiment=NAME (default: smoke).
#
#   snakemake --cores all                            run it
#   snakemake -n                                     show what would run
#   snakemake -n --config experiment=smoke_real      another experiment, config/smoke_real.yaml

import sys

from snakemake.utils import min_version

min_version("9.14.8")
sys.path.insert(0, workflow.basedir)

from common.errors import UserError
from workflows.edges import Edges, all_cores, use_this_python
from workflows.experiment import experiment_files, load_experiment
from workflows.sources import files_hash, sources_hash

use_this_python()
EXPERIMENT = str(config.get("experiment", "smoke"))
try:
    experiment = load_experiment(EXPERIMENT)
except UserError as error:
    sys.exit(f"error: {error}")

RESULTS = f"{config.get('results', 'results')}/{experiment.name}"
edges = Edges(experiment, RESULTS)
methods_used = sorted({entry.method for entry in experiment.systems.values()})


pathvars:
    results=RESULTS,
    data=f"{RESULTS}/data/{experiment.corpus.name}",


wildcard_constraints:
    system="|".join(experiment.systems),
    seed=r"\d+",


include: "workflows/rules/data.smk"
include: "workflows/rules/systems.smk"
include: "workflows/rules/analysis.smk"


rule all:
    default_target: True
    input:
        "<results>/RESULTS.md",
        "<results>/report.html",
