//! Tasklets that share leased memory, in the mock fabric: one after the other, side by side, and with links that fail.

mod collections;
mod leases;
mod rpc;
mod services;
mod streams;
mod sync;
mod wire;

use grafos_std::host::{MockFabric, MockFaults};

/// A link that loses one call of ten: every other time before its effect, every other time its answer.
fn failing(seed: u64) -> MockFabric {
    let fabric = MockFabric::new();
    fabric.set_faults(MockFaults { seed, refused_of_1000: 50, answer_lost_of_1000: 50, cut_after_calls: None });
    fabric
}
