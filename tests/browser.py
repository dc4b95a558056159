"""What viser's page does in a browser, as far as tests need it: a real client of the page's websocket."""

import struct
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.processes import PATIENCE_S


class Browser:
    """An open page: its inputs by label, its texts, and what stands on its stage."""

    def __init__(self, port: int) -> None:
        """Open the page."""
        import viser
        from websockets.sync.client import connect
        from websockets.typing import Subprotocol

        self._socket = connect(
            f"ws://127.0.0.1:{port}", subprotocols=[Subprotocol(f"viser-v{viser.__version__}")], max_size=None
        )
        self.inputs: dict[str, str] = {}
        """From labels to ids, of sliders, numbers, choices, groups of buttons and commands of keys."""
        self.props: dict[str, dict[str, Any]] = {}
        """Properties of everything in the panel, by id."""
        self.values: dict[str, Any] = {}
        """Values of inputs, by id."""
        self.stage: dict[str, dict[str, Any]] = {}
        """Properties of what stands on the stage, by name."""
        self._look()

    def receive(self) -> None:
        """Take one batch of messages."""
        import msgspec
        import zstandard

        data = self._socket.recv(timeout=PATIENCE_S)
        assert isinstance(data, bytes)
        size, compressed = struct.unpack_from("<QQ", data)
        end = 16 + compressed
        payload = zstandard.ZstdDecompressor().decompress(data[16:end], max_output_size=size)
        batch, arrays = msgspec.msgpack.decode(payload), list[bytes]()
        for length in batch["binaryBufferLengths"]:  # arrays follow the messages, each at a multiple of 8 bytes
            start = -(-end // 8) * 8
            end = start + length
            arrays.append(data[start:end])
        for message in batch["messages"]:
            self._take(_with_arrays(message, arrays))

    def _take(self, message: dict[str, Any]) -> None:
        kind, props = message["type"], message.get("props", {})
        if kind.startswith("Gui") and "uuid" in message and props:
            self.props[message["uuid"]] = props
            self.values[message["uuid"]] = message.get("value")
        if kind == "RegisterCommandMessage" or "value" in message:
            self.inputs[props["label"]] = message["uuid"]
        if kind == "GuiUpdateMessage":
            self.props[message["uuid"]] |= message["updates"]
            if "value" in message["updates"]:
                self.values[message["uuid"]] = message["updates"]["value"]
        elif kind == "GuiRemoveMessage":
            self.props.pop(message["uuid"], None)
            self.inputs = {label: uuid for label, uuid in self.inputs.items() if uuid != message["uuid"]}
        elif kind == "BatchedGlbMessage":
            self.stage[message["name"]] = props
        elif kind == "RemoveSceneNodeMessage":
            self.stage.pop(message["name"], None)
        elif kind == "SceneNodeUpdateMessage" and message["name"] in self.stage:
            self.stage[message["name"]] |= message["updates"]

    def until(self, condition: Callable[[], object]) -> None:
        """Take messages until something is the case."""
        end_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end_s, "it never came"
            self.receive()

    def find(self, label: str) -> str:
        """Wait for an input and return its id."""
        self.until(lambda: label in self.inputs)
        return self.inputs[label]

    def value(self, label: str) -> Any:
        """Return the value of an input that is there."""
        return self.values[self.find(label)]

    @property
    def text(self) -> str:
        """All that the panel says."""
        return "\n".join(str(props.get("content") or props.get("_markdown") or "") for props in self.props.values())

    def positions(self, name: str) -> np.ndarray:
        """Return where a link of each robot is, (robots, 3), m."""
        return self.stage[f"/robots/{name}"]["batched_positions"].reshape(-1, 3)

    def set(self, label: str, value: Any) -> None:
        """Move a slider, choose, type a number or press a button of a group."""
        self.values[self.find(label)] = value
        self._send("GuiUpdateMessage", uuid=self.find(label), updates={"value": value})

    def trigger(self, label: str) -> None:
        """Press the key of a command."""
        self._send("CommandTriggerMessage", uuid=self.find(label))

    def _look(self) -> None:
        """Say where the camera is, as a browser does once it draws: before that it does not count as connected."""
        zero, up = (0.0, 0.0, 0.0), (0.0, 0.0, 1.0)
        camera = {"wxyz": (1.0, *zero), "position": (1.0, 1.0, 1.0), "fov": 0.6, "near": 0.1, "far": 100.0}
        size = {"image_height": 800, "image_width": 1280}
        self._send("ViewerCameraMessage", **camera, **size, look_at=zero, up_direction=up)

    def _send(self, kind: str, **content: Any) -> None:
        import msgspec

        self._socket.send(msgspec.msgpack.encode({"type": kind, **content}))

    def close(self) -> None:
        """Close the page."""
        self._socket.close()


def _with_arrays(tree: Any, arrays: list[bytes]) -> Any:
    """Return a message with its arrays in the places of their numbers."""
    if isinstance(tree, dict) and "__binary_index" in tree:
        return np.frombuffer(arrays[tree["__binary_index"]], tree["dtype"])
    if isinstance(tree, dict):
        return {name: _with_arrays(part, arrays) for name, part in tree.items()}
    return [_with_arrays(part, arrays) for part in tree] if isinstance(tree, list) else tree
