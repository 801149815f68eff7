"""The same losses and the same updates as TRL's DPOTrainer on the same model and pairs, all weights 1."""

import pytest
import torch
from datasets import Dataset
from tiny import parameters, tiny_model, tiny_tokenizer

from cwpo.data.batching import encode
from cwpo.models.logprobs import score_sequences
from cwpo.training.preference import PreferenceTrainer

trl = pytest.importorskip("trl")
pytestmark = pytest.mark.bench

PAIRS = [
    {"prompt": "tell me about bread", "chosen": " is good", "rejected": " is very bad cold"},
    {"prompt": "ask", "chosen": " warm bridges is very good", "rejected": " bad"},
    {"prompt": "tell me", "chosen": " bread", "rejected": " cold bread"},
    {"prompt": "ask about bridges", "chosen": " is warm", "rejected": " very bad"},
]
# our objective -> the loss type, and the setting of ours under which TRL computes the same
TRL_NAMES = {"dpo": "sigmoid", "ipo": "ipo", "rdpo": "robust"}
BETA, FLIP_RATE = 0.3, 0.1


def theirs(policy, reference, folder, objective: str, **settings):
    plain = {"per_device_train_batch_size": 1, "learning_rate": 0.01, "max_grad_norm": 1e9, "optim": "sgd"}
    args = trl.DPOConfig(
        output_dir=str(folder),
        loss_type=[TRL_NAMES[objective]],
        label_smoothing=FLIP_RATE if objective == "rdpo" else 0.0,
        beta=BETA,
        use_cpu=True,
        bf16=False,
        report_to=[],
        gradient_checkpointing=False,
        save_strategy="no",
        disable_tqdm=True,
        lr_scheduler_type="constant",
        max_length=None,
        **(plain | settings),
    )
    return trl.DPOTrainer(
        model=policy,
        ref_model=reference,
        args=args,
        train_dataset=Dataset.from_list(PAIRS),
        processing_class=tiny_tokenizer(),
    )


def ours(policy, reference, folder, objective: str, average_logps: bool, args) -> PreferenceTrainer:
    tokenizer = tiny_tokenizer()
    prompts = [pair["prompt"] for pair in PAIRS]
    logps = {
        f"{side}_logp": score_sequences(
            reference, encode(tokenizer, prompts, [pair[side] for pair in PAIRS]), tokenizer.pad_token_id
        ).tolist()
        for side in ("chosen", "rejected")
    }
    rows = [pair | {"weight": 1.0} | {k: v[i] for k, v in logps.items()} for i, pair in enumerate(PAIRS)]
    return PreferenceTrainer(
        model=policy,
        args=args,
        train_dataset=rows,
        processing_class=tokenizer,
        objective=objective,
        beta=BETA,
        flip_rate=FLIP_RATE,
        average_logps=average_logps,
    )


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("objective", list(TRL_NAMES))
def test_per_pair_losses_agree(tmp_path, family, objective):
    policy, reference = (tiny_model(family, seed=seed) for seed in (0, 1))
    trainer = theirs(policy, reference, tmp_path, objective)
    expected = []
    for row in trainer.train_dataset:
        batch = trainer.data_collator([row])
        with torch.no_grad():
            expected.append(trainer.compute_loss(policy, batch).item())

    policy, reference = (tiny_model(family, seed=seed) for seed in (0, 1))
    own = ours(policy, reference, tmp_path, objective, objective == "ipo", trainer.args)
    batch = own.data_collator([own.train_dataset[i] for i in range(len(PAIRS))])
    with torch.no_grad():
        losses = own.row_losses(policy, batch).tolist()
    print(
        f"\n{family} {objective}: largest difference {max(abs(a - b) for a, b in zip(losses, expected)):.1e} of", losses
    )
    assert losses == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert max(expected) - min(expected) > 0.1


@pytest.mark.parametrize("objective", list(TRL_NAMES))
def test_three_steps_of_training_agree(tmp_path, objective):
    settings = {"per_device_train_batch_size": len(PAIRS), "num_train_epochs": 3}
    policy, reference = tiny_model("llama"), tiny_model("llama")
    trainer = theirs(policy, reference, tmp_path, objective, **settings)
    trainer.train()
    own_policy = tiny_model("llama")
    trainer.args.remove_unused_columns = False
    ours(own_policy, tiny_model("llama"), tmp_path, objective, objective == "ipo", trainer.args).train()
    start, end, own = parameters(reference), parameters(policy), parameters(own_policy)
    print(f"\n{objective}: moved {(end - start).norm():.3f}, apart {(end - own).norm():.1e}")
    assert (end - start).norm() > 1e-2
    assert (end - own).norm() < 1e-5 * (end - start).norm() + 1e-5
