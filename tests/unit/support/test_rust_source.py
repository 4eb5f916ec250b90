"""The reader of Rust source that the architecture tests trust."""

import pytest

from tests.support.rust_source import Function, code, functions, shipped

pytestmark = pytest.mark.unit


def names(text: str) -> list[str]:
    return [function.name for function in functions(text)]


def test_a_function_is_counted_from_fn_to_its_closing_brace() -> None:
    text = "/// Says.\n#[inline]\npub fn long(\n    a: u8,\n) -> u8 {\n    a\n}\n\nconst fn short() {}\n"
    assert list(functions(text)) == [Function("long", 3, 5), Function("short", 9, 1)]


def test_braces_in_literals_and_comments_end_nothing() -> None:
    text = """fn f<'a>(s: &'a str) -> char {
    let _ = ("}", r#"}"}"#, b"}\\"}", '}', b'}', '\\'', '\\u{7D}', "\\\\"); // }
    /* } /* } */ } */
    'x'
}
fn g() {}
"""
    assert list(functions(text)) == [Function("f", 1, 5), Function("g", 6, 1)]


def test_lifetimes_and_loop_labels_are_no_character_literals() -> None:
    text = "fn f<'a, 'b>(a: &'a u8, b: &'b u8) { 'outer: loop { break 'outer; } }\nfn g() {}\n"
    assert names(text) == ["f", "g"]
    assert code(text) == text


def test_a_function_without_a_body_and_the_type_of_one_are_none() -> None:
    text = "trait T { fn wanted(&self) -> [u8; { 1 + 1 }]; fn given(&self) { call(|f: fn(u8) -> u8| f(1)) } }"
    assert names(text) == ["given"]


def test_nested_functions_count_by_themselves_too() -> None:
    assert [(f.name, f.lines) for f in functions("fn outer() {\n    fn inner() {\n    }\n}\n")] == [
        ("outer", 4),
        ("inner", 2),
    ]


def test_the_word_fn_in_text_is_no_function() -> None:
    assert names('// fn a() {}\n/* fn b() {} */ const C: &str = "fn c() {}"; macro_fn!(d);\n') == []


def test_code_keeps_every_other_character_in_its_place() -> None:
    text = 'let a = "two\nlines"; // end\nlet b = 1;\n'
    assert code(text) == "let a =     \n      ;       \nlet b = 1;\n"


def test_what_is_compiled_for_tests_only_is_not_shipped() -> None:
    text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() { unsafe { } }\n}\nfn c() {}\n#[cfg(test)]\nmod more;\n"
    kept = shipped(text)
    assert "unsafe" not in kept
    assert "more" not in kept
    assert "fn a() {}" in kept
    assert "fn c() {}" in kept
    assert kept.count("\n") == text.count("\n")


@pytest.mark.parametrize("text", ["fn f() {", "/* open", 'r#"open', "fn f(", '"open'])
def test_broken_source_is_read_to_its_end(text: str) -> None:
    assert len(code(text)) == len(text)
    assert len(list(functions(text))) <= 1
