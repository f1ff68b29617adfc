//! The imports of a tasklet's module. Those that a tasklet does not use are not in it.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::block::BLOCK_BYTES;
use crate::cpu::Ended;
use crate::error::FabricError;
use crate::lease::Kind;

mod grafos_tasklet_v0 {
    #[link(wasm_import_module = "grafos_tasklet_v0")]
    extern "C" {
        pub fn buffer_read(handle: u32, offset: u32, dst: *mut u8, len: u32) -> i32;
        pub fn response_write(ptr: *const u8, len: u32) -> i32;
        pub fn output_write(ptr: *const u8, len: u32) -> i32;
        pub fn log_write(ptr: *const u8, len: u32) -> i32;
        pub fn fail(ptr: *const u8, len: u32) -> i32;
        pub fn out_of_memory(wanted: u64) -> i32;
        pub fn clock_ns() -> u64;
        pub fn fuel_remaining() -> u64;
    }
}

mod fabricbios_fbmu_v0 {
    #[link(wasm_import_module = "fabricbios_fbmu_v0")]
    extern "C" {
        pub fn fbmu_size(slot: u32) -> i64;
        pub fn fbmu_read(slot: u32, offset: u64, dst: *mut u8, len: u32) -> i32;
        pub fn fbmu_write(slot: u32, offset: u64, src: *const u8, len: u32) -> i32;
        pub fn fbmu_attach(reference: *const u8, len: u32) -> i32;
        pub fn fbmu_ref(slot: u32, dst: *mut u8, capacity: u32) -> i32;
        pub fn fbmu_compare_exchange(slot: u32, offset: u64, expected: u64, new: u64, found: *mut u64) -> i32;
        pub fn fbmu_fetch_add(slot: u32, offset: u64, delta: u64, found: *mut u64) -> i32;
    }
}

mod fabricbios_fbbu_v0 {
    #[link(wasm_import_module = "fabricbios_fbbu_v0")]
    extern "C" {
        pub fn fbbu_get_num_blocks(slot: u32) -> i64;
        pub fn fbbu_read_block(slot: u32, lba: u64, dst: *mut u8) -> i32;
        pub fn fbbu_write_block(slot: u32, lba: u64, src: *const u8) -> i32;
    }
}

mod grafos_svc_v0 {
    #[link(wasm_import_module = "grafos_svc_v0")]
    extern "C" {
        pub fn svc_listen(cap: u32, port: u32, max_sessions: u32) -> i32;
        pub fn svc_wait(listener: u32) -> i32;
        pub fn svc_accept(listener: u32) -> i32;
        pub fn svc_read(session: u32, dst: *mut u8, capacity: u32) -> i32;
        pub fn svc_write(session: u32, src: *const u8, len: u32) -> i32;
        pub fn svc_close(session: u32) -> i32;
    }
}

// SAFETY, for every call below: the pointers and lengths are those of slices, of arrays of the size of a block, or of
// numbers, and the host copies within them and keeps nothing. A length of a 32-bit memory fits in 32 bits, and a number
// is little endian on both sides.

pub fn buffer_read(handle: u32, offset: u32, into: &mut [u8]) -> i32 {
    unsafe { grafos_tasklet_v0::buffer_read(handle, offset, into.as_mut_ptr(), into.len() as u32) }
}

pub fn response_write(text: &[u8]) -> i32 {
    unsafe { grafos_tasklet_v0::response_write(text.as_ptr(), text.len() as u32) }
}

pub fn output_write(data: &[u8]) -> i32 {
    unsafe { grafos_tasklet_v0::output_write(data.as_ptr(), data.len() as u32) }
}

pub fn log_write(text: &[u8]) -> i32 {
    unsafe { grafos_tasklet_v0::log_write(text.as_ptr(), text.len() as u32) }
}

pub fn fail(text: &[u8]) -> i32 {
    unsafe { grafos_tasklet_v0::fail(text.as_ptr(), text.len() as u32) }
}

pub fn out_of_memory(wanted: u64) -> i32 {
    unsafe { grafos_tasklet_v0::out_of_memory(wanted) }
}

pub fn clock_ns() -> u64 {
    unsafe { grafos_tasklet_v0::clock_ns() }
}

pub fn fuel_remaining() -> u64 {
    unsafe { grafos_tasklet_v0::fuel_remaining() }
}

pub fn fbmu_size(slot: u32) -> i64 {
    unsafe { fabricbios_fbmu_v0::fbmu_size(slot) }
}

pub fn fbmu_read(slot: u32, offset: u64, into: &mut [u8]) -> i32 {
    unsafe { fabricbios_fbmu_v0::fbmu_read(slot, offset, into.as_mut_ptr(), into.len() as u32) }
}

pub fn fbmu_write(slot: u32, offset: u64, data: &[u8]) -> i32 {
    unsafe { fabricbios_fbmu_v0::fbmu_write(slot, offset, data.as_ptr(), data.len() as u32) }
}

pub fn fbmu_attach(reference: &[u8]) -> i32 {
    unsafe { fabricbios_fbmu_v0::fbmu_attach(reference.as_ptr(), reference.len() as u32) }
}

pub fn fbmu_ref(slot: u32, into: &mut [u8]) -> i32 {
    unsafe { fabricbios_fbmu_v0::fbmu_ref(slot, into.as_mut_ptr(), into.len() as u32) }
}

pub fn fbmu_compare_exchange(slot: u32, offset: u64, expected: u64, new: u64, found: &mut u64) -> i32 {
    unsafe { fabricbios_fbmu_v0::fbmu_compare_exchange(slot, offset, expected, new, found) }
}

pub fn fbmu_fetch_add(slot: u32, offset: u64, delta: u64, found: &mut u64) -> i32 {
    unsafe { fabricbios_fbmu_v0::fbmu_fetch_add(slot, offset, delta, found) }
}

pub fn fbbu_get_num_blocks(slot: u32) -> i64 {
    unsafe { fabricbios_fbbu_v0::fbbu_get_num_blocks(slot) }
}

pub fn fbbu_read_block(slot: u32, lba: u64, into: &mut [u8; BLOCK_BYTES]) -> i32 {
    unsafe { fabricbios_fbbu_v0::fbbu_read_block(slot, lba, into.as_mut_ptr()) }
}

pub fn fbbu_write_block(slot: u32, lba: u64, block: &[u8; BLOCK_BYTES]) -> i32 {
    unsafe { fabricbios_fbbu_v0::fbbu_write_block(slot, lba, block.as_ptr()) }
}

pub fn svc_listen(cap: u32, port: u32, max_sessions: u32) -> i32 {
    unsafe { grafos_svc_v0::svc_listen(cap, port, max_sessions) }
}

pub fn svc_wait(listener: u32) -> i32 {
    unsafe { grafos_svc_v0::svc_wait(listener) }
}

pub fn svc_accept(listener: u32) -> i32 {
    unsafe { grafos_svc_v0::svc_accept(listener) }
}

pub fn svc_read(session: u32, into: &mut [u8]) -> i32 {
    unsafe { grafos_svc_v0::svc_read(session, into.as_mut_ptr(), into.len() as u32) }
}

pub fn svc_write(session: u32, data: &[u8]) -> i32 {
    unsafe { grafos_svc_v0::svc_write(session, data.as_ptr(), data.len() as u32) }
}

pub fn svc_close(session: u32) -> i32 {
    unsafe { grafos_svc_v0::svc_close(session) }
}

/// No call of a cell starts a tasklet.
pub(crate) fn launch(_module: &[u8], _fuel: u64, _input: &[u8]) -> Result<Ended, FabricError> {
    Err(FabricError::Unsupported)
}

// The slots that a part of the program took, a bit each.
static CLAIMED: [AtomicU32; 3] = [const { AtomicU32::new(0) }; 3];

pub(crate) fn claim(kind: Kind, slot: u32) -> bool {
    CLAIMED[kind as usize].fetch_or(1 << slot, Relaxed) & (1 << slot) == 0
}

pub(crate) fn release(kind: Kind, slot: u32) {
    CLAIMED[kind as usize].fetch_and(!(1 << slot), Relaxed);
}

// The handles that the hooks were given; a module has one thread.
static CONTEXT: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];
static INPUT: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];

fn keep(place: &[AtomicU32; 2], handle: u32, length: u32) {
    place[0].store(handle, Relaxed);
    place[1].store(length, Relaxed);
}

fn kept(place: &[AtomicU32; 2]) -> (u32, u32) {
    (place[0].load(Relaxed), place[1].load(Relaxed))
}

pub(crate) fn keep_context(handle: u32, length: u32) {
    keep(&CONTEXT, handle, length);
}

pub(crate) fn keep_input(handle: u32, length: u32) {
    keep(&INPUT, handle, length);
}

pub(crate) fn context_handle() -> (u32, u32) {
    kept(&CONTEXT)
}

pub(crate) fn input_handle() -> (u32, u32) {
    kept(&INPUT)
}
