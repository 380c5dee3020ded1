"""One pass over every record: normalise, identify, measure, judge, and note a MinHash signature.

The result is the working table: a Parquet folder with a row per record, from which duplicates are removed and the
corpus is written. Texts are in memory one batch at a time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vernacular.corpus.configuration import CurateConfiguration
from vernacular.corpus.document import COMMON_SCRIPT, UNDETERMINED_LANGUAGE, document_id
from vernacular.corpus.engine import daft, operating_system_error
from vernacular.corpus.filters import verdicts
from vernacular.corpus.identification import Identified, identify
from vernacular.corpus.languages import canonical_language, scripts_of
from vernacular.corpus.normalisation import normalise
from vernacular.corpus.reading import Records, Tally
from vernacular.corpus.repairs import repair
from vernacular.corpus.shingles import shingle_texts
from vernacular.corpus.sources import SourceFile, total_bytes
from vernacular.foundation.progress import progress

_ROWS_PER_BATCH = 1024
# Daft holds a row group in memory until it is full; its defaults (128 MB packed) would need gigabytes.
_SMALL_FILES = {"parquet_target_row_group_size": 8 << 20, "parquet_target_filesize": 64 << 20}

_ASSESSED = pa.struct(
    [
        pa.field("text", pa.large_string()),
        pa.field("id", pa.large_string()),
        pa.field("language", pa.large_string()),
        pa.field("script", pa.large_string()),
        pa.field("reason", pa.large_string()),
        pa.field("detail", pa.large_string()),
        pa.field("bytes_out", pa.int64()),
        pa.field("length", pa.int64()),
        pa.field("shingles", pa.large_string()),
    ]
)


def assess_sources(
    files: list[SourceFile], configuration: CurateConfiguration, wanted: frozenset[str], table: Path
) -> Tally:
    """Read and assess every file into the Parquet folder `table`.

    Returns:
        What was read, counted on the way.

    Raises:
        UserError: a source cannot be read, or a record is broken and the recipe says `strict`.
    """
    tally = Tally()
    near = configuration.near_duplicates
    with progress(doing="reading documents", total=total_bytes(files) or None, unit="B") as bar:
        assessed = _assessor(configuration, wanted)
        records = Records(files, configuration.strict, tally, bar).read()
        rest = [name for name in records.column_names if name not in ("text", "stated")]
        columns = records.select(*rest, assessed(records["text"], records["stated"]))
        if near.enabled:
            signature = daft.functions.minhash(
                columns["shingles"], num_hashes=near.hashes, ngram_size=near.shingle, seed=configuration.seed + 1
            )
            columns = columns.with_column("signature", signature)
        try:
            with daft.execution_config_ctx(**_SMALL_FILES):
                columns.exclude("shingles").write_parquet(str(table), compression="zstd").collect()
        except daft.exceptions.DaftCoreException as error:
            raise tally.error or operating_system_error(error) or error from None
    return tally


def _assessor(configuration: CurateConfiguration, wanted: frozenset[str]) -> Any:
    """The Daft function that assesses a batch."""
    dtype = daft.DataType.from_arrow_type(_ASSESSED)

    @daft.func.batch(return_dtype=dtype, unnest=True, use_process=False, batch_size=_ROWS_PER_BATCH)
    def assessed(text: Any, stated: Any) -> pa.Array:
        return assess(text.to_arrow(), stated.to_arrow().to_pylist(), configuration, wanted)

    return assessed


def assess(
    texts: pa.Array, stated: list[str | None], configuration: CurateConfiguration, wanted: frozenset[str]
) -> pa.StructArray:
    """Assess a batch of D raw texts (null where the record is broken) and the languages their sources state.

    Returns:
        struct [D] with the fields of the working table that do not come from the reader.
    """
    texts, num_controls = normalise(pc.fill_null(texts.cast(pa.large_string()), ""), configuration.normalisation)
    said = [canonical_language(language) if language else None for language in stated]
    found = identify(texts, said, configuration.identification, wanted)
    reasons, details = verdicts(texts, num_controls, found.languages, found.scripts, configuration.filters)
    texts = repair(texts, found.languages, configuration.repairs, configuration.personal_data)
    values = texts.to_pylist()
    for index, value in enumerate(values):
        if not value:
            reasons[index], details[index] = "empty", "no text is left after normalisation and repair"
        elif reasons[index] != "broken_encoding" and (unwanted := _unwanted(found, index, wanted)):
            reasons[index], details[index] = "wrong_language", unwanted
    shingles = (
        shingle_texts(texts) if configuration.near_duplicates.enabled else pa.nulls(len(values), pa.large_string())
    )
    columns = [
        texts,
        pa.array([document_id(value) for value in values], pa.large_string()),
        pa.array(found.languages, pa.large_string()),
        pa.array(found.scripts, pa.large_string()),
        pa.array(reasons, pa.large_string()),
        pa.array(details, pa.large_string()),
        pc.binary_length(texts).cast(pa.int64()),
        pc.utf8_length(texts).cast(pa.int64()),
        shingles,
    ]
    return pa.StructArray.from_arrays(columns, fields=list(_ASSESSED))


def _unwanted(found: Identified, index: int, wanted: frozenset[str]) -> str | None:
    """Why the recipe does not want the document's language, or None.

    An undecided document stays if it is in a script of a wanted language: there is no evidence against it.
    """
    language, script = found.languages[index], found.scripts[index]
    # Of a mixture ("hi-Latn+en") every language must be wanted.
    if not wanted or wanted.issuperset(language.split("+")):
        return None
    if language != UNDETERMINED_LANGUAGE:
        return f"{language}, probability {found.probabilities[index]:.2f}"
    if script == COMMON_SCRIPT or any(script in scripts_of(code) for code in wanted):
        return None
    return f"undecided, in the script {script}"
