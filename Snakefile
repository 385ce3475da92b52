# From speech to tables: one experiment, chosen by --config experiment=NAME (default: smoke).
#
#   snakemake --cores all                            run it
#   snakemake -n                                     show what would run
#   snakemake -n --config experiment=smoke_real      another experiment, config/smoke_real.yaml
#   snakemake -n --config only=table1,sisters        tables, figures, parts that have a name, all; or systems=f6,a12
#   snakemake -n --config seeds=0                    some seeds alone
#   snakemake -n --config systems=f6 fresh=1         train what is asked for anew

import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.14.8")
sys.path.insert(0, workflow.basedir)

from common.errors import UserError
from workflows.edges import Edges, all_cores, runs_under_slurm, use_this_python
from workflows.part import as_words, chosen_part
from workflows.not_here import checked_fresh
from workflows.runnable import load_runnable
from workflows.why import Plan, said_first

use_this_python()
EXPERIMENT = str(config.get("experiment", "smoke"))
try:
    experiment = load_runnable(EXPERIMENT)
    asked = chosen_part(experiment, *(str(config.get(key, "")) for key in ("only", "systems", "seeds")))
    fresh = checked_fresh(config.get("fresh", ""))
except UserError as error:
    sys.exit(f"error: {error}")

RESULTS = f"{config.get('results', 'results')}/{experiment.name}"
plan = Plan(experiment, Path(RESULTS), fresh)
edges = Edges(
    experiment,
    RESULTS,
    asked,
    plan.shown(asked),
    plan.identities,
    plan.settled(asked),
    lambda: runs_under_slurm(workflow),
)
# How the experiment was named decides nothing: Snakemake compares texts and numbers among parameters, not paths.
experiment_argument = Path(EXPERIMENT)
if workflow.is_main_process:
    # Hours of work may hang on it: which finished systems would be trained again is said before anything is done.
    sys.stderr.writelines(f"{line}\n" for line in said_first(plan, asked))
    # And so may systems of committed results whose weights are not here: they are trained again by a word only.
    if lines := plan.refused(asked):
        sys.exit("error: " + "\n".join(lines))


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
