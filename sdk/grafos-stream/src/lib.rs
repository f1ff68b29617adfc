//! Pipelines of tasklets: chunks go from stage to stage, each once and in order, over memory that two stages share.
//!
//! ```
//! use grafos_std::host::{MockFabric, MockTasklet};
//! use grafos_std::mem::{MemBuilder, MemLease};
//! use grafos_std::{Failure, Json, LeaseRef, Output};
//! use grafos_stream::{Receiver, Sender, Stage};
//!
//! /// The edge of that name: each input has the references of those that its stage uses.
//! fn edge(input: &[u8], name: &str) -> Result<MemLease, Failure> {
//!     let input = Json::parse(input)?;
//!     Ok(MemBuilder::new().attach(&LeaseRef::from_json(input.get(name).unwrap_or(&Json::Null))?)?)
//! }
//!
//! #[grafos_std::tasklet]
//! fn source(input: &[u8]) -> Result<Output, Failure> {
//!     let mut to: Sender<Vec<u8>> = Sender::new(edge(input, "to")?, 8, 64)?;
//!     to.send_batch(&[vec![1, 2, 3], vec![100, 200], vec![6]])?;
//!     to.finish()?;
//!     Ok(Output::empty())
//! }
//!
//! #[grafos_std::tasklet]
//! fn double(input: &[u8]) -> Result<Output, Failure> {
//!     let from: Receiver<Vec<u8>> = Receiver::new(edge(input, "from")?, 8, 64)?;
//!     let to: Sender<Vec<u8>> = Sender::new(edge(input, "to")?, 8, 64)?;
//!     Stage::new(from, to, |chunk: Vec<u8>| Some(chunk.iter().map(|n| n.saturating_mul(2)).collect())).run()?;
//!     Ok(Output::empty())
//! }
//!
//! #[grafos_std::tasklet]
//! fn sink(input: &[u8]) -> Result<Output, Failure> {
//!     let mut from: Receiver<Vec<u8>> = Receiver::new(edge(input, "from")?, 8, 64)?;
//!     let mut all = Vec::new();
//!     while let Some(chunk) = from.recv()? {
//!         all.extend(chunk);
//!     }
//!     Ok(Output::bytes(all))
//! }
//!
//! let fabric = MockFabric::new();
//! let [a, b] = [(); 2].map(|()| fabric.reference(fabric.lease_memory(1024)));
//! let inputs = [format!(r#"{{"to":{a}}}"#), format!(r#"{{"from":{a},"to":{b}}}"#), format!(r#"{{"from":{b}}}"#)];
//! let tasklets = vec![
//!     MockTasklet::new(source).input(inputs[0].as_bytes()),
//!     MockTasklet::new(double).input(inputs[1].as_bytes()),
//!     MockTasklet::new(sink).input(inputs[2].as_bytes()),
//! ];
//! assert_eq!(fabric.run_together(1, tasklets)[2].output, [2, 4, 6, 200, 255, 12]);
//! ```
//!
//! **An edge** is a queue between one [`Sender`] and one [`Receiver`], and two words: the number of the chunk that is sent
//! next, and of the one that is taken next. A stage gives the chunk that it makes the number of the one that it took, so
//! a stage that is stopped anywhere and run again neither loses a chunk nor passes one on twice. What a stage *does* with
//! a chunk beside passing it on may be done again then.
//!
//! **Stages that run one after the other** need edges that hold all chunks; stages that run side by side wait for each
//! other, and pay fuel for each time they ask.

mod edge;
mod stage;

pub use edge::{bytes_of_edge, Receiver, Sender, StreamError};
pub use stage::Stage;
