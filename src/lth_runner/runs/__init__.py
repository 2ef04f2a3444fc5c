"""The files of run folders: written, drawn and looked after."""
