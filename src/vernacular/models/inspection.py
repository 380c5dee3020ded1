"""What a weights folder is, in lines for people: family, shape, parameters, files, memory, tokenizer, template."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from vernacular.foundation.errors import UserError
from vernacular.foundation.files import read_json_object
from vernacular.models.bridge import PROVENANCE
from vernacular.models.configuration import DecoderConfiguration
from vernacular.models.family import load_family
from vernacular.models.published_tensors import check_tensors, published_shapes
from vernacular.models.tensor_files import TensorFolder, published_files
from vernacular.models.weights import read_config, stated_end_ids
from vernacular.tokens.template import TEMPLATE_FILE, ChatTemplate
from vernacular.tokens.tokenizer import CONFIG_FILE, Tokenizer
from vernacular.tokens.tokenizer_files import SENTENCEPIECE_FILE, TOKENIZER_FILE

_BYTES = {"float32": 4, "bfloat16": 2}
# Bytes per value of a matrix with its scales: one per row, or one of 4 bytes for each 128 values.
_PACKED = {"int8": 1.0, "int4": 0.5 + 4 / 128}


def describe(folder: Path) -> str:
    """A line for each fact, its name first.

    Raises:
        UserError: the folder holds no weights, or files are missing or truncated.
    """
    lines = list(_facts(folder, read_config(folder)))
    width = max(len(name) for name, _ in lines)
    return "\n".join([str(folder), *(f"  {name:<{width}}  {fact}" for name, fact in lines)])


def faults(folder: Path) -> list[UserError]:
    """Why the folder's weights cannot be used as they are; empty for sound ones.

    Compared are the tensors' names and shapes, from the files' headers, with config.json; read are the tokenizer, the
    chat template and the ids of the tokens that end an answer. A folder without tokenizer or template is sound.
    """
    configuration = read_config(folder)
    checks: list[Callable[[], object]] = [lambda: _check_tensors(folder, configuration), lambda: stated_end_ids(folder)]
    if _has_tokenizer(folder):
        checks.append(lambda: Tokenizer.load(folder))
    if _has_template(folder):
        checks.append(lambda: ChatTemplate.load(folder))
    found: dict[str, UserError] = {}  # tokenizer and template may fail by the same file
    for check in checks:
        try:
            check()
        except UserError as error:
            found.setdefault(str(error), error)
    return list(found.values())


def memory_bytes(configuration: DecoderConfiguration) -> dict[str, int]:
    """Bytes of the weights in memory, by format.

    int8 and int4 pack the matrices; norms, routers and the embedding table stay in bfloat16, and the head of int4 is
    int8. A tied head is packed beside the table.
    """
    total = configuration.num_parameters()
    shapes = published_shapes(configuration)
    table = configuration.vocab_size * configuration.hidden_size
    heads = table if configuration.tie_embeddings else configuration.embedding_parameters() - table
    packable = (
        sum(_count(shape) for name, shape in shapes.items() if len(shape) > 1 and "router" not in name)
        - configuration.embedding_parameters()
    )
    rest = total - packable - configuration.embedding_parameters() + table
    found = {name: total * size for name, size in _BYTES.items()}
    for name, size in _PACKED.items():
        found[name] = int(packable * size + heads * _PACKED["int8"] + rest * _BYTES["bfloat16"])
    return found


def _facts(folder: Path, configuration: DecoderConfiguration) -> Iterator[tuple[str, str]]:
    c = configuration
    yield "family", f"{c.family} ({load_family(c.family).architecture})"
    yield "blocks", f"{c.num_layers} of width {c.hidden_size:,}; {_feed_forward(c)}"
    yield "attention", f"{c.num_heads} heads, {c.num_key_value_heads} of keys and values, {c.head_dim} wide each"
    yield "positions", _positions(c)
    yield "parameters", _parameters(c)
    yield "files", _files(folder)
    yield "memory", ", ".join(f"{name} {_size(size)}" for name, size in memory_bytes(c).items())
    for name, size in _BYTES.items():
        per_token = c.cache_bytes_per_token(size)
        held = min(c.max_positions, c.window or c.max_positions)
        whole = f"{_size(per_token * held)} for the full context" + (" (a window's worth)" if held == c.window else "")
        yield f"cache {name}", f"{_size(per_token)} per token, {whole}"
    yield "tokenizer", _tokenizer(folder, c)
    yield "template", _template(folder)
    if (folder / PROVENANCE).is_file():
        record = read_json_object(folder / PROVENANCE)
        yield "imported", f"from {record['source']} ({record['model_type']}), {len(record['files'])} files recorded"


def _feed_forward(c: DecoderConfiguration) -> str:
    if c.num_experts is not None:
        return (
            f"{c.num_experts} experts of {c.intermediate_size:,}, {c.experts_per_token} for each token, {c.activation}"
        )
    return f"{c.feed_forward} feed-forward of {c.intermediate_size:,}, {c.activation}"


def _positions(c: DecoderConfiguration) -> str:
    kind = f"rotary, base {c.rope_theta:,.0f}" if c.position == "rotary" else f"ALiBi, exponent {c.alibi_bias_max}"
    window = f"a window of {c.window:,}" if c.window is not None else "no window"
    return f"{c.max_positions:,}, {kind}, {window}"


def _parameters(c: DecoderConfiguration) -> str:
    tied = "tied" if c.tie_embeddings else "not tied"
    active = f", {c.num_active_parameters():,} active" if c.num_experts is not None else ""
    return f"{c.num_parameters():,}{active}; {c.vocab_size:,} rows of embeddings, {tied}"


def _check_tensors(folder: Path, configuration: DecoderConfiguration) -> None:
    with TensorFolder(published_files(folder)) as tensors:
        check_tensors(tensors, configuration, folder)


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (TOKENIZER_FILE, SENTENCEPIECE_FILE))


def _has_template(folder: Path) -> bool:
    """Whether the folder states one; an unreadable tokenizer_config.json is to be read, and to fail."""
    if (folder / TEMPLATE_FILE).is_file():
        return True
    try:
        return bool((folder / CONFIG_FILE).is_file() and read_json_object(folder / CONFIG_FILE).get("chat_template"))
    except UserError:
        return True


def _files(folder: Path) -> str:
    files = published_files(folder)
    sizes: dict[str, int] = {}
    with TensorFolder(files) as tensors:
        for facts in tensors.facts.values():
            name = str(facts.dtype).removeprefix("torch.")
            sizes[name] = sizes.get(name, 0) + facts.num_bytes
    stored = ", ".join(f"{name} {_size(size)}" for name, size in sizes.items())
    return f"{len(files)} of weights ({files[0].name}{', …' if len(files) > 1 else ''}): {stored}"


def _tokenizer(folder: Path, configuration: DecoderConfiguration) -> str:
    try:
        tokenizer = Tokenizer.load(folder)
    except UserError as error:
        return f"cannot be read: {error.message}" if _has_tokenizer(folder) else "none"
    first = " ".join(filter(None, map(tokenizer.token_text, tokenizer.begin_ids))) or "nothing"
    last = tokenizer.special_names.get("eos_token", "nothing")
    spare = configuration.vocab_size - tokenizer.vocab_size
    unused = f", {spare:,} rows unused" if spare > 0 else f", {-spare:,} more than the weights know" if spare else ""
    return f"{tokenizer.vocab_size:,} tokens{unused}; begins with {first}, ends with {last}; {tokenizer.hash[:12]}"


def _template(folder: Path) -> str:
    try:
        template = ChatTemplate.load(folder)
    except UserError as error:
        return f"cannot be read: {error.message}" if _has_template(folder) else "none"
    reads_tools = "reads tools" if "tools" in template.source or template.tool_use is not None else "no tools"
    return f"{len(template.source):,} characters, {reads_tools}; {template.hash[:12]}"


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _size(num_bytes: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.2f} {unit}"
    return f"{num_bytes} bytes"
