//! Many sessions at a time.

use std::collections::BTreeMap;

use grafos_std::FabricError;

use crate::session::Session;
use crate::Listener;

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// What becomes of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// More is read.
    GoOn,
    /// It is closed when its answer is written.
    Close,
}

/// What a service knows of one session, and what it answers.
pub trait Conversation {
    /// Bytes came, however many belong together; what is appended to `answer` is written before more is read.
    fn received(&mut self, data: &[u8], answer: &mut Vec<u8>) -> Next;

    /// The client sends no more. What is appended to `answer` is written, and the session closed.
    fn finished(&mut self, _answer: &mut Vec<u8>) {}
}

struct Open<C> {
    session: Session,
    conversation: C,
    /// What is to be written yet.
    rest: Vec<u8>,
    next: Next,
}

impl Listener {
    /// Has a conversation with each client, all at the same time, until no more come, and says how many there were.
    /// A client that is gone ends its own conversation alone.
    pub fn serve_together<C: Conversation>(&self, mut begin: impl FnMut() -> C) -> Result<u64, FabricError> {
        let mut open: BTreeMap<u32, Open<C>> = BTreeMap::new();
        let mut served = 0;
        while let Some(handle) = self.wait()? {
            if handle == self.handle {
                if let Some(session) = self.accept()? {
                    served += 1;
                    let fresh = Open { session, conversation: begin(), rest: Vec::new(), next: Next::GoOn };
                    open.insert(fresh.session.handle(), fresh);
                }
                continue;
            }
            let one = open.get_mut(&handle).ok_or(FabricError::IoError(-22))?;
            let is_over = match one.step() {
                Ok(()) => one.rest.is_empty() && one.next == Next::Close,
                Err(FabricError::Disconnected) => true,
                Err(error) => return Err(error),
            };
            if is_over {
                open.remove(&handle);
            }
        }
        Ok(served)
    }
}

impl<C: Conversation> Open<C> {
    /// Does the one thing that does not wait.
    fn step(&mut self) -> Result<(), FabricError> {
        if self.rest.is_empty() {
            let mut chunk = [0; CHUNK_BYTES];
            match self.session.read(&mut chunk)? {
                0 => {
                    self.conversation.finished(&mut self.rest);
                    self.next = Next::Close;
                }
                count => self.next = self.conversation.received(&chunk[..count], &mut self.rest),
            }
        }
        if !self.rest.is_empty() {
            let taken = self.session.write(&self.rest)?;
            self.rest.drain(..taken);
        }
        Ok(())
    }
}
