"""A picture of where the gait moves a robot's legs: `python -m biped check-robot FILE --picture OUT.png`."""

from collections.abc import Sequence
from pathlib import Path

from biped.base.errors import disk_error
from biped.sim.swing_pose import Leg
from biped.view.figures import make_figure


def draw_swing(legs: Sequence[Leg], out: Path) -> None:
    """Draw each leg from the side, standing and at mid-swing; a leg that swings rightly goes forward and up.

    Raises:
        MachineError: the disk refuses the write.
    """
    figure, axes = make_figure(1, len(legs), figsize=(4.5 * len(legs), 5), layout="constrained", sharey=True)
    for axis, leg, side in zip(axes, legs, ("left", "right"), strict=True):
        for line, colour, label in ((leg.standing_m, "0.6", "standing"), (leg.swinging_m, "tab:blue", "mid-swing")):
            axis.plot(line[:, 0], line[:, 1], "o-", color=colour, lw=3, label=label)
        axis.axhline(0.0, color="black", lw=0.8)
        axis.set(title=f"{side} leg: {leg.foot}", xlabel="forward (m)", aspect="equal")
        middle, reach = leg.standing_m[0, 0], 0.6 * leg.standing_m[0, 1]
        axis.set(xlim=(middle - reach, middle + reach), ylim=(-0.1 * reach, 2.0 * reach))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("up (m)")
    axes[0].legend(loc="upper left")
    try:
        figure.savefig(out, dpi=90)
    except OSError as error:
        raise disk_error(out, error, "--picture") from error
