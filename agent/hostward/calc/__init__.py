"""Resources in, resolved values out: active policies, set members, endpoint to interface. Pure and incremental."""
