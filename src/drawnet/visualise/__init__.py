"""See what a model did: traces become pictures, moving pictures and plots.

Every function takes records and tensors and returns a Pillow image, a list of them or a matplotlib
figure; none shows or prints anything, and only `save_animation` writes a file.
"""

from drawnet.visualise.animation import animate, animate_glimpses, save_animation
from drawnet.visualise.curves import plot_curves, read_curve
from drawnet.visualise.paint import cover, grid
from drawnet.visualise.plots import plot_nats, plot_transmission, strip
from drawnet.visualise.rendering import refine, render

__all__ = [
    "animate",
    "animate_glimpses",
    "cover",
    "grid",
    "plot_curves",
    "plot_nats",
    "plot_transmission",
    "read_curve",
    "refine",
    "render",
    "save_animation",
    "strip",
]
