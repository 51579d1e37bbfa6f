"""Draw the pictures of these pages: `python docs/images/draw.py out/run` after a quickstart."""

import sys
from pathlib import Path

import torch
from torch.nn.functional import interpolate

from drawnet import DRAW, data
from drawnet.explore import transmit
from drawnet.figures import attention_grid
from drawnet.visualise import animate, grid, plot_nats, plot_transmission, render

HERE = Path(__file__).parent


@torch.no_grad()
def main(run: str) -> None:
    """Save every picture beside this file."""
    model = DRAW.from_pretrained(run)
    digits = data.load("digits", "test")
    noise = torch.Generator().manual_seed(0)
    x, _ = digits.batch(torch.arange(100))

    large = interpolate(x[3:4], (112, 112), mode="bicubic")[0].clamp(0, 1)
    attention_grid(large).savefig(HERE / "attention-grid.png", dpi=110)
    copied = model(x, generator=noise)
    plot_nats(copied, x).savefig(HERE / "nats.png", dpi=110)
    sent = transmit(model, model(x[:6], generator=noise), (0, 2, 4, 6, 8, 10, 12), generator=noise)
    plot_transmission(sent).savefig(HERE / "transmission.png", dpi=110)
    drawn = DRAW.from_pretrained("mnist").generate(6, generator=noise)
    grid(drawn.likelihood.mean(render(drawn, scale=8)), columns=6, scale=1, gap=8).save(
        HERE / "render.png", optimize=True
    )
    few = model(x[:6], generator=noise)
    animate(few, x[:6], columns=6)[6].save(HERE / "frame.png", optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
