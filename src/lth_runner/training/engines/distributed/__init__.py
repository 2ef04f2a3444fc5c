"""One training on several devices: rank 0 runs the program, the others take parts of its batches.

The state is held by every rank, and is the same on all: each has the network, the mask and the
optimizer, computes gradients of its part of a batch, and steps by the sum of all ranks' gradients.
Rank 0 sends orders (begin, advance, evaluate), writes checkpoints and asks nothing back but
figures.
"""
