"""The files of run folders, which are written, drawn and looked after here."""
