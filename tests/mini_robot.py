"""A small robot for tests, as an MJCF or a URDF, with one thing about it changed at a time.

Two legs of 30 cm with hip roll, hip pitch, knee and ankle: 2 kg. Every trait of public models that a test needs is an
argument; the robot's file names links and joints as a person would.
"""

import copy
import json
from pathlib import Path
from typing import Any

SIDES = (("l", 1.0), ("r", -1.0))
POSE_RAD = {"roll": 0.0, "hip": -0.35, "knee": 0.7, "ankle": -0.35}
"""A standing pose with bent knees."""
LEGS_M = 0.312
"""Height of the hips in that pose."""

ROBOT: dict[str, Any] = {
    "base_link": "hips",
    "torso_link": "hips",
    "foot_links": ["foot_l", "foot_r"],
    "foot_sole_offset_m": [0.02, 0.0, -0.03],
    "joint_names": [f"{name}_{side}" for side, _ in SIDES for name in POSE_RAD],
    "swing_joints": [f"{name}_{side}" for side, _ in SIDES for name in ("hip", "knee", "ankle")],
    "swing_signs": [-1.0, 1.0, -1.0],
    "mirror_joints": [f"{name}_{side}" for side in "rl" for name in POSE_RAD],
    "mirror_signs": [-1.0, 1.0, 1.0, 1.0] * 2,
    "default_joint_pos_rad": [*POSE_RAD.values()] * 2,
    "default_base_height_m": LEGS_M,
    "kp_nm_per_rad": 20.0,
    "kd_nm_s_per_rad": 0.5,
}
"""The section `robot` of its file."""


def mjcf(
    *,
    default: str = "",
    option: str = 'integrator="implicitfast"',
    float_by: str = "<freejoint/>",
    sole: str = 'contype="1" conaffinity="1"',
    foot_shape: str = 'type="box" size="0.07 0.04 0.01" pos="0.02 0 -0.02"',
    right_foot: tuple[str, str] = ("", ""),
    right_axes: dict[str, float] | None = None,
    joint: str = "",
    in_hips: str = "",
    in_world: str = "",
    after: str = "",
    shift_m: float = 0.0,
    right_shin_kg: float = 0.15,
) -> str:
    """Return the robot's MJCF.

    Args:
        default: more of the defaults.
        option: attributes of the options.
        float_by: joints of the base.
        sole: attributes by which the soles collide.
        foot_shape: shape of the soles, in the feet's frames.
        right_foot: an attribute of the right foot's body, and the place of the sole in it, if its frame differs.
        right_axes: factors on axes of the right leg's joints, by name.
        joint: more attributes of every joint.
        in_hips: more of the base.
        in_world: more of the world.
        after: sections behind the world.
        shift_m: how far the base's frame lies under the hips (m).
        right_shin_kg: mass of the right shin (kg); the left one has 0.15.
    """
    factors = right_axes or {}
    up = shift_m

    def leg(side: str, y: float) -> str:
        sign = {name: factors.get(name, 1.0) if side == "r" else 1.0 for name in POSE_RAD}
        frame, shape = right_foot if side == "r" and right_foot[0] else ("", foot_shape)
        shin_kg = right_shin_kg if side == "r" else 0.15
        return f"""
      <body name="hip_{side}" pos="0 {0.06 * y:g} {up:g}">
        <joint name="roll_{side}" axis="{sign["roll"]:g} 0 0" {joint}/>
        <geom type="box" size="0.01 0.01 0.01" mass="0.05"/>
        <body name="thigh_{side}">
          <joint name="hip_{side}" axis="0 {sign["hip"]:g} 0" {joint}/>
          <geom type="box" size="0.015 0.015 0.07" pos="0 0 -0.075" mass="0.2"/>
          <body name="shin_{side}" pos="0 0 -0.15">
            <joint name="knee_{side}" axis="0 {sign["knee"]:g} 0" {joint}/>
            <geom type="box" size="0.012 0.012 0.07" pos="0 0 -0.075" mass="{shin_kg:g}"/>
            <body name="foot_{side}" pos="0 0 -0.15" {frame}>
              <joint name="ankle_{side}" axis="0 {sign["ankle"]:g} 0" {joint}/>
              <geom name="sole_{side}" {shape} mass="0.1" {sole}/>
            </body>
          </body>
        </body>
      </body>"""

    return f"""<mujoco model="mini">
  <option {option}/>
  <default>
    <joint type="hinge" armature="0.01" damping="0.1"/>
    <geom contype="0" conaffinity="0"/>
    {default}
  </default>
  <worldbody>
    {in_world}
    <body name="hips" pos="0 0 0.4">
      {float_by}
      <geom type="box" size="0.05 0.09 0.08" pos="0 0 {0.09 + up:g}" mass="1"/>
      {in_hips}{"".join(leg(side, y) for side, y in SIDES)}
    </body>
  </worldbody>
  {after}
</mujoco>
"""


def with_odd_contacts(model: str) -> str:
    """Return an MJCF in which all that its geoms do not state is by default otherwise than MuJoCo has it."""
    off = '<geom contype="0" conaffinity="0"/>'
    assert off in model
    return model.replace(off, '<geom contype="0" conaffinity="0" condim="6" margin="0.01" friction="3 1 1"/>')


def urdf(
    *, sole: str = '<box size="0.14 0.08 0.02"/>', knee: str = "revolute", extra: str = "", pads: bool = False
) -> str:
    """Return the robot's URDF.

    Args:
        sole: geometry of the soles.
        knee: type of the knees' joints.
        extra: more links and joints.
        pads: the soles are links of their own, fixed to the feet.
    """

    def link(name: str, mass: float, inside: str = "") -> str:
        inertia = (
            f'<inertia ixx="{mass * 1e-3:g}" iyy="{mass * 1e-3:g}" izz="{mass * 1e-3:g}" ixy="0" ixz="0" iyz="0"/>'
        )
        return f'<link name="{name}"><inertial><mass value="{mass:g}"/>{inertia}</inertial>{inside}</link>'

    def joint(name: str, kind: str, parent: str, child: str, xyz: str, axis: str) -> str:
        limit = '<limit lower="-2" upper="2" effort="3" velocity="8"/>'
        return (
            f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>'
            f'<origin xyz="{xyz}"/><axis xyz="{axis}"/>{limit}</joint>'
        )

    parts = [link("hips", 1.0)]
    for side, y in SIDES:
        touch = f'<collision><origin xyz="0.02 0 -0.02"/><geometry>{sole}</geometry></collision>'
        parts += [
            link(f"hip_{side}", 0.05),
            link(f"thigh_{side}", 0.2),
            link(f"shin_{side}", 0.15),
            link(f"foot_{side}", 0.1, "" if pads else touch),
            joint(f"roll_{side}", "revolute", "hips", f"hip_{side}", f"0 {0.06 * y:g} 0", "1 0 0"),
            joint(f"hip_{side}", "revolute", f"hip_{side}", f"thigh_{side}", "0 0 0", "0 1 0"),
            joint(f"knee_{side}", knee, f"thigh_{side}", f"shin_{side}", "0 0 -0.15", "0 1 0"),
            joint(f"ankle_{side}", "revolute", f"shin_{side}", f"foot_{side}", "0 0 -0.15", "0 1 0"),
        ]
        if pads:
            parts += [
                link(f"pad_{side}", 0.01, touch),
                f'<joint name="pad_{side}" type="fixed"><parent link="foot_{side}"/><child link="pad_{side}"/></joint>',
            ]
    return f'<robot name="mini">\n{chr(10).join(parts)}\n{extra}</robot>\n'


def write(folder: Path, model: str, robot: dict[str, Any] | None = None, **sections: Any) -> Path:
    """Write the robot's file and its model into a folder, and return the path of the file.

    Args:
        folder: where to.
        model: text of the model.
        robot: changes of `ROBOT`; None removes a field.
        sections: more sections of the file.
    """
    name = "mini.urdf" if model.startswith("<robot") else "mini.xml"
    (folder / name).write_text(model)
    fields = copy.deepcopy(ROBOT) | {"model_path": name} | (robot or {})
    content = {
        "robot": {key: value for key, value in fields.items() if value is not None},
        "termination": {"min_base_height_m": 0.2},
        "reward": {"target_height_m": 0.305},
        **sections,
    }
    file = folder / "robot.json"
    file.write_text(json.dumps(content))
    return file
