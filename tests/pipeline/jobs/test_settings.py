from pathlib import Path

import pytest

from lamella.pipeline.errors import InputError
from lamella.pipeline.jobs.settings import load_job


def job(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "job.toml"
    path.write_text(text)
    return path


def test_everything_has_a_default() -> None:
    assert load_job(None).network.name == "efficientnet_lite0"


def test_an_override_wins_over_the_file(tmp_path: Path) -> None:
    path = job(tmp_path, "[vocabulary]\nwords = 100\nseed = 7\n")
    found = load_job(path, {"vocabulary.words": 200, "name": None}).vocabulary
    assert (found.words, found.seed) == (200, 7)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_as_windows_writes_it_is_read(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_bytes('name = "größe"\r\n[vocabulary]\r\nrounds = 5\r\n'.encode(encoding))
    found = load_job(path)
    assert (found.name, found.vocabulary.rounds) == ("größe", 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[vocabulary]\nword = 3", r"no key vocabulary\.word; did you mean words\?"),
        ("[vocab]\nwords = 3", r"no key vocab; did you mean vocabulary\?"),
        ("[network.preprocess]\nshort = 3", r"no key network\.preprocess\.short; .*short_edge"),
        ("[vocabulary]\nwords = 0", r"vocabulary\.words: .* greater than or equal to 1; got 0"),
        ("[search]\nexpand = -1", r"search\.expand: .* greater than or equal to 0; got -1"),
        ("[search]\nexpand = 101", r"search\.expand: .* less than or equal to 100; got 101"),
        ("profile = 'fast'", r"profile: .*'paper' or 'production'; got 'fast'"),
        ("words = [", r"is not TOML"),
        ("vocabulary = 3", r"vocabulary: "),
        ("str = 3", r"no key str; "),
        ("network.layers = 3", r"network\.layers: should be a valid tuple; got 3"),
        ("[network]\nlayers = [{name = 'head', str = 3}]", r"no key network\.layers\.0\.str; "),
    ],
)
def test_a_wrong_job_says_what_and_where(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_job(job(tmp_path, text))


def test_all_errors_of_a_job_are_told_at_once(tmp_path: Path) -> None:
    text = """
        profile = "Paper"
        [vocabulary]
        word = 3
        rounds = 1
        [network]
        layers = [{name = "head", kin = "local"}, 7, "p15"]
        [search]
        mode = "exat"
        """
    with pytest.raises(InputError) as error:
        load_job(job(tmp_path, text))
    said = str(error.value)
    assert said.startswith(f"job file {tmp_path}/job.toml: 6 errors: (1) ")
    for clause in (
        "profile: should be 'paper' or 'production'; got 'Paper': did you mean paper?",
        "there is no key vocabulary.word; did you mean words?",
        "vocabulary.rounds: should be greater than or equal to 3; got 1",
        "there is no key network.layers.0.kin; did you mean kind?",
        "network.layers.1: should be a name or a table of settings; got 7",
        "search.mode: should be 'exact', 'candidates' or 'paper'; got 'exat': did you mean exact?",
    ):
        assert clause in said


def test_a_key_in_the_wrong_table_is_led_to_its_own(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no key words; did you mean vocabulary\.words\?"):
        load_job(job(tmp_path, "words = 100"))


def test_a_file_of_windows_is_read(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_bytes(b'\xef\xbb\xbfname = "x"\r\n[vocabulary]\r\nrounds = 5\r\n')
    assert load_job(path).vocabulary.rounds == 5


def test_networks_and_layers_are_written_in_any_case(tmp_path: Path) -> None:
    text = "[network]\nname = 'VGG16'\nlayers = ['FC1', {name = 'C5_1', words = 3}]"
    found = load_job(job(tmp_path, text))
    assert found.network.name == "vgg16"
    assert found.network.layers[0] == "fc1"
    assert found.vocabulary_of("c5_1").words == 3


def test_a_job_file_that_is_absent_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no job file .*absent\.toml"):
        load_job(tmp_path / "absent.toml")


def test_an_override_below_a_plain_value_is_a_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="vocabulary is a table of settings; got 3"):
        load_job(job(tmp_path, "vocabulary = 3"), {"vocabulary.words": 5})
