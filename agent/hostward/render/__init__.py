"""Resolved values to abstract chains and sets; names; text form. Pure."""
