"""What a message may not tell."""

import re

import pytest

from robust_hub.errors import first_line, printable, shortened, without_secrets

ODD = "hf/odd+tok=en\"'\u00e9\\ 12\n34567"


@pytest.mark.parametrize(
    "message",
    [
        f"Invalid header value {('Bearer ' + ODD).encode()!r}",
        f"Illegal header value {'Bearer ' + ODD!r}",
        "https://user:hunter22@hub.example/api/models can't be reached",
        "https://:hunter22@hub.example can't be reached",
        "401 for https://cdn.example/blob?X-Amz-Credential=hunter22&X-Amz-Signature=hunter22",
        "{'authorization': 'Bearer hunter22', 'accept': '*/*'}",
        "the token hf_hunter22ABCdef is not valid",
    ],
)
def test_no_secret_stands_in_the_first_line_of_an_error(message, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", ODD)
    told = first_line(RuntimeError(message))
    assert "hunter22" not in told
    assert not re.search(r"odd|tok=|34567", told)
    assert "***" in told


def test_a_message_without_secrets_stays_as_it_is():
    message = "there is no file config.json in hf-hub:org/name@0123abc; see https://hub.example/org/name and token.json"
    assert without_secrets(message, "", "short", " \n") == message


@pytest.mark.parametrize("token", ["s3cret/with+signs=", "two words", "quo\"ted'both", "accented-\u00e9"])
def test_a_token_is_blackened_however_it_is_written(token):
    from json import dumps
    from urllib.parse import quote, quote_plus

    for written in (token, quote(token), quote(token, safe=""), dumps(token), repr(token), f"x{token}y"):
        assert token not in without_secrets(f"sent {written} along", token)
        assert without_secrets(f"sent {written} along", token) != f"sent {written} along"
    assert "s3cret" not in without_secrets(quote_plus("s3cret/with+signs="), "s3cret/with+signs=")


def test_nothing_that_is_printed_steers_a_terminal():
    assert printable("a\x1b[2J\u202eb\r\nc") == "a?[2J?b?\nc"


def test_a_sentence_that_quotes_without_end_keeps_its_beginning_and_its_end():
    told = shortened(f"{'x' * 200_000} is no name; choose another one")
    assert len(told) < 2_100
    assert told.startswith("xxx")
    assert told.endswith("choose another one")
    assert shortened("short") == "short"
