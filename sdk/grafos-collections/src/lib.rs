//! Collections in leased memory. They outlive the tasklet that made them, and other tasklets open them.
//!
//! ```
//! use grafos_collections::FabricHashMap;
//! use grafos_std::mem::MemBuilder;
//! use grafos_std::{Failure, Json, LeaseRef, Output};
//!
//! /// Counts words in a region that it is given, and answers how often "to" was seen there so far.
//! #[grafos_std::tasklet]
//! fn count(input: &[u8]) -> Result<Output, Failure> {
//!     let input = Json::parse(input)?;
//!     let region = LeaseRef::from_json(input.get("region").unwrap_or(&Json::Null))?;
//!     let lease = MemBuilder::new().min_bytes(4096).attach(&region)?;
//!     let mut words: FabricHashMap<String, u64> = FabricHashMap::new(lease, 24, 8)?;
//!     for word in input.get("text").and_then(Json::as_str).unwrap_or_default().split_whitespace() {
//!         let seen = words.get(&word.to_owned())?.unwrap_or(0);
//!         words.insert(&word.to_owned(), &(seen + 1))?;
//!     }
//!     Ok(Output::json(words.get(&"to".to_owned())?))
//! }
//!
//! use grafos_std::host::{MockFabric, MockTasklet};
//!
//! let fabric = MockFabric::new();
//! let region = fabric.reference(fabric.lease_memory(4096));
//! for (text, answer) in [("to be or not to be", "2"), ("to err is human", "3")] {
//!     let input = format!(r#"{{"region":{region},"text":"{text}"}}"#);
//!     let ran = fabric.run(MockTasklet::new(count).input(input.as_bytes()));
//!     assert_eq!(ran.response.as_deref(), Some(answer)); // the map is still there for the next one
//! }
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
