//! Something that is done once, by whoever comes first.

use grafos_std::mem::Ground;
use grafos_std::FabricError;

use crate::word::{tag_of, Changed, LockError, Word};

/// What the lower half of the word says when nobody is at it; the generation says whether it is done.
const NOBODY: u32 = 0;
/// The generation of what is done.
const DONE: u32 = 1;

/// Work that one tasklet does for all.
#[derive(Debug)]
pub struct FabricOnce {
    word: Word,
}

impl FabricOnce {
    /// The once at `offset`, a multiple of eight; it takes eight bytes.
    pub fn new(ground: impl Into<Ground>, offset: u64) -> Result<FabricOnce, FabricError> {
        Ok(FabricOnce { word: Word::new(ground, offset)? })
    }

    /// Whether it is done.
    pub fn is_done(&self) -> Result<bool, FabricError> {
        Ok(self.word.read()?.0 == DONE)
    }

    /// Does the work unless it is done, and says whether it was this call that did it. While another holder is at it, asks
    /// at most `max_attempts` times, and then answers `Busy`. Work that fails is not done: the next one to come may try.
    ///
    /// A holder that comes again while the word says that it is at it was stopped before, and does the work anew: the id
    /// is one that only this holder has, and it is at it in one place.
    pub fn call_once<E: From<LockError>>(
        &self,
        holder_id: u128,
        max_attempts: u32,
        work: impl FnOnce() -> Result<(), E>,
    ) -> Result<bool, E> {
        let own = (0, tag_of(holder_id));
        let lost = |error| E::from(LockError::Fabric(error));
        for _ in 0..max_attempts.max(1) {
            let seen = self.word.read().map_err(lost)?;
            if seen.0 == DONE {
                return Ok(false);
            }
            let is_ours = seen == own
                || seen.1 == NOBODY && matches!(self.word.change_to_own(seen, own).map_err(lost)?, Changed::Done);
            if is_ours {
                return self.do_it(own, work);
            }
        }
        Err(LockError::Busy { generation: 0 }.into())
    }

    fn do_it<E: From<LockError>>(&self, own: (u32, u32), work: impl FnOnce() -> Result<(), E>) -> Result<bool, E> {
        let done = work();
        let after = if done.is_ok() { (DONE, NOBODY) } else { (0, NOBODY) };
        let left = self.word.change_to_own(own, after).map_err(|error| E::from(LockError::Fabric(error)));
        done?;
        left.map(|_| true)
    }
}
