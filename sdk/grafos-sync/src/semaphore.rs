//! So many at a time.

use grafos_std::mem::Ground;
use grafos_std::FabricError;

use crate::word::{Changed, LockError, Word};

/// Permits that tasklets take and give back.
///
/// `fence` makes all permits anew, under the next generation: for when a holder has ended without giving its own back.
/// What others give back of an older generation is refused then.
#[derive(Debug)]
pub struct FabricSemaphore {
    word: Word,
    permits: u32,
}

/// Permits that were taken. They are given back once:
///
/// ```compile_fail
/// fn twice(semaphore: &grafos_sync::FabricSemaphore, permits: grafos_sync::Permits) {
///     let _ = semaphore.release(permits);
///     let _ = semaphore.release(permits); // these may be another one's by now
/// }
/// ```
#[derive(Debug, PartialEq, Eq)]
#[must_use = "permits that are not given back are missing until the next fence"]
pub struct Permits {
    count: u32,
    generation: u32,
}

impl FabricSemaphore {
    /// The semaphore at `offset`, a multiple of eight, with so many permits; it takes eight bytes. All who open it say the
    /// same number.
    pub fn new(ground: impl Into<Ground>, offset: u64, permits: u32) -> Result<FabricSemaphore, FabricError> {
        Ok(FabricSemaphore { word: Word::new(ground, offset)?, permits })
    }

    /// Permits that are free. The word counts those that are taken, so that zeroed memory is a semaphore.
    pub fn available(&self) -> Result<u32, FabricError> {
        Ok(self.permits.saturating_sub(self.word.read()?.1))
    }

    /// Takes so many permits at once, asking at most `max_attempts` times. `Busy` when there were never enough,
    /// `CapacityExceeded` when there never can be. After `Disconnected` they were taken, or not; `fence` sets that right.
    pub fn acquire(&self, count: u32, max_attempts: u32) -> Result<Permits, LockError> {
        if count > self.permits {
            return Err(FabricError::CapacityExceeded.into());
        }
        let mut generation = 0;
        for _ in 0..max_attempts.max(1) {
            let seen = self.word.read()?;
            generation = seen.0;
            let taken = seen.1.saturating_add(count);
            if taken > self.permits {
                continue;
            }
            if let Changed::Done = self.word.change(seen, (seen.0, taken))? {
                return Ok(Permits { count, generation });
            }
        }
        Err(LockError::Busy { generation })
    }

    /// Gives permits back; `Fenced` when they are of an older generation. After `Disconnected` they were given back, or
    /// not; `fence` sets that right.
    pub fn release(&self, permits: Permits) -> Result<(), FabricError> {
        loop {
            let seen = self.word.read()?;
            if seen.0 != permits.generation {
                return Err(FabricError::Fenced);
            }
            let left = seen.1.saturating_sub(permits.count);
            if let Changed::Done = self.word.change(seen, (seen.0, left))? {
                return Ok(());
            }
        }
    }

    /// Makes all permits free under the next generation, and gives its number.
    pub fn fence(&self) -> Result<u32, FabricError> {
        loop {
            let seen = self.word.read()?;
            let next = seen.0.checked_add(1).ok_or(FabricError::CapacityExceeded)?;
            if let Changed::Done = self.word.change(seen, (next, 0))? {
                return Ok(next);
            }
        }
    }
}
