//! Tasklets side by side, one call at a time: who is next is chosen by a seed, so that a race is the same each time.

use super::fabric::MockFabric;
use super::faults::mixed;

/// Calls in a row of which each only waits, after which nobody can be expected to go on.
const IDLE_TURNS_MAX: u64 = 1_000_000;

pub(super) struct Turns {
    chance: u64,
    goes_on: Vec<bool>,
    current: usize,
    idle: u64,
}

impl Turns {
    pub(super) fn new(seed: u64, count: usize) -> Turns {
        let mut turns = Turns { chance: seed, goes_on: vec![true; count], current: 0, idle: 0 };
        turns.choose();
        turns
    }

    fn choose(&mut self) {
        let live: Vec<usize> = (0..self.goes_on.len()).filter(|lane| self.goes_on[*lane]).collect();
        if live.is_empty() {
            return;
        }
        self.chance = self.chance.wrapping_add(1);
        self.current = live[mixed(self.chance) as usize % live.len()];
    }
}

/// Waits until it is this lane's turn, without having had one: at its beginning.
pub(super) fn wait_for_turn(fabric: &MockFabric, lane: usize) {
    let mut state = fabric.state();
    while state.turns.as_ref().is_some_and(|turns| turns.current != lane) {
        state = fabric.changed().wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
    }
}

/// Lets chance say who makes the next call, and waits until it is this lane. `is_idle` when the lane only waits for
/// another.
pub(super) fn pass(fabric: &MockFabric, lane: usize, is_idle: bool) {
    if let Some(turns) = &mut fabric.state().turns {
        turns.idle = if is_idle { turns.idle + 1 } else { 0 };
        assert!(turns.idle < IDLE_TURNS_MAX, "every tasklet waits for another one");
        turns.choose();
    }
    fabric.changed().notify_all();
    wait_for_turn(fabric, lane);
}

/// Takes a lane out when it is dropped, also by a panic.
pub(super) struct Leaving<'a>(pub(super) &'a MockFabric, pub(super) usize);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if let Some(turns) = &mut self.0.state().turns {
            turns.goes_on[self.1] = false;
            turns.choose();
        }
        self.0.changed().notify_all();
    }
}
