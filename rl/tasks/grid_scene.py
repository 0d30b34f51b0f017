"""The pictures of the grid task: nine cells, each empty or holding one coloured shape, drawn with jitter and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

COLOURS = ("red", "green", "blue")
SHAPES = ("circle", "square", "triangle")
ATTRIBUTES = COLOURS + SHAPES

GRID = 3
CELL = 28  # pixels: two 14-pixel patches, merged two by two, make one visual token a cell

_PIGMENTS = {"red": (205, 60, 60), "green": (60, 175, 75), "blue": (65, 90, 210)}
_BACKGROUND = 225.0


@dataclass(frozen=True)
class Look:
    """How hard a scene is to see.

    Attributes:
        noise: The most pixel noise, standard deviation in grey levels of 255; each scene draws its own, from 0 on.
        shift: The most a shape is off its cell's centre, in pixels.
        stain: Standard deviation of a shape's pigment around its colour, in grey levels.
    """

    noise: float
    shift: float
    stain: float


@dataclass(frozen=True)
class Scene:
    """What a picture shows: nine cells, row by row, each ``None`` or (colour, shape)."""

    cells: tuple[tuple[str, str] | None, ...]

    def rows(self, attribute: str) -> tuple[int, ...]:
        """How many cells of each row show the colour or shape."""
        found = [cell is not None and attribute in cell for cell in self.cells]
        return tuple(sum(found[row * GRID : (row + 1) * GRID]) for row in range(GRID))

    def count(self, attribute: str) -> int:
        return sum(self.rows(attribute))


def sample_scene(rng: np.random.Generator) -> Scene:
    """A scene with its own density, so that some are nearly empty and easy, and others full and hard."""
    empty = rng.uniform(0.05, 0.65)
    filled = rng.random(GRID**2) >= empty
    kinds = rng.integers((len(COLOURS), len(SHAPES)), size=(GRID**2, 2))
    return Scene(tuple((COLOURS[c], SHAPES[s]) if full else None for full, (c, s) in zip(filled, kinds, strict=True)))


def draw(scene: Scene, look: Look, rng: np.random.Generator) -> Image.Image:
    """The scene as an 84 x 84 RGB picture."""
    pixels = np.full((GRID * CELL, GRID * CELL, 3), _BACKGROUND)
    for index, cell in enumerate(scene.cells):
        if cell is not None:
            top, left = CELL * (index // GRID), CELL * (index % GRID)
            pigment = np.array(_PIGMENTS[cell[0]]) + rng.normal(0, look.stain, 3)
            pixels[top : top + CELL, left : left + CELL][_silhouette(cell[1], look, rng)] = pigment
    pixels += rng.standard_normal(pixels.shape, dtype=np.float32) * rng.uniform(0, look.noise)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _silhouette(shape: str, look: Look, rng: np.random.Generator) -> np.ndarray:
    """Which pixels of a cell the shape covers, (CELL, CELL) booleans."""
    radius = rng.uniform(6, 10)
    centre = (CELL - 1) / 2 + rng.uniform(-look.shift, look.shift, 2)
    y, x = (np.arange(CELL)[:, None] - centre[0]) / radius, (np.arange(CELL)[None, :] - centre[1]) / radius
    if shape == "circle":
        return x**2 + y**2 <= 1
    if shape == "square":
        return np.maximum(abs(x), abs(y)) <= 0.87
    return (y <= 0.8) & (2 * abs(x) <= y + 1.1)
