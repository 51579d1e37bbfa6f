"""DRAW, a recurrent network that draws (Gregor et al., ICML 2015, arXiv:1502.04623), in 100 lines.

    python draw_in_100_lines.py                                # learns to draw rectangles
    python draw_in_100_lines.py binarized_mnist_train.amat.gz  # or digits; or any .npy (n, s, s)

It takes some minutes on a laptop, and samples.gif shows the network drawing. The hundred lines are
those of the model; numbers in () are the paper's equations. Shapes: images (B, C, H, W).
"""

import math
import sys

import numpy
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits


def filterbank(g: Tensor, delta: Tensor, sigma2: Tensor, n: int, length: int) -> Tensor:
    i, a = (torch.arange(1, m + 1, device=g.device) for m in (n, length))  # both count from 1
    mu = g + (i - n / 2 - 0.5) * delta  # (19) (20) where the n filters are, in pixels
    distance = (a - mu[..., None]) ** 2 / (2 * sigma2[..., None])
    return torch.softmax(-distance, -1)[:, None]  # (25) (26) exp(-distance) / Z, but never 0 / 0


def attend(params: Tensor, n: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    g_x, g_y, log_sigma2, log_delta, log_gamma = params.chunk(5, 1)  # (21)
    g_x = (width + 1) / 2 * (g_x + 1)  # (22)
    g_y = (height + 1) / 2 * (g_y + 1)  # (23)
    delta = (max(width, height) - 1) / max(n - 1, 1) * log_delta.exp()  # (24)
    F_x = filterbank(g_x, delta, log_sigma2.exp(), n, width)
    F_y = filterbank(g_y, delta, log_sigma2.exp(), n, height)
    return F_y, F_x, log_gamma.exp()[..., None, None]


def window(dec_size: int, n: int, side: int, extent: float, gamma: float) -> nn.Linear:
    head = nn.Linear(dec_size, 5)  # at first centred, over `extent` of the image, sigma = delta / 2
    log_sigma = math.log(extent * (side - 1) / max(n - 1, 1) / 2)
    first = torch.tensor([0, 0, 2 * log_sigma, math.log(extent), math.log(gamma)])
    nn.init.normal_(head.weight, std=0.01)
    head.bias = nn.Parameter(first)
    return head


def lstm(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    i, f, g, o = gates.chunk(4, 1)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell


class DRAW(nn.Module):
    def __init__(
        self,
        image_shape: tuple[int, int, int] = (1, 28, 28),
        glimpses: int = 64,
        enc_size: int = 256,
        dec_size: int = 256,
        z_size: int = 100,
        read_size: int | None = 2,  # None: no attention, see the whole image
        write_size: int | None = 5,  # None: no attention, change the whole canvas
    ) -> None:
        super().__init__()
        self.shape, self.glimpses, self.z_size = image_shape, glimpses, z_size
        self.n_read, self.n_write = read_size, write_size
        c, h, w = image_shape
        r_size = 2 * c * (read_size**2 if read_size else h * w)
        self.encoder = nn.Linear(r_size + dec_size + enc_size, 4 * enc_size)
        self.decoder = nn.Linear(z_size + dec_size, 4 * dec_size)
        self.mu, self.log_sigma = nn.Linear(enc_size, z_size), nn.Linear(enc_size, z_size)
        self.patch = nn.Linear(dec_size, c * (write_size**2 if write_size else h * w))
        if read_size:
            self.read_window = window(dec_size, read_size, max(h, w), 0.5, 1.0)
        if write_size:  # 1 / gamma = delta^2, because the filters spread a patch thin
            delta = (max(h, w) - 1) / max(write_size - 1, 1)
            self.write_window = window(dec_size, write_size, max(h, w), 1.0, delta**-2)
        self.canvas = nn.Parameter(torch.zeros(image_shape))  # the initial states are learned
        self.h_enc, self.cell_enc = (nn.Parameter(torch.zeros(enc_size)) for _ in range(2))
        self.h_dec, self.cell_dec = (nn.Parameter(torch.zeros(dec_size)) for _ in range(2))

    def read(self, x: Tensor, error: Tensor, h_dec: Tensor) -> Tensor:
        images = torch.cat([x, error], 1)
        if self.n_read is None:
            return images.flatten(1)  # (17)
        F_y, F_x, gamma = attend(self.read_window(h_dec), self.n_read, *self.shape[1:])
        return (gamma * (F_y @ images @ F_x.mT)).flatten(1)  # (27)

    def write(self, h_dec: Tensor) -> Tensor:
        patch: Tensor = self.patch(h_dec)
        if self.n_write is None:
            return patch.view(-1, *self.shape)  # (18)
        patch = patch.view(-1, self.shape[0], self.n_write, self.n_write)  # (28)
        F_y, F_x, gamma = attend(self.write_window(h_dec), self.n_write, *self.shape[1:])
        return F_y.mT @ patch @ F_x / gamma  # (29)

    def forward(self, noise: Tensor, x: Tensor | None = None) -> tuple[list[Tensor], Tensor]:
        """Draw after images x, or freely: from noise (T, B, z), the canvases, and the KL (B,)."""
        batch = noise.shape[1]
        canvas, kl = self.canvas.expand(batch, -1, -1, -1), noise.new_zeros(batch)
        h_enc, cell_enc = self.h_enc.expand(batch, -1), self.cell_enc.expand(batch, -1)
        h_dec, cell_dec = self.h_dec.expand(batch, -1), self.cell_dec.expand(batch, -1)
        canvases = []
        for z in noise:  # (13)
            if x is not None:
                error = x - canvas.sigmoid()  # (3)
                r = self.read(x, error, h_dec)  # (4)
                gates = self.encoder(torch.cat([r, h_dec, h_enc], 1))
                h_enc, cell_enc = lstm(gates, cell_enc)  # (5)
                mu, log_sigma = self.mu(h_enc), self.log_sigma(h_enc)  # (1) (2)
                z = mu + log_sigma.exp() * z  # (6)
                kl = kl + (mu**2 + (2 * log_sigma).exp() - 2 * log_sigma - 1).sum(1) / 2  # (10-11)
            h_dec, cell_dec = lstm(self.decoder(torch.cat([z, h_dec], 1)), cell_dec)  # (7) (14)
            canvas = canvas + self.write(h_dec)  # (8) (15)
            canvases.append(canvas)
        return canvases, kl

    def loss(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Nats to describe each image: minus the evidence lower bound, (B,)."""
        if noise is None:
            noise = torch.randn(self.glimpses, len(x), self.z_size, device=x.device)
        canvases, kl = self.forward(noise, x)
        nll: Tensor = binary_cross_entropy_with_logits(canvases[-1], x, reduction="none")  # (9)
        return nll.sum((1, 2, 3)) + kl  # (12)

    @torch.no_grad()
    def generate(self, n: int) -> list[Tensor]:
        """n new images, after every glimpse: T tensors of pixel probabilities."""
        noise = torch.randn(self.glimpses, n, self.z_size, device=self.canvas.device)
        return [canvas.sigmoid() for canvas in self(noise)[0]]  # (16)


def rectangles(n: int, side: int = 28) -> Tensor:
    centre_y, centre_x = torch.randint(side // 3, side - side // 3, (2, n, 1, 1, 1))
    height, width = torch.randint(2, side // 3, (2, n, 1, 1, 1))
    y, x = torch.arange(side)[:, None], torch.arange(side)
    distance = torch.maximum((y - centre_y).abs() - height, (x - centre_x).abs() - width)
    return (distance // 2 == 0).float()


def load(path: str) -> Tensor:
    images = numpy.load(path) if path.endswith(".npy") else numpy.loadtxt(path, numpy.float32)
    side = math.isqrt(images[0].size)
    return torch.tensor(images / images.max()).float().view(-1, 1, side, side)


def main(steps: int = 1000) -> None:
    if "--help" in sys.argv:
        sys.exit(__doc__)
    images = load(sys.argv[1]) if len(sys.argv) > 1 else rectangles(10_000)
    h, w = images.shape[2:]
    model = DRAW((1, h, w), glimpses=12)
    model.canvas.data = images.mean(0).clamp(0.01, 0.99).logit()  # begin with the mean image
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(1, steps + 1):
        x = images[torch.randint(len(images), (100,))].bernoulli()
        loss = model.loss(x).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step}: {loss.item():.1f} nats", flush=True)
    sheets = [p.view(8, 8, h, w).transpose(1, 2).reshape(8 * h, 8 * w) for p in model.generate(64)]
    frames = [Image.fromarray((255 * sheet).byte().numpy()) for sheet in sheets]
    frames[0].save("samples.gif", save_all=True, append_images=frames[1:], duration=200, loop=0)


if __name__ == "__main__":
    main()
