"""The protocol's own code on simulated stores, in simulated time: thousands of schedules of crashes and lost answers.

`run(seed, engine)` is one schedule. A seed decides what fails, and when; the verdict is what the monitors saw.
"""

from support.simulation.world import ENGINES, Verdict, run

__all__ = ["ENGINES", "Verdict", "run"]
