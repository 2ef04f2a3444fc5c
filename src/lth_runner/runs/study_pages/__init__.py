"""Pages of what takes several finished trainings: carried, merged and generated networks."""
