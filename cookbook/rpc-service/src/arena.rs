//! What both sides have to agree on: where the arena is, and what the methods are called.

use grafos_rpc::ARENA_BYTES;
use grafos_std::mem::{MemBuilder, MemLease};
use grafos_std::{fail, Failure, Json, LeaseRef};

/// Answers `pong`.
pub const PING: u32 = 1;
/// Answers the request.
pub const ECHO: u32 = 2;
/// Answers the request's bytes from the last to the first.
pub const REVERSE: u32 = 3;
/// Answers `bye`, and ends the server.
pub const STOP: u32 = 4;
/// Times that a step is asked for when its answer is lost.
const ATTEMPTS: u32 = 64;

/// The region that the input names, with room for an arena.
pub fn open(input: &[u8]) -> Result<MemLease, Failure> {
    let Ok(reference) = Json::parse(input) else { return fail("invalid_input") };
    if reference.get("lease_id").is_none() {
        return fail("missing_region");
    }
    let region = MemBuilder::new().min_bytes(ARENA_BYTES).persistent(ATTEMPTS);
    Ok(region.attach(&LeaseRef::from_json(&reference)?)?)
}
