//! A vector in leased memory.

use std::marker::PhantomData;

use grafos_std::mem::{Ground, MemBuilder};
use grafos_std::wire::DECODE_FAILED;
use grafos_std::{FabricError, Wire};

use crate::header::{lay_out, read_words, slot_of, value_in, LENGTH_BYTES};

/// Length, capacity, stride: a word each.
const HEADER_BYTES: u64 = 24;
const LENGTH_AT: u64 = 0;
const CAPACITY_AT: u64 = 8;

/// A vector whose values lie in slots of `stride` bytes, four of them for a value's length.
///
/// It grows by chaining: when it is full it takes the run's next lease of at least the size of its first, and goes on
/// there. Whoever opens a vector that has grown gives its leases in the order in which it took them.
#[derive(Debug)]
pub struct FabricVec<T> {
    /// The first has the header; the slots of the others begin at their beginning.
    grounds: Vec<Ground>,
    stride: u64,
    values: PhantomData<T>,
}

impl<T: Wire> FabricVec<T> {
    /// The vector in this memory; `stride` is at least five. `CapacityExceeded` when not one value would fit.
    pub fn new(ground: impl Into<Ground>, stride: u64) -> Result<FabricVec<T>, FabricError> {
        FabricVec::open(vec![ground.into()], stride)
    }

    /// The vector in these memories, in the order in which it took them.
    pub fn open(grounds: Vec<Ground>, stride: u64) -> Result<FabricVec<T>, FabricError> {
        let first = grounds.first().ok_or(FabricError::CapacityExceeded)?.mem();
        if stride <= LENGTH_BYTES || first.arena_size() < HEADER_BYTES + stride {
            return Err(FabricError::CapacityExceeded);
        }
        let opened = FabricVec { stride, values: PhantomData, grounds };
        let found = read_words(&first, 3)?[1];
        let (own, all) = (opened.slots_of(0), opened.slots());
        // Laid out by what the first holds; growing comes after that.
        lay_out(&first, &[0, if found == 0 { own } else { found }, stride], &[0])?;
        if found > all {
            return Err(DECODE_FAILED); // it has grown, and a memory is missing
        }
        if all > found.max(own) {
            first.write_u64(CAPACITY_AT, all)?;
        }
        Ok(opened)
    }

    fn slots_of(&self, ground: usize) -> u64 {
        let header = if ground == 0 { HEADER_BYTES } else { 0 };
        (self.grounds[ground].mem().arena_size() - header) / self.stride
    }

    fn slots(&self) -> u64 {
        (0..self.grounds.len()).map(|ground| self.slots_of(ground)).sum()
    }

    /// Values in it.
    pub fn len(&self) -> Result<u64, FabricError> {
        self.grounds[0].mem().read_u64(LENGTH_AT)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> Result<bool, FabricError> {
        Ok(self.len()? == 0)
    }

    /// Values that fit without growing.
    pub fn capacity(&self) -> u64 {
        self.slots()
    }

    /// Which memory a slot is in, and where.
    fn place_of(&self, index: u64) -> Option<(usize, u64)> {
        let mut left = index;
        for ground in 0..self.grounds.len() {
            let slots = self.slots_of(ground);
            if left < slots {
                let header = if ground == 0 { HEADER_BYTES } else { 0 };
                return Some((ground, header + left * self.stride));
            }
            left -= slots;
        }
        None
    }

    fn write_slot(&self, index: u64, value: &T) -> Result<(), FabricError> {
        let slot = slot_of(value, self.stride)?;
        let (ground, at) = self.place_of(index).ok_or(FabricError::CapacityExceeded)?;
        self.grounds[ground].mem().write(at, &slot)
    }

    /// The value at `index`; `None` behind the end.
    pub fn get(&self, index: u64) -> Result<Option<T>, FabricError> {
        if index >= self.len()? {
            return Ok(None);
        }
        self.read_slot(index).map(Some)
    }

    fn read_slot(&self, index: u64) -> Result<T, FabricError> {
        let (ground, at) = self.place_of(index).ok_or(DECODE_FAILED)?;
        value_in(&self.grounds[ground].mem().read(at, self.stride as usize)?)
    }

    /// Puts another value at `index`; `CapacityExceeded` behind the end, `ENCODE_FAILED` when it does not fit its slot.
    pub fn set(&mut self, index: u64, value: &T) -> Result<(), FabricError> {
        if index >= self.len()? {
            return Err(FabricError::CapacityExceeded);
        }
        self.write_slot(index, value)
    }

    /// Appends a value. `CapacityExceeded` when the vector is full and the run has no lease to grow by.
    pub fn push(&mut self, value: &T) -> Result<(), FabricError> {
        let length = self.len()?;
        slot_of(value, self.stride)?; // before a lease is taken for it
        if length == self.slots() {
            let size = self.grounds[0].mem().arena_size();
            self.grow(MemBuilder::new().min_bytes(size).acquire()?)?;
        }
        self.write_slot(length, value)?;
        self.grounds[0].mem().write_u64(LENGTH_AT, length + 1)
    }

    /// Goes on in this memory when what it has is full.
    pub fn grow(&mut self, ground: impl Into<Ground>) -> Result<(), FabricError> {
        self.grounds.push(ground.into());
        self.grounds[0].mem().write_u64(CAPACITY_AT, self.slots())
    }

    /// Takes the last value.
    pub fn pop(&mut self) -> Result<Option<T>, FabricError> {
        let Some(last) = self.len()?.checked_sub(1) else { return Ok(None) };
        let value = self.read_slot(last)?;
        self.grounds[0].mem().write_u64(LENGTH_AT, last)?;
        Ok(Some(value))
    }

    /// Forgets all values.
    pub fn clear(&mut self) -> Result<(), FabricError> {
        self.grounds[0].mem().write_u64(LENGTH_AT, 0)
    }

    /// Its values, one after the other; each is read when it is asked for.
    pub fn iter(&self) -> impl Iterator<Item = Result<T, FabricError>> + '_ {
        let (length, failed) = match self.len() {
            Ok(length) => (length, None),
            Err(error) => (0, Some(Err(error))),
        };
        failed.into_iter().chain((0..length).map(|index| self.read_slot(index)))
    }
}
