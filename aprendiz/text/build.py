"""A raw text becomes three parts of ids: in memory where it is small, else by way of the cache."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aprendiz.data.splits import hold_out
from aprendiz.errors import ConfigError, DataError
from aprendiz.text import cache, encode, reading
from aprendiz.text.core import Documents, LabelledRows, LabelledTexts, RawText, TextData, TextSpec, Tokens, Vocabulary
from aprendiz.text.encode import Encoding, Extent
from aprendiz.text.vocabulary import narrowest, to_json

SMALL_CHARACTERS = 16 << 20
"""Texts up to this size are made into ids anew each time, in memory; the ids of larger ones are cached."""
_RULES_VERSION = 1
"""Raised when the same characters would become other ids than before."""


def text_data(
    raw: RawText,
    encoding: Encoding,
    *,
    held_out: float,
    validation: float,
    options: Mapping[str, Any],
    given: Vocabulary | None = None,
) -> TextData:
    """The ids of a text in three parts. Raises DataError, ConfigError and StorageError; see `aprendiz.text.load`."""
    scan, blocks = _scanned(raw)
    boundaries = reading.cuts(raw.name, scan.characters, held_out, validation)
    if blocks is not None:
        entry = _in_memory(raw.name, scan, blocks, boundaries, encoding, given)
    else:
        entry = _cached(raw, scan, boundaries, encoding, given)
    for part, share in zip(reading.PARTS, (1, validation, held_out), strict=True):
        if share and not entry.extent.tokens[reading.PARTS.index(part)]:
            raise DataError(f"the {part} part of {raw.name} has no {encoding.level}: the text is too short")
    return _divided(raw.name, entry, options)


def labelled_texts(
    labelled: LabelledRows,
    encoding: Encoding,
    *,
    held_out: float,
    validation: float,
    options: Mapping[str, Any],
    given: Vocabulary | None = None,
) -> LabelledTexts:
    """The ids of labelled texts, each class in the same proportion in each part. Raises as `text_data`."""
    names, texts = _rows(labelled)
    classes = labelled.classes or tuple(sorted(set(names)))
    stray = set(names) - set(classes)
    if stray:
        raise DataError(f"{labelled.name} has the label {min(stray)!r}, which is not among {', '.join(classes)}")
    if len(set(names)) < 2:
        raise DataError(f"all {len(names)} texts of {labelled.name} are labelled {names[0]!r}: nothing to tell apart")
    number = {name: index for index, name in enumerate(classes)}
    labels = np.array([number[name] for name in names], np.int64)
    chosen = _split(labelled, labels, held_out, validation)

    alphabet = "".join(sorted(set().union(*texts)))
    scanner, dtype = encode.scanner(encoding, alphabet, large=False)
    ids: list[list[NDArray[Any]]] = [
        [scanner.feed(texts[row], counting=part == 0) for row in rows] for part, rows in enumerate(chosen)
    ]
    table: NDArray[Any] | None
    if given is None:
        vocabulary, table = encode.choose(labelled.name, encoding, scanner)
    else:
        vocabulary, table = given, encode.known(given, encoding, scanner)
    three = []
    lengths, characters = [], []
    for rows, found in zip(chosen, ids, strict=True):
        joined = np.concatenate([np.zeros(0, dtype), *found])
        offsets = np.cumsum([0, *map(len, found)], dtype=np.int64)
        three.append(Documents(joined if table is None else table[joined], offsets, labels[rows]))
        lengths.append(len(joined))
        characters.append(sum(len(texts[row]) for row in rows))
    digest = encode.hash_ids(vocabulary, Extent(tuple(lengths), tuple(characters)))
    digest.update(repr(classes).encode())
    for documents in three:
        for array in (documents.ids, documents.offsets, documents.labels):
            digest.update(np.ascontiguousarray(array).data)
    spec = TextSpec(name=labelled.name, level=encoding.level, vocabulary_size=len(vocabulary), classes=tuple(classes))
    train, middle, test = three
    return LabelledTexts(spec, vocabulary, train, middle, test, dict(options), digest.hexdigest())


def keep(data: TextData, folder: Path) -> None:
    """Writes ids and vocabulary into a folder, whole or not at all; `kept` reads them again. Raises StorageError."""
    three = (data.train, data.validation, data.test)
    extent = Extent(tuple(len(part) for part in three), tuple(part.characters for part in three))
    dtype = data.train.ids.dtype

    def write(target: Path) -> None:
        with (target / cache.IDS).open("wb") as file:
            for part in three:
                for start in range(0, len(part), reading.BLOCK):
                    file.write(np.ascontiguousarray(part.ids[start : start + reading.BLOCK]).data)
                    cache.release(part.ids, start, start + reading.BLOCK)
        cache.write(target, data.vocabulary, extent, dtype, data.fingerprint)

    cache.make_folder(folder, write)


def kept(folder: Path, name: str, options: Mapping[str, Any]) -> TextData:
    """The text that `keep` wrote. Raises DataError where it is missing or damaged."""
    entry = cache.read(folder)
    return _divided(name, entry, options)


def _divided(name: str, entry: cache.Entry, options: Mapping[str, Any]) -> TextData:
    starts = np.cumsum([0, *entry.extent.tokens])
    train, validation, test = (
        Tokens(entry.ids[starts[part] : starts[part + 1]], entry.extent.characters[part])
        for part in range(len(reading.PARTS))
    )
    spec = TextSpec(name=name, level=entry.vocabulary.level, vocabulary_size=len(entry.vocabulary))
    return TextData(spec, entry.vocabulary, train, validation, test, dict(options), entry.fingerprint)


def _scanned(raw: RawText) -> tuple[reading.Scan, list[str] | None]:
    """What the text is like, and its blocks if it is small. Large ones that were read before are not read again."""
    facts = cache.recall(raw.identity) if raw.identity else None
    if facts is not None:
        try:
            return reading.Scan(facts["content"], facts["characters"], facts["alphabet"]), None
        except KeyError:
            pass
    scan, blocks = reading.scan(raw, SMALL_CHARACTERS)
    if blocks is None and raw.identity:
        cache.remember(raw.identity, asdict(scan))
    return scan, blocks


def _in_memory(
    name: str,
    scan: reading.Scan,
    blocks: list[str],
    boundaries: tuple[int, int],
    encoding: Encoding,
    given: Vocabulary | None,
) -> cache.Entry:
    scanner, dtype = encode.scanner(encoding, scan.alphabet, large=False)
    found: list[NDArray[Any]] = [np.zeros(0, dtype)]
    extent = encode.number(blocks, boundaries, encoding, scanner, found.append)
    ids = np.concatenate(found)
    vocabulary, table = _vocabulary(name, encoding, scanner, given)
    ids = ids if table is None else table[ids]
    digest = encode.hash_ids(vocabulary, extent)
    digest.update(ids.data)
    ids.flags.writeable = False
    return cache.Entry(vocabulary, ids, extent, digest.hexdigest())


def _cached(
    raw: RawText,
    scan: reading.Scan,
    boundaries: tuple[int, int],
    encoding: Encoding,
    given: Vocabulary | None,
) -> cache.Entry:
    key = _key(scan, boundaries, encoding, given)
    entry = cache.find(key)
    return entry or cache.make(key, lambda folder: _write(folder, raw, scan, boundaries, encoding, given))


def _write(
    folder: Path,
    raw: RawText,
    scan: reading.Scan,
    boundaries: tuple[int, int],
    encoding: Encoding,
    given: Vocabulary | None,
) -> None:
    """Numbers the text into a file, then turns the numbers into ids where they stand."""
    scanner, dtype = encode.scanner(encoding, scan.alphabet, large=True)
    if given is not None and narrowest(len(given)).itemsize > dtype.itemsize:
        dtype = narrowest(len(given))  # numbers are never narrower than the ids that take their place
    again = hashlib.blake2b(digest_size=16)

    def hashed() -> Any:
        for block in reading.blocks(raw):
            reading.update(again, block, raw.name)
            yield block

    path = folder / cache.IDS
    with path.open("wb") as file:
        extent = encode.number(
            hashed(), boundaries, encoding, scanner, lambda ids: file.write(np.ascontiguousarray(ids, dtype).data)
        )
    if again.hexdigest() != scan.content:
        raise DataError(f"{raw.name} was changed while it was read; start again when it is complete")
    vocabulary, table = _vocabulary(raw.name, encoding, scanner, given)
    digest = encode.hash_ids(vocabulary, extent)
    if table is None:
        with path.open("rb") as written:
            while chunk := written.read(1 << 22):
                digest.update(chunk)
    else:
        with cache.rewriting(path, dtype, table.dtype) as chunks:
            for numbers, put in chunks:
                ids = table[numbers]
                digest.update(ids.data)
                put(ids)
        dtype = table.dtype
    cache.write(folder, vocabulary, extent, dtype, digest.hexdigest())


def _vocabulary(
    name: str, encoding: Encoding, scanner: encode.Scanner, given: Vocabulary | None
) -> tuple[Vocabulary, NDArray[Any] | None]:
    if given is None:
        return encode.choose(name, encoding, scanner)
    return given, encode.known(given, encoding, scanner)


def _key(scan: reading.Scan, boundaries: tuple[int, int], encoding: Encoding, given: Vocabulary | None) -> str:
    """The name of an entry: changes with anything that changes the ids."""
    unicode = unicodedata.unidata_version if encoding.level == "word" else ""
    made_from = [_RULES_VERSION, scan.content, boundaries, asdict(encoding), unicode]
    digest = hashlib.blake2b(json.dumps(made_from).encode(), digest_size=16)
    if given is not None:
        digest.update(json.dumps(to_json(given)).encode())
    return digest.hexdigest()


def _rows(labelled: LabelledRows) -> tuple[list[str], list[str]]:
    names: list[str] = []
    texts: list[str] = []
    for number, (label, text) in enumerate(labelled.rows(), 1):
        if not text.strip() or "\0" in text:
            what = "holds NUL characters" if "\0" in text else "is empty"
            raise DataError(f"text {number} of {labelled.name} {what}")
        names.append(label)
        texts.append(text)
    if not texts:
        raise DataError(f"{labelled.name} holds no labelled text")
    return names, texts


def _split(
    labelled: LabelledRows, labels: NDArray[np.int64], held_out: float, validation: float
) -> list[NDArray[np.int64]]:
    """Rows of the three parts, sorted, by the seed of the split."""
    for option, share in (("held_out", held_out), ("validation", validation)):
        if not 0 <= share < 1:
            raise ConfigError(f"{option} is {share}; it is a share of the texts, from 0 to below 1")
    count = len(labels)
    sizes = [max(1, round(share * count)) if share else 0 for share in (validation, held_out)]
    if sum(sizes) >= count:
        raise DataError(
            f"{labelled.name} has {count} texts: too few to hold out {held_out} and validate on {validation}"
        )
    rest = np.arange(count)
    drawn = []
    for part, size in ((1, sizes[1]), (2, sizes[0])):
        if size:
            stay, out = hold_out(len(rest), labels[rest], size, labelled.split_seed, part=part)
            drawn.append(rest[out])
            rest = rest[stay]
        else:
            drawn.append(rest[:0])
    return [rest, drawn[1], drawn[0]]
