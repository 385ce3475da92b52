# From transcripts and costs to tables, figures, the summary and the report.


# Apart from analysis, whose outputs are more or fewer: by this one file Snakemake sees that other systems are shown, and
# makes those that are asked for.
rule name_what_is_made:
    message:
        "Name what is made and up to date"
    input:
        points=edges.every("eval/points.json"),
        costs=edges.every("measured/costs.json"),
        studies=edges.shown_studies(),
    output:
        update("<results>/made.json"),
    params:
        experiment=experiment_argument,
        systems=as_words(edges.shown.systems),
        studies=as_words(edges.shown.studies),
    log:
        "<results>/logs/name_what_is_made.log",
    benchmark:
        "<results>/benchmarks/name_what_is_made.tsv"
    conda:
        "../../environment.yml"
    shell:
        "python -m workflows.made --experiment {params.experiment:q} --systems {params.systems:q}"
        " --studies {params.studies:q} --out {output:q} 2> {log:q}"


rule analyse:
    message:
        "Score, test significance, render tables and figures"
    input:
        experiment="<results>/experiment.json",
        made="<results>/made.json",
        points=edges.every("eval/points.json"),
        costs=edges.every("measured/costs.json"),
        provenance=edges.every("provenance.json"),
        studies=edges.shown_studies(),
    output:
        figures=[
            report(
                update(f"<results>/figures/{name}.svg"),
                caption="../report/figure.rst",
                category="Figures",
                labels={"figure": name},
            )
            for name in edges.figures
        ],
        tables=[
            report(
                update(f"<results>/tables/{name}.html"),
                caption="../report/table.rst",
                category="Tables",
                labels={"table": name},
            )
            for name in edges.table_names()
        ],
        summary=report(
            update("<results>/results.html"),
            caption="../report/results.rst",
            category="Summary",
            labels={"page": "everything on one page"},
        ),
        text=update("<results>/RESULTS.md"),
        claims=update(["<results>/claims.json", "<results>/claims.csv"]),
    params:
        experiment=experiment_argument,
        folder=subpath(output.summary, parent=True),
        recipe=edges.analysis(),
    log:
        "<results>/logs/analyse.log",
    benchmark:
        "<results>/benchmarks/analyse.tsv"
    conda:
        "../../environment.yml"
    shell:
        "(python -m analysis.render --experiment-folder {params.folder:q}"
        " && python -m workflows.identity --experiment {params.experiment:q} --of analysis"
        " --out {params.folder:q}/analysis.identity.json) 2> {log:q}"


rule write_report:
    message:
        "Write the report, one page that opens offline"
    input:
        "<results>/RESULTS.md",
        "<results>/claims.json",
        "<results>/made.json",
    output:
        update("<results>/report.html"),
    params:
        experiment=experiment_argument,
        folder=subpath(output[0], parent=True),
        recipe=edges.report(),
    log:
        "<results>/logs/write_report.log",
    benchmark:
        "<results>/benchmarks/write_report.tsv"
    conda:
        "../../environment.yml"
    shell:
        "(python -m analysis.report --experiment-folder {params.folder:q}"
        " && python -m workflows.identity --experiment {params.experiment:q} --of report"
        " --out {params.folder:q}/report.identity.json) 2> {log:q}"
