//! The mock that stands for a cell where there is none.

use std::cell::RefCell;

use crate::block::BLOCK_BYTES;
use crate::entry;
use crate::json::Json;
use crate::output::Outcome;
use crate::running::Context;

const INVALID: i32 = -22;
const CAPACITY_EXCEEDED: i32 = -4;
const UNSUPPORTED: i32 = -5;

const CONTEXT_HANDLE: u32 = 1;
const INPUT_HANDLE: u32 = 2;

const RESPONSE_BYTES_MAX: usize = 1024 * 1024;
const OUTPUT_BYTES_MAX: usize = 8 * 1024 * 1024;
const LOG_BYTES_MAX: usize = 64 * 1024;
const LOG_ENTRY_BYTES_MAX: usize = 4 * 1024;
const FAIL_TEXT_BYTES_MAX: usize = 1024;
const FUEL_DEFAULT: u64 = 500_000;

/// How a run in the mock ended and what it left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// `finished`, `program_error`, `response_invalid` or `output_too_large`, as a cell names it.
    pub code: &'static str,
    /// The text of a program error.
    pub text: String,
    pub response: Option<String>,
    pub output: Vec<u8>,
    pub log: Vec<String>,
}

#[derive(Clone)]
struct Cell {
    context: Vec<u8>,
    input: Vec<u8>,
    context_handle: (u32, u32),
    input_handle: (u32, u32),
    response: Option<String>,
    response_refused: i32,
    output: Vec<u8>,
    output_refused: bool,
    log: Vec<String>,
    log_bytes: usize,
    fail_text: String,
    fuel: u64,
    fuel_used: u64,
    memory: Option<Vec<u8>>,
    blocks: Option<Vec<[u8; BLOCK_BYTES]>>,
    lease_status: i32,
}

impl Cell {
    fn new() -> Cell {
        let context = br#"{"provider":"local","cell_id":"local-mock","region":"here","run_id":"run-mock","tasklet":"mock","module_sha256":""}"#;
        Cell {
            context: context.to_vec(),
            input: Vec::new(),
            context_handle: (CONTEXT_HANDLE, context.len() as u32),
            input_handle: (INPUT_HANDLE, 0),
            response: None,
            response_refused: 0,
            output: Vec::new(),
            output_refused: false,
            log: Vec::new(),
            log_bytes: 0,
            fail_text: String::new(),
            fuel: FUEL_DEFAULT,
            fuel_used: 0,
            memory: None,
            blocks: None,
            lease_status: 0,
        }
    }

    fn pay(&mut self, moved: usize) {
        self.fuel_used += 1 + moved as u64;
    }

    /// The range of a region of `size` bytes, or the status that refuses it.
    fn range(&self, size: Option<usize>, offset: u64, length: usize) -> Result<std::ops::Range<usize>, i32> {
        let size = size.ok_or(UNSUPPORTED)?;
        if self.lease_status < 0 {
            return Err(self.lease_status);
        }
        let start = usize::try_from(offset).map_err(|_| CAPACITY_EXCEEDED)?;
        let end = start.checked_add(length).ok_or(CAPACITY_EXCEEDED)?;
        if end > size {
            Err(CAPACITY_EXCEEDED)
        } else {
            Ok(start..end)
        }
    }
}

thread_local! {
    static CELL: RefCell<Cell> = RefCell::new(Cell::new());
}

fn with<T>(act: impl FnOnce(&mut Cell) -> T) -> T {
    CELL.with(|cell| act(&mut cell.borrow_mut()))
}

fn status(result: Result<(), i32>) -> i32 {
    result.err().unwrap_or(0)
}

// --- what a test sets and sees ---------------------------------------------------------------------------------

/// Begins anew: the default context, no input, no leases, full fuel, nothing written.
pub fn reset_mock() {
    with(|cell| *cell = Cell::new());
}

/// What `Tasklet::context` gives.
pub fn mock_set_context(context: &Context) {
    let mut text = String::new();
    let fields = [
        ("provider", &context.provider),
        ("cell_id", &context.cell_id),
        ("region", &context.region),
        ("run_id", &context.run_id),
        ("tasklet", &context.tasklet),
        ("module_sha256", &context.module_sha256),
    ];
    let object = fields.into_iter().map(|(name, value)| (name.to_owned(), Json::Text(value.clone()))).collect();
    Json::Object(object).write(&mut text);
    with(|cell| {
        cell.context_handle = (CONTEXT_HANDLE, text.len() as u32);
        cell.context = text.into_bytes();
    });
}

/// What `Tasklet::input` gives.
pub fn mock_set_input(input: &[u8]) {
    with(|cell| {
        cell.input_handle = (INPUT_HANDLE, input.len() as u32);
        cell.input = input.to_vec();
    });
}

/// Fuel of a run, in units.
pub fn mock_set_fuel(units: u64) {
    with(|cell| cell.fuel = units);
}

/// A memory lease of so many bytes, all zero, in slot 0.
pub fn mock_set_fbmu_arena_size(bytes: u64) {
    with(|cell| cell.memory = Some(vec![0; bytes as usize]));
}

/// A block lease of so many blocks, all zero, in slot 0.
pub fn mock_set_fbbu_num_blocks(blocks: u64) {
    with(|cell| cell.blocks = Some(vec![[0; BLOCK_BYTES]; blocks as usize]));
}

/// The state of every lease: 0, or the status that all calls on them answer from now on, such as -2 for one that
/// ran out.
pub fn mock_set_lease_status(status: i32) {
    with(|cell| cell.lease_status = status);
}

/// The entries of the log so far.
pub fn mock_log() -> Vec<String> {
    with(|cell| cell.log.clone())
}

/// Runs a tasklet as a cell would: with this input, to its end. What was set before stays set; what an earlier run
/// wrote is gone. A tasklet that takes no input runs as `mock_run(|_| tasklet(), b"")`.
pub fn mock_run<R: Outcome>(tasklet: fn(&[u8]) -> R, input: &[u8]) -> Ran {
    mock_set_input(input);
    with(|cell| {
        let before = std::mem::replace(cell, Cell::new());
        cell.context = before.context;
        cell.context_handle = before.context_handle;
        cell.input = before.input;
        cell.input_handle = before.input_handle;
        cell.fuel = before.fuel;
        cell.memory = before.memory;
        cell.blocks = before.blocks;
        cell.lease_status = before.lease_status;
    });
    let returned = entry::run_with_input(INPUT_HANDLE, input.len() as u32, tasklet);
    with(|cell| {
        let code = match (returned, cell.response_refused, cell.output_refused) {
            (0, 0, false) => "finished",
            (0, INVALID, _) => "response_invalid",
            (0, _, _) => "output_too_large",
            _ => "program_error",
        };
        let text = if returned == 0 { String::new() } else { cell.fail_text.clone() };
        let Cell { response, output, log, .. } = cell.clone();
        Ran { code, text, response, output, log }
    })
}

// --- the calls -------------------------------------------------------------------------------------------------

pub fn buffer_read(handle: u32, offset: u32, into: &mut [u8]) -> i32 {
    with(|cell| {
        let buffer = match handle {
            CONTEXT_HANDLE => &cell.context,
            INPUT_HANDLE => &cell.input,
            _ => return INVALID,
        };
        let Some(rest) = buffer.get(offset as usize..) else { return INVALID };
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        cell.pay(count);
        count as i32
    })
}

pub fn response_write(text: &[u8]) -> i32 {
    with(|cell| {
        cell.pay(text.len());
        cell.response_refused = match Json::parse(text) {
            _ if text.len() > RESPONSE_BYTES_MAX => CAPACITY_EXCEEDED,
            Err(_) => INVALID,
            Ok(_) => {
                cell.response = Some(String::from_utf8_lossy(text).into_owned());
                0
            }
        };
        cell.response_refused
    })
}

pub fn output_write(data: &[u8]) -> i32 {
    with(|cell| {
        if cell.output.len() + data.len() > OUTPUT_BYTES_MAX {
            cell.output_refused = true;
            return CAPACITY_EXCEEDED;
        }
        cell.pay(data.len());
        cell.output.extend_from_slice(data);
        0
    })
}

pub fn log_write(text: &[u8]) -> i32 {
    with(|cell| {
        if text.len() > LOG_ENTRY_BYTES_MAX || cell.log_bytes + text.len() + 1 > LOG_BYTES_MAX {
            return CAPACITY_EXCEEDED;
        }
        cell.pay(text.len());
        cell.log_bytes += text.len() + 1;
        cell.log.push(String::from_utf8_lossy(text).into_owned());
        0
    })
}

pub fn fail(text: &[u8]) -> i32 {
    with(|cell| {
        cell.pay(text.len());
        let kept = &text[..text.len().min(FAIL_TEXT_BYTES_MAX)];
        cell.fail_text = String::from_utf8_lossy(kept).replace('\n', " ");
        0
    })
}

pub fn out_of_memory(_wanted: u64) -> i32 {
    0
}

pub fn clock_ns() -> u64 {
    with(|cell| {
        cell.pay(0);
        cell.fuel_used
    })
}

pub fn fuel_remaining() -> u64 {
    with(|cell| {
        cell.pay(0);
        cell.fuel.saturating_sub(cell.fuel_used)
    })
}

pub fn fbmu_size(slot: u32) -> i64 {
    with(|cell| match &cell.memory {
        Some(memory) if slot == 0 && cell.lease_status == 0 => memory.len() as i64,
        Some(_) if slot == 0 => i64::from(cell.lease_status),
        _ => i64::from(UNSUPPORTED),
    })
}

pub fn fbmu_read(slot: u32, offset: u64, into: &mut [u8]) -> i32 {
    with(|cell| {
        let size = cell.memory.as_ref().filter(|_| slot == 0).map(Vec::len);
        status(cell.range(size, offset, into.len()).map(|range| {
            into.copy_from_slice(&cell.memory.as_ref().expect("there is a size")[range]);
            cell.pay(into.len());
        }))
    })
}

pub fn fbmu_write(slot: u32, offset: u64, data: &[u8]) -> i32 {
    with(|cell| {
        let size = cell.memory.as_ref().filter(|_| slot == 0).map(Vec::len);
        status(cell.range(size, offset, data.len()).map(|range| {
            cell.memory.as_mut().expect("there is a size")[range].copy_from_slice(data);
            cell.pay(data.len());
        }))
    })
}

pub fn fbbu_get_num_blocks(slot: u32) -> i64 {
    with(|cell| match &cell.blocks {
        Some(blocks) if slot == 0 && cell.lease_status == 0 => blocks.len() as i64,
        Some(_) if slot == 0 => i64::from(cell.lease_status),
        _ => i64::from(UNSUPPORTED),
    })
}

pub fn fbbu_read_block(slot: u32, lba: u64, into: &mut [u8; BLOCK_BYTES]) -> i32 {
    with(|cell| {
        let count = cell.blocks.as_ref().filter(|_| slot == 0).map(Vec::len);
        status(cell.range(count, lba, 1).map(|range| {
            *into = cell.blocks.as_ref().expect("there is a count")[range.start];
            cell.pay(BLOCK_BYTES);
        }))
    })
}

pub fn fbbu_write_block(slot: u32, lba: u64, block: &[u8; BLOCK_BYTES]) -> i32 {
    with(|cell| {
        let count = cell.blocks.as_ref().filter(|_| slot == 0).map(Vec::len);
        status(cell.range(count, lba, 1).map(|range| {
            cell.blocks.as_mut().expect("there is a count")[range.start] = *block;
            cell.pay(BLOCK_BYTES);
        }))
    })
}

pub(crate) fn keep_context(handle: u32, length: u32) {
    with(|cell| cell.context_handle = (handle, length));
}

pub(crate) fn keep_input(handle: u32, length: u32) {
    with(|cell| cell.input_handle = (handle, length));
}

pub(crate) fn context_handle() -> (u32, u32) {
    with(|cell| cell.context_handle)
}

pub(crate) fn input_handle() -> (u32, u32) {
    with(|cell| cell.input_handle)
}
