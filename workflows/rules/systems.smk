# Train, evaluate and measure systems. Snakemake knows systems; their points are in points.json.
#
# Outputs are marked `update`: a job that fails leaves the results of the last one that did not. The commands write each
# file whole or not at all.


rule train_system:
    message:
        "Train {wildcards.system}, seed {wildcards.seed}"
    wildcard_constraints:
        system=edges.not_started_from(),
    input:
        models=edges.inputs_of,
        corpus="<data>/corpus.json",
        data=edges.input_files_of,
    output:
        model=update("<results>/systems/{system}/seed{seed}/model.safetensors"),
        description=update("<results>/systems/{system}/seed{seed}/system.json"),
        provenance=update("<results>/systems/{system}/seed{seed}/provenance.json"),
        history=update("<results>/systems/{system}/seed{seed}/log.jsonl"),
    params:
        experiment=EXPERIMENT,
        starts_from=edges.input_arguments,
        settings=edges.training_settings,
        sources=edges.sources("train"),
        data=subpath(input.corpus, parent=True),
        folder=subpath(output.model, parent=True),
    threads: experiment.threads
    resources:
        gpu=edges.devices,
    log:
        "<results>/logs/train_system/{system}-{seed}.log",
    benchmark:
        "<results>/benchmarks/train_system/{system}-{seed}.tsv"
    conda:
        "../../environment.yml"
    shell:
        "python -m workflows.train --experiment {params.experiment} --system {wildcards.system} --seed {wildcards.seed}"
        " --data {params.data} --out {params.folder} {params.starts_from} 2> {log}"


# Others wait for these, one after the other: begun late, they would end alone.
use rule train_system as train_source_system with:
    wildcard_constraints:
        system=edges.started_from(),
    priority: 40


rule evaluate_system:
    message:
        "Decode all points of {wildcards.system}, seed {wildcards.seed}"
    input:
        model="<results>/systems/{system}/seed{seed}/model.safetensors",
        description="<results>/systems/{system}/seed{seed}/system.json",
        corpus="<data>/corpus.json",
    output:
        points=update("<results>/systems/{system}/seed{seed}/eval/points.json"),
    params:
        experiment=EXPERIMENT,
        settings=edges.evaluation_settings,
        sources=edges.sources("evaluate"),
        data=subpath(input.corpus, parent=True),
        model=subpath(input.model, parent=True),
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
        "python -m workflows.evaluate --experiment {params.experiment} --system {wildcards.system}"
        " --data {params.data} --model {params.model} --out {params.folder} 2> {log}"


rule measure_sensitivity:
    message:
        "Leave out each layer of {wildcards.system}, seed {wildcards.seed}, one at a time"
    input:
        model="<results>/systems/{system}/seed{seed}/model.safetensors",
        description="<results>/systems/{system}/seed{seed}/system.json",
        corpus="<data>/corpus.json",
    output:
        update("<results>/systems/{system}/seed{seed}/sensitivity.json"),
    # Systems wait for it.
    priority: 50
    params:
        experiment=EXPERIMENT,
        settings=edges.sensitivity_settings,
        sources=edges.sources("sensitivity"),
        data=subpath(input.corpus, parent=True),
        model=subpath(input.model, parent=True),
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
        "python -m workflows.sensitivity --experiment {params.experiment} --system {wildcards.system}"
        " --data {params.data} --model {params.model} --out {output} 2> {log}"


rule measure_costs:
    message:
        "Measure parameters, bytes, MACs, speed and memory of all systems, nothing beside it"
    input:
        models=edges.every("model.safetensors"),
        corpus="<data>/corpus.json",
    output:
        update(edges.every("measured/costs.json")),
    params:
        experiment=EXPERIMENT,
        settings=edges.measure_settings(),
        sources=sources_hash("workflows.steps.measure", *methods_used),
        data=subpath(input.corpus, parent=True),
        systems=edges.every(""),
    threads: all_cores(workflow, experiment.threads)
    resources:
        gpu=1,
    log:
        "<results>/logs/measure_costs.log",
    benchmark:
        "<results>/benchmarks/measure_costs.tsv"
    conda:
        "../../environment.yml"
    shell:
        "python -m workflows.measure --experiment {params.experiment} --data {params.data} --systems {params.systems} 2> {log}"
