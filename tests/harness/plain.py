"""`python plain.py <script> <words>`: a script of the product, started anew, with the small shards of the fault tests.

Spawned workers import this file as their main module, and so get the small shards as well.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

import cwpo.store.shards  # noqa: E402
from harness.commands import SHARD, start  # noqa: E402

cwpo.store.shards.SHARD = SHARD

if __name__ == "__main__":
    start(sys.argv[1], sys.argv[2:])
