"""One picture of a file, as bytes of red, green and blue, or of grey."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from lth_runner.values.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "TIFF")  # whatever a file's name says
MAX_PIXELS = 2**26  # 67 million: a camera's largest, and 200 MB as they are decoded
BYTES_A_PIXEL = 4  # of a file at most: four channels that are not compressed
MODES = {1: "L", 3: "RGB"}  # by channels
ORIENTATION = 0x0112  # of EXIF and of TIFF
BITS, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0  # of TIFF
PNG_DEPTH = 24  # where a PNG has the bits of a channel
SEE_THROUGH = ("RGBA", "LA", "PA", "RGBa", "La")


def pixels(
    content: bytes, shape: tuple[int, ...], *, max_pixels: int, where: object
) -> np.ndarray[Any, Any]:
    """Decodes a picture to bytes of ``shape`` = (1 or 3, height, width), resized and not cropped.

    It is turned upright as its EXIF orientation says. 16 bits are scaled to 8; what is transparent
    lies on white; CMYK becomes RGB by the plain formula. Colour profiles are not applied. Raises
    UserError, naming ``where``, for what is no picture of one of FORMATS, for more than
    ``max_pixels``, for several pictures in one file, and for values of which nothing says what
    white is.
    """
    channels, height, width = shape
    image = picture(content, channels, max_pixels=max_pixels, where=where)
    if image.size != (width, height):
        image = image.resize((width, height), _pillow().Resampling.BILINEAR)
    return as_bytes(image)


def picture(content: bytes, channels: int, *, max_pixels: int, where: object) -> Image:
    """Decodes a picture as ``pixels`` does, in the size that it has."""
    try:
        image = _decoded(content, max_pixels)
        mode = MODES[channels]
        return image if image.mode == mode else image.convert(mode)
    except _Refused as error:
        raise UserError(f"the image {where} {error}") from error
    except Exception as error:  # Pillow raises whatever its parsing comes to
        reason = str(error) or type(error).__name__
        raise UserError(f"cannot read the image {where}: {reason}; replace or remove it") from error


def as_bytes(image: Image) -> np.ndarray[Any, Any]:
    """Lays a picture out as bytes, [channels, height, width]."""
    found: np.ndarray[Any, Any] = np.array(image)
    return found[None] if found.ndim == 2 else found.transpose(2, 0, 1)


class _Refused(Exception):
    """Says of a picture that can be read why it is not taken, and what to do."""


def _pillow() -> Any:
    from PIL import Image

    return Image


def _decoded(content: bytes, max_pixels: int) -> Image:
    with _limit_of_ours():
        image = _opened(content)
        width, height = image.size
        if width * height > max_pixels:
            raise _Refused(
                f"has {width} x {height} pixels, {width * height:,} in all: at most "
                f"dataset.max_pixels={max_pixels:,} are decoded; raise it, or make the image "
                "smaller"
            )
        # the further pictures of an MPO, as cameras write it, are views or previews of the first
        if getattr(image, "is_animated", False) and image.format != "MPO":
            raise _Refused(
                "holds several pictures (an animation, or pages): save each as a file of its own"
            )
        image.load()
    flat = _opaque(_in_bytes(image), content)
    orientation = _orientation(image)
    turn = None if orientation == 1 else _turns().get(orientation)
    return flat if turn is None else flat.transpose(turn)


def _opened(content: bytes) -> Image:
    from PIL import UnidentifiedImageError

    try:
        opened: Image = _pillow().open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise ValueError(f"it is none of {', '.join(FORMATS)}, or damaged") from error
    return opened


@contextmanager
def _limit_of_ours() -> Iterator[None]:
    """Takes Pillow's own limit of pixels away, which no option raises."""
    image = _pillow()
    before, image.MAX_IMAGE_PIXELS = image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        image.MAX_IMAGE_PIXELS = before


def _in_bytes(image: Image) -> Image:
    """Scales a grey picture of more than 8 bits by the range of its numbers."""
    is_16_bit = image.mode.startswith("I;16")
    if is_16_bit and image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]  # of a TIFF alone
        if tags.get(BITS) != (16,) or tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
            raise _Refused(
                f"is a grey TIFF of {tags.get(BITS)} bits, photometric {tags.get(PHOTOMETRIC)}: "
                "save it with 16 bits (or 8), black as 0"
            )
    if not is_16_bit and not (image.mode == "I" and image.format in ("PNG", "PPM")):
        if image.mode in ("I", "F"):
            raise _Refused(
                f"has numbers of 32 bits (mode {image.mode}), and nothing says which of them is "
                "white: save it with 8 or 16 bits"
            )
        return image
    values = np.asarray(image).astype(np.int64)
    scaled: Image = _pillow().fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    scaled.info = image.info
    return scaled


def _opaque(image: Image, content: bytes) -> Image:
    """Lays a picture on white where one sees through it."""
    if image.mode not in SEE_THROUGH and "transparency" not in image.info:
        return image
    is_key = image.mode in ("1", "L", "RGB")  # one colour stands for what is transparent
    if is_key and content.startswith(b"\x89PNG") and content[PNG_DEPTH] != 8:
        raise _Refused(
            f"has a transparent colour at {content[PNG_DEPTH]} bits a channel, which is not "
            "decoded: save it with 8 bits, or without transparency"
        )
    if image.mode == "La":
        image = image.convert("LA")
    seen = image.convert("RGBA")
    white = _pillow().new("RGBA", seen.size, "white")
    flat: Image = _pillow().alpha_composite(white, seen).convert("RGB")
    return flat


def _orientation(image: Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # facts that cannot be read turn nothing, as in every viewer
        return 1


def _turns() -> dict[int, Any]:
    turn = _pillow().Transpose
    return {
        2: turn.FLIP_LEFT_RIGHT,
        3: turn.ROTATE_180,
        4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE,
        6: turn.ROTATE_270,
        7: turn.TRANSVERSE,
        8: turn.ROTATE_90,
    }
