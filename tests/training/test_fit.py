"""The one annotator fit: early stopping, and going on from a checkpoint."""

import gc
import weakref

import pytest
import torch
from safetensors.torch import load_file
from tiny import save, tiny_model

from cwpo.config.schema import TrainingConfig
from cwpo.runtime import free_memory
from cwpo.training import fit as fits
from cwpo.training.bradley_terry import BradleyTerryTrainer
from cwpo.training.checkpoints import Schedule
from cwpo.training.fit import Comparisons, Site, Start, fit_annotator

GOOD, BAD = "bread is good", "very cold bad"
PAIRS = Comparisons(list("abcd"), ["ask me", "tell me", "ask", "tell"], [GOOD] * 4, [BAD] * 4)
REVERSED = PAIRS._replace(chosen=PAIRS.rejected, rejected=PAIRS.chosen)


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Start:
    return Start(save(tiny_model("llama"), tmp_path_factory.mktemp("start") / "model"))


def fit(site: Site, start: Start, epochs: int, pairs: Comparisons = PAIRS, precision: str = "float32", **settings):
    training = TrainingConfig(
        epochs=epochs, learning_rate=1e-2, batch_size=2, scheduler="constant", precision=precision
    )
    return fit_annotator(site, pairs, start=start, training=training, head_std=0.01, seed=0, **settings)


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_training_goes_on_while_held_out_loss_falls(start, tmp_path):
    fitted = fit(Site(tmp_path / "m"), start, 3, held_out=PAIRS)
    assert len(fitted.held_out) == 3 and fitted.held_out == sorted(fitted.held_out, reverse=True)
    plain = fit(Site(tmp_path / "plain"), start, 3)
    assert plain.held_out == [] and plain.curve == fitted.curve
    same = zip(weights(tmp_path / "m").values(), weights(tmp_path / "plain").values(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)


@pytest.mark.parametrize(
    ("joint", "pairs"),
    [(False, PAIRS), (False, PAIRS._replace(target=[0.6, 0.9, 0.5, 1.0])), (True, PAIRS)],
    ids=["bt", "soft", "pairrm"],
)
def test_shared_prompts_train_the_same_annotator(start, tmp_path, joint, pairs, monkeypatch):
    plain = fit(Site(tmp_path / "plain"), start, 3, pairs, held_out=pairs, joint=joint)
    batches: list[set] = []
    row_losses = BradleyTerryTrainer.scores
    monkeypatch.setattr(
        BradleyTerryTrainer, "scores", lambda self, m, i: batches.append(set(i)) or row_losses(self, m, i)
    )
    packed = fit(Site(tmp_path / "packed", token_budget=16), start, 3, pairs, held_out=pairs, joint=joint)
    assert batches and all("packed_ids" in batch for batch in batches)
    assert packed.held_out == pytest.approx(plain.held_out, rel=1e-3)
    assert [row["loss"] for row in packed.curve] == pytest.approx([row["loss"] for row in plain.curve], rel=1e-3)


def test_training_stops_when_held_out_loss_rises_and_goes_back(start, tmp_path):
    """Held-out pairs that contradict: every epoch is worse than the one before, so the first is kept."""
    fitted = fit(Site(tmp_path / "m"), start, 5, held_out=REVERSED)
    assert len(fitted.held_out) == 2 and fitted.held_out[1] > fitted.held_out[0] and fitted.steps == 4
    fit(Site(tmp_path / "one"), start, 1)
    same = zip(weights(tmp_path / "m").values(), weights(tmp_path / "one").values(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)


def test_a_stopped_training_goes_on_from_its_checkpoint(start, tmp_path):
    fit(Site(tmp_path / "whole"), start, 4)

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    site = Site(tmp_path / "m", checkpoints=tmp_path / "kept", schedule=Schedule(steps=2), progress=stop)
    with pytest.raises(KeyboardInterrupt):
        fit(site, start, 4)
    seen: list[int] = []
    again = Site(site.out, checkpoints=site.checkpoints, schedule=site.schedule, progress=lambda d, t: seen.append(d))
    fit(again, start, 4)
    assert seen == [5, 6, 7, 8]
    same = zip(weights(tmp_path / "m").values(), weights(tmp_path / "whole").values(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)


def test_a_trained_model_is_gone_from_the_gpu_before_the_next_is_loaded(start, tmp_path, monkeypatch):
    loaded: list[weakref.ref] = []
    whole = fits.new_annotator

    def load(*args, **settings):
        assert all(earlier() is None for earlier in loaded)
        model = whole(*args, **settings)
        loaded.append(weakref.ref(model))
        return model

    monkeypatch.setattr(fits, "new_annotator", load)
    monkeypatch.setattr(fits, "free_memory", lambda device: free_memory("cuda"))
    gc.disable()
    try:
        for name in "ab":
            fit(Site(tmp_path / name), start, 1, precision="bfloat16")  # accelerate's autocast makes the circle
    finally:
        gc.enable()
    assert len(loaded) == 2
