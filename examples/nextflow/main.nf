// nextflow run main.nf --proteins proteins.fasta.gz --parts 4
params.proteins = 'proteins.fasta'
params.parts = 4
params.results = 'results'

process EMBED {
    tag "${part}/${params.parts}"
    cpus 4
    errorStrategy 'retry'
    maxRetries 2

    input:
    tuple val(part), path(proteins)

    output:
    path "part-${part}.parquet"

    script:
    // One precision for all, whatever the machines are: parts of two modes do not merge.
    """
    limbeck embed ${proteins} -o part-${part}.parquet --shard ${part}/${params.parts} \\
        --threads ${task.cpus} --precision f32 --quiet
    """
}

process MERGE {
    publishDir params.results, mode: 'copy'

    input:
    path parts

    output:
    path 'vectors.parquet'

    script:
    """
    limbeck merge ${parts} -o vectors.parquet
    """
}

workflow {
    proteins = file(params.proteins, checkIfExists: true)
    EMBED(Channel.of(1..params.parts).map { part -> tuple(part, proteins) })
    MERGE(EMBED.out.collect())
}
