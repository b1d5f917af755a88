"""Every edge of RFC 8259 over HTTP: never a 5xx, always the right 4xx, and what is valid is stored and read back unchanged."""

import json

import pytest

from local_stack import MODES


def named(text):
    """A product whose name is this JSON string, given as bytes."""
    return b'{"name":' + text + b"}"


def priced(number):
    return b'{"name":"a","contact_id":1,"order_lines":[{"product_id":1,"quantity":1,"price":' + number + b"}]}"


def counted(number):
    return b'{"name":"a","contact_id":1,"order_lines":[{"product_id":1,"quantity":' + number + b',"price":1}]}'


NO_JSON = {
    "nothing": b"", "only space": b" \t\r\n", "1 MiB of [": b"[" * (1 << 20), "65 levels": b"[" * 65 + b"]" * 65, "65 objects": b'{"a":' * 65 + b"1" + b"}" * 65,
    "a byte-order mark": b'\xef\xbb\xbf{"name":"a"}', "UTF-16": '{"name":"a"}'.encode("utf-16"), "a NUL behind it": b'{"name":"a"}\0', "two values": b'{"name":"a"} {}',
    "a trailing comma": b'{"name":"a",}', "a trailing comma in an array": b'{"name":["a",]}', "a leading comma": b'{,"name":"a"}', "no colon": b'{"name" "a"}',
    "no quotes": b"{name:1}", "single quotes": b"{'name':'a'}", "a comment": b'{"name":"a"/**/}', "cut off": b'{"name":"a', "a wrong bracket": b'{"name":"a"]',
    "overlong UTF-8": named(b'"\xc0\xaf"'), "an overlong NUL": named(b'"\xc0\x80"'), "an encoded surrogate": named(b'"\xed\xa0\x80"'), "beyond U+10FFFF": named(b'"\xf4\x90\x80\x80"'),
    "half a character": named(b'"\xe2\x82"'), "a lone continuation": named(b'"\x80"'), "Latin-1": named(b'"\xe9"'), "invalid UTF-8 in a key": b'{"na\xffme":1}',
    "a lone high surrogate": named(rb'"\ud83d"'), "a lone low surrogate": named(rb'"\ude00"'), "surrogates the wrong way round": named(rb'"\ude00\ud83d"'),
    "a high surrogate and a letter": named(rb'"\ud83dx"'), "a wrong escape": named(rb'"\x41"'), "half an escape": named(rb'"\u00"'), "a bare line feed": named(b'"a\nb"'),
    "a bare NUL": named(b'"a\0b"'), "a bare tab": named(b'"\t"'), "NaN": priced(b"NaN"), "Infinity": priced(b"-Infinity"), "a leading zero": priced(b"01"),
    "a leading zero behind a sign": priced(b"-01"), "a plus": priced(b"+1"), "no digit before the point": priced(b".5"), "none behind it": priced(b"1."),
    "an empty exponent": priced(b"1e"), "a sign alone": priced(b"-"), "hexadecimal": priced(b"0x10"), "an underscore": priced(b"1_0"), "True": b"True", "nul": b"nul",
}

NOT_WHAT_IS_TAKEN = {
    "1e400": (priced(b"1e400"), "out_of_range"), "1e-400": (priced(b"1e-400"), "too_many_decimals"), "1e999999999999": (priced(b"1e999999999999"), "out_of_range"),
    "-1e400": (priced(b"-1e400"), "out_of_range"), "five decimals": (priced(b"0.00001"), "too_many_decimals"), "a negative price": (priced(b"-0.0001"), "out_of_range"),
    "the price above": (priced(b"10000000000"), "out_of_range"), "1.5 of a thing": (counted(b"1.5"), "wrong_type"), "none of it": (counted(b"-0"), "out_of_range"),
    "a million and one": (counted(b"1000001"), "out_of_range"), "2^63": (b'{"name":"a","contact_id":9223372036854775808,"order_lines":[]}', "out_of_range"),
    "a number in quotes": (counted(b'"1"'), "wrong_type"), "true as a number": (counted(b"true"), "wrong_type"), "a thousand digits": (priced(b"1" * 1000), "out_of_range"),
}

PRICES = {b"-0": 0, b"-0.0": 0, b"0e400": 0, b"1E+2": 100, b"100e-2": 1, b"1.0000": 1, b"0.5000000000000000000000": 0.5, b"1" + b"0" * 9 + b"e-9": 1, b"9999999999.9999": 9999999999.9999}

NAMES = {rb'"\u0041\u00e9\/"': "Aé/", rb'"\ud83d\ude00"': "😀", '"😀"'.encode(): "😀", rb'"\"\\\b\f\n\r\t"': '"\\\b\f\n\r\t', rb'"\u001f\u007f"': "\x1f\x7f",
         '"\U0010ffff\u2028"'.encode(): "\U0010ffff\u2028", rb'"\uFFFF"': "\uffff", b'"a\x7fb"': "a\x7fb", '"e\u0301"'.encode(): "e\u0301", '"\ufeffx"'.encode(): "\ufeffx"}


@pytest.mark.parametrize("what", NO_JSON)
def test_what_is_no_json_is_a_400(stocked, what):
    for path in ("/product", "/order"):
        answer = stocked.both("POST", path, NO_JSON[what])
        assert answer.status == 400 and answer.json["detail"].startswith("The body is not JSON: "), answer
    assert stocked.both("PATCH", "/product/1", NO_JSON[what]).status == 400


@pytest.mark.parametrize("what", NOT_WHAT_IS_TAKEN)
def test_what_is_json_but_out_of_bounds_is_a_422(stocked, what):
    body, code = NOT_WHAT_IS_TAKEN[what]
    answer = stocked.both("POST", "/order", body)
    assert (answer.status, [e["code"] for e in answer.json["errors"]]) == (422, [code]), answer


@pytest.mark.parametrize("number", PRICES, ids=lambda n: n.decode()[:20])
def test_a_price_in_any_form_is_the_same_price(stocked, number):
    for mode in MODES:
        made = stocked.request("POST", f"/{mode}/order", priced(number))
        assert (made.status, made.json["order_lines"][0]["price"]) == (201, PRICES[number]), made


@pytest.mark.parametrize("number", [b"1.0", b"1e0", b"10E-1", b"1.000000000000000000000000"])
def test_an_integer_may_have_a_fraction_of_zeros(stocked, number):
    for mode in MODES:
        made = stocked.request("POST", f"/{mode}/order", counted(number))
        assert made.status == 201 and b'"quantity":1,' in made.body, made


@pytest.mark.parametrize("text", NAMES, ids=range(len(NAMES)))
def test_a_name_comes_back_as_it_was_meant(stack, text):
    for mode in MODES:
        made = stack.request("POST", f"/{mode}/product", named(text))
        assert made.status == 201, made
        for server in MODES:
            assert json.loads(stack.request("GET", f"/{server}/product/{made.json['id']}").body)["name"] == NAMES[text]


def test_a_duplicate_key_is_named(stack):
    wrong = stack.both("POST", "/contact", b'{"name":"a","email":"a@b","na\\u006de":"b"}')
    assert (wrong.status, [(e["pointer"], e["code"]) for e in wrong.json["errors"]]) == (422, [("/name", "duplicate_key")])
    inner = stack.both("POST", "/order", b'{"name":"a","contact_id":1,"order_lines":[{"product_id":1,"price":1,"quantity":1,"price":2}]}')
    assert ("/order_lines/0/price", "duplicate_key") in [(e["pointer"], e["code"]) for e in inner.json["errors"]]


def test_64_levels_are_no_harm(stack):
    assert stack.both("POST", "/product", b'{"name":' + b"[" * 63 + b"]" * 63 + b"}").status == 422


def test_a_mebibyte_of_anything_is_answered(stack):
    size = 1 << 20
    for body, status in ((b"[" + b"1," * (size // 2 - 1) + b"1", 400), (b"[" + b"0," * ((size - 2) // 2) + b"0]", 413), (b'{"name":"' + b"\\n" * (size // 2 - 6) + b'"}', 422),
                         (b'{"' + b"a" * (size - 6) + b'":1}', 422), (b'{"tag_ids":[' + b"1," * (size // 2 - 10) + b"1]}", 422), (b"{" + b'"a":1,' * (size // 6 - 2) + b'"a":1}', 422)):
        answer = stack.both("POST", "/order", body[:size + 1])
        assert answer.status == status, (body[:20], len(body), answer)
