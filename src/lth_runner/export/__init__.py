"""What takes one ticket away from its run."""
