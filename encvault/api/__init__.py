"""The library: what ``from encvault import …`` gives (docs/api.md).

A thin layer over `encvault.operations`, so that a program does exactly what the command line does.
Keys are given and never asked for, text is accepted where the layers below want bytes, and nothing
is read from the environment. A question that the command line would ask is `ConfirmationNeeded`,
unless consent was given.

Functions over many files return a `Report` and raise only if the request as a whole failed; call
`Report.raise_for_problems` where one bad file is an error.
"""
