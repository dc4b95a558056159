"""The vectorised biped environment, and its Stable-Baselines3 face.

`BipedEnv` follows `gymnasium.vector.VectorEnv` on torch tensors that never leave the simulator's device: same-step
autoreset, `terminated` apart from `truncated`, final observations kept for bootstrapping. `BipedVecEnv` wraps it for
Stable-Baselines3 and sb3-contrib as they are, `NumpyVectorEnv` for gymnasium's wrappers (docs/compatibility.md).
"""

from biped.env.env import BipedEnv, BipedVecEnv, make_env
from biped.env.vec_env import NumpyVectorEnv

__all__ = ["BipedEnv", "BipedVecEnv", "NumpyVectorEnv", "make_env"]
