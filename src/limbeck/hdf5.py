"""UniProt's layout of embeddings in HDF5: at the root one dataset for each protein, named by its id."""

__all__ = ["link_name"]


def link_name(id: str) -> str:
    """The name of a protein's dataset: its id, in which HDF5's own signs (and ``%``) are percent-encoded."""
    if id == ".":
        return "%2E"
    return id.replace("%", "%25").replace("/", "%2F").replace("\0", "%00")
