# Check the experiment, prepare its data.


rule check_experiment:
    message:
        "Check the experiment: methods, settings, paths"
    output:
        update("<results>/experiment.json"),
    # First of all jobs that are ready, so that a wrong setting is said before any work. No job waits for its output: what
    # they read stands in their own parameters, which is how Snakemake sees that a setting was changed.
    priority: 100
    params:
        experiment=experiment_argument,
        recipe=edges.check(),
    log:
        "<results>/logs/check_experiment.log",
    benchmark:
        "<results>/benchmarks/check_experiment.tsv"
    conda:
        "../../environment.yml"
    shell:
        "python -m workflows.check --experiment {params.experiment:q} --out {output:q} 2> {log:q}"


# Asked for by its name, before hours are spent: `snakemake preflight`. Nothing waits for it.
rule preflight:
    message:
        "Compare what the run needs with what is there"
    params:
        experiment=experiment_argument,
        results=Path(RESULTS).parent,
        asked=[word for key in ("only", "systems", "seeds") if key in config for word in (f"--{key}", str(config[key]))],
    resources:
        gpu=1,
    log:
        "<results>/logs/preflight.log",
    conda:
        "../../environment.yml"
    shell:
        "python -m workflows.preflight --experiment {params.experiment:q} --results {params.results:q}"
        " {params.asked:q} 2> {log:q}"


rule prepare_data:
    message:
        "Prepare the corpus: recordings, manifests, reference transcripts"
    output:
        corpus=update("<data>/corpus.json"),
        references=update(expand("<data>/{name}.trn", name=experiment.decoded_sets)),
        contents=update(edges.contents(["train", *experiment.decoded_sets])),
        speakers=update(expand("<data>/{name}.speakers.json", name=experiment.decoded_sets)),
    priority: 10
    params:
        experiment=experiment_argument,
        folder=subpath(output.corpus, parent=True),
        recipe=edges.data_recipe(),
    threads: all_cores(workflow, experiment.threads)
    log:
        "<results>/logs/prepare_data.log",
    benchmark:
        "<results>/benchmarks/prepare_data.tsv"
    conda:
        "../../environment.yml"
    shell:
        "python -m workflows.prepare --experiment {params.experiment:q} --out {params.folder:q} 2> {log:q}"


# One rule for each model family (None: the experiment's own), so that a new family leaves the others as they are.
for family in [None, *experiment.families]:
    of_family = f"prepare_inputs_{family}" if family else "prepare_inputs"

    rule:
        name:
            of_family
        message:
            f"Prepare tokenizer and features of {family}" if family else "Prepare tokenizer and features"
        input:
            edges.read_by_inputs(family),
        output:
            update(edges.inputs(family)),
        priority: 10
        params:
            experiment=experiment_argument,
            folder=subpath(input[0], parent=True),
            family=f"--family {family}" if family else "",
            recipe=edges.inputs_recipe(family),
        threads: experiment.threads
        log:
            f"<results>/logs/{of_family}.log",
        benchmark:
            f"<results>/benchmarks/{of_family}.tsv"
        conda:
            "../../environment.yml"
        shell:
            "python -m workflows.inputs --experiment {params.experiment:q} --data {params.folder:q} {params.family} 2> {log:q}"
