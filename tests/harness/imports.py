"""All that a run imports sooner or later, and the arms of the sweep; the server of `commands` imports this once."""

import importlib
import pkgutil

import cwpo.data
import cwpo.models
import cwpo.stages
import cwpo.training

for package in (cwpo.data, cwpo.models, cwpo.training, cwpo.stages):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)

import accelerate  # noqa: E402, F401
import torch  # noqa: E402, F401
import transformers.models.opt.modeling_opt  # noqa: E402
import transformers.trainer  # noqa: E402, F401

import cwpo.commands.run  # noqa: E402
from cwpo.pipeline.arms import expand  # noqa: E402
from harness.commands import SWEEP  # noqa: E402

ARMS = expand(SWEEP[1:])
