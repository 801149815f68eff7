"""Runs published reward models. Each reads texts as it did in training: chat, question and answer, or comparison."""

import functools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSeq2SeqLM, AutoModelForSequenceClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from cwpo.data.chat import reads_chat, rendered
from cwpo.data.dialogues import turns
from cwpo.data.encoding import Text, encode, plain_texts, whole_ids
from cwpo.errors import InputError
from cwpo.models.annotator import classifier_problem, score_responses
from cwpo.models.lengths import forget_lengths, mixing_length
from cwpo.models.logprobs import scoring_batches
from cwpo.models.memory import in_batches
from cwpo.models.policy import context_length, load_classifier, load_tokenizer, read_config, read_tokenizer, readable
from cwpo.runtime import label_precision

# Key of a tokenizer's saved init_kwargs. Its value is the kind of scalar head that cwpo trained: bt or pairrm.
HEAD = "cwpo_head"
SMALL = 2e9  # reward models of up to this many parameters are computed in float32 on GPUs too


class Scorer:
    """A published checkpoint and its tokenizer. Dropout is off.

    Weights are float32 on CPUs, and on GPUs if there are at most SMALL; else they keep their dtype. A batch has up to
    2 x `token_budget` tokens or, if that is None, `batch_size` sequences. `chat`: as in read_reward.
    """

    kind: Any = AutoModelForSequenceClassification

    def __init__(
        self,
        path: str,
        revision: str | None,
        *,
        device: str,
        batch_size: int,
        token_budget: int | None = None,
        chat: bool = False,
    ) -> None:
        if problem := gold_problem(path, revision, seq2seq=self.kind is AutoModelForSeq2SeqLM):
            raise InputError(problem)
        self.tokenizer, self.chat = read_reward(path, revision, chat)
        self.pad_id = read_config(path, revision).get_text_config().pad_token_id  # RoBERTa's positions depend on it
        self.model = load_classifier(path, revision, self.pad_id, self.kind, dtype="auto")
        if device == "cpu" or self.model.num_parameters() <= SMALL:
            self.model.float()
        self.model.to(device).eval()
        self.batching, self.device = (batch_size, token_budget), device
        tables = [name for name, part in self.model.named_modules() if isinstance(part, torch.nn.Embedding)]
        learned = any("position" in name or "wpe" in name for name in tables)
        self.most = self.longest(path, revision) if learned else None  # other positions have no end

    def longest(self, path: str, revision: str | None) -> int | None:
        """Returns how many tokens the model can read, or None if its config sets no limit."""
        return readable(self.tokenizer, path, revision)

    def lengths(self, prompts: Sequence[Text], responses: Sequence[Text]) -> list[int]:
        """Returns for each prompt and its response how many tokens the model reads."""
        return list(map(len, reward_inputs(self.tokenizer, prompts, responses, self.chat)["input_ids"]))

    def checked_lengths(self, rows: Sequence[Sequence[int]]) -> list[int]:
        """Returns each row's number of tokens. Raises InputError if one is above `most`, the model's positions."""
        lengths = list(map(len, rows))
        if self.most is not None and max(lengths, default=0) > self.most:
            raise InputError(
                f"the reward model {self.model.name_or_path} has positions for {self.most} tokens, and a text has {max(lengths)}; lower "
                "data.max_tokens and generation.max_new_tokens (own pairs: max_tokens, max_new_tokens), or use another model"
            )
        return lengths


class HuggingFace(Scorer):
    """A sequence-classification reward model with one label; the reward is the logit of its own forward pass.

    The input is the prompt followed by the response: one text for causal models, a pair of texts for tokenizers that
    separate the two (encoders such as DeBERTa). Messages are formatted as in HH-RLHF. Rows of one length share a batch:
    padding would change the scores of some models (XLNet, FNet, Nystromformer).
    """

    @torch.no_grad()
    def rewards(self, prompts: Sequence[Text], responses: Sequence[Text]) -> np.ndarray:
        config = self.model.config
        keeps = mixing_length(config) is not None  # the model keeps what it computed for a longer row
        # BART cannot read texts with different numbers of EOS at once, nor a decoder several texts without a pad token
        batching = (1, None) if keeps or config.is_encoder_decoder or self.pad_id is None else self.batching
        read = reward_inputs(self.tokenizer, prompts, responses, self.chat) if prompts else {"input_ids": []}
        scores, lengths = np.empty(len(prompts)), np.array(self.checked_lengths(read["input_ids"]), dtype=np.int64)

        def score(rows: list[int]) -> np.ndarray:
            if keeps:
                forget_lengths(self.model)
            inputs = {
                name: torch.tensor([values[i] for i in rows], device=self.device) for name, values in read.items()
            }
            return self.model(**inputs).logits.squeeze(-1).cpu().double().numpy()

        alike = [np.flatnonzero(lengths == length) for length in np.unique(lengths)]
        batches = [rows[part].tolist() for rows in alike for part in scoring_batches(lengths[rows].tolist(), *batching)]
        with label_precision(self.device):
            for rows, values in in_batches(batches, score):
                scores[rows] = values
        return scores


def reward_inputs(
    tokenizer: Any, prompts: Sequence[Text], responses: Sequence[Text], chat: bool = False
) -> dict[str, list[list[int]]]:
    """Returns each prompt with its response as unpadded `input_ids`, and for encoders the tokenizer's other outputs.

    chat=True: by the chat template. `chat` does nothing for annotators that cwpo trained: all is as in their training.
    """
    if trained_head(tokenizer):
        return {"input_ids": [ids for ids, _ in encode(tokenizer, prompts, responses)]}
    both = list(zip(prompts, responses, strict=True))
    if chat:
        talks = [
            rendered(tokenizer, _talk(*each), i, open_turn=False, no_thinking=False) for i, each in enumerate(both)
        ]
        return {"input_ids": whole_ids(tokenizer, talks)}
    texts = [plain_texts(*each) for each in both]
    if tokenizer.sep_token_id is None:
        return {"input_ids": whole_ids(tokenizer, [prompt + response for prompt, response in texts])}
    return dict(tokenizer([prompt for prompt, _ in texts], [response for _, response in texts]))


def _talk(prompt: Text, response: Text) -> list[Any]:
    """Returns prompt and response as the messages of one conversation."""
    said: Any = response
    if isinstance(response, str):
        said = [{"role": "assistant", "content": response.strip()}]
    return [*(turns(prompt) if isinstance(prompt, str) else prompt), *said]


def read_reward(path: str, revision: str | None, chat: bool | None = None) -> tuple[Any, bool]:
    """Returns the tokenizer of the reward model at `path`, and whether its chat template formats the model's inputs.

    If `chat` is None, the choice that was saved with the tokenizer decides; without one, a causal model uses its
    template if it has one. A model that cwpo trained always reads as in its training. Raises InputError for a PairRM
    that cwpo trained, which gives no reward, and for chat=True without a template.
    """
    tokenizer = read_tokenizer(path, revision)
    if head := trained_head(tokenizer):
        if head == "pairrm":
            raise InputError(f"{path} is a PairRM: it compares two responses and gives no reward; name another model")
        return load_tokenizer(path, revision), bool(reads_chat(tokenizer))
    if tokenizer.pad_token_id is None:  # the model may have no EOS either
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    if chat and not tokenizer.chat_template:
        raise InputError(
            f"the tokenizer of {path} has no chat template, but this reward model reads chats; "
            "use gold=huggingface (own pairs: chat=false)"
        )
    if chat is None:
        causal = read_config(path, revision).model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        chat = bool(tokenizer.chat_template) and causal and tokenizer.sep_token_id is None
        known = reads_chat(tokenizer)
        chat = chat if known is None else known
    return tokenizer, chat


def trained_head(tokenizer: Any) -> str | None:
    """Returns the kind of scalar head, bt or pairrm, of an annotator that cwpo trained; None for any other model."""
    return getattr(tokenizer, "init_kwargs", {}).get(HEAD)


def load_reward(
    path: str, revision: str | None, *, device: str, chat: bool | None = None, **batching: Any
) -> "HuggingFace | LastToken":
    """Loads any sequence-classification reward model. `chat`: as in read_reward.

    A decoder becomes a LastToken. All other models become a HuggingFace.
    """
    _, reads = read_reward(path, revision, chat)
    kind = HuggingFace if classifier_problem(path, revision, "gold.path") else LastToken
    return kind(path, revision, device=device, chat=reads, **batching)


def gold_problem(path: str, revision: str | None, key: str = "gold.path", seq2seq: bool = False) -> str | None:
    """Returns why the model at `path` (config key: `key`) gives no rewards, or None if it does. Reads no weights.

    seq2seq: whether it must be a model that answers in words (SteamSHP), not one that returns a score.
    """
    config = read_config(path, revision, key)
    if seq2seq:
        return None if config.is_encoder_decoder else f"{key}={path} is no encoder-decoder model such as T5"
    if config.num_labels == 1:
        return None
    return f"{key}={path} returns {config.num_labels} scores; a reward model has num_labels=1"


class LastToken(Scorer):
    """A decoder-only reward model, scored at the last token of its input.

    The input of an annotator ends in EOS, as in its training; the input of another model ends as its tokenizer ends a
    text, without its config's pad token: there its own forward pass, and so its training, reads the score. The row's
    length gives the last token's position, so the token that pads batches here may be EOS or the end of a chat turn.
    """

    def longest(self, path: str, revision: str | None) -> int | None:
        return context_length(path, revision)  # a decoder has all positions of its config, whatever its tokenizer says

    def rewards(self, prompts: Sequence[Text], responses: Sequence[Text]) -> np.ndarray:
        ids = reward_inputs(self.tokenizer, prompts, responses, self.chat)["input_ids"]
        self.checked_lengths(ids)
        rows = [(row if trained_head(self.tokenizer) else self._to_last(row), 0) for row in ids]
        return score_responses(self.model, rows, self.tokenizer.pad_token_id or 0, *self.batching).double().numpy()

    def _to_last(self, row: list[int]) -> list[int]:
        """Returns the row up to the last token that is not the config's pad token."""
        end = next((at for at in range(len(row), 1, -1) if row[at - 1] != self.pad_id), 1)
        return row[:end]


class QuestionAnswer(HuggingFace):
    """OpenAssistant's reward model. Its tokenizer joins question and answer, which lose their outer white space."""

    def pair(self, prompt: str, response: str) -> tuple[str, str]:
        said = turns(prompt)
        # A dialogue is the question as a whole, with its speakers' names, as in the model's training on HH-RLHF.
        question = said[0]["content"] if len(said) == 1 else prompt
        return question.strip(), response.strip()

    def rewards(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        pairs = [self.pair(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]
        return super().rewards([question for question, _ in pairs], [answer for _, answer in pairs])


class SteamSHP(Scorer):
    """SteamSHP: a T5 that reads a post and two responses and names the better one, A or B. It is asked in both orders.

    A question of more than LENGTH tokens loses the end of its post, as the authors advise; `counts` says how often.
    """

    kind = AutoModelForSeq2SeqLM
    LENGTH = 512

    def __init__(self, path: str, revision: str | None, **place: Any) -> None:
        super().__init__(path, revision, **place)
        self.answers = [self.tokenizer(letter)["input_ids"][0] for letter in "AB"]
        self.counts: Counter[str] = Counter()

    def text(self, prompt: str, first: str, second: str) -> str:
        """Returns the question in the model's training format: each text on one line, the post cut if too long."""
        post = " ".join(turn["content"] for turn in turns(prompt))
        post, first, second = (" ".join(text.split()) for text in (post, first, second))
        written = _question(post, first, second)
        over = len(self.tokenizer(written)["input_ids"]) - self.LENGTH
        if over <= 0:
            return written
        self.counts["posts_shortened"] += 1
        ids = self.tokenizer(post, add_special_tokens=False)["input_ids"]
        return _question(self.tokenizer.decode(ids[: max(0, len(ids) - over)]), first, second)

    def preferences(self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]) -> np.ndarray:
        """Returns P(first is better), (N,), in [0, 1]: the mean of both orders."""
        rows = list(zip(prompts, first, second, strict=True))
        right = self._says_a([self.text(prompt, a, b) for prompt, a, b in rows])
        swapped = self._says_a([self.text(prompt, b, a) for prompt, a, b in rows])
        return (right + 1 - swapped) / 2

    @torch.no_grad()
    def _says_a(self, texts: Sequence[str]) -> np.ndarray:
        """Returns P(A), (N,), of each question in `texts`, with A and B as the only answers."""
        result = np.empty(len(texts))
        ids = self.tokenizer(list(texts))["input_ids"] if texts else []
        start = self.model.config.decoder_start_token_id

        def score(part: list[int]) -> np.ndarray:
            inputs = self.tokenizer.pad({"input_ids": [ids[i] for i in part]}, return_tensors="pt")
            inputs = inputs.to(self.device)
            begun = torch.full((len(part), 1), start, device=self.device)
            logits = self.model(**inputs, decoder_input_ids=begun).logits[:, 0, self.answers]
            return logits.cpu().double().softmax(dim=1)[:, 0].numpy()

        with label_precision(self.device):
            for part, values in in_batches(scoring_batches([len(row) for row in ids], *self.batching), score):
                result[part] = values
        return result


def _question(post: str, first: str, second: str) -> str:
    return f"POST: {post}\n\n RESPONSE A: {first}\n\n RESPONSE B: {second}\n\n Which response is better? RESPONSE"


def rewards_within(context: int | None, model: Any, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
    """Returns the rewards that `model`, a gold.Trained or a reward model, gives N responses: (N,), float64; NaN if prompt
    and response together have more than `context` tokens (None: no limit).

    Raises FloatingPointError if any other score is NaN or infinite.
    """
    lengths = np.array(model.lengths(prompts, responses), dtype=np.int64)
    kept = np.flatnonzero(lengths <= (context or np.inf)).tolist()
    scores = np.full(len(lengths), np.nan)
    if kept:
        scores[kept] = model.rewards([prompts[i] for i in kept], [responses[i] for i in kept])
    broken = int((~np.isfinite(scores[kept])).sum())
    if broken:
        raise FloatingPointError(f"{broken} of {len(lengths)} rewards are NaN or infinite; use another model")
    return scores


# The class or function that loads each choice of conf/gold.
ADAPTERS: dict[str, Any] = {
    "huggingface": load_reward,
    "skywork": functools.partial(load_reward, chat=True),
    "trl_qwen": functools.partial(load_reward, chat=True),
    "openassistant": QuestionAnswer,
    "steamshp": SteamSHP,
}
