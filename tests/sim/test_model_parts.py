"""The files of a robot's model are all found, wherever MJCF and URDF may name them."""

from pathlib import Path

import pytest

from biped.base.errors import MachineError, UsageError
from biped.sim.model_parts import model_parts
from tests.conftest import ROOT


def lay(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_xml", ".xml").replace("_stl", ".stl").replace(
            "_urdf", ".urdf"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def found(folder: Path, model: str) -> list[str]:
    return [str(part.relative_to(folder)) for part in model_parts(folder / model)]


def test_a_model_without_files_is_itself() -> None:
    model = ROOT / "assets" / "biped" / "biped.xml"
    assert model_parts(model) == [model]


def test_an_mjcf_has_meshes_textures_and_what_it_includes_and_that_includes(tmp_path: Path) -> None:
    lay(
        tmp_path,
        mjcf__robot_xml='<mujoco><compiler meshdir="../meshes" texturedir="looks"/><include file="legs_xml"/>'
        '<asset><mesh file="leg_stl"/><texture file="skin_xml"/><mesh file="nowhere_stl"/></asset></mujoco>'.replace(
            "_xml", ".xml"
        ).replace("_stl", ".stl"),
        mjcf__legs_xml='<mujoco><include file="robot.xml"/><include file="feet/foot.xml"/></mujoco>',
        mjcf__feet__foot_xml='<mujoco><asset><mesh file="foot.stl"/></asset></mujoco>',
        mjcf__looks__skin_xml="",
        meshes__leg_stl="",
        meshes__foot_stl="",
        meshes__unused_stl="",
    )
    assert sorted(found(tmp_path, "mjcf/robot.xml")) == [
        "meshes/foot.stl",
        "meshes/leg.stl",
        "mjcf/feet/foot.xml",
        "mjcf/legs.xml",
        "mjcf/looks/skin.xml",
        "mjcf/robot.xml",
    ]


def test_a_urdf_has_the_meshes_of_its_package(tmp_path: Path) -> None:
    lay(
        tmp_path,
        urdf__robot_urdf='<robot><link><visual><geometry><mesh filename="package://mine/meshes/leg.stl"/></geometry>'
        '</visual><collision><geometry><mesh filename="../meshes/foot.stl"/></geometry></collision></link></robot>',
        meshes__leg_stl="",
        meshes__foot_stl="",
    )
    assert found(tmp_path, "urdf/robot.urdf") == ["urdf/robot.urdf", "meshes/leg.stl", "meshes/foot.stl"]


@pytest.mark.parametrize(
    "text",
    [
        '<mujoco><asset><mesh file="/home/me/leg.stl"/></asset></mujoco>',
        '<mujoco><compiler meshdir="/home/me"/><asset><mesh file="leg.stl"/></asset></mujoco>',
        '<mujoco><include file="/home/me/legs.xml"/></mujoco>',
    ],
)
def test_a_path_that_no_other_machine_has_is_said(tmp_path: Path, text: str) -> None:
    lay(tmp_path, robot_xml=text)
    with pytest.raises(UsageError, match=r"refers to /home/me.*--no_robot"):
        model_parts(tmp_path / "robot.xml")


def test_on_this_machine_absolute_paths_are_found_too(tmp_path: Path) -> None:
    lay(
        tmp_path,
        robot_xml=f'<mujoco><compiler meshdir="{tmp_path}/meshes"/><include file="{tmp_path}/legs.xml"/>'
        '<asset><mesh file="leg.stl"/></asset></mujoco>',
        legs_xml="<mujoco/>",
        meshes__leg_stl="",
    )
    parts = model_parts(tmp_path / "robot.xml", for_others=False)
    assert sorted(part.name for part in parts) == ["leg.stl", "legs.xml", "robot.xml"]


def test_a_model_that_is_no_xml_is_one_line(tmp_path: Path) -> None:
    lay(tmp_path, robot_xml="<mujoco>")
    with pytest.raises(MachineError, match="cannot be read"):
        model_parts(tmp_path / "robot.xml")
