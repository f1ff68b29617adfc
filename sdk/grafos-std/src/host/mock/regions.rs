//! The calls on leased memory and blocks.

use super::fabric::MockLease;
use super::{status, turn, with, Cell, CAPACITY_EXCEEDED, DISCONNECTED, INVALID, UNSUPPORTED};
use crate::block::BLOCK_BYTES;
use crate::lease::LEASES_MAX;
use crate::mem::MOVE_BYTES_MAX;

const WORD_BYTES: usize = 8;

fn held(leases: &[MockLease], slot: u32) -> Result<MockLease, i32> {
    leases.get(slot as usize).copied().ok_or(UNSUPPORTED)
}

/// Units of the region, or the status, as a call of 64 bits answers it.
fn size(cell: &Cell, leases: &[MockLease], slot: u32, unit_bytes: usize) -> i64 {
    match held(leases, slot).and_then(|lease| cell.fabric.size(lease)) {
        Ok(bytes) => (bytes / unit_bytes) as i64,
        Err(status) => i64::from(status),
    }
}

/// Carries out a call on `length` bytes of a region.
fn move_bytes<T>(
    leases: impl FnOnce(&Cell) -> &[MockLease],
    slot: u32,
    offset: u64,
    length: usize,
    effect: impl FnOnce(&mut [u8]) -> Result<T, i32>,
) -> Result<T, i32> {
    turn(false);
    with(|cell| {
        let lease = held(leases(cell), slot)?;
        let fault = cell.next_fault();
        let done = cell.fabric.carry_out(lease, fault, |data| {
            let start = usize::try_from(offset).map_err(|_| CAPACITY_EXCEEDED)?;
            let end = start.checked_add(length).ok_or(CAPACITY_EXCEEDED)?;
            effect(data.get_mut(start..end).ok_or(CAPACITY_EXCEEDED)?)
        })?;
        cell.pay(length);
        Ok(done)
    })
}

/// An attached region is asked for its size where it is, and what is asked there may be lost.
pub fn fbmu_size(slot: u32) -> i64 {
    with(|cell| match cell.is_attached(slot).then(|| cell.next_fault()).flatten() {
        Some(_) => i64::from(DISCONNECTED),
        None => size(cell, &cell.memory, slot, 1),
    })
}

/// Whether a call on that slot may move so many bytes.
fn movable(slot: u32, length: usize) -> Result<(), i32> {
    if length <= MOVE_BYTES_MAX || with(|cell| !cell.is_attached(slot)) {
        Ok(())
    } else {
        Err(CAPACITY_EXCEEDED)
    }
}

pub fn fbmu_read(slot: u32, offset: u64, into: &mut [u8]) -> i32 {
    let movable = movable(slot, into.len());
    status(move_bytes(
        |cell| &cell.memory,
        slot,
        offset,
        into.len(),
        |data| {
            movable?;
            into.copy_from_slice(data);
            Ok(())
        },
    ))
}

pub fn fbmu_write(slot: u32, offset: u64, data: &[u8]) -> i32 {
    let movable = movable(slot, data.len());
    status(move_bytes(
        |cell| &cell.memory,
        slot,
        offset,
        data.len(),
        |place| {
            movable?;
            place.copy_from_slice(data);
            Ok(())
        },
    ))
}

/// Changes a number in one step; gives what it was.
fn change_word(slot: u32, offset: u64, found: &mut u64, change: impl FnOnce(u64) -> u64) -> i32 {
    let done = move_bytes(
        |cell| &cell.memory,
        slot,
        offset,
        WORD_BYTES,
        |place| {
            if offset % WORD_BYTES as u64 != 0 {
                return Err(INVALID);
            }
            let before = u64::from_le_bytes(place.try_into().expect("a word has eight bytes"));
            place.copy_from_slice(&change(before).to_le_bytes());
            Ok(before)
        },
    );
    status(done.map(|before| *found = before))
}

pub fn fbmu_compare_exchange(slot: u32, offset: u64, expected: u64, new: u64, found: &mut u64) -> i32 {
    change_word(slot, offset, found, |before| if before == expected { new } else { before })
}

pub fn fbmu_fetch_add(slot: u32, offset: u64, delta: u64, found: &mut u64) -> i32 {
    change_word(slot, offset, found, |before| before.wrapping_add(delta))
}

pub fn fbmu_ref(slot: u32, into: &mut [u8]) -> i32 {
    with(|cell| {
        let Some(lease) = cell.memory.get(slot as usize).filter(|_| cell.is_attached(slot)) else {
            return UNSUPPORTED; // a run's own lease is nobody else's
        };
        let text = cell.fabric.reference(*lease);
        let Some(place) = into.get_mut(..text.len()) else { return CAPACITY_EXCEEDED };
        place.copy_from_slice(text.as_bytes());
        cell.pay(text.len());
        text.len() as i32
    })
}

pub fn fbmu_attach(reference: &[u8]) -> i32 {
    turn(false);
    with(|cell| {
        if cell.next_fault().is_some() {
            return DISCONNECTED;
        }
        let lease = match cell.fabric.find(reference) {
            Ok(lease) => lease,
            Err(status) => return status,
        };
        cell.pay(reference.len());
        let own = cell.memory.len() - cell.attached;
        if let Some(place) = cell.memory[own..].iter().position(|held| *held == lease) {
            return (own + place) as i32;
        }
        if cell.memory.len() >= LEASES_MAX as usize {
            return CAPACITY_EXCEEDED;
        }
        cell.memory.push(lease);
        cell.attached += 1;
        cell.memory.len() as i32 - 1
    })
}

pub fn fbbu_get_num_blocks(slot: u32) -> i64 {
    with(|cell| size(cell, &cell.blocks, slot, BLOCK_BYTES))
}

/// Where a block begins; one that lies beyond all numbers lies beyond every region.
fn offset_of(lba: u64) -> u64 {
    lba.saturating_mul(BLOCK_BYTES as u64)
}

pub fn fbbu_read_block(slot: u32, lba: u64, into: &mut [u8; BLOCK_BYTES]) -> i32 {
    status(move_bytes(
        |cell| &cell.blocks,
        slot,
        offset_of(lba),
        BLOCK_BYTES,
        |data| {
            into.copy_from_slice(data);
            Ok(())
        },
    ))
}

pub fn fbbu_write_block(slot: u32, lba: u64, block: &[u8; BLOCK_BYTES]) -> i32 {
    status(move_bytes(
        |cell| &cell.blocks,
        slot,
        offset_of(lba),
        BLOCK_BYTES,
        |place| {
            place.copy_from_slice(block);
            Ok(())
        },
    ))
}
