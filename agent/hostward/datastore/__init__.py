"""The only code that talks to etcd or to a directory of manifests: list, watch, write."""
