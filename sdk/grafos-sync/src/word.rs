//! Words of two halves, changed in one step.

use std::fmt;

use grafos_std::mem::{FabricMem, Ground};
use grafos_std::{FabricError, Tasklet};

/// Times that a word is read to find out whether a change whose answer was lost was made.
const ATTEMPTS: u32 = 64;

/// A word of a structure: its upper half is a generation, its lower half what the structure makes of it.
#[derive(Debug)]
pub struct Word {
    ground: Ground,
    offset: u64,
}

/// What became of a change.
pub enum Changed {
    /// It was made.
    Done,
    /// It was not made: the word held something else.
    Other,
    /// The answer was lost, and the word holds neither what was there nor what was to be there.
    Unknown,
}

impl Word {
    /// The word at `offset`, a multiple of eight.
    pub fn new(ground: impl Into<Ground>, offset: u64) -> Result<Word, FabricError> {
        let ground = ground.into();
        if offset % 8 != 0 {
            return Err(FabricError::IoError(-22));
        }
        ground.mem().window(offset, 8)?;
        Ok(Word { ground, offset })
    }

    pub fn mem(&self) -> FabricMem {
        self.ground.mem()
    }

    /// Generation and value, asked for until the link lets the answer through. To add nothing is to read in one step.
    pub fn read(&self) -> Result<(u32, u32), FabricError> {
        let mut answer = self.mem().fetch_add(self.offset, 0);
        for _ in 1..ATTEMPTS {
            if answer != Err(FabricError::Disconnected) {
                break;
            }
            answer = self.mem().fetch_add(self.offset, 0);
        }
        answer.map(halves)
    }

    /// Makes `to` of `from`. When the answer is lost the error says so: it was made, or not.
    pub fn change(&self, from: (u32, u32), to: (u32, u32)) -> Result<Changed, FabricError> {
        let found = self.mem().compare_exchange(self.offset, whole(from), whole(to))?;
        Ok(if found == whole(from) { Changed::Done } else { Changed::Other })
    }

    /// As `change`, to a value that nobody else makes of this one: when the answer is lost, the word tells.
    pub fn change_to_own(&self, from: (u32, u32), to: (u32, u32)) -> Result<Changed, FabricError> {
        let mut is_first = true;
        for _ in 0..ATTEMPTS {
            match self.change(from, to) {
                Err(FabricError::Disconnected) => match self.read()? {
                    now if now == to => return Ok(Changed::Done),
                    now if now == from => {}
                    _ => return Ok(Changed::Unknown),
                },
                Ok(Changed::Other) if !is_first => return Ok(Changed::Unknown),
                answer => return answer,
            }
            is_first = false;
        }
        Err(FabricError::Disconnected)
    }
}

fn halves(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

fn whole((generation, value): (u32, u32)) -> u64 {
    u64::from(generation) << 32 | u64::from(value)
}

/// The holder as a word's lower half has it: never 0, which is nobody.
pub fn tag_of(holder_id: u128) -> u32 {
    let folded = holder_id.to_le_bytes().chunks(4).fold(0x811c_9dc5_u32, |hash, part| {
        part.iter().fold(hash, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
    });
    folded.max(1)
}

/// This run as a holder: a number that follows from its id, so no other run has it.
pub fn holder_of_run() -> u128 {
    let fold = |seed: u128, byte: &u8| (seed ^ u128::from(*byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013b);
    Tasklet::context().run_id.as_bytes().iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, fold)
}

/// Why a lock, or whatever is waited for, was not had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockError {
    /// Another one had it each time that was asked; `generation` is that of the last one seen.
    Busy { generation: u32 },
    /// The memory could not be asked, or says no more.
    Fabric(FabricError),
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Busy { .. } => f.write_str("lock_busy"),
            LockError::Fabric(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LockError {}

impl From<FabricError> for LockError {
    fn from(error: FabricError) -> LockError {
        LockError::Fabric(error)
    }
}
