"""The numbers that can be chosen on the demo page, with their bounds."""

import reprlib
from typing import NamedTuple


class Control(NamedTuple):
    """A number that can be chosen on the page; it must be whole if its step is."""

    name: str
    low: float
    high: float
    start: float
    step: float

    def check(self, value: object) -> float:
        """Return the value as a number within the bounds.

        Raises:
            ValueError: If it is anything else.
        """
        whole = isinstance(self.step, int)
        number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
        if (
            number is None
            or not self.low <= number <= self.high  # this also refuses NaN
            or (whole and number != round(number))
        ):
            kind = "a whole number" if whole else "a number"
            raise ValueError(
                f"{self.name} must be {kind} from {self.low:g} to {self.high:g}, "
                f"got {reprlib.repr(value)}"
            )
        return round(number) if whole else float(number)


SEED = Control("seed", 0, 999_999, 0, 1)
COUNT = Control("count", 1, 25, 9, 1)
GLIMPSES = Control("glimpses", 1, 128, 64, 1)
CENTRE_X = Control("horizontal centre", -1.5, 1.5, 0.54, 0.01)
CENTRE_Y = Control("vertical centre", -1.5, 1.5, -0.3, 0.01)
STRIDE = Control("log stride", -4.0, 1.0, -0.85, 0.01)
WIDTH = Control("log variance", -4.0, 8.0, 2.8, 0.01)
INTENSITY = Control("log intensity", -3.0, 3.0, 0.0, 0.01)
SIZE = Control("N", 1, 32, 12, 1)
CLUTTER = Control("pieces of clutter", 0, 32, 8, 1)
