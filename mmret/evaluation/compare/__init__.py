"""Several runs side by side: what each reaches and costs, how sure that is, where they differ. Reads files only."""

from mmret.evaluation.compare.comparison import Comparison
from mmret.evaluation.compare.diff import recipe_diff
from mmret.evaluation.compare.report import write_comparison, write_plots
from mmret.evaluation.compare.variant import Variant, read_variants

__all__ = ["Comparison", "Variant", "read_variants", "recipe_diff", "write_comparison", "write_plots"]
