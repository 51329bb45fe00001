"""How processes were started, and whether a recipe fits that. Only `launch` and `cli` read the environment."""

from mmret.launch.environment import load_for_launch, process_rank

__all__ = ["load_for_launch", "process_rank"]
