//! What a tasklet of grafos needs.
//!
//! ```
//! use grafos_std::{Output, Tasklet};
//!
//! #[grafos_std::tasklet]
//! fn hello(input: &[u8]) -> Output {
//!     grafos_std::log!("{} bytes came in", input.len());
//!     Output::json(Tasklet::context().region)
//! }
//! # let ran = grafos_std::host::mock_run(hello, b"abc");
//! # assert_eq!(ran.response.as_deref(), Some(r#""here""#));
//! ```
//!
//! A tasklet is a function with the attribute [`tasklet`]. It takes the input as `&[u8]`, or nothing (then no byte of
//! the input is copied; [`Tasklet::input`] reads pieces of it). It gives an [`Output`], or a `Result` whose error
//! becomes the text of a program error.
//!
//! Leases are taken by builders and given back when they are dropped: [`mem`], [`block`], [`cpu`]. Beside this crate
//! stand `grafos-collections`, `grafos-sync`, `grafos-rpc` and `grafos-stream`, for tasklets that share leased memory, and
//! `grafos-svc`, for services.
//!
//! The same code runs in a cell and on your machine. There, [`host`] has a mock in place of the cell, so that plain
//! `cargo test` tries tasklets. The rules that all this rests on are the tasklet ABI, `tasklet-profile-v0`.

// So that the attribute's code, which says `::grafos_std`, also works in this crate's own tests and examples.
extern crate self as grafos_std;

#[cfg(all(target_arch = "wasm32", feature = "allocator"))]
mod allocator;
pub mod atomic;
pub mod block;
pub mod cpu;
#[doc(hidden)]
pub mod entry;
pub mod error;
pub mod host;
pub mod json;
pub mod lease;
mod logging;
pub mod mem;
mod output;
mod running;
pub mod wire;

pub use error::{fail, FabricError, Failure};
pub use grafos_macros::{tasklet, ToJson, Wire};
pub use json::{Json, ToJson};
pub use lease::{LeaseRef, LeaseStatus};
#[doc(hidden)]
pub use logging::write_log;
pub use output::{Outcome, Output};
pub use running::{Context, Input, ServiceInstance, Tasklet};
pub use wire::Wire;
