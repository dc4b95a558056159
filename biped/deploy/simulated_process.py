"""The simulated bus in a process of its own: it opens pseudo-terminals, tells their names, and keeps real time.

`serve` is fit to be the target of a process that `multiprocessing` spawns; `SimulatedRobot` starts and ends one.
"""

import contextlib
import heapq
import multiprocessing
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Protocol

from biped.base.errors import MachineError, first_line
from biped.base.platforms import posix_module, signals
from biped.deploy.dynamixel import REGISTERS
from biped.deploy.simulated_bus import Plant, SimulatedBus, Trouble, registers_of
from biped.deploy.simulated_servo import ServoKind

SLICE_S = 0.002
"""Longest time between two looks at the plant (s)."""
LARGEST_LAG_S = 0.05
"""How far the plant may fall behind before time stands still for it (s)."""
_STARTUP_S = 120.0
_OF_A_TERMINAL = signals("SIGINT", "SIGHUP", "SIGQUIT", "SIGTSTP")
"""What a terminal sends to all processes in front of it; only the parent answers to it."""


class Device(Protocol):
    """Something else on the robot that sends bytes, such as an IMU; it gets a pseudo-terminal of its own."""

    def due(self, now_s: float, plant: Any) -> bytes:
        """Return what it sends now, empty for nothing; it is asked every `SLICE_S` or more often."""
        ...


class _Terminal:
    """The far end of a pseudo-terminal; both ends stay open, so that programs may come and go."""

    near: int
    name: str

    def __init__(self) -> None:
        assert sys.platform != "win32"  # see SimulatedRobot
        self.near, self._far = os.openpty()
        tty = posix_module("tty", "a simulated robot")
        tty.setraw(self.near)
        tty.setraw(self._far)
        os.set_blocking(self.near, False)
        self.name = os.ttyname(self._far)

    def send(self, content: bytes) -> None:
        """Send as much as there is room for; a device does not wait for who reads."""
        try:
            os.write(self.near, content)
        except BlockingIOError:
            return

    def received(self) -> bytes:
        """Return what has come."""
        try:
            return os.read(self.near, 4096)
        except BlockingIOError:
            return b""


class _Clock:
    """Real time, that stands still while the plant cannot follow."""

    def __init__(self) -> None:
        self._start, self._last_s, self.slipped_s = time.perf_counter(), 0.0, 0.0

    def now(self) -> float:
        now = time.perf_counter() - self._start - self.slipped_s
        lag = now - self._last_s - LARGEST_LAG_S
        if lag > 0.0:
            self.slipped_s += lag
            now -= lag
        self._last_s = now
        return now


class _Server:
    """One run of the simulated bus."""

    def __init__(self, plant: Plant, bus: SimulatedBus, devices: Sequence[Device], connection: Connection) -> None:
        self._plant, self._bus, self._devices, self._connection = plant, bus, devices, connection
        self.terminals = [_Terminal() for _ in range(1 + len(devices))]
        self._clock = _Clock()
        self._outbox: list[tuple[float, int, bytes]] = []
        self._count = 0

    def run(self) -> None:
        """Serve until the parent says stop, or is gone."""
        line = self.terminals[0]
        watched = [line.near, self._connection, *(terminal.near for terminal in self.terminals[1:])]
        while True:
            now = self._clock.now()
            self._send_due(now)
            wait = min(SLICE_S, self._outbox[0][0] - now) if self._outbox else SLICE_S
            ready, _, _ = select.select(watched, [], [], max(0.0, wait))
            now = self._clock.now()
            self._bus.advance(now)
            if line.near in ready:
                for due_s, content in self._bus.handle(line.received(), now):
                    self._count += 1
                    heapq.heappush(self._outbox, (due_s, self._count, content))
                self._send_due(now)
            for device, terminal in zip(self._devices, self.terminals[1:], strict=True):
                if terminal.near in ready:
                    terminal.received()
                if content := device.due(now, self._plant):
                    terminal.send(content)
            if self._connection in ready and not self._obey():
                return

    def _send_due(self, now_s: float) -> None:
        content = b""
        while self._outbox and self._outbox[0][0] <= now_s:
            content += heapq.heappop(self._outbox)[2]
        if content:
            self.terminals[0].send(content)

    def _obey(self) -> bool:
        """Do what the parent asks; return whether to go on."""
        try:
            name, *given = self._connection.recv()
        except (EOFError, OSError):
            return False
        try:
            answer: Any = ("ok", self._do(name, given))
        except Exception as error:  # whatever the plant raises is the parent's to see
            answer = ("error", f"{name}: {first_line(error)}")
        self._connection.send(answer)
        return name != "stop"

    def _do(self, name: str, given: Sequence[Any]) -> Any:
        bus = self._bus
        if name == "trouble":
            return bus.set_trouble(*given)
        if name == "fail":
            servo, bits = given
            return bus.servos[servo].fail(bits)
        if name == "set":
            servo, register, value = given
            bus.servos[servo][next(item for item in REGISTERS if item.name == register)] = value
            return None
        if name == "reset":
            for servo in bus.servos.values():
                servo.reboot()
            return None
        if name == "registers":
            return registers_of(bus, *given)
        if name == "figures":
            return {"slipped_s": self._clock.slipped_s, "trips": bus.trips, "damaged": bus.reader.damaged}
        if name == "plant":
            attribute = getattr(self._plant, given[0])
            return attribute(*given[1:]) if callable(attribute) else attribute
        return None


def serve(
    make_plant: Callable[[], Plant],
    kinds: Sequence[ServoKind],
    trouble: Trouble,
    connection: Connection,
    make_devices: Sequence[Callable[[], Device]] = (),
) -> None:
    """Simulate a bus until the parent says so or is gone; the target of a spawned process.

    It sends ("ready", names of terminals: the bus, then the devices), or ("error", one line). What a terminal sends to
    the whole group does not end it: the parent still has to ask where the robot was.
    """
    assert sys.platform != "win32"  # see SimulatedRobot
    for number in _OF_A_TERMINAL:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _OF_A_TERMINAL)
    with contextlib.suppress(ConnectionError):  # the parent may be gone, and nobody is there to be told
        _serve(make_plant, kinds, trouble, connection, make_devices)


def _serve(
    make_plant: Callable[[], Plant],
    kinds: Sequence[ServoKind],
    trouble: Trouble,
    connection: Connection,
    make_devices: Sequence[Callable[[], Device]],
) -> None:
    try:
        plant = make_plant()
        server = _Server(plant, SimulatedBus(kinds, plant, trouble), [make() for make in make_devices], connection)
    except Exception as error:  # the parent tells the person
        connection.send(("error", first_line(error)))
        return
    connection.send(("ready", [terminal.name for terminal in server.terminals]))
    server.run()


@contextlib.contextmanager
def _deaf_children() -> Iterator[None]:
    """Let processes that are started here wait with a terminal's signals until they have said what to do with them."""
    assert sys.platform != "win32"  # see SimulatedRobot
    resource_tracker.ensure_running()  # to start it within would let the signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_A_TERMINAL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class SimulatedRobot:
    """A simulated bus in a process of its own; a context that ends it."""

    def __init__(
        self,
        make_plant: Callable[[], Plant],
        kinds: Sequence[ServoKind],
        trouble: Trouble = Trouble(),  # noqa: B008 - it is frozen
        make_devices: Sequence[Callable[[], Device]] = (),
    ) -> None:
        """Start it and wait until it is ready; all that is given must be fit to be pickled.

        Raises:
            MachineError: it cannot start, or this system has no pseudo-terminals.
        """
        posix_module("termios", "a simulated robot")
        context = multiprocessing.get_context("spawn")
        self._connection, far = context.Pipe()
        arguments = (make_plant, kinds, trouble, far, make_devices)
        self._process = context.Process(target=serve, args=arguments, daemon=True)
        with _deaf_children():
            self._process.start()
        far.close()
        try:
            content = self._ready()
        except BaseException:
            self._connection.close()
            self._process.kill()
            self._process.join()
            raise
        self.port: str = content[0]
        """Device of the servos' bus."""
        self.device_ports: tuple[str, ...] = tuple(content[1:])
        """Devices of what else is on the robot."""

    def _ready(self) -> Sequence[str]:
        """Wait until the process is ready, and return the names of its terminals."""
        try:
            if not self._connection.poll(_STARTUP_S):
                raise MachineError("the simulated robot does not start")
            word, content = self._connection.recv()
        except (EOFError, OSError) as error:
            raise MachineError("the simulated robot ended while it started") from error
        if word != "ready":
            raise MachineError(f"the simulated robot cannot start ({content})")
        return content

    def ask(self, *words: Any) -> Any:
        """Ask the process for something.

        - ("trouble", Trouble): change what is wrong.
        - ("fail", id, bits): set hardware errors of a servo.
        - ("set", id, register's name, value), ("registers", id): write and read a servo's control table.
        - ("reset",): switch the servos off and on.
        - ("figures",): how long time stood still (s), trips of watchdogs, damaged packets.
        - ("plant", name, arguments...): an attribute of the plant, or what calling it returns.

        Raises:
            MachineError: it is gone, or the request failed.
        """
        try:
            self._connection.send(words)
            word, content = self._connection.recv()
        except (EOFError, OSError) as error:
            raise MachineError("the simulated robot is gone") from error
        if word != "ok":
            raise MachineError(f"the simulated robot cannot: {content}")
        return content

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(OSError):
            self._connection.send(("stop",))
        self._connection.close()
        self._process.join(5.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def __enter__(self) -> "SimulatedRobot":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
