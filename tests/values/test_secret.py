"""No text, payload, preview or error contains a secret."""

import copy
import dataclasses
import html
import json
import pickle
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebelum_nb._values import MASK, Redactor, Secret, decode, encode, fingerprint_args, preview
from cerebelum_nb.errors import SecretMissingError, SerializationError

TOKEN = "s3cr3t-tök\n\"en'"


@dataclasses.dataclass
class Login:
    user: str
    password: object


class Kept:
    """An object that is pickled."""

    def __init__(self, user: str, password: object) -> None:
        self.user, self.password = user, password


def restored(value: Any, **options: Any) -> Any:
    return decode(encode(value, **options), lambda digest: b"")


def with_token(names: tuple[str, ...] = ()) -> Redactor:
    redactor = Redactor(names)
    redactor.add(Secret(TOKEN))
    return redactor


secrets = st.text("abcXYZé'\"\\/ \n%", min_size=4, max_size=12).filter(lambda text: set(text) & set("XYZ"))
texts = st.text("abcXYZé'\"\\/ \n%", max_size=12)


@given(secrets, st.data())
def test_no_text_payload_preview_or_error_shows_a_secret(secret: str, data: st.DataObject) -> None:
    leaf = (
        texts | st.builds(lambda one, two: one + secret + two, texts, texts) | st.just(Secret(secret)) | st.integers()
    )
    keys = texts | st.just(secret)
    value = data.draw(
        st.recursive(leaf, lambda inner: st.lists(inner) | st.dictionaries(keys, inner) | st.tuples(inner, inner))
    )
    redactor = Redactor()
    redactor.add(Secret(secret))
    shown = preview(value, redactor=redactor)
    written = ""
    try:
        encoded = encode(value, redactor=redactor)
    except SerializationError as error:
        written = f"{error} {error.path}"
    else:
        assert secret.encode() not in (encoded.payload or b"")
        if encoded.codec == "json":
            written = encoded.json
        shown += encoded.preview
    assert all(secret not in text for text in (*_strings(written), shown))


def _strings(written: str) -> list[str]:
    """The strings of a JSON text, or the text itself."""
    try:
        value = json.loads(written)
    except ValueError:
        return [written]
    found: list[str] = []
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            todo += [*item, *item.values()]
        elif isinstance(item, list):
            todo += item
        elif isinstance(item, str):
            found.append(item)
    return found


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{:>40}".format, "{!r}".format])
def test_no_way_of_printing_shows_it(show: Any) -> None:
    assert TOKEN not in show(Secret(TOKEN)) and MASK in show(Secret(TOKEN))


def test_it_is_revealed_on_request() -> None:
    assert Secret(TOKEN).reveal() == TOKEN


def test_it_is_equal_by_value_and_has_an_equal_hash() -> None:
    assert Secret("one!") == Secret("one!") != Secret("two!")
    assert len({Secret("one!"), Secret("one!")}) == 1


def test_an_empty_secret_is_true_like_any_other() -> None:
    assert Secret("")


def test_it_has_no_length() -> None:
    with pytest.raises(TypeError):
        len(Secret("four"))  # type: ignore[arg-type]


def test_a_deep_copy_is_equal() -> None:
    assert copy.deepcopy({"a": Secret(["x"])}) == {"a": Secret(["x"])}


def test_pickling_it_is_refused() -> None:
    with pytest.raises(SerializationError, match="never stored"):
        pickle.dumps(Secret(TOKEN))


def test_a_secret_of_a_secret_is_one_secret() -> None:
    assert Secret(Secret("once")).reveal() == "once"


def test_a_whole_secret_is_masked_at_the_root() -> None:
    encoded = encode(Secret(TOKEN))
    assert (encoded.json, encoded.masked) == (f'"{MASK}"', ("",))


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"token": Secret(TOKEN)}, "token"),
        ({"db": {"password": Secret(TOKEN)}}, "db.password"),
        ([1, 2, {"key": Secret(TOKEN)}], "[2].key"),
        ({"a key": Secret(TOKEN)}, '["a key"]'),
        ({"a.b": [Secret(TOKEN)]}, '["a.b"][0]'),
    ],
)
def test_the_path_of_a_masked_value_is_listed_and_found_again(value: Any, path: str) -> None:
    encoded = encode(value)
    assert encoded.masked == (path,)
    back = decode(encoded, lambda digest: b"")
    for key in value if isinstance(value, dict) else [2]:
        back = back[key]
    while isinstance(back, (dict, list)):
        back = next(iter(back.values())) if isinstance(back, dict) else back[0]
    assert back == Secret.missing(path)


def test_a_missing_secret_says_how_to_give_it_again() -> None:
    with pytest.raises(SecretMissingError, match=r'resume\(id, inputs=\{"db": \{"password": Secret\(\.\.\.\)\}\}\)'):
        restored({"db": {"password": Secret(TOKEN)}})["db"]["password"].reveal()


def test_a_missing_secret_can_be_written_again() -> None:
    back = restored({"token": Secret(TOKEN)})
    assert encode(back) == encode({"token": Secret(TOKEN)})


def test_found_secrets_are_added_to_the_vault() -> None:
    redactor = Redactor()
    encode({"token": Secret(TOKEN)}, redactor=redactor)
    assert redactor.mask(f"no {TOKEN} here") == f"no {MASK} here"


def test_a_secret_is_masked_in_texts_before_it() -> None:
    encoded = encode({"url": f"https://x/?{TOKEN}", "token": Secret(TOKEN)})
    assert json.loads(encoded.json) == {"url": f"https://x/?{MASK}", "token": MASK}
    assert encoded.masked == ("url", "token")


def test_masked_keys_stay_distinct() -> None:
    redactor = with_token()
    encoded = encode({TOKEN: 1, f"{MASK}": 2}, redactor=redactor)
    assert len(json.loads(encoded.json)) == 2


def test_a_number_which_is_a_secret_is_masked() -> None:
    encoded = encode({"pin": 123456, "other": 1234567}, redactor=_holding(123456))
    assert json.loads(encoded.json) == {"pin": MASK, "other": 1234567}


def _holding(secret: object) -> Redactor:
    redactor = Redactor()
    redactor.add(secret)
    return redactor


def test_named_keys_are_redacted_in_any_case() -> None:
    encoded = encode({"Password": "hunter2", "passwords": 1, "n": None}, redactor=Redactor(["PASSWORD", "n"]))
    assert json.loads(encoded.json) == {"Password": MASK, "passwords": 1, "n": None}
    assert encoded.masked == ("Password",)


def test_a_value_redacted_by_name_is_masked_elsewhere_too() -> None:
    encoded = encode({"log": "with hunter2", "password": "hunter2"}, redactor=Redactor(["password"]))
    assert "hunter2" not in encoded.json


def test_an_unpicklable_redacted_value_is_masked_as_well() -> None:
    assert encode({"password": b"hunter2"}, redactor=Redactor(["password"])).masked == ("password",)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (np.array([Secret(TOKEN)]), "output"),
        (Kept("me", Secret(TOKEN)), "output.password"),
        ({"login": Kept("me", [Secret(TOKEN)])}, "output['login'].password[0]"),
    ],
)
def test_a_secret_inside_another_container_is_refused_by_path(value: Any, path: str) -> None:
    with pytest.raises(SerializationError, match="dict or a list") as caught:
        encode(value)
    assert caught.value.path == path


@pytest.mark.parametrize(
    "value",
    [
        (1, bytearray(TOKEN.encode())),
        {"login": Kept("me", TOKEN)},
        np.array([TOKEN]),
        pd.DataFrame({"a": [TOKEN]}),
    ],
    ids=["bytearray", "object", "array", "frame"],
)
def test_a_payload_with_a_secret_in_it_is_refused(value: Any) -> None:
    with pytest.raises(SerializationError, match="holds a secret") as caught:
        encode(value, redactor=with_token())
    assert TOKEN not in str(caught.value)


def test_the_path_to_a_revealed_secret_is_named() -> None:
    with pytest.raises(SerializationError) as caught:
        encode({"login": Kept("me", TOKEN)}, redactor=with_token())
    assert caught.value.path == "output['login'].password"


@pytest.mark.parametrize("value", [Kept("me", "abc"), pd.DataFrame({"password": ["abc"]})])
def test_a_name_to_redact_in_a_payload_is_refused(value: Any) -> None:
    with pytest.raises(SerializationError, match="holds a secret"):
        encode(value, redactor=Redactor(["password"]))


def test_the_preview_of_what_is_not_kept_is_masked() -> None:
    encoded = encode(Login(TOKEN, Secret("other")), keep=False, redactor=with_token())
    assert encoded.preview == f"Login(user='{MASK}', password=Secret('{MASK}'))"


def test_an_empty_vault_is_false() -> None:
    assert not Redactor()


def test_a_vault_with_names_is_true() -> None:
    assert Redactor(["password"])


def test_the_repr_of_a_vault_shows_no_secret() -> None:
    assert TOKEN not in repr(with_token())


def test_short_secrets_are_not_searched_for() -> None:
    assert _holding("abc").mask("abc") == "abc"


def test_overlapping_secrets_are_masked_as_one() -> None:
    redactor = _holding("abcd")
    redactor.add("cdef")
    assert redactor.mask("abcdef!") == f"{MASK}!"


def test_a_longer_secret_is_masked_before_the_one_inside_it() -> None:
    redactor = _holding("pass")
    redactor.add("password1")
    assert redactor.mask("password1") == MASK


@pytest.mark.parametrize("written", [json.dumps(TOKEN), repr(TOKEN), "https://x/?s3cr3t-t%C3%B6k%0A%22en%27"])
def test_the_escaped_forms_of_a_secret_are_masked(written: str) -> None:
    assert "cr3t" not in with_token().mask(written)


def test_every_text_of_a_secret_container_is_masked() -> None:
    assert _holding({"user": "root", "keys": [b"abcdefg"]}).mask("root abcdefg") == f"{MASK} {MASK}"


@dataclasses.dataclass(slots=True)
class Account:
    user: str
    password: str

    def __str__(self) -> str:
        return self.user


@pytest.mark.parametrize(
    ("secret", "taken_out"),
    [
        ("s3cr3t-token\n", "s3cr3t-token"),
        ("-----BEGIN KEY-----\r\n  MIIEabc+/def\r\n-----END KEY-----\r\n", "MIIEabc+/def"),
        (b"first-line\nMIIEabc+/def\n", "MIIEabc+/def"),
        ('{"id": 1, "key": {"pem": "a\\nMIIEabc+/def"}}', "a\nMIIEabc+/def"),
        ("postgresql://ana:p%40ss%2Fword@db:5432/shop", "p@ss/word"),
        (Account("ana", "s3cr3t-token"), "s3cr3t-token"),
    ],
)
def test_parts_that_programs_take_out_of_a_secret_are_masked(secret: object, taken_out: str) -> None:
    """The line break at the end of a file, the lines of a key, a value in JSON, a URL's password, an attribute."""
    vault = Redactor()
    vault.add(Secret(secret))
    assert vault.mask(f"use {taken_out}!") == f"use {MASK}!"
    assert vault.mask("a short line") == "a short line"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
def test_a_secret_is_found_in_bytes(encoding: str) -> None:
    assert with_token().reveals(f"xx{TOKEN}xx".encode(encoding))


def test_a_renewed_secret_is_the_same_argument() -> None:
    assert fingerprint_args((Secret("old token"),), {}) == fingerprint_args((Secret("new token"),), {})


# -- the forms of a secret ----------------------------------------------------------------------------------

odd = st.text(st.characters(exclude_categories=["Cs"]), min_size=4, max_size=20).filter(lambda text: text not in MASK)
around_it = st.binary(max_size=4)

FORMS: dict[str, Callable[[str], str]] = {
    "itself": lambda text: text,
    "JSON": json.dumps,
    "JSON in JSON": lambda text: json.dumps(json.dumps({"t": text}, ensure_ascii=False)),
    "repr": repr,
    "repr in JSON": lambda text: json.dumps(repr(text)),
    "repr of bytes": lambda text: repr(text.encode()),
    "quote": quote,
    "quote all": lambda text: quote(text, safe=""),
    "quote twice": lambda text: quote(quote(text), safe=""),
    "lower-case quote": lambda text: re.sub("%..", lambda found: found[0].lower(), quote(text)),
    "urlencode": lambda text: urlencode({"t": text}),
    "HTML": html.escape,
    "HTML without quotes": lambda text: html.escape(text, quote=False),
    "hex": lambda text: text.encode().hex(),
    "upper-case hex": lambda text: text.encode().hex().upper(),
}


@pytest.mark.parametrize("form", FORMS)
@given(odd)
def test_every_usual_way_of_writing_a_secret_is_masked(form: str, secret: str) -> None:
    written = FORMS[form](secret)
    assert MASK in _holding(secret).mask(f"<{written}>")


@given(odd, around_it, around_it, st.sampled_from([b64encode, urlsafe_b64encode]))
def test_base64_of_a_text_with_the_secret_in_it_is_masked(secret: str, left: bytes, right: bytes, encode: Any) -> None:
    written = encode(left + secret.encode() + right).decode()
    masked = _holding(secret).mask(written)
    assert MASK in masked
    kept = len(masked) - len(MASK)
    assert kept <= len(encode(left)) + len(encode(right)) + 4


def test_basic_auth_is_masked() -> None:
    header = "Basic " + b64encode(b"ada:s3cr3t-token").decode()
    assert "czNjcjN0" not in _holding("s3cr3t-token").mask(header)
    assert MASK in _holding("s3cr3t-token").mask(header)


def test_bytes_that_are_not_text_are_masked_too() -> None:
    key = b"\xff\xfe\x00key"
    redactor = _holding(key)
    assert MASK in redactor.mask(b64encode(key).decode()) and MASK in redactor.mask(key.hex())
    assert redactor.reveals(b"xx" + key)


def test_a_secret_can_be_revealed_outside_of_steps() -> None:
    assert Secret("free to use").reveal() == "free to use"
