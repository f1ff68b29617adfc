//! The whole pipeline, on links that fail, and with stages that are stopped after any of their calls and run again.

use grafos_std::host::{MockFabric, MockFaults, MockTasklet, Ran};
use grafos_std::{Failure, Output};

use crate::tasklets::double::double;
use crate::tasklets::sink::sink;
use crate::tasklets::source::source;

type Tasklet = fn(&[u8]) -> Result<Output, Failure>;

const REGION_BYTES: u64 = 4096;
const VALUES: &str = "[1,2,3,4,5,4294967295,7,8,9]";
const DOUBLED: &str = r#"{"values":[2,4,6,8,10,4294967295,14,16,18]}"#;

fn run(fabric: &MockFabric, tasklet: Tasklet, input: &str) -> Ran {
    fabric.run(MockTasklet::new(tasklet).input(input.as_bytes()))
}

/// A fabric with an empty region, and the source's input.
fn prepared() -> (MockFabric, String) {
    let fabric = MockFabric::new();
    let region = fabric.reference(fabric.lease_memory(REGION_BYTES));
    (fabric, format!(r#"{{"region":{region},"values":{VALUES}}}"#))
}

fn through(fabric: &MockFabric, input: &str, stages: &[Tasklet]) -> String {
    stages.iter().fold(input.to_owned(), |input, stage| {
        let ran = run(fabric, *stage, &input);
        ran.response.unwrap_or_else(|| panic!("{}: {}", ran.code, ran.text))
    })
}

#[test]
fn every_value_comes_through_once_and_in_order_on_links_that_fail() {
    for seed in 0..10 {
        let (fabric, input) = prepared();
        fabric.set_faults(MockFaults { seed, refused_of_1000: 50, answer_lost_of_1000: 50, cut_after_calls: None });
        assert_eq!(through(&fabric, &input, &[source, double, sink]), DOUBLED, "seed {seed}");
    }
}

#[test]
fn a_stage_that_was_stopped_anywhere_goes_on() {
    for last in 1.. {
        let (fabric, input) = prepared();
        let cut = MockFaults { cut_after_calls: Some(last), ..MockFaults::default() };
        fabric.set_faults(cut);
        let stopped = run(&fabric, source, &input).response.is_none();
        fabric.set_faults(MockFaults::default());
        let passed = through(&fabric, &input, &[source]);
        fabric.set_faults(cut);
        let stopped = stopped | run(&fabric, double, &passed).response.is_none();
        fabric.set_faults(MockFaults::default());
        assert_eq!(through(&fabric, &passed, &[double, sink]), DOUBLED, "stopped after {last} calls");
        if !stopped {
            return;
        }
    }
}

#[test]
fn a_region_is_for_one_pass() {
    let (fabric, input) = prepared();
    assert_eq!(through(&fabric, &input, &[source, double, sink]), DOUBLED);
    assert_eq!(through(&fabric, &input, &[source, double, sink]), r#"{"values":[]}"#);
}

#[test]
fn what_it_cannot_pass_on_ends_with_a_name() {
    let (fabric, input) = prepared();
    let many = input.replace(VALUES, &format!("[{}1]", "1,".repeat(64)));
    let small = fabric.reference(fabric.lease_memory(1375));
    for (input, text) in [
        ("[", "invalid_input"),
        ("{}", "missing_region"),
        (&input.replace("values", "other"), "invalid_input"),
        (&input.replace("[1,", "[-1,"), "invalid_input"),
        (&input.replace("[1,", "[4294967296,"), "invalid_input"),
        (&many, "stream_waited"),
        (&format!(r#"{{"region":{small},"values":[1]}}"#), "capacity_exceeded"),
        (r#"{"region":{"lease_id":"none"},"values":[1]}"#, "io_error -22"),
    ] {
        let ran = run(&fabric, source, input);
        assert_eq!((ran.code, ran.text.as_str()), ("program_error", text), "{input}");
    }
}
