"""Destinations beyond this machine: ``sftp://`` and ``s3://``, for mirrors and archives.

The engine seals into a *spool*, a local folder among the job's records: for a mirror that is a
complete sealed mirror, for an archive one finished file. What is here then carries sealed files
to the server and nothing else. So the server sees ciphertext only, a run that is killed on the
way has lost nothing, and what the server must have is known exactly, by digest, without asking
it. The price is local room: as much as the mirror, or one archive, takes.

``server`` says what every server can do; ``sftp`` (with ``ssh``) and ``s3`` are the two that there
are, and the only importers of their libraries (the extra ``encvault[remote]``). ``carrying`` is the
plan, ``carrier`` does it, and ``carried`` remembers what went where.

Nothing here reads the environment or asks for a secret. The libraries find the keys of a server
by themselves, where its own programs find them: paramiko in ``~/.ssh`` and the user's agent,
botocore in the variables ``AWS_…`` and in ``~/.aws``.
"""
