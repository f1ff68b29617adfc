//! JSON without another crate: what a program says, and what it is told.

use std::fmt;

use crate::error::Failure;

/// Levels that a value may be nested, as in the tasklet ABI.
pub const DEPTH_MAX: usize = 64;

/// A value that can be written as JSON.
///
/// Numbers, texts, lists, options, maps and [`Json`] can; `#[derive(grafos_std::ToJson)]` makes a struct with named
/// fields one of them. With the feature `serde` it is whatever serde can serialize, and nothing need be derived twice.
pub trait ToJson {
    /// Appends the value's text.
    fn to_json(&self, out: &mut String) -> Result<(), Failure>;
}

/// Any JSON value. A number keeps the text that it had; an object keeps its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// The value in these bytes, which must be one JSON text of RFC 8259 in UTF-8, nested at most 64 deep.
    pub fn parse(data: &[u8]) -> Result<Json, ParseError> {
        let text = std::str::from_utf8(data).map_err(|error| ParseError { at: error.valid_up_to() })?;
        let mut reader = Reader { text, at: 0 };
        let value = reader.value(0)?;
        reader.skip_space();
        if reader.at < text.len() {
            reader.wrong()
        } else {
            Ok(value)
        }
    }

    /// The member of that name, of an object that has it. The last of several counts.
    pub fn get(&self, name: &str) -> Option<&Json> {
        match self {
            Json::Object(members) => members.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Json::Bool(value) => Some(*value),
            _ => None,
        }
    }

    pub fn as_list(&self) -> Option<&[Json]> {
        match self {
            Json::List(values) => Some(values),
            _ => None,
        }
    }

    /// A whole number that is not negative and is written as one.
    pub fn as_u64(&self) -> Option<u64> {
        self.number()
    }

    /// A whole number that is written as one.
    pub fn as_i64(&self) -> Option<i64> {
        self.number()
    }

    pub fn as_f64(&self) -> Option<f64> {
        self.number()
    }

    fn number<T: std::str::FromStr>(&self) -> Option<T> {
        match self {
            Json::Number(digits) => digits.parse().ok(),
            _ => None,
        }
    }

    /// Appends the value's text, without spaces.
    pub(crate) fn write(&self, out: &mut String) {
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Json::Number(digits) => out.push_str(digits),
            Json::Text(text) => write_text(text, out),
            Json::List(values) => {
                out.push('[');
                for (index, value) in values.iter().enumerate() {
                    separate(index, out);
                    value.write(out);
                }
                out.push(']');
            }
            Json::Object(members) => {
                out.push('{');
                for (index, (name, value)) in members.iter().enumerate() {
                    separate(index, out);
                    write_text(name, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

fn separate(index: usize, out: &mut String) {
    if index > 0 {
        out.push(',');
    }
}

/// A text in quotes, with what must be escaped.
pub(crate) fn write_text(text: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push('"');
    for sign in text.chars() {
        match sign {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\x1f' => {
                out.push_str("\\u00");
                out.push(HEX[sign as usize >> 4] as char);
                out.push(HEX[sign as usize & 15] as char);
            }
            _ => out.push(sign),
        }
    }
    out.push('"');
}

/// The bytes are not JSON from this one on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Bytes before it.
    pub at: usize,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not JSON at byte {}", self.at)
    }
}

impl std::error::Error for ParseError {}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn wrong<T>(&self) -> Result<T, ParseError> {
        Err(ParseError { at: self.at })
    }

    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    fn takes(&mut self, word: &str) -> bool {
        let there = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        if there {
            self.at += word.len();
        }
        there
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<Json, ParseError> {
        self.skip_space();
        match self.peek() {
            b'{' | b'[' if depth == DEPTH_MAX => self.wrong(),
            b'{' => self.object(depth),
            b'[' => self.list(depth),
            b'"' => self.string().map(Json::Text),
            b'-' | b'0'..=b'9' => self.number(),
            _ if self.takes("null") => Ok(Json::Null),
            _ if self.takes("true") => Ok(Json::Bool(true)),
            _ if self.takes("false") => Ok(Json::Bool(false)),
            _ => self.wrong(),
        }
    }

    /// Whether another member follows; what closes the list or object is taken.
    fn follows(&mut self, end: &str) -> Result<bool, ParseError> {
        self.skip_space();
        if self.takes(",") {
            return Ok(true);
        }
        if self.takes(end) {
            Ok(false)
        } else {
            self.wrong()
        }
    }

    fn list(&mut self, depth: usize) -> Result<Json, ParseError> {
        self.at += 1;
        self.skip_space();
        let mut values = Vec::new();
        let mut more = !self.takes("]");
        while more {
            values.push(self.value(depth + 1)?);
            more = self.follows("]")?;
        }
        Ok(Json::List(values))
    }

    fn object(&mut self, depth: usize) -> Result<Json, ParseError> {
        self.at += 1;
        self.skip_space();
        let mut members = Vec::new();
        let mut more = !self.takes("}");
        while more {
            self.skip_space();
            if self.peek() != b'"' {
                return self.wrong();
            }
            let name = self.string()?;
            self.skip_space();
            if !self.takes(":") {
                return self.wrong();
            }
            members.push((name, self.value(depth + 1)?));
            more = self.follows("}")?;
        }
        Ok(Json::Object(members))
    }

    fn digits(&mut self) -> Result<(), ParseError> {
        if !self.peek().is_ascii_digit() {
            return self.wrong();
        }
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Json, ParseError> {
        let start = self.at;
        self.takes("-");
        if !self.takes("0") {
            self.digits()?;
        }
        if self.takes(".") {
            self.digits()?;
        }
        if self.takes("e") || self.takes("E") {
            let _ = self.takes("+") || self.takes("-");
            self.digits()?;
        }
        Ok(Json::Number(self.text[start..self.at].to_owned()))
    }

    fn string(&mut self) -> Result<String, ParseError> {
        self.at += 1;
        let mut text = String::new();
        loop {
            let start = self.at;
            while !matches!(self.peek(), b'"' | b'\\' | 0..=0x1f) {
                self.at += 1;
            }
            text.push_str(&self.text[start..self.at]);
            if self.takes("\"") {
                return Ok(text);
            }
            if !self.takes("\\") {
                return self.wrong(); // the end, or a control character
            }
            text.push(self.escaped()?);
        }
    }

    fn escaped(&mut self) -> Result<char, ParseError> {
        let sign = self.peek();
        self.at += 1;
        match sign {
            b'"' | b'\\' | b'/' => Ok(sign as char),
            b'b' => Ok('\x08'),
            b'f' => Ok('\x0c'),
            b'n' => Ok('\n'),
            b'r' => Ok('\r'),
            b't' => Ok('\t'),
            b'u' => self.unicode(),
            _ => {
                self.at -= 1;
                self.wrong()
            }
        }
    }

    fn unicode(&mut self) -> Result<char, ParseError> {
        let mut code = self.hex()?;
        if (0xd800..0xdc00).contains(&code) && self.takes("\\u") {
            let low = self.hex()?;
            if !(0xdc00..0xe000).contains(&low) {
                return self.wrong();
            }
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        }
        char::from_u32(code).map_or_else(|| self.wrong(), Ok)
    }

    fn hex(&mut self) -> Result<u32, ParseError> {
        let mut code = 0;
        for _ in 0..4 {
            let Some(digit) = char::from(self.peek()).to_digit(16) else { return self.wrong() };
            code = code * 16 + digit;
            self.at += 1;
        }
        Ok(code)
    }
}

#[cfg(not(feature = "serde"))]
mod own;
#[cfg(feature = "serde")]
mod with_serde;
