//! A place where tasklets wait for each other.

use grafos_std::mem::Ground;
use grafos_std::FabricError;

use crate::word::{Changed, LockError, Word};

/// Lets nobody on before so many have come; then again for the next time.
#[derive(Debug)]
pub struct FabricBarrier {
    word: Word,
    parties: u32,
}

impl FabricBarrier {
    /// The barrier at `offset`, a multiple of eight, for so many; it takes eight bytes. All who open it say the same number.
    pub fn new(ground: impl Into<Ground>, offset: u64, parties: u32) -> Result<FabricBarrier, FabricError> {
        if parties == 0 {
            return Err(FabricError::IoError(-22));
        }
        Ok(FabricBarrier { word: Word::new(ground, offset)?, parties })
    }

    /// Says that this one has come, and gives the round that it waits in. After `Disconnected` it may have been counted.
    pub fn arrive(&self) -> Result<u32, FabricError> {
        loop {
            let (round, came) = self.word.read()?;
            let next = if came + 1 == self.parties { (round.wrapping_add(1), 0) } else { (round, came + 1) };
            if let Changed::Done = self.word.change((round, came), next)? {
                return Ok(round);
            }
        }
    }

    /// Whether all have come in that round.
    pub fn is_open(&self, round: u32) -> Result<bool, FabricError> {
        Ok(self.word.read()?.0 != round)
    }

    /// Comes, and waits for all, asking at most `max_attempts` times; then `Busy`.
    pub fn wait(&self, max_attempts: u32) -> Result<(), LockError> {
        let round = self.arrive()?;
        for _ in 0..max_attempts.max(1) {
            if self.is_open(round)? {
                return Ok(());
            }
        }
        Err(LockError::Busy { generation: round })
    }
}
