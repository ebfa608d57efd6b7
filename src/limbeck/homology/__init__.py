"""Search for the relatives of a protein, and what they say about each of its residues."""
