"""Folders of sealed files: layouts, transactions, inspection.

``sealed`` moves one file's bytes; ``sealing`` and ``opening`` do a batch in a worker; ``plan``,
``seal`` and ``open`` run over a tree and own every name; ``single`` and ``archive`` do the same
for files on their own; ``manifest`` and ``vault`` hold keys; ``catalog`` and ``inspect`` look.
Nothing here imports the access log: a run tells an `Observer`.
"""
