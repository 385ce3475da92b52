# Train, evaluate and measure systems. Snakemake knows systems; their points are in points.json.
#
# Costs are measured last, for one system after the other: a job of all cores that came first would keep what waits for
# one core, so everything else has the higher priority.
#
# Outputs are marked `update`: a job that fails leaves the results of the last one that did not. The commands write each
# file whole or not at all.


rule train_system:
    message:
        "Train {wildcards.system}, seed {wildcards.seed}"
    wildcard_constraints:
        system=edges.not_started_from(),
    input:
        corpus=edges.read_by_training,
        sources=edges.sources_of,
    output:
        model=update("<results>/systems/{system}/seed{seed}/model.safetensors"),
        description=update("<results>/systems/{system}/seed{seed}/system.json"),
        provenance=update("<results>/systems/{system}/seed{seed}/provenance.json"),
        history=update("<results>/systems/{system}/seed{seed}/log.jsonl"),
    priority: 10
    params:
        experiment=experiment_argument,
        starts_from=edges.source_arguments,
        recipe=edges.training,
        data=edges.data,
        folder=subpath(output.model, parent=True),
    threads: edges.training_cores
    resources:
        gpu=edges.devices,
        # Under SLURM a training on several devices is as many tasks.
        tasks_per_node=edges.tasks,
        nodes=edges.one_node,
        mpi=edges.launcher,
    log:
        "<results>/logs/train_system/{system}-{seed}.log",
    benchmark:
        "<results>/benchmarks/train_system/{system}-{seed}.tsv"
    conda:
        "../../environment.yml"
    shell:
        "python -m workflows.train --experiment {params.experiment:q} --system {wildcards.system} --seed {wildcards.seed}"
        " --data {params.data:q} --out {params.folder:q} {params.starts_from:q} 2> {log:q}"


# Others wait for these, one after the other: begun late, they would end alone.
use rule train_system as train_source_system with:
    wildcard_constraints:
        system=edges.started_from(),
    priority: 40


rule evaluate_system:
    message:
        "Decode all points of {wildcards.system}, seed {wildcards.seed}"
    wildcard_constraints:
        system=edges.any_asked(),
    input:
        system=edges.described("evaluate"),
        corpus=edges.read_by_decoding,
    output:
        points=update("<results>/systems/{system}/seed{seed}/eval/points.json"),
    priority: 10
    params:
        experiment=experiment_argument,
        recipe=edges.evaluation,
        data=edges.data,
        model=subpath(input.system, parent=True),
        folder=subpath(output.points, parent=True),
    threads: experiment.threads
    resources:
        gpu=1,
    log:
        "<results>/logs/evaluate_system/{system}-{seed}.log",
    benchmark:
        "<results>/benchmarks/evaluate_system/{system}-{seed}.tsv"
    conda:
        "../../environment.yml"
    shell:
        "python -m workflows.evaluate --experiment {params.experiment:q} --system {wildcards.system}"
        " --data {params.data:q} --model {params.model:q} --out {params.folder:q} 2> {log:q}"


rule measure_sensitivity:
    message:
        "Leave out each layer of {wildcards.system}, seed {wildcards.seed}, one at a time"
    wildcard_constraints:
        system=edges.any_trained(),
    input:
        system=edges.described("sensitivity of"),
        corpus=edges.read_by_studies("sensitivity of"),
    output:
        update("<results>/systems/{system}/seed{seed}/sensitivity.json"),
    # Systems wait for it.
    priority: 50
    params:
        experiment=experiment_argument,
        recipe=edges.sensitivity,
        data=edges.data,
        model=subpath(input.system, parent=True),
    threads: experiment.threads
    resources:
        gpu=1,
    log:
        "<results>/logs/measure_sensitivity/{system}-{seed}.log",
    benchmark:
        "<results>/benchmarks/measure_sensitivity/{system}-{seed}.tsv"
    conda:
        "../../environment.yml"
    shell:
        "python -m workflows.sensitivity --experiment {params.experiment:q} --system {wildcards.system}"
        " --data {params.data:q} --model {params.model:q} --out {output:q} 2> {log:q}"


rule measure_weight_errors:
    message:
        "Add errors to the weights of {wildcards.system}, seed {wildcards.seed}"
    wildcard_constraints:
        system=edges.any_trained(),
    input:
        system=edges.described("weight errors of"),
        corpus=edges.read_by_studies("weight errors of"),
    output:
        update("<results>/systems/{system}/seed{seed}/weight_errors.json"),
    priority: 10
    params:
        experiment=experiment_argument,
        recipe=edges.weight_errors,
        data=edges.data,
        model=subpath(input.system, parent=True),
    threads: experiment.threads
    resources:
        gpu=1,
    log:
        "<results>/logs/measure_weight_errors/{system}-{seed}.log",
    benchmark:
        "<results>/benchmarks/measure_weight_errors/{system}-{seed}.tsv"
    conda:
        "../../environment.yml"
    shell:
        "python -m workflows.weight_errors --experiment {params.experiment:q} --system {wildcards.system}"
        " --data {params.data:q} --model {params.model:q} --out {output:q} 2> {log:q}"


# Of a system's first seed with times and memory, nothing beside it; of further ones, which cost the same, parameters,
# bytes and MACs are counted.
rule measure_costs:
    message:
        "Measure what {wildcards.system}, seed {wildcards.seed}, costs"
    wildcard_constraints:
        system=edges.any_asked(),
    input:
        system=edges.described("costs of"),
        corpus=edges.read_by_measuring,
    output:
        update("<results>/systems/{system}/seed{seed}/measured/costs.json"),
    params:
        experiment=experiment_argument,
        recipe=edges.costs,
        data=edges.data,
        model=subpath(input.system, parent=True),
    threads: lambda wildcards: all_cores(workflow, experiment.threads) if edges.is_timed(wildcards) else experiment.threads
    resources:
        gpu=1,
        # One at a time, by the profiles: also where a machine has more cores than were asked for.
        measuring=lambda wildcards: int(edges.is_timed(wildcards)),
    log:
        "<results>/logs/measure_costs/{system}-{seed}.log",
    benchmark:
        "<results>/benchmarks/measure_costs/{system}-{seed}.tsv"
    conda:
        "../../environment.yml"
    shell:
        "python -m workflows.measure --experiment {params.experiment:q} --system {wildcards.system}"
        " --data {params.data:q} --model {params.model:q} --out {output:q} 2> {log:q}"
