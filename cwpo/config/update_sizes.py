"""The update size of an arm is its learning rate. It is set directly, or given by the arm's operating point.

An operating point is a rule that gives a learning rate to each arm. `matched` gives one rate to all arms whose strong
model is of the same family; it was chosen on the arm of human labels. `own_best` gives each method, under each
objective, the rate at which its mean gold reward is highest. The rates were chosen on development seeds
(conf/experiment/tuning*.yaml) and are listed under `update_sizes` in conf/scale/.
"""

from dataclasses import replace

from cwpo.config.schema import Config, UpdateSizes


def at_operating_point(cfg: Config) -> Config:
    """Returns cfg; a null alignment.learning_rate is replaced by the rate in cfg.update_sizes for the arm, if any."""
    sizes = sizes_of(cfg)
    if cfg.alignment.learning_rate is not None or sizes is None:
        return cfg
    rate = sizes.matched if cfg.operating_point == "matched" else _own_best(cfg, sizes) or sizes.matched
    return replace(cfg, alignment=replace(cfg.alignment, learning_rate=rate))


def point_of(cfg: Config) -> str | None:
    """Returns which rates of cfg.update_sizes equal alignment.learning_rate: "matched", "own_best", "both" or None.

    If `own_best` does not list the arm's objective and method, the result is "matched" or None.
    """
    sizes = sizes_of(cfg)
    if sizes is None:
        return None
    rates = {"matched": sizes.matched, "own_best": _own_best(cfg, sizes)}
    at = [point for point, rate in rates.items() if rate == cfg.alignment.learning_rate]
    return "both" if len(at) == 2 else next(iter(at), None)


def sizes_of(cfg: Config) -> UpdateSizes | None:
    """Returns the entry of cfg.update_sizes for the strong model's family, else the entry "other", else None."""
    model = cfg.pair.strong.rpartition("/")[2].lower()
    family = next((name for name in cfg.update_sizes if model.startswith(name)), "other")
    return cfg.update_sizes.get(family)


def _own_best(cfg: Config, sizes: UpdateSizes) -> float | None:
    return sizes.own_best.get(f"{cfg.objective.name}/{cfg.method.name}")
