"""The table of what labels are called."""

import pytest

from pullback.cli.label_names import read_label_names


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_separators(tmp_path, mark: str):
    (tmp_path / "names.csv").write_text(f"label{mark}name\n1{mark}core\n2{mark}rim\n")
    assert read_label_names(tmp_path / "names.csv") == {1: "core", 2: "rim"}
