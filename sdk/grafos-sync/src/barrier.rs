//! A place where tasklets wait for each other.

use grafos_std::mem::Ground;
use grafos_std::FabricError;

use crate::word::{LockError, Word};

/// Parties of one barrier, at most: each has a bit of the word.
pub const PARTIES_MAX: u32 = 32;
/// Times that a change is asked for whose answers are lost.
const ATTEMPTS: u32 = 64;

/// Lets nobody on before all parties have come; then again for the next time.
///
/// Each party has a number of its own, from 0 on. So one whose answer was lost, or that was stopped and runs again, may say
/// again that it has come: in one round it counts once.
#[derive(Debug)]
pub struct FabricBarrier {
    word: Word,
    parties: u32,
}

impl FabricBarrier {
    /// The barrier at `offset`, a multiple of eight, for so many, 1 to 32; it takes eight bytes. All who open it say the
    /// same number.
    pub fn new(ground: impl Into<Ground>, offset: u64, parties: u32) -> Result<FabricBarrier, FabricError> {
        if !(1..=PARTIES_MAX).contains(&parties) {
            return Err(FabricError::IoError(-22));
        }
        Ok(FabricBarrier { word: Word::new(ground, offset)?, parties })
    }

    /// Says that this party has come, and gives the round that it waits in.
    pub fn arrive(&self, party: u32) -> Result<u32, FabricError> {
        if party >= self.parties {
            return Err(FabricError::IoError(-22));
        }
        let own = 1 << party;
        let all = u32::MAX >> (PARTIES_MAX - self.parties);
        let (round, mut came) = self.word.read()?;
        let mut lost = 0;
        while came & own == 0 {
            let with_us = came | own;
            let next = if with_us == all { (round.wrapping_add(1), 0) } else { (round, with_us) };
            match self.word.change((round, came), next) {
                Err(FabricError::Disconnected) if lost < ATTEMPTS => lost += 1,
                answer => drop(answer?),
            }
            let now = self.word.read()?;
            if now.0 != round {
                break; // no round ends without this party
            }
            came = now.1;
        }
        Ok(round)
    }

    /// Whether all have come in that round.
    pub fn is_open(&self, round: u32) -> Result<bool, FabricError> {
        Ok(self.word.read()?.0 != round)
    }

    /// Comes, and waits for all, asking at most `max_attempts` times; then `Busy`.
    pub fn wait(&self, party: u32, max_attempts: u32) -> Result<(), LockError> {
        let round = self.arrive(party)?;
        for _ in 0..max_attempts.max(1) {
            if self.is_open(round)? {
                return Ok(());
            }
        }
        Err(LockError::Busy { generation: round })
    }
}
