"""What mmret promises under SLURM, on a cluster of two nodes on this machine: python -m tests.slurm (root, Debian)."""
