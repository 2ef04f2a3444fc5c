"""The files of run folders: written (record), judged (evidence), drawn (report, study_pages)."""
