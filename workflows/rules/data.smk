# Check the experiment, prepare its data.


rule check_experiment:
    message:
        "Check the experiment: methods, settings, paths"
    input:
        experiment_files(EXPERIMENT),
    output:
        "<results>/experiment.json",
    params:
        experiment=EXPERIMENT,
        sources=sources_hash("workflows.check", *methods_used),
    log:
        "<results>/logs/check_experiment.log",
    benchmark:
        "<results>/benchmarks/check_experiment.tsv"
    conda:
        "../../environment.yml"
    shell:
        "python -m workflows.check --experiment {params.experiment} --out {output} 2> {log}"


rule prepare_data:
    message:
        "Prepare the corpus: recordings, manifests, tokenizer, features"
    input:
        ancient("<results>/experiment.json"),
    output:
        corpus="<data>/corpus.json",
        tokenizer="<data>/tokenizer.json",
        statistics="<data>/cmvn.json",
        references=expand("<data>/{name}.trn", name=[experiment.dev_set, *experiment.test_sets]),
    params:
        experiment=EXPERIMENT,
        folder=subpath(output.corpus, parent=True),
        settings=[experiment.corpus.model_dump(), experiment.tokenizer.model_dump(), experiment.features.model_dump()],
        sets=[experiment.dev_set, *experiment.test_sets],
        sources=sources_hash("workflows.steps.prepare", f"asr.corpora.{experiment.corpus.name}"),
    threads: workflow.cores or experiment.threads
    log:
        "<results>/logs/prepare_data.log",
    benchmark:
        "<results>/benchmarks/prepare_data.tsv"
    conda:
        "../../environment.yml"
    shell:
        "python -m workflows.prepare --experiment {params.experiment} --out {params.folder} 2> {log}"
