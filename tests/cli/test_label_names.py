"""The table of what labels are called."""

import pytest

from pullback.cli.label_names import read_label_names


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_separators(tmp_path, mark: str):
    (tmp_path / "names.csv").write_text(f"label{mark}name\n1{mark}core\n2{mark}rim\n")
    assert read_label_names(tmp_path / "names.csv") == {1: "core", 2: "rim"}


def test_a_label_of_two_names_is_named(tmp_path):
    (tmp_path / "names.csv").write_text("label,name\n1,core\n1,core\n")
    assert read_label_names(tmp_path / "names.csv") == {1: "core"}
    (tmp_path / "names.csv").write_text("label,name\n1,core\n2,rim\n1,shell\n")
    with pytest.raises(ValueError, match="calls label 1 both 'core' and 'shell'"):
        read_label_names(tmp_path / "names.csv")
