"""How processes are started, stopped and started again; whether a recipe fits that.

Only `launch` and `cli` read the environment.
"""

from mmret.launch.environment import load_for_launch, process_count, process_rank
from mmret.launch.restart import check_restart, leave
from mmret.launch.slurm import restarts_of

__all__ = ["check_restart", "leave", "load_for_launch", "process_count", "process_rank", "restarts_of"]
