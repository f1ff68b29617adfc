//! What lies in the region: a lock, and behind it the map from words to how often they were seen.

use grafos_collections::FabricHashMap;
use grafos_std::mem::{MemBuilder, MemLease};
use grafos_std::{fail, FabricError, Failure, Json, LeaseRef};
use grafos_sync::{holder_of_run, FabricMutex, MutexGuard};

/// Bytes of the longest word, with the one that says how long it is.
const WORD_BYTES: u64 = 33;
/// A count takes 10 bytes at most.
const COUNT_BYTES: u64 = 10;
const LOCK_AT: u64 = 0;
/// The lock, and the number of texts that it guards, take the bytes before it.
const MAP_AT: u64 = 64;
/// Times that a step is asked for when its answer is lost; one tasklet at a time writes the map.
const ATTEMPTS: u32 = 64;
/// Times that a tasklet asks for the lock, each for some hundred units of fuel.
const PATIENCE: u32 = 20_000;

/// The count that all tasklets work on.
pub struct Count {
    region: MemLease,
    lock: FabricMutex<u32>,
    words: FabricHashMap<String, u64>,
}

impl Count {
    /// The count in the region of that reference; in a new region it is empty.
    pub fn open(region: Option<&Json>) -> Result<Count, Failure> {
        let Some(reference) = region.filter(|region| region.get("lease_id").is_some()) else {
            return fail("missing_region");
        };
        let region = MemBuilder::new().persistent(ATTEMPTS).attach(&LeaseRef::from_json(reference)?)?;
        let room = region.mem().arena_size().saturating_sub(MAP_AT);
        let words = FabricHashMap::new(region.mem().window(MAP_AT, room)?, WORD_BYTES, COUNT_BYTES)?;
        Ok(Count { lock: FabricMutex::new(&region, LOCK_AT, 0)?, words, region })
    }

    /// The region's name, for the next tasklet.
    pub fn reference(&self) -> Result<LeaseRef, FabricError> {
        self.region.reference()
    }

    /// Adds to what was seen of a word, and says how much that was before.
    pub fn add(&mut self, word: &str, times: u64) -> Result<u64, Failure> {
        let guard = self.lock.lock(holder_of_run(), PATIENCE)?;
        let before = add_to(&mut self.words, word, times)?;
        given_back(guard)?;
        Ok(before)
    }

    /// Says that one more text is counted, and how many are.
    pub fn text_done(&self) -> Result<u32, Failure> {
        let mut guard = self.lock.lock(holder_of_run(), PATIENCE)?;
        let texts = guard.get()? + 1;
        guard.set(texts)?;
        given_back(guard)?;
        Ok(texts)
    }

    /// Texts that are counted.
    pub fn texts(&self) -> Result<u32, Failure> {
        Ok(self.lock.lock(holder_of_run(), PATIENCE)?.get()?)
    }

    /// Every word with its count, the most frequent first, else by the alphabet.
    pub fn all(&self) -> Result<Vec<(String, u64)>, FabricError> {
        let mut all = self.words.iter().collect::<Result<Vec<_>, _>>()?;
        all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Ok(all)
    }
}

fn given_back(guard: MutexGuard<'_, u32>) -> Result<(), FabricError> {
    match guard.unlock() {
        // The answer was lost, and another tasklet has the lock by now: so it was given back.
        Err(FabricError::Disconnected) => Ok(()),
        answer => answer,
    }
}

/// Reads, adds and writes; right only for who holds the lock.
pub(crate) fn add_to(words: &mut FabricHashMap<String, u64>, word: &str, times: u64) -> Result<u64, Failure> {
    if word.len() as u64 >= WORD_BYTES {
        return fail("word_too_long");
    }
    let before = words.get(&word.to_owned())?.unwrap_or(0);
    let Some(sum) = before.checked_add(times) else { return fail("counter_overflow") };
    words.insert(&word.to_owned(), &sum)?;
    Ok(before)
}

#[cfg(test)]
mod tests {
    use grafos_std::host;
    use grafos_std::mem::FabricMem;

    use super::*;

    #[test]
    fn a_count_that_would_be_too_large_stays_as_it_is() {
        host::reset_mock();
        host::mock_set_fbmu_arena_size(4096);
        let mut words = FabricHashMap::new(FabricMem::hello().unwrap(), WORD_BYTES, COUNT_BYTES).unwrap();
        assert_eq!(add_to(&mut words, "lake", u64::MAX - 1), Ok(0));
        assert_eq!(add_to(&mut words, "lake", 1), Ok(u64::MAX - 1));
        assert_eq!(add_to(&mut words, "lake", 1).unwrap_err().text(), "counter_overflow");
        assert_eq!(words.get(&"lake".to_owned()), Ok(Some(u64::MAX)));
    }
}
