//! Leased memory: bytes of a cell's pool that a run holds beside its own (`grafos deploy run --mem`), and regions that a
//! tenant leases for itself, which many runs share.
//!
//! ```
//! use grafos_std::mem::MemBuilder;
//! use grafos_std::{Failure, Json, LeaseRef, Output};
//!
//! /// Its input is the reference of a region. It notes there that it came, and names the region to the next one.
//! #[grafos_std::tasklet]
//! fn visit(input: &[u8]) -> Result<Output, Failure> {
//!     let scratch = MemBuilder::new().min_bytes(64).acquire()?; // of this run alone
//!     scratch.mem().write(0, b"whatever it likes")?;
//!     let region = MemBuilder::new().attach(&LeaseRef::from_json(&Json::parse(input)?)?)?;
//!     let visitors = region.mem().fetch_add(0, 1)? + 1;
//!     Ok(Output::json(region.reference()?).with_bytes(visitors.to_string()))
//! }
//!
//! use grafos_std::host::{MockFabric, MockTasklet};
//!
//! let fabric = MockFabric::new();
//! let (own, shared) = (fabric.lease_memory(64), fabric.lease_memory(8));
//! let mut reference = fabric.reference(shared);
//! for number in ["1", "2", "3"] {
//!     let ran = fabric.run(MockTasklet::new(visit).leases(&[own]).input(reference.as_bytes()));
//!     assert_eq!(ran.output, number.as_bytes());
//!     reference = ran.response.unwrap();
//! }
//! ```
//!
//! **What a run holds was decided before it began.** Nothing is allocated from within a run: `acquire` takes the next
//! of the run's leases that nobody took yet and that is large enough, and answers `CapacityExceeded` when there is
//! none. Dropping the lease gives it back to the run, not to the cell. The cell checks the lease at every call: after
//! its end each call answers `LeaseExpired`, after it was taken back `Revoked`, and never old bytes.
//!
//! **A shared region** is attached to by its reference, on whatever cell it lies. A call moves all of its bytes or none,
//! at most [`MOVE_BYTES_MAX`]; all calls of all runs take effect one after the other, where the region is. `Disconnected`
//! after a call that changes something means that it was done once, or will not be, or will have been before this run's next call
//! there gets another answer: read what is there before you do it again.

use crate::error::FabricError;
use crate::host;
use crate::lease::{Claim, Kind, LeaseRef, LeaseStatus};

/// Bytes that one call on a shared region moves, at most.
pub const MOVE_BYTES_MAX: usize = 64 * 1024;

/// Memory of one lease, or a window of it. It is a handle: a copy of it is the same memory.
#[derive(Clone, Copy, Debug)]
pub struct FabricMem {
    slot: u32,
    base: u64,
    size_bytes: u64,
    attempts: u32,
}

impl FabricMem {
    /// The run's first memory lease; `Unsupported` when it holds none.
    pub fn hello() -> Result<FabricMem, FabricError> {
        FabricMem::slot(0)
    }

    /// The memory lease in that slot, counted from 0.
    pub fn slot(slot: u32) -> Result<FabricMem, FabricError> {
        let size_bytes = FabricError::check_wide(host::fbmu_size(slot))?;
        Ok(FabricMem { slot, base: 0, size_bytes, attempts: 1 })
    }

    /// Bytes leased, or those of the window.
    pub fn arena_size(&self) -> u64 {
        self.size_bytes
    }

    /// The `length` bytes from `offset` on as a memory of their own; `CapacityExceeded` when there are fewer.
    pub fn window(&self, offset: u64, length: u64) -> Result<FabricMem, FabricError> {
        Ok(FabricMem { base: self.at(offset, length)?, size_bytes: length, ..*self })
    }

    /// The same memory, whose reads and writes are asked again when they answer `Disconnected`, `attempts` times in all.
    ///
    /// A write that is repeated may undo what another run wrote there in between, so this is for memory that one run
    /// writes at a time: its own, or what a lock guards. `compare_exchange` and `fetch_add` are never repeated.
    pub fn persistent(&self, attempts: u32) -> FabricMem {
        FabricMem { attempts: attempts.max(1), ..*self }
    }

    /// Copies `data` to `offset`, whole or not at all; `CapacityExceeded` when it does not fit.
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<(), FabricError> {
        let at = self.at(offset, data.len() as u64)?;
        self.insist(|| host::fbmu_write(self.slot, at, data))
    }

    /// Fills `into` from `offset` on, whole or not at all; `CapacityExceeded` when there is less.
    pub fn read_into(&self, offset: u64, into: &mut [u8]) -> Result<(), FabricError> {
        let at = self.at(offset, into.len() as u64)?;
        self.insist(|| host::fbmu_read(self.slot, at, into))
    }

    /// `length` bytes from `offset` on.
    pub fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, FabricError> {
        self.at(offset, length as u64)?; // before so much is allocated
        let mut data = vec![0; length];
        self.read_into(offset, &mut data)?;
        Ok(data)
    }

    /// The number in the eight bytes at `offset`, little endian.
    pub fn read_u64(&self, offset: u64) -> Result<u64, FabricError> {
        let mut bytes = [0; 8];
        self.read_into(offset, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Writes a number to the eight bytes at `offset`, little endian.
    pub fn write_u64(&self, offset: u64, value: u64) -> Result<(), FabricError> {
        self.write(offset, &value.to_le_bytes())
    }

    /// Puts `new` into the eight bytes at `offset` if they hold `expected`, in one step at the cell that holds them, and
    /// gives what they held. `offset` is a multiple of eight, else `IoError(-22)`.
    ///
    /// After `Disconnected` it may have been done, once, or not at all.
    pub fn compare_exchange(&self, offset: u64, expected: u64, new: u64) -> Result<u64, FabricError> {
        let mut found = 0;
        let at = self.at(offset, 8)?;
        FabricError::check(host::fbmu_compare_exchange(self.slot, at, expected, new, &mut found))?;
        Ok(found)
    }

    /// Adds `delta` to the number in the eight bytes at `offset`, wrapping, in one step, and gives what they held.
    /// `offset` is a multiple of eight, else `IoError(-22)`.
    ///
    /// After `Disconnected` it may have been done, once, or not at all.
    pub fn fetch_add(&self, offset: u64, delta: u64) -> Result<u64, FabricError> {
        let mut found = 0;
        FabricError::check(host::fbmu_fetch_add(self.slot, self.at(offset, 8)?, delta, &mut found))?;
        Ok(found)
    }

    /// What the shared region is called, for another tasklet; of a window it is that of the whole region. `Unsupported` for
    /// a lease of the run's own, which is nobody else's.
    pub fn reference(&self) -> Result<LeaseRef, FabricError> {
        LeaseRef::of_slot(self.slot)
    }

    /// Where the range lies in the region.
    fn at(&self, offset: u64, length: u64) -> Result<u64, FabricError> {
        match offset.checked_add(length) {
            Some(end) if end <= self.size_bytes => Ok(self.base + offset),
            _ => Err(FabricError::CapacityExceeded),
        }
    }

    fn insist(&self, mut ask: impl FnMut() -> i32) -> Result<(), FabricError> {
        insist(self.attempts, || FabricError::check(ask())).map(|_| ())
    }
}

/// Asks so often at most, as long as no answer comes.
fn insist<T>(attempts: u32, mut ask: impl FnMut() -> Result<T, FabricError>) -> Result<T, FabricError> {
    for _ in 1..attempts {
        match ask() {
            Err(FabricError::Disconnected) => {}
            answer => return answer,
        }
    }
    ask()
}

/// Takes one of the run's memory leases; see the module.
#[derive(Clone, Debug, Default)]
pub struct MemBuilder {
    min_bytes: u64,
    attempts: u32,
}

impl MemBuilder {
    pub fn new() -> MemBuilder {
        MemBuilder::default()
    }

    /// The fewest bytes that will do.
    pub fn min_bytes(mut self, bytes: u64) -> MemBuilder {
        self.min_bytes = bytes;
        self
    }

    /// Lets `attach` ask again after `Disconnected`, `attempts` times in all, and gives the memory as
    /// [`FabricMem::persistent`] does. In a cell each time takes ten seconds, and as a rule the first is enough.
    pub fn persistent(mut self, attempts: u32) -> MemBuilder {
        self.attempts = attempts;
        self
    }

    /// How long the lease is wanted, in seconds. How long it lasts was decided where the run was admitted, so this
    /// changes nothing; it is there for code that says it.
    pub fn lease_secs(self, _seconds: u64) -> MemBuilder {
        self
    }

    /// The next lease that fits; `CapacityExceeded` when there is none, or the error of one that has ended.
    pub fn acquire(self) -> Result<MemLease, FabricError> {
        let size_of = |slot| FabricMem::slot(slot).map(|mem| mem.size_bytes);
        let claim = Claim::of_next(Kind::Memory, self.min_bytes, size_of)?;
        Ok(MemLease { mem: FabricMem::slot(claim.slot)?, _claim: Some(claim) })
    }

    /// The shared region of this name, wherever it lies. `Unsupported` when it is of another fabric, `IoError(-22)` when
    /// this tenant has none of that name, `CapacityExceeded` when the run has no slot left or it is smaller than it must be.
    pub fn attach(self, reference: &LeaseRef) -> Result<MemLease, FabricError> {
        let attempts = self.attempts.max(1);
        let slot = insist(attempts, || FabricError::check(host::fbmu_attach(reference.as_str().as_bytes())))? as u32;
        let mem = insist(attempts, || FabricMem::slot(slot))?.persistent(attempts);
        if mem.size_bytes < self.min_bytes {
            return Err(FabricError::CapacityExceeded);
        }
        Ok(MemLease { mem, _claim: Claim::of(Kind::Memory, slot) })
    }
}

/// A memory lease that is taken: no other `acquire` gets it until this is dropped.
#[derive(Debug)]
pub struct MemLease {
    mem: FabricMem,
    _claim: Option<Claim>, // none when another part of the program holds it as well
}

impl MemLease {
    /// The memory.
    pub fn mem(&self) -> FabricMem {
        self.mem
    }

    /// What the shared region is called, for another tasklet; `Unsupported` for a lease of the run's own.
    pub fn reference(&self) -> Result<LeaseRef, FabricError> {
        self.mem.reference()
    }

    /// What has become of the lease.
    pub fn status(&self) -> Result<LeaseStatus, FabricError> {
        LeaseStatus::of(FabricMem::slot(self.mem.slot))
    }
}

/// What a structure stands on: a lease that it takes over, or memory of a lease that somebody else holds.
#[derive(Debug)]
pub struct Ground {
    mem: FabricMem,
    _lease: Option<MemLease>,
}

impl Ground {
    /// The memory.
    pub fn mem(&self) -> FabricMem {
        self.mem
    }
}

impl From<MemLease> for Ground {
    fn from(lease: MemLease) -> Ground {
        Ground { mem: lease.mem, _lease: Some(lease) }
    }
}

impl From<&MemLease> for Ground {
    fn from(lease: &MemLease) -> Ground {
        Ground::from(lease.mem)
    }
}

impl From<FabricMem> for Ground {
    fn from(mem: FabricMem) -> Ground {
        Ground { mem, _lease: None }
    }
}
