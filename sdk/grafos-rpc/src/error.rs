//! Why there is no response.

use std::fmt;

use grafos_std::FabricError;

/// Why a request was not answered with a response. A handler gives one, too.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RpcError {
    /// Request or response has more than 1,024 bytes.
    MessageTooLarge,
    /// The server has no such method.
    MethodNotSupported,
    /// Nobody answered as long as the client asked. The request may be handled yet: until then another one is `Busy`,
    /// and what is asked anew afterwards is done anew. `send` and `take` wait longer for one request.
    NoAnswer,
    /// An earlier request is not answered yet.
    Busy,
    /// The handler's own words.
    Failed(String),
    /// The memory between both could not be asked, or says no more.
    Fabric(FabricError),
}

impl RpcError {
    /// The error that travels in a response as this text.
    pub(crate) fn from_text(text: &str) -> RpcError {
        let known = [RpcError::MessageTooLarge, RpcError::MethodNotSupported];
        known.into_iter().find(|error| error.to_string() == text).unwrap_or_else(|| RpcError::Failed(text.to_owned()))
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RpcError::MessageTooLarge => f.write_str("message_too_large"),
            RpcError::MethodNotSupported => f.write_str("method_not_supported"),
            RpcError::NoAnswer => f.write_str("no_answer"),
            RpcError::Busy => f.write_str("busy"),
            RpcError::Failed(text) => f.write_str(text),
            RpcError::Fabric(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RpcError {}

impl From<FabricError> for RpcError {
    fn from(error: FabricError) -> RpcError {
        RpcError::Fabric(error)
    }
}
