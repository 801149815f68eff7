"""One module per script: it calls the layers below and prints the outcome.

Only scripts/ imports from here: `entry` (entry, job) and the command's own function.
"""
