"""`hostward kube-controller`: keeps etcd equal to what Kubernetes says, and owns only what it wrote."""
