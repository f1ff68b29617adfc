//! The calls of the cell that runs a tasklet, as the tasklet ABI has them, with slices for ranges of memory.
//!
//! In a cell they are the imports of the module. Anywhere else they are a mock with state of its own in each thread:
//! [`reset_mock`] begins anew, [`mock_run`] runs a tasklet whole, and the other `mock_` functions set what it meets.
//! The mock keeps the rules that a program can meet (limits, statuses, how a run ends); its fuel is only roughly
//! that of a cell, and its memory has no bound.

#[cfg(target_arch = "wasm32")]
mod imports;
#[cfg(target_arch = "wasm32")]
pub use imports::*;

#[cfg(not(target_arch = "wasm32"))]
mod mock;
#[cfg(not(target_arch = "wasm32"))]
pub use mock::*;
