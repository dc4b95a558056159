"""What several processes compute together is what one would compute of all their data: two real ones, with gloo."""

import sys

import pytest
import torch

from biped.ppo.distributed import joined_states, split_states
from tests import processes
from tests.loopback import free_port

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
MEMBER = """
import sys
import torch
import torch.distributed as dist
from torch import nn
from biped.ppo.distributed import LostTeamError, Team
from biped.ppo.losses import normalised
from biped.ppo.normalizer import RunningNormalizer

rank, port = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
team = Team()
close = torch.testing.assert_close
torch.manual_seed(0)
everything = torch.randn(2, 50, 3) * torch.tensor((1.0, 5.0, 0.1)) + torch.tensor((0.0, 100.0, -3.0))
mine = everything[rank]
assert team.leads == (rank == 0)

# advantages of both have mean 0 and deviation 1, as stock normalises a minibatch of both
close(team.normalised(mine[:, 1]), normalised(everything[..., 1].flatten()).view(2, 50)[rank])
assert team.normalised(torch.ones(3)).abs().max() == 0.0

# a normaliser has seen both
both, together = RunningNormalizer(3), RunningNormalizer(3)
for _ in range(2):
    both.observe(everything.flatten(0, 1))
    together.observe(mine, team.merged)
close(together.mean, both.mean)
close(together.variance, both.variance)
assert together.count == both.count == 200

# gradients and numbers are means; a parameter without a gradient stays without
layer, unused = nn.Linear(3, 2), nn.Parameter(torch.zeros(2))
layer(mine).square().mean().backward()
row = team.average([*layer.parameters(), unused], torch.tensor((1.0 + rank, 10.0 * rank)))
assert row.tolist() == [1.5, 5.0]
ours = [parameter.grad.clone() for parameter in layer.parameters()]
layer.zero_grad()
layer(everything).square().mean().backward()
for one, all_of_it in zip(ours, layer.parameters(), strict=True):
    close(one, all_of_it.grad)
assert unused.grad is None

# a gradient that is not finite in one process is not finite in any: one verdict for all
layer.zero_grad()
(layer(mine).sum() * (float("nan") if rank else 1.0)).backward()
team.average(layer.parameters(), torch.zeros(1))
assert not layer.weight.grad.isfinite().any()

sums, largest = team.total(torch.tensor((1.0, 2.0)) * (rank + 1), torch.tensor(-3.0 + rank))
assert (sums.tolist(), largest.item()) == ([3.0, 6.0], -2.0)
assert team.agree(5 * rank) == 5
assert team.share(lambda: {"from": rank}) == {"from": 0}
other = nn.Linear(2, 2)
nn.init.constant_(other.weight, float(rank))
team.same_weights(other)
assert other.weight.eq(0.0).all()
states = team.gather({"place": torch.tensor(rank)})
assert [state["place"].item() for state in states] == ([0, 1] if team.leads else [])
assert team.drain_s() > 0.0
assert team.drain_s() == 0.0

def fails():
    raise ValueError("only the leader says so")

try:
    team.share(fails)
except ValueError:
    assert team.leads
except SystemExit as ending:
    assert not team.leads and ending.code == 1
else:
    raise AssertionError("it was shared")

if rank:
    print("fine", flush=True)
    sys.stdin.read()
else:
    try:
        team.agree(1)
    except LostTeamError:
        team.part()
        assert team.gather({}) == []
        print("fine", flush=True)
"""


def test_two_processes_compute_what_one_would_and_know_when_one_is_lost() -> None:
    port = free_port()
    commands = [[sys.executable, "-c", MEMBER, str(rank), str(port)] for rank in range(2)]
    with processes.start(commands[0], afresh=True) as leader, processes.start(commands[1], afresh=True) as other:
        said = processes.until_it_says(other, "fine")
        assert said == "fine\n"
        other.kill()
        assert processes.until_it_says(leader, "fine") == "fine\n"
    assert leader.returncode == 0


def test_states_are_joined_and_split_again_and_the_leaders_has_the_names_of_one_alone() -> None:
    states = [{"env.a": torch.tensor(rank), "learner.b": torch.tensor(10 * rank)} for rank in range(12)]
    joined = joined_states(states)
    assert joined["env.a"] == 0
    assert joined["rank11.learner.b"] == 110
    assert split_states(joined, 12) == states
    assert split_states(states[3], 1) == [states[3]]
