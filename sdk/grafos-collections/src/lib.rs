//! Collections in leased memory. They outlive the tasklet that made them, and other tasklets open them.
//!
//! ```
//! use grafos_collections::FabricHashMap;
//! use grafos_std::mem::MemBuilder;
//! use grafos_std::{Failure, Output};
//!
//! #[grafos_std::tasklet]
//! fn count(input: &[u8]) -> Result<Output, Failure> {
//!     let lease = MemBuilder::new().min_bytes(4096).acquire()?;
//!     let mut words: FabricHashMap<String, u64> = FabricHashMap::new(lease, 24, 8)?;
//!     for word in std::str::from_utf8(input)?.split_whitespace() {
//!         let seen = words.get(&word.to_owned())?.unwrap_or(0);
//!         words.insert(&word.to_owned(), &(seen + 1))?;
//!     }
//!     Ok(Output::json(words.get(&"to".to_owned())?))
//! }
//! # use grafos_std::host;
//! host::mock_set_fbmu_arena_size(4096);
//! assert_eq!(host::mock_run(count, b"to be or not to be").response.as_deref(), Some("2"));
//! assert_eq!(host::mock_run(count, b"to err is human").response.as_deref(), Some("3")); // the map is still there
//! ```
//!
//! **`new` opens what is there.** In memory that is all zero it lays the collection out; where it lies already, in the
//! same shape, its entries stay; where something else lies it answers `DECODE_FAILED` and changes nothing.
//!
//! **One writer at a time.** A [`FabricVec`] and a [`FabricHashMap`] are changed by several calls, so tasklets that change
//! the same one take turns: by a graph, or by a `FabricMutex` of `grafos-sync`. A [`FabricQueue`] has one tasklet that
//! pushes and one that pops, which need no lock.
//!
//! **When a call fails in the middle** of a change, `insert`, `remove` and `set` may be made again as they were; what a map
//! counts is set right by `recount`. A `push` or `pop` that is made again may count twice. On a link that loses answers
//! give the memory as [`persistent`](grafos_std::mem::FabricMem::persistent): then it is the step that is repeated, which
//! is safe in all of them.

mod header;
mod map;
mod queue;
mod vec;

pub use map::FabricHashMap;
pub use queue::FabricQueue;
pub use vec::FabricVec;
