//! Leased block storage, by slot as [`crate::mem`] has it.

use crate::error::FabricError;
use crate::host;

/// Bytes of a block.
pub const BLOCK_BYTES: usize = 512;

/// The blocks of one lease.
#[derive(Clone, Copy, Debug)]
pub struct FabricBlock {
    slot: u32,
    num_blocks: u64,
}

impl FabricBlock {
    /// The run's first block lease; `Unsupported` when it holds none.
    pub fn hello() -> Result<FabricBlock, FabricError> {
        FabricBlock::slot(0)
    }

    /// The block lease in that slot, counted from 0.
    pub fn slot(slot: u32) -> Result<FabricBlock, FabricError> {
        let num_blocks = FabricError::check_wide(host::fbbu_get_num_blocks(slot))?;
        Ok(FabricBlock { slot, num_blocks })
    }

    /// Blocks leased.
    pub fn num_blocks(&self) -> u64 {
        self.num_blocks
    }

    /// The block at `lba`, counted from 0.
    pub fn read_block(&self, lba: u64) -> Result<[u8; BLOCK_BYTES], FabricError> {
        let mut block = [0; BLOCK_BYTES];
        FabricError::check(host::fbbu_read_block(self.slot, lba, &mut block))?;
        Ok(block)
    }

    /// Writes the block at `lba`.
    pub fn write_block(&self, lba: u64, block: &[u8; BLOCK_BYTES]) -> Result<(), FabricError> {
        FabricError::check(host::fbbu_write_block(self.slot, lba, block)).map(|_| ())
    }
}
