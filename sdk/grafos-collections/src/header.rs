//! What all collections share: a header of words, and values in slots of one size.

use grafos_std::mem::FabricMem;
use grafos_std::wire::{from_bytes, to_bytes, DECODE_FAILED, ENCODE_FAILED};
use grafos_std::{FabricError, Wire};

pub const WORD_BYTES: u64 = 8;
/// The length before a value in its slot.
pub const LENGTH_BYTES: u64 = 4;

/// Writes the header into memory where it is all zero but for the words in `changing`, which the collection counts in;
/// where it is there already, leaves it. Anything else is something else.
///
/// Two tasklets that come at the same time write the same bytes.
pub fn lay_out(mem: &FabricMem, header: &[u64], changing: &[usize]) -> Result<(), FabricError> {
    let found = read_words(mem, header.len())?;
    if found.iter().all(|word| *word == 0) {
        for (index, word) in header.iter().enumerate().filter(|(index, _)| !changing.contains(index)) {
            mem.write_u64(index as u64 * WORD_BYTES, *word)?;
        }
        return Ok(());
    }
    // A word that is still 0 is one that whoever lays it out just now has not come to.
    let same = |index: usize| changing.contains(&index) || found[index] == header[index] || found[index] == 0;
    if !(0..header.len()).all(same) {
        return Err(DECODE_FAILED);
    }
    for (index, word) in header.iter().enumerate().filter(|(index, _)| !changing.contains(index)) {
        if found[index] == 0 {
            mem.write_u64(index as u64 * WORD_BYTES, *word)?;
        }
    }
    Ok(())
}

pub fn read_words(mem: &FabricMem, count: usize) -> Result<Vec<u64>, FabricError> {
    let bytes = mem.read(0, count * WORD_BYTES as usize)?;
    Ok(bytes.chunks_exact(WORD_BYTES as usize).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect())
}

/// A value as its slot holds it: its length and its bytes; `ENCODE_FAILED` when they are more than the slot has.
pub fn slot_of<T: Wire>(value: &T, stride: u64) -> Result<Vec<u8>, FabricError> {
    let bytes = to_bytes(value);
    if bytes.len() as u64 + LENGTH_BYTES > stride {
        return Err(ENCODE_FAILED);
    }
    let mut slot = (bytes.len() as u32).to_le_bytes().to_vec();
    slot.extend(bytes);
    Ok(slot)
}

/// The bytes of the value in a slot.
pub fn bytes_in(slot: &[u8]) -> Result<&[u8], FabricError> {
    let (length, rest) = slot.split_first_chunk().ok_or(DECODE_FAILED)?;
    rest.get(..u32::from_le_bytes(*length) as usize).ok_or(DECODE_FAILED)
}

/// The value in a slot.
pub fn value_in<T: Wire>(slot: &[u8]) -> Result<T, FabricError> {
    from_bytes(bytes_in(slot)?)
}
