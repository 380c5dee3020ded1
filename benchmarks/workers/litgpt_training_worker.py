"""Training of a litgpt model in a plain loop, with litgpt's own loss: `litgpt_training_worker.py JOB`."""

from __future__ import annotations

import json
from typing import Any

import torch
from litgpt import GPT, Config
from litgpt.scripts.convert_hf_checkpoint import copy_weights_hf_llama
from litgpt.utils import chunked_cross_entropy
from safetensors.torch import load_file
from training_protocol import read_job
from transformers_training_worker import train


def configure(config: dict[str, Any], tokens: int) -> Config:
    """litgpt's words for the configuration of a Llama or a Granite mixture."""
    experts = config.get("num_local_experts", 0)
    return Config(
        name="benchmark",
        block_size=tokens,
        n_layer=config["num_hidden_layers"],
        n_embd=config["hidden_size"],
        n_head=config["num_attention_heads"],
        n_query_groups=config["num_key_value_heads"],
        head_size=config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"],
        vocab_size=config["vocab_size"],
        padded_vocab_size=config["vocab_size"],
        norm_class_name="RMSNorm",
        norm_eps=config["rms_norm_eps"],
        parallel_residual=False,
        bias=False,
        rotary_percentage=1.0,
        intermediate_size=config["intermediate_size"],
        moe_intermediate_size=config["intermediate_size"] if experts else None,
        mlp_class_name="LLaMAMoE" if experts else "LLaMAMLP",
        n_expert=experts,
        n_expert_per_token=config.get("num_experts_per_tok", 0),
    )


def main() -> None:
    job = read_job()
    torch.set_num_threads(job.threads)
    config = configure(json.loads((job.weights / "config.json").read_text()), job.tokens)
    model = GPT(config)
    if not config.n_expert:  # a mixture keeps weights of its own: the layouts differ, the work does not
        state: dict[str, torch.Tensor] = {}
        for file in job.weights.glob("*.safetensors"):
            copy_weights_hf_llama(config, {}, state, load_file(file))
        model.load_state_dict(state)

    def forward(ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = chunked_cross_entropy(model(ids), targets, chunk_size=0)
        return loss

    train(model, torch.compile(forward) if job.compiled else forward, job)


if __name__ == "__main__":
    main()
