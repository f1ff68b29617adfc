//! Two ends of a queue, and what both remember.

use std::fmt;

use grafos_collections::FabricQueue;
use grafos_std::mem::{FabricMem, Ground};
use grafos_std::wire::{Wire, WireReader};
use grafos_std::FabricError;

/// Times that a step is asked for; each word and slot has one side that writes it.
const ATTEMPTS: u32 = 64;
/// Times that an end looks for room, or for a chunk, unless it says otherwise.
const WAITS_DEFAULT: u32 = 100_000;
const NEXT_SENT_AT: u64 = 0;
const NEXT_TAKEN_AT: u64 = 8;
const WORDS_BYTES: u64 = 16;

/// Why a chunk did not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamError {
    /// The other end did nothing as long as this one asked. Chunks that were passed on stay passed on.
    Waited,
    /// The memory between both could not be asked, or says no more.
    Fabric(FabricError),
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StreamError::Waited => f.write_str("stream_waited"),
            StreamError::Fabric(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StreamError {}

impl From<FabricError> for StreamError {
    fn from(error: FabricError) -> StreamError {
        StreamError::Fabric(error)
    }
}

/// A chunk on its way; without a value it is the end, or one that a stage dropped.
#[derive(Clone, Debug)]
pub(crate) struct Numbered<T> {
    pub number: u64,
    pub is_end: bool,
    pub value: Option<T>,
}

impl<T: Wire> Wire for Numbered<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.number.encode(out);
        self.is_end.encode(out);
        self.value.encode(out);
    }

    fn decode(from: &mut WireReader<'_>) -> Result<Self, FabricError> {
        let (number, is_end) = (u64::decode(from)?, bool::decode(from)?);
        Ok(Numbered { number, is_end, value: Option::decode(from)? })
    }
}

/// Bytes of memory of an edge with so many slots of so many bytes. It holds a chunk less than it has slots; a slot has 16
/// bytes beside a chunk's own.
pub fn bytes_of_edge(slots: u64, slot_bytes: u64) -> Option<u64> {
    FabricQueue::<()>::bytes_of(slots, slot_bytes)?.checked_add(WORDS_BYTES)
}

#[derive(Debug)]
struct Edge<T> {
    _ground: Ground,
    words: FabricMem,
    queue: FabricQueue<Numbered<T>>,
    waits: u32,
}

impl<T: Wire> Edge<T> {
    fn new(ground: Ground, slots: u64, slot_bytes: u64) -> Result<Edge<T>, FabricError> {
        let mem = ground.mem().persistent(ATTEMPTS);
        let rest = mem.arena_size().checked_sub(WORDS_BYTES).ok_or(FabricError::CapacityExceeded)?;
        let queue = FabricQueue::new(mem.window(WORDS_BYTES, rest)?, slots, slot_bytes)?;
        Ok(Edge { words: mem.window(0, WORDS_BYTES)?, _ground: ground, queue, waits: WAITS_DEFAULT })
    }

    fn wait_for<R>(
        &mut self,
        mut ask: impl FnMut(&mut Self) -> Result<Option<R>, FabricError>,
    ) -> Result<R, StreamError> {
        for _ in 0..self.waits {
            if let Some(answer) = ask(self)? {
                return Ok(answer);
            }
        }
        Err(StreamError::Waited)
    }
}

/// The end of an edge into which chunks go.
#[derive(Debug)]
pub struct Sender<T> {
    edge: Edge<T>,
}

impl<T: Wire> Sender<T> {
    /// The sending end of the edge in this memory; both ends say the same numbers.
    pub fn new(ground: impl Into<Ground>, slots: u64, slot_bytes: u64) -> Result<Sender<T>, StreamError> {
        Ok(Sender { edge: Edge::new(ground.into(), slots, slot_bytes)? })
    }

    /// How often to look for room before it is `Waited`.
    pub fn waits(mut self, waits: u32) -> Sender<T> {
        self.edge.waits = waits.max(1);
        self
    }

    /// The number of the chunk that is sent next: a source that was stopped goes on with that one.
    pub fn next(&self) -> Result<u64, StreamError> {
        Ok(self.edge.words.read_u64(NEXT_SENT_AT)?)
    }

    /// Passes a chunk on, and waits for room before.
    pub fn send(&mut self, chunk: &T) -> Result<(), StreamError>
    where
        T: Clone,
    {
        self.pass_on(Numbered { number: self.next()?, is_end: false, value: Some(chunk.clone()) })
    }

    /// Passes chunks on, one after the other.
    pub fn send_batch(&mut self, chunks: &[T]) -> Result<(), StreamError>
    where
        T: Clone,
    {
        chunks.iter().try_for_each(|chunk| self.send(chunk))
    }

    /// Says that no chunk will come after those.
    pub fn finish(&mut self) -> Result<(), StreamError> {
        self.pass_on(Numbered { number: self.next()?, is_end: true, value: None })
    }

    /// Passes a chunk on unless it was passed on before.
    pub(crate) fn pass_on(&mut self, chunk: Numbered<T>) -> Result<(), StreamError> {
        if chunk.number < self.next()? {
            return Ok(());
        }
        self.edge.wait_for(|edge| Ok(edge.queue.push(&chunk)?.then_some(())))?;
        Ok(self.edge.words.write_u64(NEXT_SENT_AT, chunk.number + 1)?)
    }
}

/// The end of an edge from which chunks come.
#[derive(Debug)]
pub struct Receiver<T> {
    edge: Edge<T>,
}

impl<T: Wire> Receiver<T> {
    /// The receiving end of the edge in this memory; both ends say the same numbers.
    pub fn new(ground: impl Into<Ground>, slots: u64, slot_bytes: u64) -> Result<Receiver<T>, StreamError> {
        Ok(Receiver { edge: Edge::new(ground.into(), slots, slot_bytes)? })
    }

    /// How often to look for a chunk before it is `Waited`.
    pub fn waits(mut self, waits: u32) -> Receiver<T> {
        self.edge.waits = waits.max(1);
        self
    }

    /// The next chunk, waiting for it; `None` at the end. It counts as taken.
    pub fn recv(&mut self) -> Result<Option<T>, StreamError> {
        loop {
            let chunk = self.look()?;
            if chunk.is_end {
                return Ok(None);
            }
            self.taken(&chunk)?;
            if chunk.value.is_some() {
                return Ok(chunk.value);
            }
        }
    }

    /// At most so many chunks, waiting for each; fewer only at the end.
    pub fn recv_batch(&mut self, count: usize) -> Result<Vec<T>, StreamError> {
        let mut chunks = Vec::new();
        while chunks.len() < count {
            match self.recv()? {
                Some(chunk) => chunks.push(chunk),
                None => break,
            }
        }
        Ok(chunks)
    }

    /// The next chunk, left where it is; what was taken before is put aside.
    pub(crate) fn look(&mut self) -> Result<Numbered<T>, StreamError> {
        self.edge.wait_for(|edge| {
            let Some(chunk) = edge.queue.peek()? else { return Ok(None) };
            if chunk.number < edge.words.read_u64(NEXT_TAKEN_AT)? {
                edge.queue.skip()?;
                return Ok(None);
            }
            Ok(Some(chunk))
        })
    }

    /// Says that this chunk, the next one, has been dealt with.
    pub(crate) fn taken(&mut self, chunk: &Numbered<T>) -> Result<(), StreamError> {
        self.edge.words.write_u64(NEXT_TAKEN_AT, chunk.number + 1)?;
        self.edge.queue.skip()?;
        Ok(())
    }
}
