"""A picture that the program paints, for those who have not brought one of their own."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw


def lighthouse() -> Image.Image:
    """A lighthouse at sunset, with a lot to look at: 240 x 180 pixels, in colour."""
    width, height, fine = 240, 180, 3
    rows = np.linspace(0, 1, height * fine)[:, None]
    columns = np.linspace(0, 1, width * fine)[None, :]
    sky, glow = np.array([64, 110, 170]), np.array([250, 205, 150])
    sea, deep = np.array([66, 120, 140]), np.array([18, 52, 82])
    horizon = 0.62
    above = (rows / horizon).clip(0, 1)[..., None]
    below = ((rows - horizon) / (1 - horizon)).clip(0, 1)[..., None]
    page = np.where(
        (rows < horizon)[..., None],
        sky + (glow - sky) * above**1.5,
        sea + (deep - sea) * below,
    ) + np.zeros((1, columns.size, 1))
    sun = np.hypot((columns - 0.27) * width / height, rows - 0.43)
    page += np.exp(-((sun / 0.2) ** 2))[..., None] * np.array([70, 60, 20])
    page[sun < 0.065] = (255, 236, 190)
    ripple = np.sin(260 * rows**2 + 3 * np.sin(9 * columns + 24 * rows))
    shine = np.exp(-(((columns - 0.27) / (0.05 + 0.25 * (rows - horizon))) ** 2))
    page += np.where(rows > horizon, ripple * (6 + 60 * shine), 0)[..., None]
    image = Image.fromarray(page.clip(0, 255).astype(np.uint8))

    draw = ImageDraw.Draw(image)

    def polygon(points: Sequence[tuple[float, float]], colour: str) -> None:
        draw.polygon([(x * fine, y * fine) for x, y in points], fill=colour)

    hill = [(x, 128 - 26 * math.sin(math.pi * (x - 130) / 170) ** 0.7) for x in range(131, 241)]
    polygon([*hill, (240, 150), (118, 138)], "#2f4a3c")
    for band in range(6):  # the tower, in stripes, narrower upwards
        low, high = 106 - 11 * band, 106 - 11 * (band + 1)
        wide, narrow = 11 - 0.9 * band, 11 - 0.9 * (band + 1)
        colour = "#f4efe6" if band % 2 else "#c8402f"
        corners = [(190 - wide, low), (190 + wide, low), (190 + narrow, high), (190 - narrow, high)]
        polygon(corners, colour)
    polygon([(181, 40), (199, 40), (199, 36), (181, 36)], "#2b2b33")
    polygon([(185, 36), (195, 36), (195, 26), (185, 26)], "#ffe9a3")
    polygon([(182, 26), (198, 26), (190, 17)], "#2b2b33")
    polygon([(187, 106), (193, 106), (193, 95), (187, 95)], "#3a2a25")
    polygon([(60, 141), (104, 141), (96, 150), (68, 150)], "#5a3326")  # a boat
    polygon([(82, 139), (82, 104), (106, 136)], "#f7f3ea")
    polygon([(79, 138), (79, 110), (62, 136)], "#e9dcc3")
    return image.resize((width, height), Image.Resampling.BOX)
