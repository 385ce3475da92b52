# From transcripts and costs to tables, figures and the summary.


rule analyse:
    message:
        "Score, test significance, render tables and figures"
    input:
        experiment="<results>/experiment.json",
        points=edges.every("eval/points.json"),
        costs=edges.every("measured/costs.json"),
    output:
        summary=report("<results>/RESULTS.md", caption="../report/results.rst", category="Summary"),
    params:
        folder=subpath(output.summary, parent=True),
        sources=sources_hash("analysis.render"),
    log:
        "<results>/logs/analyse.log",
    benchmark:
        "<results>/benchmarks/analyse.tsv"
    shell:
        "python -m analysis.render --experiment-folder {params.folder} 2> {log}"
