"""What is typed is read as people mean it, or answered by one sentence that says what to type."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from robust_hub.launch import Json, LabelNames, command_line


@dataclass(frozen=True)
class Config:
    """What a recipe asks for.

    Attributes:
        output: a path.
        teacher: a model.
        student: an architecture.
        threat: its name and radius.
        student_args: as JSON.
        label_names: of classes.
    """

    output: Path = Path("run")
    teacher: str = "local-dir:x"
    student: str = "resnet18"
    threat: str = "linf:8/255"
    student_args: Json = field(default_factory=dict)
    label_names: LabelNames = ()


@pytest.fixture
def asked(monkeypatch):
    """Runs a command line of one recipe with two sub-commands; gives what reached it."""
    reached = []

    def asked(*words: str, **options) -> Config:
        monkeypatch.setattr(sys, "argv", ["recipes/a.py", *words])

        def kd(config: Config) -> None:
            reached.append(config)

        def cut(config: Config, *, cpu: str = "") -> None:
            reached.append((config, cpu))

        command_line({"kd": kd, "cut": cut}, **options)
        return reached[-1]

    return asked


@pytest.fixture
def refused(asked, capsys):
    """Runs a command line that ends in one sentence, and gives it."""

    def refused(*words: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            asked(*words)
        assert stopped.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        return line.removeprefix("error: ")

    return refused


@pytest.mark.parametrize(
    ("words", "output"),
    [
        (["--output=~/run"], "/home/me/run"),
        (["--output", "~/run"], "/home/me/run"),
        (["--output", "~"], "/home/me"),
        (["--output=$RUNS/a"], "/runs here/a"),
        (["--output", "${RUNS}/a"], "/runs here/a"),
        (["--output", "$RUNS"], "/runs here"),
        (["--output", "a/~/$RUNS"], "a/~/$RUNS"),
        (["--output", "~nobody-of-that-name/a"], "~nobody-of-that-name/a"),
    ],
)
def test_the_beginning_of_a_path_is_expanded_as_a_shell_would(asked, monkeypatch, words, output):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("RUNS", "/runs here")
    assert asked("kd", *words).output == Path(output)


@pytest.mark.parametrize("words", [["--teacher=local-dir:~/x"], ["--teacher", "local-dir:$HOME/x"]])
def test_the_folder_of_a_model_is_expanded_behind_its_source(asked, monkeypatch, words):
    monkeypatch.setenv("HOME", "/home/me")
    assert asked("kd", *words).teacher == "local-dir:/home/me/x"


def test_json_is_left_as_it_is(asked, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert asked("kd", "--student-args", '{"a": "~/x", "b": "$HOME/y"}').student_args == {"a": "~/x", "b": "$HOME/y"}


def test_a_variable_that_is_not_set_is_told(refused):
    assert refused("kd", "--output=$NO_SUCH/run").startswith("there is no environment variable $NO_SUCH")


@pytest.mark.parametrize(
    "words",
    [
        ["--mixed-precision", "bf16"],
        ["--mixed_precision=bf16"],
        ["--device", "cuda"],
        ["--num-processes", "2"],
        ["--num_processes", "2"],
        ["--cpu"],
        ["--gpus", "2"],
        ["--bf16"],
    ],
)
def test_words_of_accelerate_are_sent_there(refused, words):
    name = words[0].partition("=")[0].replace("_", "-")
    assert refused("kd", *words).startswith(f"{name} belongs to accelerate launch, before the recipe's name")


def test_words_of_accelerate_before_the_sub_command_are_sent_there(refused):
    assert refused("--device", "cuda", "kd").startswith("--device belongs to accelerate launch, before the recipe's")


def test_a_word_of_accelerate_that_is_an_option_of_ours_is_ours(asked):
    assert asked("cut", "--cpu", "all")[1] == "all"


def test_a_program_that_nothing_launches_sends_nobody_to_accelerate(asked, capsys):
    with pytest.raises(SystemExit):
        asked("kd", "--device", "cuda", launcher="")
    assert "accelerate" not in capsys.readouterr().err


@pytest.mark.parametrize(("typed", "eps"), [("8/255", "8/255"), ("0.1", "0.1"), ("8", "8/255")])
def test_a_radius_belongs_to_the_threat(refused, typed, eps):
    assert refused("kd", "--eps", typed) == f"--eps is a part of the threat; say --threat linf:{eps}"


def test_a_radius_by_its_long_name_belongs_to_the_threat(refused):
    assert refused("kd", "--epsilon=8/255") == "--epsilon is a part of the threat; say --threat linf:8/255"


@pytest.mark.parametrize("words", [["--student", "timm/vit"], ["--student=timm/vit"], ["--teacher", "timm/vit"]])
def test_a_repository_of_timms_is_named_with_its_source(refused, words):
    assert refused("kd", *words) == "timm/vit is a name on the Hub; say hf-hub:timm/vit"


@pytest.mark.parametrize("text", ["{depth: 2}", "[1, 2]", "depth=2", '{"depth":\n2'])
def test_what_is_no_json_object_is_told_with_one_that_is(refused, text):
    told = refused("kd", "--student-args", text)
    assert told == f"""expected a JSON object such as '{{"img_size": 32}}', in quotes, got {text!r}"""


def test_a_forgotten_sub_command_is_told_with_all_of_them(refused):
    assert refused("--teacher", "x") == "expected one of kd, cut before --teacher; say which"


@pytest.mark.parametrize("words", [["--help"], ["kd", "--help"]])
def test_help_is_help(asked, capsys, words):
    with pytest.raises(SystemExit) as stopped:
        asked(*words)
    assert not stopped.value.code
    assert "usage: " in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [["--student-args", '{"depth":', "2}"], ["--student-args={depth:", "2}"], ["--student-args", "{a:", "1,", "b:2}"]],
)
def test_json_that_a_shell_took_apart_is_told_with_its_quotes(refused, words):
    told = refused("kd", *words, "--teacher", "local-dir:x")
    torn = " ".join(words).replace("--student-args=", "").replace("--student-args ", "")
    assert told == f"""expected a JSON object such as '{{"img_size": 32}}', in quotes, got the words {torn!r}"""


@pytest.mark.parametrize(("word", "near"), [("KD", "; close names are kd"), ("resnet18", "")])
def test_a_sub_command_that_is_none_is_told_with_all_of_them(refused, word, near):
    assert refused(word, "--teacher", "x") == f"expected one of kd, cut, got '{word}'{near}"


@pytest.mark.parametrize(
    ("words", "content"),
    [
        (["cat", "wild dog"], ""),
        (['["cat", "wild dog"]'], ""),
        (["{file}"], '["cat", "wild dog"]'),
        (["{file}"], "cat\nwild dog\n"),
    ],
)
def test_class_names_are_words_or_a_list_or_a_file(asked, tmp_path, words, content):
    file = tmp_path / "names"
    file.write_text(content)
    given = [str(file) if word == "{file}" else word for word in words]
    assert asked("kd", "--label-names", *given, "--teacher", "x").label_names == ("cat", "wild dog")


def test_no_class_names_are_none(asked):
    assert asked("kd").label_names == ()


@pytest.mark.parametrize(
    ("word", "told"),
    [
        (
            "nowhere.txt",
            "--label-names must be names, a JSON list of them, or a file with one on each line, got 'nowhere",
        ),
        ('["cat", 1]', """expected a JSON list of names such as '["cat", "dog"]', in quotes, got '["cat", 1]'"""),
        ("[cat, dog]", """expected a JSON list of names such as '["cat", "dog"]', in quotes, got '[cat, dog]'"""),
    ],
)
def test_what_are_no_class_names_is_told(refused, word, told):
    assert refused("kd", "--label-names", word).startswith(told)
