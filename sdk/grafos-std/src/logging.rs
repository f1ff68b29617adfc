//! The log of a run.

use std::fmt;

use crate::host;

/// One entry of the run's log, written as with `println!`.
///
/// An entry may have 4 KiB, all of them together 64 KiB. What is more is cut off and the run goes on, so there is
/// nothing to answer.
#[macro_export]
macro_rules! log {
    ($($words:tt)*) => {
        $crate::write_log(::core::format_args!($($words)*))
    };
}

/// What `log!` calls.
pub fn write_log(words: fmt::Arguments<'_>) {
    match words.as_str() {
        Some(text) => host::log_write(text.as_bytes()),
        None => host::log_write(fmt::format(words).as_bytes()),
    };
}
