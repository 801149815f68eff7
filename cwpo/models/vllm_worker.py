"""Samples responses with vLLM. The Python that has vllm runs this file: vllm_worker.py JOB. It imports nothing of cwpo.

JOB names the checkpoint, a file of prompts (JSON lines {"ids", "seed"}) and one for answers (lines {"ids", "finish"}).
"""

import json
import sys


def main(job_file: str) -> None:
    with open(job_file, encoding="utf-8") as stream:
        job = json.load(stream)
    with open(job["prompts"], encoding="utf-8") as stream:
        requests = [json.loads(line) for line in stream]
    from vllm import LLM, SamplingParams

    llm = LLM(
        model=job["model"],
        dtype=job["dtype"],
        max_model_len=job["context"],
        load_format="safetensors",
        trust_remote_code=False,
        generation_config="vllm",  # not the checkpoint's own: a repetition penalty there would change the distribution
        seed=0,
    )
    settings = [
        SamplingParams(
            temperature=job["temperature"],
            top_k=job["top_k"],
            max_tokens=job["max_new_tokens"],
            stop_token_ids=[job["eos"]],
            seed=request["seed"],
            detokenize=False,
        )
        for request in requests
    ]
    prompts = [{"prompt_token_ids": request["ids"]} for request in requests]
    with open(job["answers"], "w", encoding="utf-8") as stream:
        for result in llm.generate(prompts, settings):
            answer = result.outputs[0]
            stream.write(json.dumps({"ids": list(answer.token_ids), "finish": answer.finish_reason}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
