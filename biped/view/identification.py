"""From a log to the file of an identified robot, with a picture: `python -m biped identify LOG --out FILE`."""

import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from biped.base.command_line import as_word
from biped.base.errors import UsageError, disk_error, say, warn
from biped.base.files import write_whole
from biped.config.task import EnvConfig
from biped.sim.identified import check_file, doubts, refuse_existing, robot_content, table, write
from biped.sim.mujoco_hung import Excited
from biped.sim.mujoco_identify import Identified, identify
from biped.view.figures import make_figure

SHOWN_S = 6.0
"""Length of the traces (s)."""


@dataclass(frozen=True)
class IdentifyRequest:
    """What a command line asks for."""

    log: Path
    """The log."""
    robot: Path | None
    """The robot's file; None: the defaults."""
    out: Path
    """The robot's file that will be written."""
    plot: Path | None = None
    """The picture that will be drawn."""


def identify_log(cfg: EnvConfig, log: Excited, request: IdentifyRequest) -> None:
    """Identify a robot, print what was found, and write its file and the picture; nothing is overwritten.

    Args:
        cfg: the robot as its file says.
        log: what it did.
        request: names of files.

    Raises:
        UsageError: a file is there already, or the robot has none.
        MachineError: the robot cannot be simulated, or the disk refuses the write.
    """
    check_outputs(request)
    check_file(cfg, request.robot)
    found = identify(cfg, log, say)
    for line in table(found):
        say(line)
    for line in doubts(found):
        warn(line)
    # The fit takes minutes: a picture that fails must not cost its result.
    write(robot_content(found, cfg, request.robot, request.out, request.log), request.out)
    say(f"{request.out}: try it with python -m biped check-robot {as_word(request.out)}")
    if request.plot is not None:
        draw_identification(found, request.plot)
        say(f"plot: {request.plot}")


def check_outputs(request: IdentifyRequest) -> None:
    """Check that both files can be written, before minutes are spent on what they will hold.

    Raises:
        UsageError: one is there already, its folder is not, or both are the same file.
        MachineError: a folder cannot be written into.
    """
    flags = {"--out": request.out, "--plot": request.plot}
    for flag, path in flags.items():
        if path is None:
            continue
        refuse_existing(path, flag)
        if not path.absolute().parent.is_dir():
            raise UsageError(f"{flag}: there is no folder {path.parent}")
        try:
            with tempfile.TemporaryFile(dir=path.absolute().parent):
                pass
        except OSError as error:
            raise disk_error(path, error, flag) from error
    if request.plot is not None and request.plot.resolve() == request.out.resolve():
        raise UsageError(f"--out and --plot are the same file {request.out}: name two")


def draw_identification(found: Identified, out: Path) -> None:
    """Draw the held-out error of each joint before and after, and traces of the joint that is explained worst.

    The picture is written completely or not at all.

    Raises:
        MachineError: the disk refuses the write.
    """
    figure, (bars, traces, errors) = make_figure(3, 1, figsize=(11, 10), layout="constrained")
    before, after = (found.rmse_rad(simulated) for simulated in (found.before_rad, found.after_rad))
    places = np.arange(len(found.joint_names))
    bars.bar(places - 0.2, 1e3 * before, 0.4, color="0.6", label="by the robot's file")
    bars.bar(places + 0.2, 1e3 * after, 0.4, color="tab:blue", label="identified")
    bars.set_xticks(places, found.joint_names, rotation=20, ha="right")
    bars.set(yscale="log", ylabel="RMSE (mrad)", title="position error in the held-out part")
    bars.legend()
    joint, log = int(np.argmax(after)), found.log
    part = np.flatnonzero(found.held_out)
    part = part[log.time_s[part] < log.time_s[part[0]] + SHOWN_S]
    time_s = log.time_s[part]
    traces.plot(time_s, log.targets_rad[part, joint], color="0.8", drawstyle="steps-post", label="target")
    traces.plot(time_s, found.before_rad[part, joint], color="tab:orange", lw=1, label="by the robot's file")
    traces.plot(time_s, found.after_rad[part, joint], color="tab:blue", lw=1, label="identified")
    traces.plot(time_s, log.pos_rad[part, joint], ".", color="black", ms=3, label="measured")
    traces.set(ylabel="position (rad)", title=f"{found.joint_names[joint]}, the joint that is explained worst")
    traces.legend(ncols=4)
    for simulated, colour in ((found.before_rad, "tab:orange"), (found.after_rad, "tab:blue")):
        errors.plot(time_s, 1e3 * (simulated - log.pos_rad)[part, joint], color=colour, lw=1)
    errors.set(xlabel="time (s)", ylabel="simulated - measured (mrad)")
    for axis in (bars, traces, errors):
        axis.grid(alpha=0.3)
    picture = io.BytesIO()
    try:
        figure.savefig(picture, dpi=90, format=out.suffix[1:].lower() or "png")
        write_whole(out, picture.getvalue())
    except OSError as error:
        raise disk_error(out, error, "--plot") from error
