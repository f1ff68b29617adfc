//! The mock that stands for a cell where there is none.

mod fabric;
mod faults;
mod regions;
mod services;
mod tasklets;
mod turns;

use std::cell::RefCell;

pub use fabric::{MockFabric, MockLease};
pub use faults::MockFaults;
pub use regions::*;
pub use services::MockSession;
pub use tasklets::MockTasklet;

use crate::cpu::Ended;
use crate::entry;
use crate::error::FabricError;
use crate::json::Json;
use crate::lease::Kind;
use crate::output::Outcome;
use crate::running::Context;

const DISCONNECTED: i32 = -1;
const LEASE_EXPIRED: i32 = -2;
const CAPACITY_EXCEEDED: i32 = -4;
const UNSUPPORTED: i32 = -5;
const INVALID: i32 = -22;

const CONTEXT_HANDLE: u32 = 1;
const INPUT_HANDLE: u32 = 2;

const RESPONSE_BYTES_MAX: usize = 1024 * 1024;
const OUTPUT_BYTES_MAX: usize = 8 * 1024 * 1024;
const LOG_BYTES_MAX: usize = 64 * 1024;
const LOG_ENTRY_BYTES_MAX: usize = 4 * 1024;
const FAIL_TEXT_BYTES_MAX: usize = 1024;
const FUEL_DEFAULT: u64 = 500_000;

pub use crate::cpu::Ended as Ran;

/// What runs a module that a test provided.
type Provided = std::sync::Arc<dyn Fn(&[u8]) -> Ended + Send + Sync>;

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
    fabric: MockFabric,
    memory: Vec<MockLease>,
    /// Of the memory leases, those that the run has attached to; its own come before them.
    attached: usize,
    blocks: Vec<MockLease>,
    claimed: [u32; 3],
    /// Of the tasklets of its fabric, and how many calls on regions it made: its faults follow from both.
    number: u64,
    calls: u64,
    /// Its place among tasklets that run side by side.
    lane: Option<usize>,
}

impl Cell {
    fn new() -> Cell {
        Cell::of(MockFabric::new())
    }

    fn of(fabric: MockFabric) -> Cell {
        let number = fabric.begin();
        let context = format!(
            r#"{{"provider":"local","cell_id":"local-mock","region":"here","run_id":"run-mock-{number}","tasklet":"mock","module_sha256":""}}"#
        );
        Cell {
            input: Vec::new(),
            context_handle: (CONTEXT_HANDLE, context.len() as u32),
            context: context.into_bytes(),
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
            number,
            fabric,
            memory: Vec::new(),
            attached: 0,
            blocks: Vec::new(),
            claimed: [0; 3],
            calls: 0,
            lane: None,
        }
    }

    fn pay(&mut self, moved: usize) {
        self.fuel_used += 1 + moved as u64;
    }

    fn next_fault(&mut self) -> Option<faults::Fault> {
        self.calls += 1;
        self.fabric.state().faults.of_call(self.number, self.calls)
    }

    /// Whether the slot is one that the run has attached to.
    fn is_attached(&self, slot: u32) -> bool {
        slot as usize >= self.memory.len() - self.attached
    }

    /// The first lease of a kind; a test that sets it anew gets a fresh one.
    fn set_first(&mut self, lease: MockLease) {
        let leases = if lease.kind == Kind::Blocks { &mut self.blocks } else { &mut self.memory };
        match leases.first_mut() {
            Some(first) => *first = lease,
            None => leases.push(lease),
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

/// Lets other tasklets that run side by side with this one make their calls first, if chance wants it.
fn turn(is_idle: bool) {
    let place = with(|cell| cell.lane.map(|lane| (cell.fabric.clone(), lane)));
    if let Some((fabric, lane)) = place {
        turns::pass(&fabric, lane, is_idle);
    }
}

/// As `turn`, for who waits in that fabric.
fn turn_of(fabric: &MockFabric, is_idle: bool) {
    if with(|cell| cell.fabric.is(fabric)) {
        turn(is_idle);
    }
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
    let told = |name: &str, value: &String| (name.to_owned(), Json::Text(value.clone()));
    let number = |name: &str, value: u64| (name.to_owned(), Json::Number(value.to_string()));
    let mut object: Vec<_> = fields.into_iter().map(|(name, value)| told(name, value)).collect();
    if let Some(service) = &context.service {
        let members = vec![
            told("name", &service.name),
            number("port", u64::from(service.port)),
            number("max_sessions", u64::from(service.max_sessions)),
            told("instance_id", &service.instance_id),
            number("generation", service.generation),
        ];
        object.push(("service".to_owned(), Json::Object(members)));
    }
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
    with(|cell| cell.set_first(cell.fabric.lease_memory(bytes)));
}

/// A block lease of so many blocks, all zero, in slot 0.
pub fn mock_set_fbbu_num_blocks(blocks: u64) {
    with(|cell| cell.set_first(cell.fabric.lease_blocks(blocks)));
}

/// The state of every lease of the run: 0, or the status that all calls on them answer from now on, such as -2 for one
/// that ran out.
pub fn mock_set_lease_status(status: i32) {
    with(|cell| cell.memory.iter().chain(&cell.blocks).for_each(|lease| cell.fabric.set_status(*lease, status)));
}

/// The time of day at the cell, in seconds, by which leases end.
pub fn mock_set_unix_time_secs(seconds: u64) {
    with(|cell| cell.fabric.set_time_s(seconds));
}

/// The fabric that this thread's runs are in: one of their own, unless they were begun in another.
pub fn mock_fabric() -> MockFabric {
    with(|cell| cell.fabric.clone())
}

/// From now on `CpuBuilder` starts this tasklet for that module.
pub fn mock_provide<R: Outcome + 'static>(module: &[u8], tasklet: fn(&[u8]) -> R) {
    let run = move |input: &[u8]| mock_run(tasklet, input);
    with(|cell| cell.fabric.state().modules.insert(module.to_vec(), std::sync::Arc::new(run)));
}

/// The entries of the log so far.
pub fn mock_log() -> Vec<String> {
    with(|cell| cell.log.clone())
}

/// Runs a tasklet as a cell would: with this input, to its end. What was set before stays set; what an earlier run
/// wrote is gone. A tasklet that takes no input runs as `mock_run(|_| tasklet(), b"")`.
pub fn mock_run<R: Outcome>(tasklet: impl FnOnce(&[u8]) -> R, input: &[u8]) -> Ran {
    mock_set_input(input);
    with(|cell| {
        let fresh = Cell::of(cell.fabric.clone());
        let before = std::mem::replace(cell, fresh);
        cell.context = before.context;
        cell.context_handle = before.context_handle;
        cell.input = before.input;
        cell.input_handle = before.input_handle;
        cell.fuel = before.fuel;
        cell.memory = before.memory;
        cell.memory.truncate(cell.memory.len() - before.attached);
        cell.blocks = before.blocks;
        cell.lane = before.lane;
    });
    let returned = entry::run_any(INPUT_HANDLE, input.len() as u32, tasklet);
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

fn here() -> MockFabric {
    turn(false);
    mock_fabric()
}

pub fn svc_listen(cap: u32, port: u32, max_sessions: u32) -> i32 {
    services::listen(&here(), cap, port, max_sessions).unwrap_or_else(|status| status)
}

pub fn svc_wait(listener: u32) -> i32 {
    services::wait(&here(), listener)
}

pub fn svc_accept(listener: u32) -> i32 {
    services::accept(&here(), listener)
}

pub fn svc_read(session: u32, into: &mut [u8]) -> i32 {
    services::read(&here(), session, into)
}

pub fn svc_write(session: u32, data: &[u8]) -> i32 {
    services::write(&here(), session, data)
}

pub fn svc_close(session: u32) -> i32 {
    services::close(&here(), session)
}

pub(crate) fn launch(module: &[u8], fuel: u64, input: &[u8]) -> Result<Ended, FabricError> {
    let fabric = mock_fabric();
    let provided = fabric.state().modules.get(module).cloned().ok_or(FabricError::Unsupported)?;
    let fresh = Cell { fuel, ..Cell::of(fabric) };
    let before = with(|cell| std::mem::replace(cell, fresh));
    let ended = provided(input);
    with(|cell| *cell = before);
    Ok(ended)
}

pub(crate) fn claim(kind: Kind, slot: u32) -> bool {
    with(|cell| {
        let before = cell.claimed[kind as usize];
        cell.claimed[kind as usize] |= 1 << slot;
        before & (1 << slot) == 0
    })
}

/// A lease that outlives its thread has nothing left to release.
pub(crate) fn release(kind: Kind, slot: u32) {
    let _ = CELL.try_with(|cell| cell.borrow_mut().claimed[kind as usize] &= !(1 << slot));
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
