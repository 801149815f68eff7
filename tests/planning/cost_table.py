"""Makes the table of experiments in conf/README.md: models, data, GPU-hours at the paper's scale, from configs alone.

To write it again, from the project's root: PYTHONPATH=.:tests python -c "from planning.cost_table import table; print(table())"
"""

from collections.abc import Sequence

from omegaconf import OmegaConf

from cwpo.config.schema import CONF
from cwpo.pages import markdown_table, paper_order
from cwpo.pipeline.arms import Arm, distinct, expand
from cwpo.planning.gpu_hours import stage_hours

# Counts gold rewards of every data set as by the largest of the paper's reward models: an upper bound.
GOLD = ("gold=huggingface", "gold.path=Skywork/Skywork-Reward-V2-Llama-3.1-8B")
HEAD = ("experiment", "weak → strong", "data", "arms", "stages", "seeds", "GPU-hours a seed")


def table(names: Sequence[str] | None = None) -> str:
    """Returns a Markdown table with a row for each of the experiments `names` (default: all), in their order."""
    names = names or sorted((path.stem for path in (CONF / "experiment").glob("*.yaml")), key=paper_order)
    return markdown_table(HEAD, [row(name) for name in names], left=3)


def row(name: str) -> tuple[str, ...]:
    """Returns the row of an experiment, with one seed at scale=paper. Loads and downloads nothing."""
    arms = expand([f"experiment={name}", "scale=paper", *GOLD], seeds=[0], look=False)
    hours = sum(stage_hours(arms, distinct(arms)).values())
    params = OmegaConf.load(CONF / "experiment" / f"{name}.yaml").hydra.sweeper.params
    return (
        name,
        _models(arms),
        ", ".join(dict.fromkeys(arm.cfg.data.name for arm in arms)),
        str(len(arms)),
        str(len(distinct(arms))),
        str(len(str(params.seed).split(","))),
        f"{hours:,.0f}" if hours >= 10 else f"{hours:.1f}",
    )


def _models(arms: Sequence[Arm]) -> str:
    """Lists every weak model with the strong models it labels for; annotator experiments have no strong model."""
    strong: dict[str, dict[str, None]] = {}
    for arm in arms:
        weak, other = (model.rpartition("/")[2] for model in (arm.cfg.pair.weak, arm.cfg.pair.strong))
        strong.setdefault(weak, {})
        if arm.cfg.until not in ("assess", "annotate", "train_annotator"):
            strong[weak][other] = None
    return "; ".join(weak + (f" → {', '.join(others)}" if others else "") for weak, others in strong.items())
