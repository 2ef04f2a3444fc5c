"""The command line, from the words that are typed to a run."""
