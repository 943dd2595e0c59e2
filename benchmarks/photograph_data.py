"""Pictures that are no photographs, and photographs in bad light: both made from real photos, with crops.

Effects take and give (H, W, 3) uint8 RGB. `crops_of` runs them through frpipe's own detector and alignment
and keeps what it finds in a cache folder, so that a fit or a report is a matter of seconds the second time.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from frpipe.core.config import load_config
from frpipe.jobs.face_pipeline import FacePipeline, pipeline_of

Effect = Callable[[np.ndarray], np.ndarray]


def _grey(pixels: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)


def _rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def _lookup(pixels: np.ndarray, curve: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    table = np.clip(np.rint(curve(np.arange(256.0))), 0, 255).astype(np.uint8)
    return table[pixels]


# -- negatives


def negative(pixels: np.ndarray) -> np.ndarray:
    return 255 - pixels


def grey_negative(pixels: np.ndarray) -> np.ndarray:
    return _rgb(255 - _grey(pixels))


def film_negative(pixels: np.ndarray) -> np.ndarray:
    """A colour negative through the orange mask of its film."""
    return ((255 - pixels) * np.array([1.0, 0.72, 0.5])).astype(np.uint8)


def faint_negative(pixels: np.ndarray) -> np.ndarray:
    """Inverted at 40 % of the contrast."""
    return _lookup(pixels, lambda v: 178 - 0.4 * v)


# -- drawings


def sobel(pixels: np.ndarray) -> np.ndarray:
    grey = _grey(pixels).astype(np.float32)
    return _rgb(255 - np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)))


def find_edges(pixels: np.ndarray) -> np.ndarray:
    """Pillow's FIND_EDGES, inverted: a Laplacian of 3x3, per channel."""
    kernel = np.full((3, 3), -1.0)
    kernel[1, 1] = 8
    return 255 - cv2.filter2D(pixels, -1, kernel)


def dodge(pixels: np.ndarray) -> np.ndarray:
    """The pencil sketch of tutorials: grey divided by its inverse, blurred and inverted."""
    grey = _grey(pixels)
    return _rgb(cv2.divide(grey, 255 - cv2.GaussianBlur(255 - grey, (21, 21), 0), scale=256))


def soft_dodge(pixels: np.ndarray) -> np.ndarray:
    grey = _grey(pixels)
    sigma = 0.05 * min(grey.shape)
    return _rgb(cv2.divide(grey, 255 - cv2.GaussianBlur(255 - grey, (0, 0), sigma), scale=256))


def canny(pixels: np.ndarray) -> np.ndarray:
    return _rgb(255 - cv2.Canny(_grey(pixels), 60, 140))


def thick_canny(pixels: np.ndarray) -> np.ndarray:
    return _rgb(255 - cv2.dilate(cv2.Canny(_grey(pixels), 60, 140), np.ones((2, 2), np.uint8)))


def chalk(pixels: np.ndarray) -> np.ndarray:
    """White lines on black: edges as they are computed, not inverted."""
    return 255 - sobel(pixels)


def adaptive(pixels: np.ndarray) -> np.ndarray:
    grey = cv2.medianBlur(_grey(pixels), 3)
    side = (min(grey.shape) // 22) | 1
    return _rgb(cv2.adaptiveThreshold(grey, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, side, 5))


def adaptive_gauss(pixels: np.ndarray) -> np.ndarray:
    return _rgb(
        cv2.adaptiveThreshold(_grey(pixels), 255, cv2.ADAPTIVE_THRESH_GAUSSIAN_C, cv2.THRESH_BINARY, 15, 7)
    )


def xdog(pixels: np.ndarray) -> np.ndarray:
    """Extended difference of Gaussians (Winnemoeller, Kyprianidis, Olsen, C&G 36(6), 2012)."""
    grey = _grey(pixels).astype(np.float32) / 255
    near = cv2.GaussianBlur(grey, (0, 0), 1.0)
    sharp = near + 15 * (near - cv2.GaussianBlur(grey, (0, 0), 1.6))
    return _rgb(255 * np.where(sharp >= 0.5, 1.0, 1 + np.tanh(6 * (sharp - 0.5))))


def pencil(pixels: np.ndarray) -> np.ndarray:
    """OpenCV's pencilSketch, grey."""
    grey, _ = cv2.pencilSketch(np.ascontiguousarray(pixels[:, :, ::-1]), sigma_s=60, sigma_r=0.07)
    return _rgb(grey)


def colour_pencil(pixels: np.ndarray) -> np.ndarray:
    """OpenCV's pencilSketch, in colours."""
    _, colour = cv2.pencilSketch(np.ascontiguousarray(pixels[:, :, ::-1]), sigma_s=60, sigma_r=0.07)
    return np.ascontiguousarray(colour[:, :, ::-1])


# -- 1-bit copies


def otsu(pixels: np.ndarray) -> np.ndarray:
    return _rgb(cv2.threshold(_grey(pixels), 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[1])


def half(pixels: np.ndarray) -> np.ndarray:
    return _rgb(cv2.threshold(_grey(pixels), 127, 255, cv2.THRESH_BINARY)[1])


def dithered(pixels: np.ndarray) -> np.ndarray:
    """Floyd and Steinberg's error diffusion, as Pillow does it."""
    return np.asarray(Image.fromarray(pixels).convert("1").convert("RGB"))


def ordered(pixels: np.ndarray) -> np.ndarray:
    """Bayer's ordered dither, 4x4."""
    bayer = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) * 16 + 8
    height, width = pixels.shape[:2]
    return _rgb(255 * (_grey(pixels) > np.tile(bayer, (height // 4 + 1, width // 4 + 1))[:height, :width]))


def poster(pixels: np.ndarray) -> np.ndarray:
    """Two levels in each channel: eight colours."""
    return np.where(pixels > 127, 255, 0).astype(np.uint8)


# -- ruined by compression


def jpeg(quality: int) -> Effect:
    def effect(pixels: np.ndarray) -> np.ndarray:
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, "JPEG", quality=quality)
        return np.asarray(Image.open(data).convert("RGB"))

    return effect


# -- photographs all the same


def small(pixels: np.ndarray) -> np.ndarray:
    """A face 40 pixels high, where LFW's are about 115, enlarged again."""
    height, width = pixels.shape[:2]
    reduced = cv2.resize(pixels, None, fx=40 / 115, fy=40 / 115, interpolation=cv2.INTER_AREA)
    return cv2.resize(reduced, (width, height), interpolation=cv2.INTER_CUBIC)


def gamma(exponent: float) -> Effect:
    return lambda pixels: _lookup(pixels, lambda v: 255 * (v / 255) ** exponent)


def contrast(factor: float, centre: float = 118) -> Effect:
    return lambda pixels: _lookup(pixels, lambda v: centre + factor * (v - centre))


def blur(sigma: float) -> Effect:
    return lambda pixels: cv2.GaussianBlur(pixels, (0, 0), sigma)


def noise(sigma: float) -> Effect:
    def effect(pixels: np.ndarray) -> np.ndarray:
        grains = np.random.default_rng(int(pixels[::9].sum())).normal(0, sigma, pixels.shape)
        return np.clip(pixels + grains, 0, 255).astype(np.uint8)

    return effect


def tint(red: float, green: float, blue: float) -> Effect:
    return lambda pixels: np.clip(pixels * np.array([red, green, blue]), 0, 255).astype(np.uint8)


def sunglasses(pixels: np.ndarray) -> np.ndarray:
    """Black lenses where deep-funneled LFW has its eyes."""
    painted = pixels.copy()
    for x in (105, 146):
        cv2.ellipse(painted, (x, 112), (19, 14), 0, 0, 360, (12, 12, 14), -1, cv2.LINE_AA)
    cv2.line(painted, (105, 107), (146, 107), (15, 15, 15), 4, cv2.LINE_AA)
    return painted


def side_light(pixels: np.ndarray) -> np.ndarray:
    """From full light at the left to a tenth at the right, across the face."""
    ramp = np.clip(np.linspace(2.4, -1.3, pixels.shape[1]), 0.1, 1.0)[None, :, None]
    return (pixels * ramp).astype(np.uint8)


def back_light(pixels: np.ndarray) -> np.ndarray:
    """The face at a quarter of its light, the surroundings almost white."""
    height, width = pixels.shape[:2]
    mask = np.zeros((height, width), np.float32)
    cv2.ellipse(mask, (width // 2, height // 2), (int(width * 0.24), int(height * 0.34)), 0, 0, 360, 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), 9)[:, :, None]
    return np.clip(pixels * 0.25 * mask + (pixels * 0.3 + 170) * (1 - mask), 0, 255).astype(np.uint8)


def grey_photo(pixels: np.ndarray) -> np.ndarray:
    return _rgb(_grey(pixels))


def equalised(pixels: np.ndarray) -> np.ndarray:
    return _rgb(cv2.equalizeHist(_grey(pixels)))


NEGATIVES: dict[str, Effect] = {
    "negative": negative,
    "grey negative": grey_negative,
    "film negative": film_negative,
    "faint negative": faint_negative,
}
DRAWINGS: dict[str, Effect] = {
    "sobel": sobel,
    "find edges": find_edges,
    "dodge": dodge,
    "soft dodge": soft_dodge,
    "canny": canny,
    "thick canny": thick_canny,
    "chalk": chalk,
    "adaptive": adaptive,
    "adaptive gauss": adaptive_gauss,
    "xdog": xdog,
    "pencil": pencil,
    "colour pencil": colour_pencil,
}
ONE_BIT: dict[str, Effect] = {
    "otsu": otsu,
    "half": half,
    "dithered": dithered,
    "ordered": ordered,
    "poster": poster,
}
RUINED: dict[str, Effect] = {"q3": jpeg(3), "q5": jpeg(5), "q8": jpeg(8)}
GOOD: dict[str, Effect] = {
    "as is": lambda pixels: pixels,
    "grey": grey_photo,
    "q30": jpeg(30),
    "q15": jpeg(15),
    "face of 40 px": small,
    "gamma 2.5": gamma(2.5),
    "gamma 0.4": gamma(0.4),
    "blur 2": blur(2),
    "blur 3.5": blur(3.5),
    "noise 15": noise(15),
    "noise 25": noise(25),
    "contrast 0.3": contrast(0.3),
    "contrast 1.8": contrast(1.8),
    "overexposed": lambda pixels: _lookup(pixels, lambda v: v * 1.8),
    "sunglasses": sunglasses,
    "side light": side_light,
    "back light": back_light,
    "blue light": tint(0.6, 0.8, 1.15),
    "grey equalised": equalised,
    "dark and noisy": lambda pixels: noise(8)(_lookup(pixels, lambda v: v * 0.25)),
}
BAD = {**NEGATIVES, **DRAWINGS, **ONE_BIT, **RUINED}
SCALES = ("1", "2", "4", "then 2")


def scaled(effect: Effect, scale: str) -> Effect:
    """The effect on a photo enlarged 2 or 4 times, or, `then 2`, the effect's result enlarged."""

    def larger(pixels: np.ndarray) -> np.ndarray:
        if scale == "then 2":
            return cv2.resize(effect(pixels), None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
        if scale == "1":
            return effect(pixels)
        factor = float(scale)
        return effect(cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC))

    return larger


def pipeline(policy: str = "centre-largest") -> FacePipeline:
    return pipeline_of(load_config(overrides=[f"detect.policy={policy}"]))


def encoded(pixels: np.ndarray, lossless: bool) -> bytes:
    data = io.BytesIO()
    image = Image.fromarray(pixels)
    if lossless:
        image.save(data, "PNG", compress_level=1)
    else:
        image.save(data, "JPEG", quality=95)
    return data.getvalue()


def crops_of(
    name: str, paths: Sequence[Path], effect: Effect, cache: Path, policy: str = "centre-largest"
) -> tuple[np.ndarray, np.ndarray]:
    """(n, 112, 112, 3) uint8 crops and (n,) indices into `paths`; every other photo is saved as PNG."""
    text = "\n".join([name, policy, *(str(path) for path in paths)])
    kept = cache / f"{name.replace(' ', '-')}-{hashlib.sha256(text.encode()).hexdigest()[:10]}.npz"
    if not kept.exists():
        runner = pipeline(policy)
        crops, places = [], []
        for start in range(0, len(paths), 64):
            photos = [np.asarray(Image.open(path).convert("RGB")) for path in paths[start : start + 64]]
            data = [encoded(effect(photo), bool(at % 2)) for at, photo in enumerate(photos)]
            for at, located in enumerate(runner.locate(data)):
                crops += located.crops
                places += [start + at] * len(located.crops)
        np.savez(kept, crops=np.array(crops, np.uint8).reshape(-1, 112, 112, 3), places=np.array(places, int))
    found = np.load(kept)
    return found["crops"], found["places"]


def lfw(shared: Path) -> list[list[Path]]:
    """The photos of each person, by name."""
    folders = sorted((shared / "data" / "lfw" / "images").iterdir())
    return [sorted(folder.glob("*.jpg")) for folder in folders if folder.is_dir()]
