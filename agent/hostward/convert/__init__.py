"""Other formats to v3 documents: v1 manifests, and what v3 writers default. Pure."""
