"""Status says how runs stand and what the Store holds, from the files on disk alone."""
