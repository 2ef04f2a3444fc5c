"""What differs between two runs, from their folders alone."""
