"""Print the stages of a run or sweep, how many are cached, and their cost: python scripts/plan.py experiment=table1"""

import sys

from cwpo.commands.entry import entry
from cwpo.commands.plan import show_plan

if __name__ == "__main__":
    entry(lambda: show_plan(sys.argv[1:]))()
