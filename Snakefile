# The DAG of the book: one job per missing record (`snakemake records`), one per chapter (`snakemake chapters`), one
# for the site (`snakemake`). Records and chapters are two calls: what a chapter depends on is read when a call begins.
# Snakemake deletes the output of a failed job, so `maso` owns the notebooks, and a job owns a marker whose name holds
# the digest of all the chapter depends on. Modification times play no part.
import sys

from maso.errors import MasoError
from maso_book import chapters, registry, results, runner, tree

MARKERS = []
for chapter in chapters.written(tree.root()):
    try:
        runner.is_fresh(chapter)  # removes a marker whose notebook is not there as it was
        MARKERS.append(str(runner.marker(chapter).relative_to(tree.root())))
    except MasoError as error:  # a broken chapter costs that chapter alone
        print(error, file=sys.stderr)


def missing_records(wildcards):
    paths = [
        results.path_of(experiment, config)
        for experiment in registry.registry().values()
        for config in results.shown(experiment)
    ]
    return [str(path.relative_to(tree.root())) for path in paths if not path.exists()]


rule site:
    input:
        MARKERS,
    shell:
        "{sys.executable:q} -m maso book"


rule chapters:
    input:
        MARKERS,


rule records:
    input:
        missing_records,


rule chapter:
    output:
        "_build/state/{name}-{digest}.done",
    wildcard_constraints:
        digest="[0-9a-f]{16}",
    shell:
        "{sys.executable:q} -m maso run {wildcards.name}"


rule record:
    output:
        "results/{experiment}/{hash}.json",
    params:
        chapter=lambda wildcards: wildcards.experiment.partition("-")[0],
    shell:
        "{sys.executable:q} -m maso run {params.chapter} --profile full --record {wildcards.experiment}/{wildcards.hash}"
