"""A plugin for pytest: torch says that there is a GPU, as on a machine that has one. Nothing can be put on it.

    PYTHONPATH=$PWD:tests/gpu_machine python -m pytest -p gpu_machine

It shows what asks for a GPU without need. Processes that tests start are on the same machine: see tests/processes.py.
"""

from types import SimpleNamespace

import torch

CARD = SimpleNamespace(name="H100", total_memory=80 * 2**30, multi_processor_count=132, major=9, minor=0)
ANSWERS = {
    "is_available": True,
    "mem_get_info": (79 * 2**30, 80 * 2**30),
    "get_device_properties": CARD,
    "get_device_name": CARD.name,
    "current_device": 0,
    "is_current_stream_capturing": False,
    **dict.fromkeys(("set_rng_state", "set_rng_state_all", "synchronize", "manual_seed", "manual_seed_all")),
}
for name, answer in ANSWERS.items():
    setattr(torch.cuda, name, lambda *_, answer=answer: answer)
torch.cuda.get_rng_state = lambda *_: torch.get_rng_state()
torch.cuda.get_rng_state_all = lambda: [torch.get_rng_state()]
