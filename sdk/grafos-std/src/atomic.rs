//! A number in leased memory that several runs change without a lock.

use crate::error::FabricError;
use crate::mem::{FabricMem, Ground};

/// Eight bytes of leased memory as a number; each of its calls is one step at the cell that holds them.
#[derive(Debug)]
pub struct FabricAtomicU64 {
    ground: Ground,
    offset: u64,
}

impl FabricAtomicU64 {
    /// The number at `offset`, a multiple of eight. What it holds is left as it is: 0 when the lease began.
    pub fn new(ground: impl Into<Ground>, offset: u64) -> Result<FabricAtomicU64, FabricError> {
        let ground = ground.into();
        if offset % 8 != 0 {
            return Err(FabricError::IoError(-22));
        }
        ground.mem().window(offset, 8)?;
        Ok(FabricAtomicU64 { ground, offset })
    }

    fn mem(&self) -> FabricMem {
        self.ground.mem()
    }

    /// What it holds.
    pub fn load(&self) -> Result<u64, FabricError> {
        self.mem().fetch_add(self.offset, 0)
    }

    /// Puts `new` into it if it holds `expected`. `Ok` when that was so, `Err` when it was not, each with what it held.
    pub fn compare_exchange(&self, expected: u64, new: u64) -> Result<Result<u64, u64>, FabricError> {
        let found = self.mem().compare_exchange(self.offset, expected, new)?;
        Ok(if found == expected { Ok(found) } else { Err(found) })
    }

    /// Adds to it, wrapping, and gives what it held.
    pub fn fetch_add(&self, delta: u64) -> Result<u64, FabricError> {
        self.mem().fetch_add(self.offset, delta)
    }

    /// Changes it by what `change` makes of what it holds, until nobody came between or `change` gives `None`. Gives
    /// what it held before, or, after `None`, what it holds.
    pub fn fetch_update(&self, mut change: impl FnMut(u64) -> Option<u64>) -> Result<Result<u64, u64>, FabricError> {
        let mut seen = self.load()?;
        while let Some(new) = change(seen) {
            match self.compare_exchange(seen, new)? {
                Ok(before) => return Ok(Ok(before)),
                Err(now) => seen = now,
            }
        }
        Ok(Err(seen))
    }
}
