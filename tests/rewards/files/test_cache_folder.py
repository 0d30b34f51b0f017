"""Folders that cannot be written to are named with the variable that they come from, and no data file is blamed."""

from __future__ import annotations

from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rewards.files.cache_folder import VARIABLES, check_cache
from rl.tasks.tables import open_table


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("kind", ["/proc/nobody", "file"])
def test_the_folder_and_its_variable_are_named(
    variable: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    home = Path(kind) if kind.startswith("/") else tmp_path / "file"
    for other in VARIABLES:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(variable, str(home))
    with pytest.raises(ValueError) as caught:
        check_cache(home / ".cache")
    said = str(caught.value)
    assert said.startswith(
        f"{home / '.cache'}, a folder of the Hugging Face libraries by {variable}, cannot be written"
    )
    assert "HF_HOME names another one" in said and "\n" not in said


def test_a_folder_that_can_be_written_to_is_made(tmp_path: Path) -> None:
    check_cache(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_the_data_file_is_not_blamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"question": ["?"], "answer": ["1"]}), tmp_path / "train.parquet")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", "/proc/nobody/datasets")
    for entry in (f"{tmp_path}/train.parquet", f"{tmp_path}:train"):
        with pytest.raises(ValueError, match=r"^/proc/nobody/datasets, a folder of the Hugging Face libraries"):
            open_table(entry)
    (tmp_path / "train.csv").write_text("question,answer\n?,1\n")
    assert len(open_table(f"{tmp_path}/train.csv").rows) == 1, "text needs no cache"
