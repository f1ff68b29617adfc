//! A map in leased memory.

use std::marker::PhantomData;

use grafos_std::mem::{FabricMem, Ground};
use grafos_std::wire::{from_bytes, to_bytes, DECODE_FAILED};
use grafos_std::{FabricError, Wire};

use crate::header::{bytes_in, lay_out, slot_of, LENGTH_BYTES};

/// Count, buckets, bytes of a key, bytes of a value: a word each.
const HEADER_BYTES: u64 = 32;
const COUNT_AT: u64 = 0;
/// A bucket's first byte says what it holds; then comes the key's hash.
const STATE_BYTES: u64 = 1;
const HASH_BYTES: u64 = 8;

const EMPTY: u8 = 0;
const FULL: u8 = 1;
const DELETED: u8 = 2;

/// A map with open addressing: a bucket is state, hash, length and bytes of the key, length and bytes of the value. A
/// key's first bucket follows from the FNV-1a hash of its bytes, and the next one is tried when that is taken.
#[derive(Debug)]
pub struct FabricHashMap<K, V> {
    ground: Ground,
    buckets: u64,
    key_stride: u64,
    value_stride: u64,
    entries: PhantomData<(K, V)>,
}

/// What a search ended with.
enum Found {
    /// The key's bucket and its value.
    Here(u64, Vec<u8>),
    /// The first bucket that the key could be put into.
    Room(u64),
    /// Neither the key nor a bucket for it.
    Full,
}

impl<K: Wire, V: Wire> FabricHashMap<K, V> {
    /// The map in this memory: keys of at most `key_stride` bytes, values of at most `value_stride`, and as many of them
    /// as fit. `CapacityExceeded` when none does.
    pub fn new(
        ground: impl Into<Ground>,
        key_stride: u64,
        value_stride: u64,
    ) -> Result<FabricHashMap<K, V>, FabricError> {
        let ground = ground.into();
        let bucket_bytes = [STATE_BYTES + HASH_BYTES + 2 * LENGTH_BYTES, key_stride, value_stride]
            .into_iter()
            .try_fold(0, u64::checked_add)
            .ok_or(FabricError::CapacityExceeded)?;
        let buckets = ground.mem().arena_size().saturating_sub(HEADER_BYTES) / bucket_bytes;
        if buckets == 0 {
            return Err(FabricError::CapacityExceeded);
        }
        lay_out(&ground.mem(), &[0, buckets, key_stride, value_stride], &[0])?;
        Ok(FabricHashMap { ground, buckets, key_stride, value_stride, entries: PhantomData })
    }

    fn mem(&self) -> FabricMem {
        self.ground.mem()
    }

    fn key_at(&self) -> u64 {
        STATE_BYTES + HASH_BYTES
    }

    fn value_at(&self) -> u64 {
        self.key_at() + LENGTH_BYTES + self.key_stride
    }

    fn bucket_bytes(&self) -> u64 {
        self.value_at() + LENGTH_BYTES + self.value_stride
    }

    fn place_of(&self, bucket: u64) -> u64 {
        HEADER_BYTES + bucket * self.bucket_bytes()
    }

    fn read_bucket(&self, bucket: u64) -> Result<Vec<u8>, FabricError> {
        self.mem().read(self.place_of(bucket), self.bucket_bytes() as usize)
    }

    /// Entries in it.
    pub fn len(&self) -> Result<u64, FabricError> {
        self.mem().read_u64(COUNT_AT)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> Result<bool, FabricError> {
        Ok(self.len()? == 0)
    }

    /// Entries that fit.
    pub fn capacity(&self) -> u64 {
        self.buckets
    }

    fn find(&self, key: &[u8]) -> Result<Found, FabricError> {
        let hash = fnv_1a(key);
        let mut room = None;
        for step in 0..self.buckets {
            let number = (hash % self.buckets + step) % self.buckets;
            let bucket = self.read_bucket(number)?;
            match bucket[0] {
                FULL if bucket[1..self.key_at() as usize] == hash.to_le_bytes() && self.key_in(&bucket)? == key => {
                    return Ok(Found::Here(number, self.value_in(&bucket)?.to_vec()));
                }
                FULL => {}
                DELETED => room = room.or(Some(number)),
                EMPTY => return Ok(Found::Room(room.unwrap_or(number))),
                _ => return Err(DECODE_FAILED),
            }
        }
        Ok(room.map_or(Found::Full, Found::Room))
    }

    fn key_in<'a>(&self, bucket: &'a [u8]) -> Result<&'a [u8], FabricError> {
        bytes_in(&bucket[self.key_at() as usize..self.value_at() as usize])
    }

    fn value_in<'a>(&self, bucket: &'a [u8]) -> Result<&'a [u8], FabricError> {
        bytes_in(&bucket[self.value_at() as usize..])
    }

    /// The value of that key.
    pub fn get(&self, key: &K) -> Result<Option<V>, FabricError> {
        match self.find(&to_bytes(key))? {
            Found::Here(_, value) => from_bytes(&value).map(Some),
            _ => Ok(None),
        }
    }

    /// Whether it has that key.
    pub fn contains_key(&self, key: &K) -> Result<bool, FabricError> {
        Ok(matches!(self.find(&to_bytes(key))?, Found::Here(..)))
    }

    /// Gives the key this value, and what it had before. `ENCODE_FAILED` when key or value do not fit into their place,
    /// `CapacityExceeded` when the map is full.
    pub fn insert(&mut self, key: &K, value: &V) -> Result<Option<V>, FabricError> {
        let mut key_slot = slot_of(key, self.key_stride + LENGTH_BYTES)?;
        let value_slot = slot_of(value, self.value_stride + LENGTH_BYTES)?;
        let key_bytes = bytes_in(&key_slot)?.to_vec();
        match self.find(&key_bytes)? {
            Found::Here(bucket, before) => {
                self.mem().write(self.place_of(bucket) + self.value_at(), &value_slot)?;
                from_bytes(&before).map(Some)
            }
            Found::Room(bucket) => {
                key_slot.resize((self.key_stride + LENGTH_BYTES) as usize, 0);
                let mut whole = vec![FULL];
                whole.extend(fnv_1a(&key_bytes).to_le_bytes());
                whole.extend(key_slot);
                whole.extend(value_slot);
                let count = self.len()?;
                self.mem().write(self.place_of(bucket), &whole)?; // one write: the entry is there whole, or not at all
                self.mem().write_u64(COUNT_AT, count + 1)?;
                Ok(None)
            }
            Found::Full => Err(FabricError::CapacityExceeded),
        }
    }

    /// Takes the key out, and gives the value that it had.
    pub fn remove(&mut self, key: &K) -> Result<Option<V>, FabricError> {
        let Found::Here(bucket, value) = self.find(&to_bytes(key))? else { return Ok(None) };
        let count = self.len()?;
        self.mem().write(self.place_of(bucket), &[DELETED])?;
        self.mem().write_u64(COUNT_AT, count.saturating_sub(1))?;
        from_bytes(&value).map(Some)
    }

    /// Counts the entries anew, after a tasklet was stopped between an entry and its count.
    pub fn recount(&mut self) -> Result<u64, FabricError> {
        let mut count = 0;
        for entry in self.iter() {
            entry?;
            count += 1;
        }
        self.mem().write_u64(COUNT_AT, count)?;
        Ok(count)
    }

    /// Its entries, in no order; each bucket is read when it is asked for.
    pub fn iter(&self) -> impl Iterator<Item = Result<(K, V), FabricError>> + '_ {
        (0..self.buckets).filter_map(|number| match self.read_bucket(number) {
            Ok(bucket) if bucket[0] == FULL => Some(self.entry_in(&bucket)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        })
    }

    fn entry_in(&self, bucket: &[u8]) -> Result<(K, V), FabricError> {
        Ok((from_bytes(self.key_in(bucket)?)?, from_bytes(self.value_in(bucket)?)?))
    }
}

fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
