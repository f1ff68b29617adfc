//! Leased memory: bytes of the cell's pool that a run holds beside its own (`grafos deploy run --mem`).
//!
//! A run holds its leases from its beginning on, and reaches them by slot. Who holds what was decided before; the
//! cell checks the lease at every call. A region is zero when its lease begins and gone when it ends.

use crate::error::FabricError;
use crate::host;

/// The memory of one lease.
#[derive(Clone, Copy, Debug)]
pub struct FabricMem {
    slot: u32,
    size_bytes: u64,
}

impl FabricMem {
    /// The run's first memory lease; `Unsupported` when it holds none.
    pub fn hello() -> Result<FabricMem, FabricError> {
        FabricMem::slot(0)
    }

    /// The memory lease in that slot, counted from 0.
    pub fn slot(slot: u32) -> Result<FabricMem, FabricError> {
        let size_bytes = FabricError::check_wide(host::fbmu_size(slot))?;
        Ok(FabricMem { slot, size_bytes })
    }

    /// Bytes leased.
    pub fn arena_size(&self) -> u64 {
        self.size_bytes
    }

    /// Copies `data` to `offset`, whole or not at all; `CapacityExceeded` when it does not fit.
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<(), FabricError> {
        FabricError::check(host::fbmu_write(self.slot, offset, data)).map(|_| ())
    }

    /// Fills `into` from `offset` on, whole or not at all; `CapacityExceeded` when there is less.
    pub fn read_into(&self, offset: u64, into: &mut [u8]) -> Result<(), FabricError> {
        FabricError::check(host::fbmu_read(self.slot, offset, into)).map(|_| ())
    }

    /// `length` bytes from `offset` on.
    pub fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, FabricError> {
        if length as u64 > self.size_bytes {
            return Err(FabricError::CapacityExceeded); // before so much is allocated
        }
        let mut data = vec![0; length];
        self.read_into(offset, &mut data)?;
        Ok(data)
    }
}
