"""Hard negatives: what a trained model confuses with the answers of a source's own queries, and what is kept of it."""

from mmret.evaluation.mining.corpus import Mineable
from mmret.evaluation.mining.mine import Mined, mine
from mmret.evaluation.mining.outcome import write_mining
from mmret.evaluation.mining.rules import MiningRules

__all__ = ["Mineable", "Mined", "MiningRules", "mine", "write_mining"]
