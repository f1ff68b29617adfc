//! What stands between two edges.

use grafos_std::Wire;

use crate::edge::{Numbered, Receiver, Sender, StreamError};

/// Takes chunks from one edge, makes others of them, and passes those on along another.
pub struct Stage<A, B, F> {
    from: Receiver<A>,
    to: Sender<B>,
    transform: F,
}

impl<A: Wire, B: Wire, F: FnMut(A) -> Option<B>> Stage<A, B, F> {
    /// A stage that makes a chunk of each, or drops it with `None`.
    pub fn new(from: Receiver<A>, to: Sender<B>, transform: F) -> Stage<A, B, F> {
        Stage { from, to, transform }
    }

    /// Deals with one chunk; `false` when that was the end, which is passed on.
    pub fn step(&mut self) -> Result<bool, StreamError> {
        let mut chunk = self.from.look()?;
        let value = chunk.value.take().and_then(&mut self.transform);
        self.to.pass_on(Numbered { number: chunk.number, is_end: chunk.is_end, value })?;
        if !chunk.is_end {
            self.from.taken(&chunk)?; // the end stays, for whoever runs this stage again
        }
        Ok(!chunk.is_end)
    }

    /// Deals with all chunks up to the end, and says how many there were.
    pub fn run(mut self) -> Result<u64, StreamError> {
        let mut count = 0;
        while self.step()? {
            count += 1;
        }
        Ok(count)
    }
}
