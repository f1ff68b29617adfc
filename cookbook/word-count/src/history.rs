//! Both texts counted side by side, on links that lose calls and answers, with a record of who saw what when.
//!
//! Each test prints its record as lines `word called returned added before`, of which a checker of histories makes
//! something: for each word there must be an order in which every addition saw what those before it had left.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::Mutex;

use grafos_collections::FabricHashMap;
use grafos_std::host::{MockFabric, MockFaults, MockTasklet};
use grafos_std::{Failure, Json, Output};

use crate::shared::{add_to, Count};
use crate::tasklets::count::compute;
use crate::tasklets::total::total;

const REGION_BYTES: u64 = 16 * 1024;
const SEEDS: u64 = 8;
const TEXTS: [&str; 2] = [include_str!("../texts/north.txt"), include_str!("../texts/south.txt")];

/// The fabric whose links lose one call of ten: every other time before its effect, every other time its answer.
fn failing(seed: u64) -> MockFabric {
    let fabric = MockFabric::new();
    fabric.set_faults(MockFaults { seed, refused_of_1000: 50, answer_lost_of_1000: 50, cut_after_calls: None });
    fabric
}

/// The additions of all tasklets, with the places of their calls and returns in one order.
#[derive(Default)]
struct Record {
    clock: AtomicU64,
    lines: Mutex<Vec<String>>,
}

impl Record {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, SeqCst)
    }

    fn add(&self, word: &str, times: u64, act: impl FnOnce() -> Result<u64, Failure>) -> Result<(), Failure> {
        let called = self.tick();
        let before = act()?;
        let line = format!("{word} {called} {} {times} {before}", self.tick());
        self.lines.lock().unwrap().push(line);
        Ok(())
    }

    fn print(&self, name: &str, seed: u64) {
        let lines = self.lines.lock().unwrap();
        println!("history {name} {seed}\n{}\nend", lines.join("\n"));
    }
}

#[test]
fn every_word_is_counted_right_on_links_that_fail() {
    for seed in 0..SEEDS {
        let fabric = failing(seed);
        let region = fabric.reference(fabric.lease_memory(REGION_BYTES));
        let record = Record::default();
        let counting = |text: &'static str| {
            let (record, region) = (&record, &region);
            MockTasklet::new(move |_: &[u8]| -> Result<Output, Failure> {
                let mut shared = Count::open(Some(&Json::parse(region.as_bytes())?))?;
                for (word, times) in compute(text) {
                    record.add(&word, times, || shared.add(&word, times))?;
                }
                shared.text_done()?;
                Ok(Output::empty())
            })
            .fuel(50_000_000)
        };
        for ran in fabric.run_together(seed, TEXTS.map(counting).into()) {
            assert_eq!((ran.code, ran.text.as_str()), ("finished", ""), "seed {seed}");
        }
        record.print("locked", seed);
        let input = format!(r#"{{"north":{{"region":{region}}}}}"#);
        let ran = fabric.run(MockTasklet::new(total).input(input.as_bytes()).fuel(50_000_000));
        let wanted: Vec<u8> = {
            let mut all: Vec<_> = compute(&TEXTS.join(" ")).into_iter().collect();
            all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            all.iter().flat_map(|(word, times)| format!("{word} {times}\n").into_bytes()).collect()
        };
        assert_eq!(String::from_utf8(ran.output), String::from_utf8(wanted), "seed {seed}: {}", ran.text);
    }
}

/// What the lock is for: without it additions are lost, and the checker of the record sees that.
#[test]
fn without_the_lock_the_record_shows_it() {
    for seed in 0..SEEDS {
        let fabric = failing(seed);
        let lease = fabric.lease_memory(REGION_BYTES);
        let record = Record::default();
        let counting = |text: &'static str| {
            let record = &record;
            MockTasklet::new(move |_: &[u8]| -> Result<Output, Failure> {
                let table = grafos_std::mem::FabricMem::hello()?.persistent(64);
                let mut words: FabricHashMap<String, u64> = FabricHashMap::new(table, 33, 10)?;
                for (word, times) in compute(text) {
                    record.add(&word, times, || add_to(&mut words, &word, times))?;
                }
                Ok(Output::empty())
            })
            .leases(&[lease])
            .fuel(50_000_000)
        };
        fabric.run_together(seed, TEXTS.map(counting).into());
        record.print("unlocked", seed);
    }
}
