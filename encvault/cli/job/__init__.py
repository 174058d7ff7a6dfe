"""``encvault job``: what is to be sealed without anybody there."""

from encvault.cli.job.group import job_command

__all__ = ["job_command"]
