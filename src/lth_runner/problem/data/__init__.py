"""The data: tables in memory (``Data``), samples made when asked for (``SampledData``), sources."""

from lth_runner.problem.data.augmentation import Augmentation, Chain, Cutout, FlipCrop
from lth_runner.problem.data.bundled import diabetes, digits
from lth_runner.problem.data.cipher import cipher_answers, cipher_records
from lth_runner.problem.data.corpus import corpus
from lth_runner.problem.data.dataset import Batches, Dataset
from lth_runner.problem.data.datasets import synthetic
from lth_runner.problem.data.folder import imagefolder
from lth_runner.problem.data.glue import glue
from lth_runner.problem.data.hugging_face_data import hugging_face
from lth_runner.problem.data.map_style import MapStyle
from lth_runner.problem.data.own import map_style
from lth_runner.problem.data.passages import Passages
from lth_runner.problem.data.published import torchvision_dataset
from lth_runner.problem.data.sampled import SampledData
from lth_runner.problem.data.samples import Masked, Samples, Subset, Tokens
from lth_runner.problem.data.scenes import digit_scenes
from lth_runner.problem.data.sequences import Sequences
from lth_runner.problem.data.splits import Split
from lth_runner.problem.data.squad import squad
from lth_runner.problem.data.stream import Stream
from lth_runner.problem.data.streaming import ImageTransforms, image_shards, image_table
from lth_runner.problem.data.tagged import tagged_files
from lth_runner.problem.data.tags import Tags
from lth_runner.problem.data.tensors import Data
from lth_runner.problem.data.text import text_files
from lth_runner.problem.data.token_files import token_files
from lth_runner.problem.data.tokenizer_file import TokenizerFile
from lth_runner.problem.data.tokenizers import Bytes, Characters, Tokenizer, Words
from lth_runner.problem.data.transforms import Transforms

__all__ = [
    "Augmentation",
    "Batches",
    "Bytes",
    "Chain",
    "Characters",
    "Cutout",
    "Data",
    "Dataset",
    "FlipCrop",
    "ImageTransforms",
    "MapStyle",
    "Masked",
    "Passages",
    "SampledData",
    "Samples",
    "Sequences",
    "Split",
    "Stream",
    "Subset",
    "Tags",
    "Tokenizer",
    "TokenizerFile",
    "Tokens",
    "Transforms",
    "Words",
    "cipher_answers",
    "cipher_records",
    "corpus",
    "diabetes",
    "digit_scenes",
    "digits",
    "glue",
    "hugging_face",
    "image_shards",
    "image_table",
    "imagefolder",
    "map_style",
    "squad",
    "synthetic",
    "tagged_files",
    "text_files",
    "token_files",
    "torchvision_dataset",
]
