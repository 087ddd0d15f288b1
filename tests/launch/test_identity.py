"""A run writes into a folder of its own: none that it reads, and none of another run."""

import pytest

from robust_hub.launch import Output, check_apart, check_output
from robust_hub.names import CONFIG, WEIGHTS


@pytest.mark.parametrize("place", ["", "run", "train/cat/run"])
def test_no_run_writes_into_the_folder_of_its_data(tmp_path, place):
    with pytest.raises(ValueError, match=r"lies in the folder of the data, .*; choose one outside of it"):
        check_output(Output(tmp_path / place), {"source": {"data": str(tmp_path)}})


def test_a_link_into_the_folder_of_the_data_is_no_way_out(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "data")
    with pytest.raises(ValueError, match="lies in the folder of the data"):
        check_apart(tmp_path / "runs" / "one", str(tmp_path / "data"))


def test_a_built_in_set_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    check_apart(tmp_path / "digits" / "run", "digits")
    check_apart(tmp_path / "digits" / "run")


def test_a_folder_beside_a_model_is_free(tmp_path):
    (tmp_path / "student").mkdir()
    for file in (CONFIG, WEIGHTS):
        (tmp_path / "student" / file).touch()
    check_apart(tmp_path / "evaluation")
    with pytest.raises(ValueError, match="lies in the folder of a model"):
        check_apart(tmp_path / "student" / "evaluation")


def test_a_run_of_before_an_option_was_there_goes_on_where_nobody_uses_it(tmp_path):
    (tmp_path / "run.json").write_text('{"seed": 1}')
    output = Output(tmp_path, resume=True)
    check_output(output, {"seed": 1, "label_names": []})
    with pytest.raises(ValueError, match=r"its label_names is None, not \['cat'\]"):
        check_output(output, {"seed": 1, "label_names": ["cat"]})
    with pytest.raises(ValueError, match="its seed is 1, not 0"):
        check_output(output, {"seed": 0})
