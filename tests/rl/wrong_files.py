"""Files that are wrong, each in its own way, for tests of what is said of them."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from rl.files.named_checkpoint import SHIPPED_POLICY
from tests.builders import an_image

LAUGHS = "a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
CONFIGS: dict[str, str | bytes] = {
    "good.yaml": "engine: {kind: hf}\n",
    "latin.yaml": "name: café\n".encode("latin-1"),
    "utf16.yaml": "steps: 3\n".encode("utf-16"),
    "twice.yaml": "steps: 3\nlearner:\n  samples: 4\n  prompts: 2\n  samples: 8\n",
    "list.yaml": "- steps\n",
    "open.yaml": "seed: 1\nsteps: [\n",
    "tab.yaml": "steps: 3\n\tseed: 4\n",
    "control.yaml": b"steps: \x01\n",
    "deep.yaml": "a: " + "[" * 700,
    "laughs.yaml": LAUGHS + "steps: *i\n",
    "circle.yaml": "steps: &s [*s]\n",
    "tag.yaml": "steps: !!bool maybe\n",
    "python.yaml": "steps: !!python/object/apply:os.getcwd []\n",
    "digits.yaml": f"steps: {'9' * 5000}\n",
    "zero.yaml": 'name: "a\\0b"\n',
    "half.yaml": 'name: "\\ud800"\n',
    "long.yaml": f"engine: {{kind: {'x' * 100_000}}}\n",
}


def a_row(**fields: Any) -> dict[str, Any]:
    return {"question": "How many?", "answer": "4", "images": "red.png"} | fields


def bomb(side: int) -> bytes:
    """A PNG file of less than a hundred bytes that says it holds so many pixels a side."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def write_images(folder: Path) -> None:
    """Images in a folder: ``red.png`` is fine, all others are not."""
    red = encoded(an_image(), "PNG")
    frames = [an_image((shade, 0, 0)) for shade in (0, 100, 200)]
    for name, content in {
        "red.png": red,
        "empty.png": b"",
        "text.png": b"This is no picture.",
        "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "page.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "cut_head.png": red[:20],
        "large.png": bomb(10_000),
        "larger.png": bomb(30_000),
        "moving.gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "moving.png": encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "pages.tiff": encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:]),
        "float.tiff": encoded(Image.fromarray(np.ones((2, 2), dtype=np.float32)), "TIFF"),
    }.items():
        (folder / name).write_bytes(content)
    (folder / "folder.png").mkdir()
    (folder / "link.png").symlink_to("/etc/hostname")
    (folder / "circle.png").symlink_to("circle.png")


def write_prompts(folder: Path) -> None:
    """Tables of prompts: ``good.jsonl`` is fine, all others are not."""
    tables: dict[str, list[dict[str, Any]]] = {
        "good.jsonl": [a_row()],
        "more.jsonl": [a_row(), a_row()],
        "no_answer.jsonl": [{"question": "How many?", "images": None}],
        "null_answer.jsonl": [a_row(), a_row(answer=None)],
        "list_question.jsonl": [a_row(question=["How", "many?"])],
        "number_image.jsonl": [a_row(images=3)],
        "placeholder.jsonl": [a_row(question="<image 2> is what?")],
        "choices.jsonl": [a_row(choices=["3", "5"])],
    }
    tables |= {
        f"image_{name}.jsonl": [a_row(), a_row(images=["red.png", path])]
        for name, path in {
            "gone": "gone.png",
            "up": "../outside.png",
            "absolute": "/etc/hostname",
            "zero": "a\0b.png",
            "endless": "x" * 5000,
        }.items()
    }
    for image in folder.glob("*.*"):
        if image.suffix in (".png", ".gif", ".tiff", ".svg", ".eps") and image.name != "red.png":
            tables[f"image_{image.stem}{image.suffix[1:]}.jsonl"] = [a_row(), a_row(images=image.name)]
    for name, rows in tables.items():
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    good = json.dumps(a_row()).encode()
    for name, content in {
        "empty.jsonl": b"",
        "blank.jsonl": b"\n\n",
        "torn.jsonl": good + b"\n" + good[:30] + b"\n",
        "latin.jsonl": good + b'\n{"question": "caf\xe9", "answer": "4", "images": null}\n',
        "list.jsonl": good + b"\n[1, 2]\n",
        "table.csv": b"question,answer,images\n",
        "torn.parquet": b"PAR1 and no more",
    }.items():
        (folder / name).write_bytes(content)
    pq.write_table(pa.table({"question": pa.array([], pa.string())}), folder / "empty.parquet")
    pq.write_table(pa.table({"question": ["?"], "answer": ["4"], "images": [b"broken"]}), folder / "bytes.parquet")
    whole = folder / "whole.parquet"
    pq.write_table(pa.table({"question": ["?"] * 9, "answer": ["4"] * 9, "images": [None] * 9}), whole)
    (folder / "cut.parquet").write_bytes(whole.read_bytes()[:-20])


def write_checkpoints(folder: Path) -> None:
    """Checkpoints of the shipped policy, each with one thing wrong."""
    for name in ("cut_weights", "torn_config", "torn_tokenizer", "only_pickles", "missing_part", "no_processor"):
        shutil.copytree(SHIPPED_POLICY, folder / name)
    weights = folder / "cut_weights" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    (folder / "torn_config" / "config.json").write_text('{"model_type": ')
    (folder / "torn_tokenizer" / "tokenizer.json").write_text('{"version": 3}')
    (folder / "only_pickles" / "model.safetensors").rename(folder / "only_pickles" / "pytorch_model.bin")
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "model-00002-of-00002.safetensors"}}
    (folder / "missing_part" / "model.safetensors.index.json").write_text(json.dumps(index))
    for file in ("preprocessor_config.json", "processor_config.json"):
        (folder / "no_processor" / file).unlink(missing_ok=True)


def lines(*rows: Any) -> bytes:
    return b"".join(row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows)


def write_annotations(folder: Path) -> None:
    """Corpora, preference pairs, benchmarks and scores, each with one thing wrong."""
    step = {"step": "1 + 1 = 2", "score": 1.0}
    record = {"image": "red.png", "question": "How many?", "steps_with_score": [step]}
    pair = {"image": None, "prompt": "How many?", "chosen": "2", "rejected": "3"}
    judged = {"steps": ["1 + 1 = 2"], "process_correctness": [1]}
    solution = {"image": "red.png", "question": "How many?", "data_source": "test", "response": judged}

    def of_steps(*steps: Any) -> dict[str, Any]:
        return record | {"steps_with_score": list(steps)}

    files: dict[str, Sequence[Any]] = {
        "empty_corpus.jsonl": [],
        "torn_corpus.jsonl": [b'{"image": \n'],
        "other_corpus.jsonl": [[1, 2]],
        "imageless_corpus.jsonl": [record | {"image": None}],
        "outside_corpus.jsonl": [record | {"image": "../outside.png"}],
        "gone_corpus.jsonl": [record | {"image": "gone.png"}],
        "large_corpus.jsonl": [record | {"image": "large.png"}],
        "wordy_corpus.jsonl": [of_steps({"step": "1", "score": "good"})],
        "impossible_corpus.jsonl": [of_steps({"step": "1", "num_mc_correct": 9, "num_mc_total": 8})],
        "good_corpus.jsonl": [record],
        "empty_pairs.jsonl": [],
        "torn_pairs.jsonl": [pair, b"{"],
        "equal_pairs.jsonl": [pair | {"rejected": "2"}],
        "outside_pairs.jsonl": [pair | {"image": "/etc/hostname"}],
        "good_pairs.jsonl": [pair],
        "labels_bench/test.jsonl": [solution | {"response": judged | {"process_correctness": [2]}}],
        "gone_bench/test.jsonl": [solution | {"image": "gone.png"}],
        "outside_bench/test.jsonl": [solution | {"image": "../red.png"}],
        "torn_bench/test.jsonl": [b"{"],
        "high_scores.jsonl": [{"data_source": "test", "labels": [1], "scores": [2]}],
        "short_scores.jsonl": [{"data_source": "test", "labels": [1], "scores": [0.5, 0.5]}],
    }
    for name, rows in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(lines(*rows))
    (folder / "made.jsonl").write_bytes(lines(record))  # and nothing says by whom
    (folder / "empty_bench").mkdir()


def write_wrong_files(folder: Path) -> None:
    """All of them, in one folder, beside an ``outside.png`` in the folder above."""
    (folder.parent / "outside.png").write_bytes(encoded(an_image(), "PNG"))
    for name, content in CONFIGS.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    (folder / "file").write_bytes(b"")
    (folder / "folder").mkdir()
    write_images(folder)
    write_prompts(folder)
    write_checkpoints(folder)
    write_annotations(folder)
