"""A map of proteins: embeddings projected to the plane, as a page that needs nothing but itself."""

from limbeck.maps.run import Map, map_embeddings

__all__ = ["Map", "map_embeddings"]
