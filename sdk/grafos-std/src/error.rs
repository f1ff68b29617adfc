//! What can go wrong: an answer of the cell, and the program's own failure.

use std::fmt;

/// What a call of the cell answers when it does not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FabricError {
    /// The other end is away; asking again may help.
    Disconnected,
    /// The lease ran out; it may be acquired again.
    LeaseExpired,
    /// The resource is fenced until an operator clears it.
    Fenced,
    /// Over a limit, or outside of what is leased.
    CapacityExceeded,
    /// This run or this cell does not have that.
    Unsupported,
    /// The lease was revoked.
    Revoked,
    /// Anything else, with the status as it came; -22 is an argument that is not valid, -200 bytes that do not hold the
    /// value that is wanted, -201 a value that does not fit into its place.
    IoError(i32),
    /// A GPU session went wrong, with the session's status. No cell answers it yet.
    GpuSessionFailed(u8),
}

impl FabricError {
    /// The error that a negative status stands for; a status of 0 or more is none.
    pub fn from_status(status: i32) -> Option<FabricError> {
        match status {
            0.. => None,
            -1 => Some(FabricError::Disconnected),
            -2 => Some(FabricError::LeaseExpired),
            -3 => Some(FabricError::Fenced),
            -4 => Some(FabricError::CapacityExceeded),
            -5 => Some(FabricError::Unsupported),
            -6 => Some(FabricError::Revoked),
            other => Some(FabricError::IoError(other)),
        }
    }

    /// Whether asking again may help. What the call was to change may have been changed all the same.
    pub fn is_transient(&self) -> bool {
        *self == FabricError::Disconnected
    }

    /// A status as a result: what is 0 or more is a count.
    pub fn check(status: i32) -> Result<usize, FabricError> {
        match FabricError::from_status(status) {
            None => Ok(status as usize),
            Some(error) => Err(error),
        }
    }

    /// As `check`, of a status of 64 bits.
    pub(crate) fn check_wide(status: i64) -> Result<u64, FabricError> {
        match u64::try_from(status) {
            Ok(count) => Ok(count),
            Err(_) => {
                let narrow = i32::try_from(status).unwrap_or(i32::MIN);
                Err(FabricError::from_status(narrow).unwrap_or(FabricError::IoError(narrow)))
            }
        }
    }
}

impl fmt::Display for FabricError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FabricError::Disconnected => f.write_str("disconnected"),
            FabricError::LeaseExpired => f.write_str("lease_expired"),
            FabricError::Fenced => f.write_str("fenced"),
            FabricError::CapacityExceeded => f.write_str("capacity_exceeded"),
            FabricError::Unsupported => f.write_str("unsupported"),
            FabricError::Revoked => f.write_str("revoked"),
            FabricError::IoError(status) => write!(f, "io_error {status}"),
            FabricError::GpuSessionFailed(status) => write!(f, "gpu_session_failed {status}"),
        }
    }
}

impl std::error::Error for FabricError {}

/// Why a tasklet did not do its work. The run ends with `program_error` and this text.
///
/// Whatever can be shown becomes one with `?` or `into()`: a text, an error of another crate, one of your own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    text: String,
}

impl Failure {
    /// The text; the cell keeps its first 1,024 bytes.
    pub fn text(&self) -> &str {
        &self.text
    }
}

// `Failure` itself must not be `Display`: then this would also be the conversion of a failure into itself.
impl<E: fmt::Display> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure { text: error.to_string() }
    }
}

/// Ends a tasklet with this text: `return fail("bad_input");`.
pub fn fail<T>(text: impl fmt::Display) -> Result<T, Failure> {
    Err(Failure::from(text))
}
