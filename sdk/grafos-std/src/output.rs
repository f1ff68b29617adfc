//! What a tasklet leaves.

use crate::error::Failure;
use crate::json::ToJson;

/// What a tasklet leaves: a response, which is one JSON text, and bytes. Either may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    response: Option<String>,
    bytes: Vec<u8>,
    problem: Option<Failure>,
}

impl Output {
    /// Neither response nor bytes; the response then reads `null`.
    pub fn empty() -> Output {
        Output::default()
    }

    /// The value as response. One that cannot be JSON makes the run fail with that reason.
    pub fn json(value: impl ToJson) -> Output {
        Output::empty().with_json(value)
    }

    /// A text that is JSON already, as response. The cell checks it.
    pub fn json_text(text: impl Into<String>) -> Output {
        Output { response: Some(text.into()), ..Output::empty() }
    }

    /// Output bytes, and no response.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Output {
        Output::empty().with_bytes(bytes)
    }

    /// The same output with this response.
    pub fn with_json(mut self, value: impl ToJson) -> Output {
        let mut text = String::new();
        match value.to_json(&mut text) {
            Ok(()) => self.response = Some(text),
            Err(problem) => self.problem = Some(problem),
        }
        self
    }

    /// The same output with these bytes.
    pub fn with_bytes(mut self, bytes: impl Into<Vec<u8>>) -> Output {
        self.bytes = bytes.into();
        self
    }

    /// The response, for tests.
    pub fn response(&self) -> Option<&str> {
        self.response.as_deref()
    }

    /// The bytes, for tests.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// What a tasklet may give: an [`Output`], or a `Result` of one with any error that can be shown.
#[diagnostic::on_unimplemented(
    message = "a tasklet cannot give `{Self}`",
    label = "give `Output`, or `Result<Output, E>` with an `E` that can be shown",
    note = "`Output::json(value)` makes an output of a value, `Output::bytes(data)` one of bytes"
)]
pub trait Outcome {
    /// The output, or why there is none.
    fn into_result(self) -> Result<Output, Failure>;
}

impl Outcome for Output {
    fn into_result(mut self) -> Result<Output, Failure> {
        match self.problem.take() {
            None => Ok(self),
            Some(problem) => Err(problem),
        }
    }
}

impl<E: Into<Failure>> Outcome for Result<Output, E> {
    fn into_result(self) -> Result<Output, Failure> {
        self.map_err(Into::into)?.into_result()
    }
}
