"""What to run at night, and when: job files, their schedule, one run, and what became of it.

A job is one TOML file (docs/jobs.md). It holds nothing worth stealing: to seal, a recipient is
enough. Nothing here asks, prints or reads the environment.
"""
