"""Named random streams, so that changing one thing changes one thing.

Every random draw is a pure function of (seed, names): no generator is carried along, so a
checkpoint holds no random state and a run killed mid-epoch continues bit for bit.
"""

from __future__ import annotations

import hashlib

import torch


def derive(seed: int, *names: str | int) -> int:
    """Derives a 63-bit seed from a seed and a path of names, by SHA-256."""
    path = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(path.encode()).digest()[:8], "big") >> 1


def stream(seed: int, *names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Makes a fresh generator for one named purpose, for example ``stream(0, "data", epoch)``."""
    return torch.Generator(device=device).manual_seed(derive(seed, *names))
