"""The command line: one module per family of verbs, and output formats. Imports lazily: `version` must start fast."""
