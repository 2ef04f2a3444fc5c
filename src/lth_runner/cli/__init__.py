"""The edge: what a command line says, made into a run."""
