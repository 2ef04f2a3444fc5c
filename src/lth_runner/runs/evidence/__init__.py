"""What runs show, as numbers from the files in their folders; drawn and told by the report."""
