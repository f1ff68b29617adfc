//! Leased block storage, by slot and with builders as [`crate::mem`] has them.

use crate::error::FabricError;
use crate::host;
use crate::lease::{Claim, Kind, LeaseStatus};

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

/// Takes one of the run's block leases, as [`crate::mem::MemBuilder`] does for memory.
#[derive(Clone, Debug, Default)]
pub struct BlockBuilder {
    min_blocks: u64,
}

impl BlockBuilder {
    pub fn new() -> BlockBuilder {
        BlockBuilder::default()
    }

    /// The fewest blocks that will do.
    pub fn min_blocks(mut self, blocks: u64) -> BlockBuilder {
        self.min_blocks = blocks;
        self
    }

    /// How long the lease is wanted, in seconds; decided where the run was admitted, so this changes nothing.
    pub fn lease_secs(self, _seconds: u64) -> BlockBuilder {
        self
    }

    /// The next lease that fits; `CapacityExceeded` when there is none, or the error of one that has ended.
    pub fn acquire(self) -> Result<BlockLease, FabricError> {
        let size_of = |slot| FabricBlock::slot(slot).map(|block| block.num_blocks);
        let claim = Claim::of_next(Kind::Blocks, self.min_blocks, size_of)?;
        Ok(BlockLease { block: FabricBlock::slot(claim.slot)?, _claim: claim })
    }
}

/// A block lease that is taken: no other `acquire` gets it until this is dropped.
#[derive(Debug)]
pub struct BlockLease {
    block: FabricBlock,
    _claim: Claim,
}

impl BlockLease {
    /// The blocks.
    pub fn block(&self) -> FabricBlock {
        self.block
    }

    /// What has become of the lease.
    pub fn status(&self) -> Result<LeaseStatus, FabricError> {
        LeaseStatus::of(FabricBlock::slot(self.block.slot))
    }
}
