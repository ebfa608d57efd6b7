// nextflow run main.nf --proteins proteins.fasta.gz --parts 4
// For a first try on few proteins, and by an encoder that needs no model: --encoder composition
params.proteins = 'proteins.fasta'
params.parts = 4
params.encoder = ''
params.results = 'results'

process EMBED {
    tag "${part}/${parts}"
    cpus 4
    errorStrategy 'retry'
    maxRetries 2

    input:
    tuple val(part), val(parts), path(proteins)

    output:
    path "part-${part}.parquet"

    script:
    def encoder = params.encoder ? "--encoder ${params.encoder}" : ''
    // One precision for all, whatever the machines are: parts of two modes do not merge.
    """
    limbeck embed ${proteins} -o part-${part}.parquet --shard ${part}/${parts} ${encoder} \\
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
    def proteins = file(params.proteins, checkIfExists: true)
    // What the command line gives is text since Nextflow 26.04, and was a number before.
    def parts = params.parts.toString().toInteger()
    EMBED(channel.of(1..parts).map { part -> tuple(part, parts, proteins) })
    MERGE(EMBED.out.collect())
}
