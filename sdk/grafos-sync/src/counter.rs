//! A counter that the fenced off cannot change.

use grafos_std::mem::Ground;
use grafos_std::FabricError;

use crate::word::{Changed, Word};

/// A counter of 32 bits, and the largest generation that has changed it.
///
/// Who adds says its generation, that of a lock or a leadership; one that is smaller than the largest seen is refused, in
/// the step that would have added. With generation 0 for all it is a counter like any other; one of 64 bits is
/// `FabricAtomicU64` of `grafos-std`.
#[derive(Debug)]
pub struct FabricCounter {
    word: Word,
}

impl FabricCounter {
    /// The counter at `offset`, a multiple of eight; it takes eight bytes, and is 0 where they are.
    pub fn new(ground: impl Into<Ground>, offset: u64) -> Result<FabricCounter, FabricError> {
        Ok(FabricCounter { word: Word::new(ground, offset)? })
    }

    /// What it counts.
    pub fn get(&self) -> Result<u32, FabricError> {
        Ok(self.word.read()?.1)
    }

    /// The largest generation that has changed it.
    pub fn generation(&self) -> Result<u32, FabricError> {
        Ok(self.word.read()?.0)
    }

    /// Adds, and gives the sum. `Fenced` when a larger generation was here before, `CapacityExceeded` when the sum would
    /// not fit. After `Disconnected` it was added once, or not at all.
    pub fn add(&self, generation: u32, delta: i32) -> Result<u32, FabricError> {
        loop {
            let seen = self.word.read()?;
            if seen.0 > generation {
                return Err(FabricError::Fenced);
            }
            let sum = seen.1.checked_add_signed(delta).ok_or(FabricError::CapacityExceeded)?;
            if let Changed::Done = self.word.change(seen, (generation, sum))? {
                return Ok(sum);
            }
        }
    }

    /// Refuses all generations that are smaller from now on, and gives what is counted.
    pub fn fence(&self, generation: u32) -> Result<u32, FabricError> {
        self.add(generation, 0)
    }
}
