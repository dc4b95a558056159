"""GPUs where there are none: real numbers on the CPU, in tensors that say they are on `cuda:0` or `cuda:1`.

A storage remembers the device that it would be on. A function mode answers `.device`, `.to`, `.numpy` and `device=` as
CUDA does. A dispatch mode, which is below autograd, sees every operation, those of backward passes too. It

- raises where tensors of two devices meet, as CUDA does, and where an LSTM runs under autocast, which CUDA does in
  float16 without a word;
- counts what would be a kernel;
- notes, with its place, whatever would make the host wait for the device, and whatever is made on the CPU.

Not seen: what lies below the dispatcher, which is CUDA's own kernels, cuDNN and streams.
"""

import contextlib
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace, TracebackType
from typing import Any, ClassVar, Self
from unittest import mock

import torch
import torch.nn.utils.clip_grad as clip_grad
import torch.optim.optimizer as optimizer
import torch.utils._foreach_utils as foreach
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.virtual_graph import VirtualGraph

_parse_to = torch._C._nn._parse_to  # pyright: ignore[reportAttributeAccessIssue]
CPU, CUDA, SECOND = torch.device("cpu"), torch.device("cuda", 0), torch.device("cuda", 1)
_WAITS = """
_local_scalar_dense nonzero nonzero_numpy masked_select equal is_nonzero _unique2 unique_dim unique_consecutive bincount
multinomial
"""
WAITS = frozenset(_WAITS.split())
"""Operations whose result, or its shape, the host reads."""
BY_MASK = frozenset({"index", "index_put", "index_put_", "_index_put_impl_"})
"""Operations that count the True values of a mask, unless a single value is put there."""
_VIEWS = """
view _unsafe_view expand select slice transpose t permute unsqueeze squeeze detach alias as_strided split unbind
split_with_sizes lift_fresh _reshape_alias diagonal unfold empty empty_like new_empty empty_strided set_ resize_ narrow
"""
VIEWS = frozenset(_VIEWS.split())
"""Operations that launch nothing."""
MEETS = frozenset({"copy_", "_to_copy", "set_", *BY_MASK})
"""Operations that may be given tensors of two devices."""
_PLACE = "virtual_device"


def place_of(tensor: Tensor) -> torch.device:
    """Return where a tensor would be."""
    with torch._C.DisableTorchFunction():
        return getattr(tensor.untyped_storage(), _PLACE, CPU)


def put(tensor: Tensor, device: torch.device) -> Tensor:
    """Say where a tensor would be, and return it."""
    with torch._C.DisableTorchFunction():
        setattr(tensor.untyped_storage(), _PLACE, device)
    return tensor


def _as_device(device: Any) -> torch.device:
    """Return a device with its index, as `torch.device("cuda")` lacks it."""
    device = CUDA if isinstance(device, int) else torch.device(device)
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device


def tensors_in(tree: Any) -> Iterator[Tensor]:
    """Return the tensors in nested dictionaries, lists and tuples."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        yield from tensors_in(list(tree.values()))
    elif isinstance(tree, list | tuple):
        for part in tree:
            yield from tensors_in(part)


class Region:
    """What happened in a part of a program."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.kernels: Counter[str] = Counter()
        """Launches by the name of the operation."""
        self.waits: Counter[str] = Counter()
        """Why and where the host waited."""
        self.on_the_cpu: Counter[str] = Counter()
        """What was made on the CPU, and where."""

    def launched(self) -> int:
        """Return the number of kernels."""
        return sum(self.kernels.values())


class VirtualCuda(TorchFunctionMode):
    """A context in which torch has two GPUs; `regions` says what happened where, `lstm_in` in what LSTMs ran."""

    def __init__(self) -> None:
        """Begin with nothing seen."""
        super().__init__()
        self.regions: defaultdict[str, Region] = defaultdict(Region)
        self.lstm_in: set[torch.dtype] = set()
        self._region = self.regions[""]
        self._making: torch.device | None = None
        self._is_unseen = False
        self._watcher = _Watcher(self)
        self._patches = contextlib.ExitStack()

    @contextlib.contextmanager
    def region(self, name: str) -> Iterator[Region]:
        """Note what happens under a name."""
        before, self._region = self._region, self.regions[name]
        try:
            yield self._region
        finally:
            self._region = before

    @contextlib.contextmanager
    def unseen(self) -> Iterator[None]:
        """Note nothing, and let NumPy read from the device."""
        before, self._is_unseen = self._is_unseen, True
        try:
            yield
        finally:
            self._is_unseen = before

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        """Let torch be as it is."""
        with torch._C.DisableTorchFunction(), torch._C._DisableTorchDispatch():
            yield

    def note_launch(self, name: str) -> None:
        """Note a kernel that torch does not see."""
        self._region.kernels[name] += not self._is_unseen

    def __enter__(self) -> Self:
        """Answer for CUDA."""
        graphs = [
            (torch.cuda, "CUDAGraph", lambda: VirtualGraph(self.off, self.note_launch)),
            (torch.cuda, "graph", VirtualGraph.capture),
        ]
        for target, attribute, value in (*_answers(), *graphs):
            self._patches.enter_context(mock.patch.object(target, attribute, value))
        self._patches.enter_context(self._watcher)
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Answer no longer."""
        super().__exit__(kind, error, trace)
        self._patches.close()

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Answer as CUDA does."""
        kwargs = dict(kwargs or {})
        if args and isinstance(args[0], Tensor):
            answer = self._of_tensor(func, args[0], args[1:], kwargs)
            if answer is not None:
                return answer[0]
        if func in (torch.tensor, torch.as_tensor, torch.asarray):
            device = kwargs.pop("device", None)
            source = args[0] if args else kwargs.get("data")
            if isinstance(source, Tensor):
                to = place_of(source) if device is None else _as_device(device)
                return self._moved(source, to, kwargs.get("dtype"), is_copy=func is torch.tensor)
            return self._moved(func(*args, **kwargs), CPU if device is None else _as_device(device))
        if func is torch.lstm:
            return self._lstm(func, *args)
        like = place_of(args[0]) if args and isinstance(args[0], Tensor) else CPU
        device = like if kwargs.get("device") is None else _as_device(kwargs["device"])
        self._check_generator(func, kwargs.get("generator"), device)
        if kwargs.get("device") is None:
            return func(*args, **kwargs)
        before, self._making = self._making, device
        try:
            return func(*args, **{**kwargs, "device": "cpu"})
        finally:
            self._making = before

    def _of_tensor(self, func: Any, tensor: Tensor, rest: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Any] | None:
        """Return what an attribute or method of a tensor answers, in a tuple; None: what it answers on the CPU."""
        name, place = getattr(func, "__name__", ""), place_of(tensor)
        if name == "__get__":
            if func.__self__ is Tensor.device:
                return (place,)
            if func.__self__ in (Tensor.is_cuda, Tensor.is_cpu):
                return ((place.type == "cuda") == (func.__self__ is Tensor.is_cuda),)
        elif name == "to":
            other = next((arg for arg in rest if isinstance(arg, Tensor)), kwargs.pop("other", None))
            is_copy, is_async = kwargs.pop("copy", False), kwargs.get("non_blocking", False)
            if other is not None:
                return (self._moved(tensor, place_of(other), other.dtype, is_async=is_async, is_copy=is_copy),)
            device, dtype, is_async, _ = _parse_to(*rest, **kwargs)
            to = place if device is None else _as_device(device)
            return (self._moved(tensor, to, dtype, is_async=is_async, is_copy=is_copy),)
        elif name in ("cpu", "cuda"):
            return (self._moved(tensor, _as_device(rest[0] if rest else name)),)
        elif name == "pin_memory":
            pinned = tensor.clone()
            pinned.untyped_storage().is_pinned_here = True  # pyright: ignore[reportAttributeAccessIssue]
            return (pinned,)
        elif name in ("numpy", "__array__") and place.type == "cuda" and not self._is_unseen:
            raise TypeError(f"can't convert {place} device type tensor to numpy: use Tensor.cpu() first")
        elif name == "tolist" and place.type == "cuda":
            self.note_wait("tolist")
        return None

    def _moved(
        self,
        tensor: Tensor,
        to: torch.device,
        dtype: torch.dtype | None = None,
        *,
        is_async: bool = False,
        is_copy: bool = False,
    ) -> Tensor:
        """Return a tensor on another device; the host waits, unless the copy is asynchronous from pinned memory."""
        place, dtype = place_of(tensor), dtype or tensor.dtype
        if place == to:
            return Tensor.to(tensor, dtype=dtype, copy=is_copy)
        is_pinned = getattr(tensor.untyped_storage(), "is_pinned_here", False)
        if CPU in (place, to) and not (is_async and (is_pinned or place != CPU)):
            self.note_wait(f"a copy from {place} to {to}")
        with self.unseen():
            return put(Tensor.to(tensor, dtype=dtype).clone(), to)

    def _lstm(self, func: Any, inputs: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor], *rest: Any) -> Any:
        """Ask of an LSTM what cuDNN asks and the CPU does not; all of it counts as one kernel."""
        if place_of(inputs) == CPU:
            return func(inputs, states, weights, *rest)
        if not all(state.is_contiguous() for state in states):
            raise RuntimeError("rnn: hx is not contiguous")
        is_training = rest[3]
        if not is_training and torch.is_grad_enabled() and any(weight.requires_grad for weight in weights):
            raise RuntimeError("cudnn RNN backward can only be called in training mode")
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("under autocast cuDNN's LSTM runs in float16, whatever was asked for")
        self._region.kernels["(cuDNN's LSTM)"] += 1
        self.lstm_in |= {inputs.dtype, *(tensor.dtype for tensor in (*states, *weights))}
        with self.region("lstm"):
            return func(inputs, states, weights, *rest)

    def _check_generator(self, func: Any, generator: torch.Generator | None, device: torch.device) -> None:
        if generator is not None and _as_device(generator.device) != device:
            name = getattr(func, "__name__", func)
            raise RuntimeError(f"expected a {device.type} generator for {name}, but found one of {generator.device}")

    def note_wait(self, what: str) -> None:
        """Note that the host waits here, and why."""
        if VirtualGraph.capturing is not None:
            raise RuntimeError(f"operation not permitted when stream is capturing: {what}")
        if not self._is_unseen:
            self._region.waits[f"{what} @ {_where()}"] += 1

    def _see(self, func: Any, tensors: list[Tensor], places: list[torch.device], args: Sequence[Any]) -> None:
        """Check and note an operation."""
        name = func._schema.name.split("::")[1]
        self._region.kernels[name] += name not in VIEWS
        # CUDA takes a number in a CPU tensor without dimensions, in operations by element.
        by_element = torch.Tag.pointwise in func.tags or name in {"fill_", "masked_fill", "masked_fill_", "where"}
        bound = {
            place
            for place, tensor in zip(places, tensors, strict=True)
            if place != CPU or not ((by_element or name in MEETS) and tensor.dim() == 0)
        }
        if len(bound) > 1:
            if name not in MEETS:
                found = ", ".join(f"{tuple(t.shape)} on {p}" for t, p in zip(tensors, places, strict=True))
                raise RuntimeError(f"Expected all tensors to be on the same device, but {name} got {found}")
            self.note_wait(f"{name} between devices")
        masks = any(tensor.dtype in (torch.bool, torch.uint8) for tensor in tensors[1:])
        puts_one = name != "index" and bool(tensors) and tensors[-1].numel() == 1
        counts = name == "repeat_interleave" and isinstance(args[0], Tensor) and "self_int" not in str(func)
        if name in WAITS or counts or (name in BY_MASK and masks and not puts_one):
            self.note_wait(name)


class _Watcher(TorchDispatchMode):
    """Sees every operation, whoever asked for it."""

    def __init__(self, gpu: VirtualCuda) -> None:
        super().__init__()
        self._gpu = gpu

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        gpu, kwargs = self._gpu, kwargs or {}
        tensors = list(tensors_in((args, kwargs)))
        places = [place_of(tensor) for tensor in tensors]
        made_on = gpu._making if not tensors or gpu._making is not None else None
        device = made_on or next((place for place in places if place != CPU), CPU)
        if device != CPU and not gpu._is_unseen:
            with torch._C.DisableTorchFunction():
                gpu._see(func, tensors, places, args)
        graph = VirtualGraph.capturing
        if graph is not None:
            with gpu.off():
                graph.before(func, args, kwargs)
        out = func(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            given = {tensor.untyped_storage()._cdata for tensor in tensors}
            fresh = [tensor for tensor in tensors_in(out) if tensor.untyped_storage()._cdata not in given]
            for tensor in fresh:
                put(tensor, device)
            if graph is not None:
                graph.after(func, args, kwargs, out, fresh)
            is_number = func._schema.name == "aten::scalar_tensor"  # a Python number on its way to a kernel
            if device == CPU and not (tensors or gpu._is_unseen or is_number) and any(t.numel() for t in fresh):
                gpu._region.on_the_cpu[f"{func._schema.name} @ {_where()}"] += 1
        return out


def _where() -> str:
    """Return the innermost places of the program, without those of torch and of this file."""
    frames = [
        f"{frame.filename.rpartition('site-packages/')[2]}:{frame.lineno}"
        for frame in traceback.extract_stack()
        if "/torch/" not in frame.filename and frame.filename != __file__
    ]
    return " < ".join(frames[:-4:-1])


class _Generator(torch.Generator):
    """A generator of the CPU that says it is a GPU's."""

    place: torch.device

    def __new__(cls, device: Any = "cpu") -> "_Generator":
        made = super().__new__(cls, "cpu")  # pyright: ignore[reportCallIssue]
        made.place = _as_device(device)
        return made

    @property
    def device(self) -> torch.device:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.place

    def set_state(self, state: Tensor) -> Any:
        if place_of(state) != CPU:
            raise TypeError("RNG state must be a torch.ByteTensor")
        return super().set_state(state)


class VirtualStream:
    """A queue of a GPU's work; it runs at once, and notes who waits for whom."""

    main: ClassVar["VirtualStream"]
    now: ClassVar["VirtualStream"]
    seen: ClassVar[list[str]] = []

    def __init__(self, device: Any = "cuda:0", name: str = "side") -> None:
        self.device, self.name = _as_device(device), name

    def wait_stream(self, other: "VirtualStream") -> None:
        self.seen.append(f"{self.name} waits for {other.name}")

    @staticmethod
    @contextlib.contextmanager
    def entered(stream: "VirtualStream") -> Iterator[None]:
        before, VirtualStream.now = VirtualStream.now, stream
        stream.seen.append(f"on {stream.name}")
        try:
            yield
        finally:
            VirtualStream.now = before
            stream.seen.append(f"on {before.name}")


VirtualStream.main = VirtualStream.now = VirtualStream(name="main")


def _answers() -> Iterator[tuple[Any, str, Any]]:
    """What of torch is replaced: questions about the machine, generators, autocast, groups by device."""
    card = SimpleNamespace(name="virtual", total_memory=80 * 2**30, multi_processor_count=132, major=9, minor=0)
    answers = {
        "is_available": True,
        "is_initialized": True,
        "current_device": 0,
        "device_count": 2,
        "get_device_properties": card,
        "get_device_name": card.name,
        "get_device_capability": (9, 0),
        "is_bf16_supported": True,
        "mem_get_info": (79 * 2**30, 80 * 2**30),
        "is_current_stream_capturing": False,
    }
    silent = ("_lazy_init", "synchronize", "manual_seed", "manual_seed_all", "empty_cache")
    for name in (*silent, "set_rng_state", "set_rng_state_all"):
        yield torch.cuda, name, lambda *_: None
    for name, answer in answers.items():
        yield torch.cuda, name, lambda *_, answer=answer, **__: answer
    yield torch.cuda, "get_rng_state", lambda *_: torch.get_rng_state()
    yield torch.cuda, "get_rng_state_all", lambda: [torch.get_rng_state()]
    yield torch.version, "cuda", "13.0"
    yield torch.backends.cudnn, "is_acceptable", lambda _: False  # it would ask for cuDNN's own memory layout
    yield torch, "Generator", _Generator
    yield torch.cuda, "Stream", VirtualStream
    yield torch.cuda, "current_stream", lambda *_: VirtualStream.now
    yield torch.cuda, "stream", VirtualStream.entered
    yield Tensor, "record_stream", lambda _, stream: VirtualStream.seen.append(f"kept for {stream.name}")
    autocast: Callable[..., Any] = torch.autocast
    yield torch, "autocast", lambda _, **kwargs: autocast("cpu", **kwargs)
    group = foreach._group_tensors_by_device_and_dtype

    def grouped(*args: Any, **kwargs: Any) -> dict[Any, Any]:
        found = group(*args, **kwargs)
        return {(place_of(next(tensors_in(lists[0]))), key[1]): lists for key, lists in found.items()}

    for module in (clip_grad, optimizer, foreach):
        yield module, "_group_tensors_by_device_and_dtype", grouped
