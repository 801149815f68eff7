"""All that a run imports sooner or later, and the arms of the sweep; the server of `commands` imports this once."""

import importlib
import pkgutil

import cwpo

for module in pkgutil.walk_packages(cwpo.__path__, "cwpo."):
    if not module.name.startswith(("cwpo.bench", "cwpo.report")):
        importlib.import_module(module.name)

import accelerate  # noqa: E402, F401
import torch  # noqa: E402, F401
import transformers.models.opt.modeling_opt  # noqa: E402
import transformers.trainer  # noqa: E402, F401

from cwpo.plan import expand  # noqa: E402
from harness.commands import SWEEP  # noqa: E402

ARMS = expand(SWEEP[1:])
