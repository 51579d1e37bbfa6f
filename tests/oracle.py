"""DRAW once more: loops over 1-based indices and plain floats, straight from the paper.

Slow and with nothing clever in it, to judge the fast code by. Images are lists ``[c][b][a]``: row b
from 1 to B, column a from 1 to A, kept at list position b - 1 and a - 1. Nothing is imported from
the package.
"""

from dataclasses import dataclass, field
from math import exp, inf, log, pi, tanh
from typing import Any

Vector = list[float]
Matrix = list[Vector]


@dataclass
class Attention:
    """Equations (21) to (26); the coordinates count pixels from 1."""

    params: Vector
    n: int
    height: int
    width: int
    g_x: float = 0.0
    g_y: float = 0.0
    sigma2: float = 0.0
    delta: float = 0.0
    gamma: float = 0.0
    F_x: Matrix = field(default_factory=list)
    F_y: Matrix = field(default_factory=list)

    def __post_init__(self) -> None:
        g_x, g_y, log_sigma2, log_delta, log_gamma = self.params  # (21)
        self.g_x = (self.width + 1) / 2 * (g_x + 1)  # (22)
        self.g_y = (self.height + 1) / 2 * (g_y + 1)  # (23)
        self.delta = (max(self.width, self.height) - 1) / (self.n - 1) * exp(log_delta)  # (24)
        self.sigma2, self.gamma = exp(log_sigma2), exp(log_gamma)
        self.F_x = [self.row(self.g_x, i, self.width) for i in range(1, self.n + 1)]
        self.F_y = [self.row(self.g_y, j, self.height) for j in range(1, self.n + 1)]

    def row(self, g: float, i: int, length: int) -> Vector:
        mu = g + (i - self.n / 2 - 0.5) * self.delta  # (19), (20)
        row = [exp(-((a - mu) ** 2) / (2 * self.sigma2)) for a in range(1, length + 1)]
        return [value / sum(row) for value in row]  # (25), (26)

    def read(self, image: Matrix) -> Matrix:
        """gamma F_y x F_x^T: (27)."""
        return [
            [
                self.gamma
                * sum(
                    self.F_y[j][b] * image[b][a] * self.F_x[i][a]
                    for b in range(self.height)
                    for a in range(self.width)
                )
                for i in range(self.n)
            ]
            for j in range(self.n)
        ]

    def write(self, patch: Matrix) -> Matrix:
        """1 / gamma F_y^T w F_x: (29)."""
        return [
            [
                sum(
                    self.F_y[j][b] * patch[j][i] * self.F_x[i][a]
                    for j in range(self.n)
                    for i in range(self.n)
                )
                / self.gamma
                for a in range(self.width)
            ]
            for b in range(self.height)
        ]


@dataclass
class Drawing:
    """What one image went through: lists over the glimpses, and its two losses in nats."""

    canvas: list[list[Matrix]] = field(default_factory=list)
    z: Matrix = field(default_factory=list)
    mu: Matrix = field(default_factory=list)
    log_sigma: Matrix = field(default_factory=list)
    read_window: list[Attention] = field(default_factory=list)
    write_window: list[Attention] = field(default_factory=list)
    loss_x: float = 0.0
    loss_z: float = 0.0


def draw(
    weights: dict[str, Any],
    image_shape: tuple[int, int, int],
    noise: Matrix,
    read_size: int | None,
    write_size: int | None,
    x: list[Matrix] | None = None,
    components: int | None = None,
    label: Vector | None = None,
) -> Drawing:
    """Equations (1) to (18) and (27) to (29) for one image x, or without x for one sample.

    Args:
        weights: The parameters by name, as nested lists.
        noise: What to sample with, ``[t][k]``. P(Z_t) = N(0, I).
        components: Of a mixture of logistics; None for Bernoulli variables.
        label: Of the image, one-hot, for a network that is told it.
    """
    y = label or []
    channels, height, width = image_shape
    pixels = [(c, b, a) for c in range(channels) for b in range(height) for a in range(width)]
    planes = len(weights["canvas"])
    everywhere = [(p, b, a) for p in range(planes) for b in range(height) for a in range(width)]

    def linear(name: str, inputs: Vector) -> Vector:
        rows, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return [
            sum(w * value for w, value in zip(row, inputs, strict=True)) + b
            for row, b in zip(rows, bias, strict=True)
        ]

    canvas = weights["canvas"]
    h_enc, cell_enc = weights["h_enc"], weights["cell_enc"]
    h_dec, cell_dec = weights["h_dec"], weights["cell_dec"]
    drawing = Drawing()
    for e in noise:
        z = e  # (13)
        if x is not None:
            error = [
                [
                    [
                        x[c][b][a]
                        - (
                            sigmoid(canvas[c][b][a])
                            if components is None
                            else mixed_mean(mixture(canvas, (c, b, a), channels, components))
                        )
                        for a in range(width)
                    ]
                    for b in range(height)
                ]
                for c in range(channels)
            ]  # (3)
            r: Vector = []  # (4)
            if read_size is None:
                r = [image[c][b][a] for image in (x, error) for c, b, a in pixels]  # (17)
            else:
                window = Attention(linear("read_window", h_dec), read_size, height, width)
                for image in (x, error):
                    for c in range(channels):
                        r += [value for row in window.read(image[c]) for value in row]
                drawing.read_window.append(window)
            h_enc, cell_enc = lstm(linear("encoder", r + h_dec + h_enc + y), cell_enc)  # (5)
            mu, log_sigma = linear("mu", h_enc), linear("log_sigma", h_enc)  # (1), (2)
            z = [m + exp(s) * n for m, s, n in zip(mu, log_sigma, e, strict=True)]  # (6)
            drawing.mu.append(mu)
            drawing.log_sigma.append(log_sigma)
            for m, s in zip(mu, log_sigma, strict=True):  # (11), with its constant for every k
                drawing.loss_z += (m**2 + exp(s) ** 2 - log(exp(s) ** 2) - 1) / 2
        h_dec, cell_dec = lstm(linear("decoder", z + h_dec + y), cell_dec)  # (7), (14)
        patch = linear("patch", h_dec)  # (28)
        if write_size is None:
            written = {place: patch[i] for i, place in enumerate(everywhere)}  # (18)
        else:
            window = Attention(linear("write_window", h_dec), write_size, height, width)
            written = {}
            for c in range(planes):
                values = patch[c * write_size**2 : (c + 1) * write_size**2]
                square = [values[j * write_size : (j + 1) * write_size] for j in range(write_size)]
                image = window.write(square)
                written |= {(c, b, a): image[b][a] for b in range(height) for a in range(width)}
            drawing.write_window.append(window)
        canvas = [
            [[canvas[c][b][a] + written[c, b, a] for a in range(width)] for b in range(height)]
            for c in range(planes)
        ]  # (8), (15)
        drawing.canvas.append(canvas)
        drawing.z.append(z)
    if x is not None:
        for c, b, a in pixels:  # (9)
            if components is not None:
                parts = mixture(canvas, (c, b, a), channels, components)
                drawing.loss_x -= log(probability(round(255 * x[c][b][a]), parts))
                continue
            p = sigmoid(canvas[c][b][a])
            drawing.loss_x -= x[c][b][a] * log(p) + (1 - x[c][b][a]) * log(1 - p)
    return drawing


def lstm(gates: Vector, cell: Vector) -> tuple[Vector, Vector]:
    """Gers et al. (2000), gates in the order i, f, g, o."""
    size = len(cell)
    i, f, g, o = (gates[k * size : (k + 1) * size] for k in range(4))
    cell = [sigmoid(f[k]) * cell[k] + sigmoid(i[k]) * tanh(g[k]) for k in range(size)]
    return [sigmoid(o[k]) * tanh(cell[k]) for k in range(size)], cell


def sigmoid(value: float) -> float:
    return 1 / (1 + exp(-value))


Mixture = list[tuple[float, float, float]]


def mixture(
    canvas: list[Matrix], pixel: tuple[int, int, int], channels: int, components: int
) -> Mixture:
    """pi, m and s of every logistic of one number of an image."""
    c, b, a = pixel
    plane = [canvas[p][b][a] for p in range(c, len(canvas), channels)]
    logits = plane[2 * components :] or [0.0]
    total = sum(map(exp, logits))
    return [
        (exp(logits[k]) / total, plane[k], exp(plane[components + k])) for k in range(components)
    ]


def mixed_mean(parts: Mixture) -> float:
    """In [0, 1], with every m kept within the range of intensities, which is -1 to 1."""
    return sum(weight * (min(max(m, -1), 1) + 1) / 2 for weight, m, _ in parts)


def probability(level: int, parts: Mixture) -> float:
    """Of one of the intensities 0 to 255: the share of the mixture that is nearest to it."""
    low = -inf if level == 0 else (2 * level - 1) / 255 - 1
    high = inf if level == 255 else (2 * level + 1) / 255 - 1
    return sum(
        weight
        * (
            (1 if high == inf else sigmoid((high - m) / s))
            - (0 if low == -inf else sigmoid((low - m) / s))
        )
        for weight, m, s in parts
    )


def log_normal(value: float, mean: float, log_deviation: float) -> float:
    """log N(value; mean, exp(log_deviation)^2)."""
    return -(((value - mean) / exp(log_deviation)) ** 2) / 2 - log_deviation - log(2 * pi) / 2
