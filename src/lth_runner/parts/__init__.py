"""Parts, built of the plain values of a config and checked for what their places ask."""
