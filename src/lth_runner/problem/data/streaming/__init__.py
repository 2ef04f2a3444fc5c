"""Images that are read and decoded when a batch asks for them, of files, tars and tables."""

from lth_runner.problem.data.streaming.arrow import image_table
from lth_runner.problem.data.streaming.decoded import Decoded
from lth_runner.problem.data.streaming.encoded import Encoded, Picked
from lth_runner.problem.data.streaming.files import EncodedFiles
from lth_runner.problem.data.streaming.shards import image_shards
from lth_runner.problem.data.streaming.splits import Decoding, ImageTransforms, streamed

__all__ = [
    "Decoded",
    "Decoding",
    "Encoded",
    "EncodedFiles",
    "ImageTransforms",
    "Picked",
    "image_shards",
    "image_table",
    "streamed",
]
