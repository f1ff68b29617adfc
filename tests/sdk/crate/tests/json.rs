//! What is written is JSON, and what is JSON is read.

use std::collections::BTreeMap;

use grafos_std::{Json, Output, ToJson};

fn text(value: impl ToJson) -> String {
    Output::json(value).response().unwrap().to_owned()
}

#[derive(ToJson)]
struct Sample {
    /// A comment is no field.
    pub number: i64,
    #[allow(dead_code)]
    r#type: &'static str,
    nested: Inner,
    map: BTreeMap<String, Vec<Option<bool>>>,
}

#[derive(ToJson)]
pub(crate) struct Inner {
    pairs: Option<BTreeMap<String, u8>>,
    last: (),
}

#[derive(ToJson)]
struct Nothing {}

#[test]
fn a_struct_is_an_object_of_its_fields() {
    let map = BTreeMap::from([("k,\"".to_owned(), vec![Some(true), None])]);
    let sample = Sample { number: -1, r#type: "t", nested: Inner { pairs: None, last: () }, map };
    assert_eq!(
        text(sample),
        r#"{"number":-1,"type":"t","nested":{"pairs":null,"last":null},"map":{"k,\"":[true,null]}}"#
    );
    assert_eq!(text(Nothing {}), "{}");
}

#[test]
fn a_text_is_escaped_where_it_must_be() {
    assert_eq!(text("\"\\\n\r\t\0\x1f/é😀\x7f"), "\"\\\"\\\\\\n\\r\\t\\u0000\\u001f/é😀\x7f\"");
}

#[test]
fn numbers_are_written_so_that_they_read_back() {
    assert_eq!(text(u64::MAX), "18446744073709551615");
    assert_eq!(text(i128::MIN), "-170141183460469231731687303715884105728");
    for number in [0.1, -0.0, 1e300, 1e-300, f64::MAX, f64::MIN_POSITIVE, 5e-324, 1.0] {
        let written = text(number);
        assert!(written.len() < 30, "{written}");
        assert_eq!(Json::parse(written.as_bytes()).unwrap().as_f64(), Some(number));
    }
    assert_eq!(text(f64::NAN), "null");
    assert_eq!(text(f32::INFINITY), "null");
}

#[test]
fn a_value_that_cannot_be_written_fails_the_run() {
    struct Never;
    impl ToJson for Never {
        fn to_json(&self, _: &mut String) -> Result<(), grafos_std::Failure> {
            grafos_std::fail("no words for it")
        }
    }
    let ran = grafos_std::host::mock_run(|_| Output::json(Never), b"");
    assert_eq!((ran.code, ran.text.as_str()), ("program_error", "no words for it"));
}

#[test]
fn json_is_read_and_written_alike() {
    for sample in [
        "null",
        "true",
        "false",
        "0",
        "-0",
        "12.50",
        "1e9",
        "1E+9",
        "\"\"",
        "[]",
        "{}",
        "[1,[2,{}]]",
        r#"{"a":1,"b":[null],"a":2}"#,
    ] {
        assert_eq!(text(Json::parse(sample.as_bytes()).unwrap()), sample);
    }
    assert_eq!(text(Json::parse(b" [ 1 , { \"a\" : \"\\u00e9\\/\" } ]\n").unwrap()), "[1,{\"a\":\"é/\"}]");
}

#[test]
fn what_is_no_json_is_refused_where_it_begins_to_be_none() {
    let cases: [(&[u8], usize); 26] = [
        (b"", 0),
        (b" ", 1),
        (b"nul", 0),
        (b"01", 1),
        (b"1.", 2),
        (b".5", 0),
        (b"+1", 0),
        (b"-", 1),
        (b"1e", 2),
        (b"[1,]", 3),
        (b"[1 2]", 3),
        (b"[", 1),
        (b"{", 1),
        (b"{1:2}", 1),
        (b"{\"a\"}", 4),
        (b"{\"a\":1,}", 7),
        (b"\"a", 2),
        (b"\"\n\"", 1),
        (b"\"\\x\"", 2),
        (b"\"\\u12g4\"", 5),
        (b"\"\\ud800\"", 7),
        (b"\"\\ud800\\u0041\"", 13),
        (b"1 1", 2),
        (b"'a'", 0),
        (b"\xff", 0),
        (b"[\"\xc3\"]", 2),
    ];
    for (sample, at) in cases {
        assert_eq!(Json::parse(sample).unwrap_err().at, at, "{}", String::from_utf8_lossy(sample));
    }
}

#[test]
fn only_so_many_levels_are_read() {
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    assert!(Json::parse(nested(64).as_bytes()).is_ok());
    assert!(Json::parse(nested(65).as_bytes()).is_err());
    assert!(Json::parse("[".repeat(1_000_000).as_bytes()).is_err());
}

#[test]
fn members_are_asked_for_by_name_and_kind() {
    let document = Json::parse(br#"{"n":7,"s":"x","b":true,"l":[1],"f":1.5,"n":8}"#).unwrap();
    assert_eq!(document.get("n").and_then(Json::as_u64), Some(8)); // the last one counts
    assert_eq!(document.get("s").and_then(Json::as_str), Some("x"));
    assert_eq!(document.get("b").and_then(Json::as_bool), Some(true));
    assert_eq!(document.get("l").and_then(Json::as_list).map(<[Json]>::len), Some(1));
    assert_eq!(document.get("f").and_then(Json::as_i64), None);
    assert_eq!(document.get("s").and_then(Json::as_u64), None);
    assert_eq!(document.get("none"), None);
    assert_eq!(Json::Null.get("n"), None);
}
