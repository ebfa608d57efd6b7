"""Tasks of the papers that cannot be had here, and why; `limbeck benchmark tasks` lists them."""

LEFT_OUT = {
    "contact prediction (TAPE)": "no contact maps are in any repository that was looked at",
    "human protein-protein interaction": "only the sequences are held, not the pairs",
    "superfamily and family tests of remote homology (TAPE)": "only the test on folds is in the copy",
    "gene ontology as in MTDP (5,585 terms)": "neither proteins nor labels were published; yeast's slim terms stand in",
    "DeepSol's training part": "62,478 proteins are missing; its validation part is cut in two instead",
    "FLIP's meltome, AAV and localisation splits": "the files are not held; meltome is a third of its proteins",
}
"""Reason by task."""
