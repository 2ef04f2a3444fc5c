"""Files of run folders: written (record), judged (evidence), drawn (pages, report, study_pages)."""
