"""spread.conf: grammar, model, checks, configuration hash, derived timeouts."""
