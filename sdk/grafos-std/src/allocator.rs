//! The allocator of the standard library, which also says when there is no more.
//!
//! A run that says so and then fails ends with `memory_exceeded`, and not with a trap that explains nothing. The
//! standard library has a hook for this that is not stable, so it is said where the memory is refused.

use std::alloc::{GlobalAlloc, Layout, System};

use crate::host;

struct Telling;

#[global_allocator]
static ALLOCATOR: Telling = Telling;

fn told(block: *mut u8, wanted: usize) -> *mut u8 {
    if block.is_null() {
        host::out_of_memory(wanted as u64);
    }
    block
}

// SAFETY: every call goes to the standard library's allocator as it came, and its answer back.
unsafe impl GlobalAlloc for Telling {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        told(System.alloc(layout), layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        told(System.alloc_zeroed(layout), layout.size())
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, wanted: usize) -> *mut u8 {
        told(System.realloc(block, layout, wanted), wanted)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        System.dealloc(block, layout);
    }
}
