//! Requests and responses between two tasklets, over memory that they share.
//!
//! ```
//! use grafos_rpc::{RpcClient, RpcError, RpcHandler, RpcServer, ARENA_BYTES};
//! use grafos_std::host::{MockFabric, MockTasklet};
//! use grafos_std::mem::{MemBuilder, MemLease};
//! use grafos_std::{Failure, Json, LeaseRef, Output};
//!
//! const REVERSE: u32 = 1;
//!
//! struct Reversing;
//!
//! impl RpcHandler for Reversing {
//!     fn handle(&self, method_id: u32, request: &[u8]) -> Result<Vec<u8>, RpcError> {
//!         match method_id {
//!             REVERSE => Ok(request.iter().rev().copied().collect()),
//!             _ => Err(RpcError::MethodNotSupported),
//!         }
//!     }
//! }
//!
//! /// Both are given the reference of one region.
//! fn arena(input: &[u8]) -> Result<MemLease, Failure> {
//!     Ok(MemBuilder::new().min_bytes(ARENA_BYTES).attach(&LeaseRef::from_json(&Json::parse(input)?)?)?)
//! }
//!
//! #[grafos_std::tasklet]
//! fn server(input: &[u8]) -> Result<Output, Failure> {
//!     let mut server = RpcServer::new(arena(input)?)?;
//!     while !server.poll_once(&Reversing)? {}
//!     Ok(Output::empty())
//! }
//!
//! #[grafos_std::tasklet]
//! fn client(input: &[u8]) -> Result<Output, Failure> {
//!     let mut client = RpcClient::new(arena(input)?)?;
//!     Ok(Output::bytes(client.call(REVERSE, b"abc")?))
//! }
//!
//! let fabric = MockFabric::new();
//! let region = fabric.reference(fabric.lease_memory(ARENA_BYTES));
//! let both = [MockTasklet::new(server), MockTasklet::new(client)].map(|one| one.input(region.as_bytes()));
//! assert_eq!(fabric.run_together(7, both.into())[1].output, b"cba");
//! ```
//!
//! An arena of 64 KiB has the request at its beginning and the response at 32,768: an id, a method, a status and a
//! payload of at most 1,024 bytes each. One client and one server use it; more clients take an arena each. The server
//! handles a request once, also when the link loses answers; a server that is stopped while it handles one leaves it
//! unanswered, and the client learns that from `NoAnswer`.

mod arena;
mod client;
mod error;
mod server;

pub use arena::{ARENA_BYTES, PAYLOAD_BYTES_MAX};
pub use client::RpcClient;
pub use error::RpcError;
pub use server::{RpcHandler, RpcServer};
