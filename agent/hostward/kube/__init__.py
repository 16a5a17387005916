"""The only code that talks to a Kubernetes API server: lists and watches. Knows no policies and no store."""
