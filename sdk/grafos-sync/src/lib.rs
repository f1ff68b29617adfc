//! Tasklets that take turns: a lock, a once, a counter, a semaphore and a barrier in leased memory.
//!
//! ```
//! use grafos_std::mem::MemBuilder;
//! use grafos_std::{Failure, Output};
//! use grafos_sync::{holder_of_run, FabricMutex};
//!
//! #[grafos_std::tasklet]
//! fn increment() -> Result<Output, Failure> {
//!     let lease = MemBuilder::new().min_bytes(64).acquire()?;
//!     let counter = FabricMutex::new(&lease, 0, 0_u64)?;
//!     let mut guard = counter.lock(holder_of_run(), 1_000)?;
//!     let before = guard.get()?;
//!     guard.set(before + 1)?;
//!     guard.unlock()?;
//!     Ok(Output::json(before + 1))
//! }
//! # use grafos_std::host;
//! host::mock_set_fbmu_arena_size(64);
//! assert_eq!(host::mock_run(|_| increment(), b"").response.as_deref(), Some("1"));
//! assert_eq!(host::mock_run(|_| increment(), b"").response.as_deref(), Some("2"));
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

pub use barrier::FabricBarrier;
pub use counter::FabricCounter;
pub use mutex::{FabricMutex, MutexGuard};
pub use once::FabricOnce;
pub use semaphore::{FabricSemaphore, Permits};
pub use word::{holder_of_run, LockError};
