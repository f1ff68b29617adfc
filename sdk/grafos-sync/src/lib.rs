//! Tasklets that take turns: a lock, a once, a counter, a semaphore and a barrier in leased memory.
//!
//! ```
//! use grafos_std::mem::MemBuilder;
//! use grafos_std::{Failure, Json, LeaseRef, Output};
//! use grafos_sync::{holder_of_run, FabricMutex};
//!
//! /// Its input is the reference of a region that others use at the same time.
//! #[grafos_std::tasklet]
//! fn increment(input: &[u8]) -> Result<Output, Failure> {
//!     let lease = MemBuilder::new().attach(&LeaseRef::from_json(&Json::parse(input)?)?)?;
//!     let counter = FabricMutex::new(&lease, 0, 0_u64)?;
//!     let mut guard = counter.lock(holder_of_run(), 1_000)?;
//!     let before = guard.get()?;
//!     guard.set(before + 1)?;
//!     guard.unlock()?;
//!     Ok(Output::json(before + 1))
//! }
//!
//! use grafos_std::host::{MockFabric, MockTasklet};
//!
//! let fabric = MockFabric::new();
//! let region = fabric.reference(fabric.lease_memory(64));
//! let many = (0..3).map(|_| MockTasklet::new(increment).input(region.as_bytes()));
//! let mut seen: Vec<_> = fabric.run_together(5, many.collect()).into_iter().map(|ran| ran.response.unwrap()).collect();
//! seen.sort();
//! assert_eq!(seen, ["1", "2", "3"]);
//! ```
//!
//! **All of them are words that compare-exchange changes** at the cell that holds the region. A link may lose the answer to
//! one; what only one holder can have written is then found out by reading, and nothing is done twice.
//!
//! **Nothing waits without asking.** A tasklet cannot sleep, so whoever waits asks again, as often as it said, and pays
//! fuel for each time.
//!
//! **Fencing.** A holder may be stopped while it holds a lock. [`FabricMutex::take_over`] gives the lock to another; each
//! holder has a larger *generation* than the one before. A [`FabricCounter`] and a [`FabricSemaphore`] remember the largest
//! that they have seen, in the word that they change, so what a holder does that was fenced off in the meantime is
//! refused in the same step.

mod barrier;
mod counter;
mod mutex;
mod once;
mod semaphore;
mod word;

pub use barrier::{FabricBarrier, PARTIES_MAX};
pub use counter::FabricCounter;
pub use mutex::{FabricMutex, MutexGuard};
pub use once::FabricOnce;
pub use semaphore::{FabricSemaphore, Permits};
pub use word::{holder_of_run, LockError};
