//! A lock, and the value that it guards.

use grafos_std::mem::Ground;
use grafos_std::wire::{from_bytes, to_bytes, DECODE_FAILED, ENCODE_FAILED};
use grafos_std::{FabricError, Wire};

use crate::word::{tag_of, Changed, LockError, Word};

/// Behind the word: the length of the value, and the value.
const LENGTH_AT: u64 = 8;
const LENGTH_BYTES: usize = 4;
/// Bytes that a value may grow to beyond those of the first one: numbers take fewer bytes when they are small.
const ROOM_BYTES: usize = 16;
/// Times that a read or a write of the value is asked for; whoever holds the lock is the only one who writes it.
const ATTEMPTS: u32 = 64;
/// Nobody: what the lower half of the word says of a lock that is free.
const FREE: u32 = 0;

/// A value in leased memory that one tasklet at a time reads and writes.
///
/// It takes 12 bytes at its offset, and for the value 16 more than the first one has.
#[derive(Debug)]
pub struct FabricMutex<T> {
    word: Word,
    offset: u64,
    room: usize,
    first: T,
}

impl<T: Wire + Copy> FabricMutex<T> {
    /// The lock at `base_offset`, a multiple of eight. Until somebody sets another value it guards `value`, so all who open
    /// it say the same one.
    pub fn new(ground: impl Into<Ground>, base_offset: u64, value: T) -> Result<FabricMutex<T>, FabricError> {
        let word = Word::new(ground, base_offset)?;
        let room = to_bytes(&value).len() + ROOM_BYTES;
        word.mem().window(base_offset, LENGTH_AT + (LENGTH_BYTES + room) as u64)?;
        Ok(FabricMutex { word, offset: base_offset, room, first: value })
    }

    /// Length and value in one write.
    fn write_value(&self, value: &T) -> Result<(), FabricError> {
        let bytes = to_bytes(value);
        if bytes.len() > self.room {
            return Err(ENCODE_FAILED);
        }
        let all = [&(bytes.len() as u32).to_le_bytes(), bytes.as_slice()].concat();
        self.word.mem().persistent(ATTEMPTS).write(self.offset + LENGTH_AT, &all)
    }

    fn read_value(&self) -> Result<T, FabricError> {
        let all = self.word.mem().persistent(ATTEMPTS).read(self.offset + LENGTH_AT, LENGTH_BYTES + self.room)?;
        let (length, rest) = all.split_first_chunk().ok_or(DECODE_FAILED)?;
        match u32::from_le_bytes(*length) {
            0 => Ok(self.first), // nobody has set one
            length => from_bytes(rest.get(..length as usize).ok_or(DECODE_FAILED)?),
        }
    }

    /// Takes the lock, asking at most `max_attempts` times; `Busy` when another one has it each time.
    ///
    /// `holder_id` is a number that no other holder has at the same time: [`holder_of_run`](crate::holder_of_run) for a
    /// run that takes each lock once at a time.
    pub fn lock(&self, holder_id: u128, max_attempts: u32) -> Result<MutexGuard<'_, T>, LockError> {
        let mut seen = 0;
        for _ in 0..max_attempts.max(1) {
            let (generation, tag) = self.word.read()?;
            seen = generation;
            if tag != FREE {
                continue;
            }
            if let Some(guard) = self.take((generation, tag), holder_id)? {
                return Ok(guard);
            }
        }
        Err(LockError::Busy { generation: seen })
    }

    /// Takes the lock from the holder of that generation, which is then fenced off. `Busy` when another one has it by now.
    ///
    /// It is for a holder that is known to have ended. One that still runs learns it at its next `get` or `set`; what it
    /// writes just then may still reach the value, but nothing that checks its generation.
    pub fn take_over(&self, generation: u32, holder_id: u128) -> Result<MutexGuard<'_, T>, LockError> {
        let seen = self.word.read()?;
        if seen.0 != generation {
            return Err(LockError::Busy { generation: seen.0 });
        }
        self.take(seen, holder_id)?.ok_or(LockError::Busy { generation })
    }

    /// The word after this one, with this holder in it, is written by nobody else.
    fn take(&self, seen: (u32, u32), holder_id: u128) -> Result<Option<MutexGuard<'_, T>>, FabricError> {
        let generation = seen.0.checked_add(1).ok_or(FabricError::CapacityExceeded)?;
        let held = (generation, tag_of(holder_id));
        Ok(match self.word.change_to_own(seen, held)? {
            Changed::Done => Some(MutexGuard { mutex: self, held, is_over: false }),
            Changed::Other | Changed::Unknown => None, // had it been made, the word would still say so
        })
    }

    /// How often it was taken: the generation of its last holder.
    pub fn generation(&self) -> Result<u32, FabricError> {
        Ok(self.word.read()?.0)
    }
}

/// A lock that is held; it is given back when this is dropped.
#[derive(Debug)]
pub struct MutexGuard<'a, T: Wire + Copy> {
    mutex: &'a FabricMutex<T>,
    held: (u32, u32),
    is_over: bool,
}

impl<T: Wire + Copy> MutexGuard<'_, T> {
    /// This holder's number: larger than that of every holder before.
    pub fn generation(&self) -> u32 {
        self.held.0
    }

    /// `Fenced` when the lock was taken over.
    pub fn check(&self) -> Result<(), FabricError> {
        if self.mutex.word.read()? == self.held {
            Ok(())
        } else {
            Err(FabricError::Fenced)
        }
    }

    /// The value; `Fenced` when the lock was taken over.
    pub fn get(&self) -> Result<T, FabricError> {
        let value = self.mutex.read_value();
        self.check()?; // afterwards: what was read before it is whole
        value
    }

    /// Writes the value; `Fenced` when the lock was taken over, `ENCODE_FAILED` when it is longer than there is room for.
    pub fn set(&mut self, value: T) -> Result<(), FabricError> {
        self.check()?;
        self.mutex.write_value(&value)
    }

    /// Gives the lock back. `Fenced` when it was taken over; `Disconnected` when the answer was lost and another one has it
    /// by now, who took what was given back, or took it over.
    pub fn unlock(mut self) -> Result<(), FabricError> {
        self.give_back()
    }

    fn give_back(&mut self) -> Result<(), FabricError> {
        self.is_over = true;
        match self.mutex.word.change_to_own(self.held, (self.held.0, FREE))? {
            Changed::Done => Ok(()),
            Changed::Other => Err(FabricError::Fenced),
            Changed::Unknown => Err(FabricError::Disconnected),
        }
    }
}

impl<T: Wire + Copy> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        if !self.is_over {
            let _ = self.give_back(); // who wants to know calls `unlock`
        }
    }
}
