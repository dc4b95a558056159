"""The vectorised biped environment, and its Stable-Baselines3 interface.

`BipedEnv` follows `gymnasium.vector.VectorEnv` on torch tensors that stay on the simulator's device: same-step
autoreset, separate `terminated` and `truncated`, final observations kept for bootstrapping. `BipedVecEnv` wraps it for
unmodified Stable-Baselines3 and sb3-contrib, `NumpyVectorEnv` for gymnasium's wrappers (docs/compatibility.md).
"""

from biped.env.env import BipedEnv, BipedVecEnv, make_env
from biped.env.vec_env import NumpyVectorEnv

__all__ = ["BipedEnv", "BipedVecEnv", "NumpyVectorEnv", "make_env"]
