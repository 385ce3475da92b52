# From speech to tables: one experiment, chosen by --config experiment=NAME (default: smoke).
#
#   snakemake --cores all                            run it
#   snakemake -n                                     show what would run
#   snakemake -n --config experiment=smoke_real      another experiment, config/smoke_real.yaml
#   snakemake -n --config only=table1,sisters        tables, figures, parts that have a name, all; or systems=f6,a12
#   snakemake -n --config seeds=0 fresh=1            some seeds alone; what is asked for is trained anew

import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.14.8")
sys.path.insert(0, workflow.basedir)

from common.errors import UserError
from workflows.edges import Edges, all_cores, runs_under_slurm, use_this_python
from workflows.part import as_words, chosen_part
from workflows.runnable import load_runnable
from workflows.why import Plan, say_first

use_this_python()
EXPERIMENT = str(config.get("experiment", "smoke"))
try:
    experiment = load_runnable(EXPERIMENT)
    asked = chosen_part(experiment, *(str(config.get(key, "")) for key in ("only", "systems", "seeds")))
    RESULTS = f"{config.get('results', 'results')}/{experiment.name}"
    plan = Plan(experiment, Path(RESULTS), str(config.get("fresh", "")))
    if workflow.is_main_process:
        say_first(plan, asked)
except UserError as error:
    sys.exit(f"error: {error}")
chosen = (asked, plan.shown(asked), plan.identities, plan.settled(asked))
edges = Edges(experiment, RESULTS, *chosen, lambda: runs_under_slurm(workflow))
# How the experiment was named decides nothing: Snakemake compares texts and numbers among parameters, not paths.
experiment_argument = Path(EXPERIMENT)


pathvars:
    results=RESULTS,
    data=f"{RESULTS}/data/{experiment.corpus.name}",


wildcard_constraints:
    system="|".join(experiment.systems),
    seed=edges.any_seed(),


include: "workflows/rules/data.smk"
include: "workflows/rules/systems.smk"
include: "workflows/rules/analysis.smk"


rule all:
    default_target: True
    input:
        "<results>/RESULTS.md",
        "<results>/report.html",
