//! Tasklets of one fabric, one after the other or side by side.

use super::fabric::{MockFabric, MockLease};
use super::turns::{wait_for_turn, Leaving, Turns};
use super::{mock_run, with, Cell, Ran};
use crate::lease::Kind;
use crate::output::Outcome;

/// A tasklet that is to run in a mock fabric, with what it holds.
pub struct MockTasklet<'a> {
    run: Box<dyn FnOnce(&[u8]) -> Ran + Send + 'a>,
    leases: Vec<MockLease>,
    input: Vec<u8>,
    fuel: Option<u64>,
}

impl<'a> MockTasklet<'a> {
    /// A tasklet without leases, whose input is empty.
    pub fn new<R: Outcome>(tasklet: impl FnOnce(&[u8]) -> R + Send + 'a) -> MockTasklet<'a> {
        let run = Box::new(move |input: &[u8]| mock_run(tasklet, input));
        MockTasklet { run, leases: Vec::new(), input: Vec::new(), fuel: None }
    }

    /// The leases that it holds, in the order of their slots.
    pub fn leases(mut self, leases: &[MockLease]) -> MockTasklet<'a> {
        self.leases = leases.to_vec();
        self
    }

    /// What it is given.
    pub fn input(mut self, input: &[u8]) -> MockTasklet<'a> {
        self.input = input.to_vec();
        self
    }

    /// Units of fuel that it may use.
    pub fn fuel(mut self, units: u64) -> MockTasklet<'a> {
        self.fuel = Some(units);
        self
    }

    /// Runs it in this thread, which afterwards is where it was before.
    fn run_in(self, fabric: &MockFabric, lane: Option<usize>) -> Ran {
        let mut cell = Cell::of(fabric.clone());
        let of_kind = |kind| self.leases.iter().filter(move |lease| lease.kind == kind).copied().collect();
        (cell.memory, cell.blocks) = (of_kind(Kind::Memory), of_kind(Kind::Blocks));
        cell.lane = lane;
        cell.fuel = self.fuel.unwrap_or(cell.fuel);
        let before = with(|here| std::mem::replace(here, cell));
        let ran = (self.run)(&self.input);
        with(|here| *here = before);
        ran
    }
}

impl MockFabric {
    /// Runs a tasklet to its end.
    pub fn run(&self, tasklet: MockTasklet<'_>) -> Ran {
        tasklet.run_in(self, None)
    }

    /// Runs tasklets side by side, each in a thread, one call on the fabric at a time: after each call the seed says whose
    /// is next. So whatever goes wrong goes wrong again with the same seed. One such race at a time in a fabric.
    ///
    /// # Panics
    /// When one of them does.
    pub fn run_together(&self, seed: u64, tasklets: Vec<MockTasklet<'_>>) -> Vec<Ran> {
        self.state().turns = Some(Turns::new(seed, tasklets.len()));
        let ran = std::thread::scope(|threads| {
            let begun: Vec<_> = tasklets
                .into_iter()
                .enumerate()
                .map(|(lane, tasklet)| {
                    threads.spawn(move || {
                        let _leaving = Leaving(self, lane);
                        wait_for_turn(self, lane);
                        tasklet.run_in(self, Some(lane))
                    })
                })
                .collect();
            begun.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
        });
        self.state().turns = None;
        ran.into_iter().map(|ended| ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    }
}
