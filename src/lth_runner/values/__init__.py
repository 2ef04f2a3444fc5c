"""Plain values that everything else is made of: errors, files, steps, seeds, states, masks."""
