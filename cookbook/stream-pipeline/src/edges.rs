//! Two edges in one region, a half of it each.

use grafos_std::mem::{FabricMem, MemBuilder, MemLease};
use grafos_std::{fail, FabricError, Failure, Json, LeaseRef};
use grafos_stream::{Receiver, Sender, StreamError};

/// Values that go together.
pub const CHUNK: usize = 4;
/// Of an edge; it holds a chunk less.
const SLOTS: u64 = 16;
/// A chunk of four numbers, and what the edge writes beside it.
const SLOT_BYTES: u64 = 40;
/// The stages run one after the other, so none waits for another one; a second look passes over a chunk that a stage had
/// dealt with when it was stopped.
const WAITS: u32 = 2;

/// Times that a step is asked for when its answer is lost.
const ATTEMPTS: u32 = 64;

/// Which of the two edges.
#[derive(Clone, Copy)]
pub enum Edge {
    SourceToDouble = 0,
    DoubleToSink = 1,
}

/// The region of a run.
pub struct Edges(MemLease);

impl Edges {
    /// Of the reference in the member `region` of the input.
    pub fn open(input: &Json) -> Result<Edges, Failure> {
        let Some(reference) = input.get("region").filter(|region| region.get("lease_id").is_some()) else {
            return fail("missing_region");
        };
        Ok(Edges(MemBuilder::new().persistent(ATTEMPTS).attach(&LeaseRef::from_json(reference)?)?))
    }

    /// The region's name, for the next stage.
    pub fn reference(&self) -> Result<LeaseRef, FabricError> {
        self.0.reference()
    }

    fn half(&self, edge: Edge) -> Result<FabricMem, FabricError> {
        let bytes = self.0.mem().arena_size() / 2;
        self.0.mem().window(edge as u64 * bytes, bytes)
    }

    /// The end into which chunks go.
    pub fn sender(&self, edge: Edge) -> Result<Sender<Vec<u32>>, StreamError> {
        Ok(Sender::new(self.half(edge)?, SLOTS, SLOT_BYTES)?.waits(WAITS))
    }

    /// The end from which they come.
    pub fn receiver(&self, edge: Edge) -> Result<Receiver<Vec<u32>>, StreamError> {
        Ok(Receiver::new(self.half(edge)?, SLOTS, SLOT_BYTES)?.waits(WAITS))
    }
}
