"""MuJoCo's interactive viewer as a window on the robots."""

import atexit
import importlib
import threading
import warnings
from typing import Any

import numpy as np

from biped.base.errors import MachineError, first_line
from biped.config.task import EnvConfig
from biped.robot.state import BipedState
from biped.sim.looks import add_ground_and_sky, generalised_positions, joint_addresses
from biped.sim.window import places

_VIEW = (2.0, 131.0, -14.0)
"""Distance (m), azimuth and elevation (degrees) of the camera, which follows the first robot."""

_TILES, _SKY = ((0.80, 0.83, 0.87), (0.70, 0.74, 0.79)), ((0.85, 0.89, 0.94), (0.55, 0.65, 0.78))
_CLOSING_S = 10.0
"""How long to wait for the last frame, which can take a second when a CPU renders it (s)."""


def show_model(spec: Any, cfg: EnvConfig) -> Any:
    """Return a `mujoco.MjModel` of all robots side by side on a chequered ground, for display only.

    Args:
        spec: one robot, with a free joint.
        cfg: gives the number of robots.
    """
    mujoco: Any = importlib.import_module("mujoco")
    world = mujoco.MjSpec()
    # Nothing is simulated here; MuJoCo would warn about different options.
    world.option.timestep, world.option.integrator = spec.option.timestep, spec.option.integrator
    add_ground_and_sky(world, _TILES, _SKY, repeat=2.0)
    world.worldbody.add_light(
        pos=[0, 0, 4], dir=[-0.3, 0.4, -1], type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, castshadow=False
    )
    for index in range(cfg.num_envs):
        world.attach(spec.copy(), prefix=f"{index} ", frame=world.worldbody.add_frame())
    return world.compile()


def _require_opengl() -> None:
    """Open a hidden window; if that fails, MuJoCo's viewer would end the process from C.

    Raises:
        OSError: no window opens; the message is GLFW's.
    """
    glfw: Any = importlib.import_module("glfw")
    with warnings.catch_warnings(action="ignore"):
        opened = bool(glfw.init())
        if opened:
            glfw.window_hint(glfw.VISIBLE, False)
            opened = bool(glfw.create_window(16, 16, "", None, None))
        _, reason = glfw.get_error()
        glfw.terminate()
    if not opened:
        raise OSError(reason.decode() if reason else "GLFW gives no reason")


class MujocoWindow:
    """MuJoCo's viewer; see `biped.sim.window.Window`."""

    def __init__(self, spec: Any, cfg: EnvConfig) -> None:
        """Open the window.

        Raises:
            MachineError: the machine cannot open a window.
        """
        self._mujoco: Any = importlib.import_module("mujoco")
        self._model = show_model(spec, cfg)
        self._data = self._mujoco.MjData(self._model)
        # The first robot's coordinates come first; the others follow in the same order.
        self._joints = joint_addresses(self._model, tuple(f"0 {name}" for name in cfg.robot.joint_names))
        self._width = self._model.nq // cfg.num_envs
        self._places = np.array(places(cfg.num_envs))
        others = set(threading.enumerate())
        try:
            _require_opengl()
            viewer: Any = importlib.import_module("mujoco.viewer")
            self._viewer = viewer.launch_passive(self._model, self._data, show_left_ui=False, show_right_ui=False)
        except Exception as error:  # GLFW, the driver and macOS raise different exceptions
            raise MachineError(f"MuJoCo's viewer does not open here ({first_line(error)}): use --web") from error
        self._threads = set(threading.enumerate()) - others
        # MuJoCo terminates GLFW when Python ends; a thread that still draws then crashes or never ends.
        atexit.register(self.close)
        camera = self._viewer.cam
        camera.type = self._mujoco.mjtCamera.mjCAMERA_TRACKING
        camera.trackbodyid = self._model.body(f"0 {cfg.robot.base_link}").id
        camera.distance, camera.azimuth, camera.elevation = _VIEW

    @property
    def is_open(self) -> bool:
        """Whether the user has not closed the window."""
        return self._viewer.is_running()

    def show(self, state: BipedState) -> None:
        """Draw the robots."""
        qpos = generalised_positions(state, self._joints, self._width)
        qpos[:, :2] += self._places
        with self._viewer.lock():
            self._data.qpos[:] = qpos.flatten()
            self._mujoco.mj_kinematics(self._model, self._data)
            self._mujoco.mj_comPos(self._model, self._data)
            self._mujoco.mj_camlight(self._model, self._data)
        self._viewer.sync()

    def close(self) -> None:
        """Close the window, and wait until all its threads have ended."""
        self._viewer.close()
        for thread in self._threads:
            thread.join(_CLOSING_S)
        atexit.unregister(self.close)
