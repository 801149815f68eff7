"""One module per script: it checks, calls the layers below and tells the user what came out.

Only scripts/ imports from here: `entry` (entry, job) and the command's own function.
"""
