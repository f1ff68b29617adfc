//! A queue in leased memory, from one tasklet to another.

use std::marker::PhantomData;

use grafos_std::mem::{FabricMem, Ground};
use grafos_std::wire::DECODE_FAILED;
use grafos_std::{FabricError, Wire};

use crate::header::{lay_out, slot_of, value_in, LENGTH_BYTES};

/// Head, tail, capacity, stride: a word each.
const HEADER_BYTES: u64 = 32;
const HEAD_AT: u64 = 0;
const TAIL_AT: u64 = 8;

/// A ring of `capacity` slots, one of which stays empty, so that it holds `capacity - 1` values. One tasklet pushes and one
/// pops; each writes a word of its own, and the value before it, so they need no lock.
#[derive(Debug)]
pub struct FabricQueue<T> {
    ground: Ground,
    capacity: u64,
    stride: u64,
    values: PhantomData<T>,
}

impl<T: Wire> FabricQueue<T> {
    /// Bytes that a queue of so many slots of so many bytes takes.
    pub fn bytes_of(capacity: u64, stride: u64) -> Option<u64> {
        capacity.checked_mul(stride)?.checked_add(HEADER_BYTES)
    }

    /// The queue in this memory, with at least two slots of at least five bytes; `CapacityExceeded` when it does not fit.
    pub fn new(ground: impl Into<Ground>, capacity: u64, stride: u64) -> Result<FabricQueue<T>, FabricError> {
        let ground = ground.into();
        let fits = FabricQueue::<T>::bytes_of(capacity, stride).is_some_and(|bytes| bytes <= ground.mem().arena_size());
        if capacity < 2 || stride <= LENGTH_BYTES || !fits {
            return Err(FabricError::CapacityExceeded);
        }
        lay_out(&ground.mem(), &[0, 0, capacity, stride], &[0, 1])?;
        Ok(FabricQueue { ground, capacity, stride, values: PhantomData })
    }

    fn mem(&self) -> FabricMem {
        self.ground.mem()
    }

    /// Where the next value is popped and where the next is pushed.
    fn ends(&self) -> Result<(u64, u64), FabricError> {
        let (head, tail) = (self.mem().read_u64(HEAD_AT)?, self.mem().read_u64(TAIL_AT)?);
        if head < self.capacity && tail < self.capacity {
            Ok((head, tail))
        } else {
            Err(DECODE_FAILED)
        }
    }

    fn place_of(&self, slot: u64) -> u64 {
        HEADER_BYTES + slot * self.stride
    }

    /// Values in it.
    pub fn len(&self) -> Result<u64, FabricError> {
        let (head, tail) = self.ends()?;
        Ok((tail + self.capacity - head) % self.capacity)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> Result<bool, FabricError> {
        Ok(self.len()? == 0)
    }

    /// Appends a value; `false` when there is no room now. `ENCODE_FAILED` when it does not fit into a slot.
    pub fn push(&mut self, value: &T) -> Result<bool, FabricError> {
        let slot = slot_of(value, self.stride)?;
        let (head, tail) = self.ends()?;
        let next = (tail + 1) % self.capacity;
        if next == head {
            return Ok(false);
        }
        self.mem().write(self.place_of(tail), &slot)?;
        self.mem().write_u64(TAIL_AT, next)?;
        Ok(true)
    }

    /// The value that `pop` would take, left where it is.
    pub fn peek(&self) -> Result<Option<T>, FabricError> {
        let (head, tail) = self.ends()?;
        if head == tail {
            return Ok(None);
        }
        value_in(&self.mem().read(self.place_of(head), self.stride as usize)?).map(Some)
    }

    /// Takes the oldest value; `None` when there is none now.
    pub fn pop(&mut self) -> Result<Option<T>, FabricError> {
        let value = self.peek()?;
        if value.is_some() {
            self.skip()?;
        }
        Ok(value)
    }

    /// Takes the oldest value without reading it; whether there was one.
    pub fn skip(&mut self) -> Result<bool, FabricError> {
        let (head, tail) = self.ends()?;
        if head == tail {
            return Ok(false);
        }
        self.mem().write_u64(HEAD_AT, (head + 1) % self.capacity)?;
        Ok(true)
    }
}
