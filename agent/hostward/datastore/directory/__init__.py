"""A directory of manifests as a datastore: feed and store, for a single host without a server."""
