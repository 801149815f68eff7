"""What a run or sweep would do, what is cached, what it would cost: python scripts/plan.py experiment=table1"""

import sys

from cwpo import cli, runner

if __name__ == "__main__":
    cli.entry(lambda: runner.show_plan(sys.argv[1:]))()
