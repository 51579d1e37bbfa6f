"""See what a model did: turn traces into pictures, animations and plots.

Pictures are Pillow images, animations are lists of them, and plots are matplotlib figures. Nothing
is shown or printed, and only `save_animation` writes a file.
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
