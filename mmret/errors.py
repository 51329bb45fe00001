"""The errors a user can meet; each says what was wrong, where, what was expected, and what to do."""


class MMRetError(Exception):
    """Base of the errors below; `exit_code` is what the command line returns."""

    exit_code = 1


class ConfigError(MMRetError):
    """A recipe, data spec or command line asks for something that cannot be."""

    exit_code = 2


class EnvironmentProblem(MMRetError):
    """The machine lacks what the run needs: a package, a device, a process group of the right size."""

    exit_code = 3


class SampleError(MMRetError):
    """A sample of a shard, table or benchmark is broken; the text names shard and key."""

    exit_code = 4


class CheckpointError(MMRetError):
    """A checkpoint is incomplete, of another layout, or of another model."""

    exit_code = 5


class RemoteError(EnvironmentProblem):
    """Something that lies elsewhere cannot be fetched: network, server or rights. No fault of the samples."""
