//! Vectors, maps and queues.

use std::collections::BTreeMap;

use grafos_collections::{FabricHashMap, FabricQueue, FabricVec};
use grafos_std::host::{MockFabric, MockTasklet};
use grafos_std::mem::{FabricMem, Ground, MemBuilder};
use grafos_std::wire::{DECODE_FAILED, ENCODE_FAILED};
use grafos_std::{FabricError, Failure, Output};
use grafos_sync::{FabricMutex, LockError};

type Tried = Result<Output, Failure>;

fn finishes(fabric: &MockFabric, tasklet: MockTasklet<'_>) -> Output {
    let ran = fabric.run(tasklet);
    assert_eq!((ran.code, ran.text.as_str()), ("finished", ""));
    Output::bytes(ran.output)
}

#[test]
fn a_vector_outlives_the_tasklet_that_made_it() {
    let fabric = MockFabric::new();
    let lease = fabric.lease_memory(24 + 3 * 16);
    finishes(
        &fabric,
        MockTasklet::new(|_| -> Tried {
            let mut names: FabricVec<String> = FabricVec::new(MemBuilder::new().acquire()?, 16)?;
            names.push(&"one".to_owned())?;
            names.push(&"two".to_owned())?;
            assert_eq!(names.set(2, &"three".to_owned()), Err(FabricError::CapacityExceeded));
            assert_eq!(names.push(&"more than fits in".to_owned()), Err(ENCODE_FAILED));
            names.push(&"three".to_owned())?;
            assert_eq!(names.push(&"four".to_owned()), Err(FabricError::CapacityExceeded));
            Ok(Output::empty())
        })
        .leases(&[lease]),
    );
    finishes(
        &fabric,
        MockTasklet::new(|_| -> Tried {
            let mut names: FabricVec<String> = FabricVec::new(FabricMem::hello()?, 16)?;
            names.set(1, &"2".to_owned())?;
            assert_eq!(names.iter().collect::<Result<Vec<_>, _>>()?, ["one", "2", "three"]);
            assert_eq!((names.get(3)?, names.pop()?, names.len()?), (None, Some("three".to_owned()), 2));
            names.clear()?;
            assert_eq!((names.pop()?, names.is_empty()?), (None, true));
            let other = FabricVec::<u8>::new(FabricMem::hello()?, 32);
            assert_eq!(other.err(), Some(DECODE_FAILED)); // another stride
            assert_eq!(FabricHashMap::<u8, u8>::new(FabricMem::hello()?, 1, 1).err(), Some(DECODE_FAILED));
            assert_eq!(
                FabricVec::<u8>::new(FabricMem::hello()?.window(0, 28)?, 5).err(),
                Some(FabricError::CapacityExceeded)
            );
            Ok(Output::empty())
        })
        .leases(&[lease]),
    );
}

#[test]
fn a_vector_grows_by_the_leases_of_its_run() {
    let fabric = MockFabric::new();
    let leases = [fabric.lease_memory(64), fabric.lease_memory(64), fabric.lease_memory(80)];
    finishes(
        &fabric,
        MockTasklet::new(|_| -> Tried {
            let mut numbers: FabricVec<u64> = FabricVec::new(MemBuilder::new().acquire()?, 16)?;
            for number in 0..11 {
                numbers.push(&number)?; // two in the first, four in the second, five in the third
            }
            assert_eq!(numbers.capacity(), 11);
            assert_eq!(numbers.push(&11), Err(FabricError::CapacityExceeded));
            Ok(Output::empty())
        })
        .leases(&leases),
    );
    finishes(
        &fabric,
        MockTasklet::new(|_| -> Tried {
            let part = FabricVec::<u64>::new(FabricMem::slot(0)?, 16);
            assert_eq!(part.err(), Some(DECODE_FAILED));
            let all: Vec<Ground> =
                (0..3).map(|slot| FabricMem::slot(slot).map(Ground::from)).collect::<Result<_, _>>()?;
            let numbers: FabricVec<u64> = FabricVec::open(all, 16)?;
            assert_eq!(numbers.iter().collect::<Result<Vec<_>, _>>()?, (0..11).collect::<Vec<_>>());
            Ok(Output::empty())
        })
        .leases(&leases),
    );
}

#[test]
fn a_map_does_what_a_map_does() {
    let fabric = MockFabric::new();
    let lease = fabric.lease_memory(32 + 8 * (17 + 4 + 4));
    finishes(
        &fabric,
        MockTasklet::new(|_| -> Tried {
            let mut map: FabricHashMap<u16, u16> = FabricHashMap::new(FabricMem::hello()?, 4, 4)?;
            let mut model = BTreeMap::new();
            let mut state = 1_u64;
            for _ in 0..500 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let (key, value) = ((state >> 33) as u16 % 12, (state >> 50) as u16);
                if state >> 63 == 0 {
                    assert_eq!(map.remove(&key)?, model.remove(&key));
                } else if model.len() == 8 && !model.contains_key(&key) {
                    assert_eq!(map.insert(&key, &value), Err(FabricError::CapacityExceeded));
                } else {
                    assert_eq!(map.insert(&key, &value)?, model.insert(key, value));
                }
                assert_eq!((map.get(&key)?, map.len()?), (model.get(&key).copied(), model.len() as u64));
                assert_eq!(map.iter().collect::<Result<BTreeMap<_, _>, _>>()?, model);
            }
            assert_eq!(map.contains_key(&99), Ok(false));
            assert_eq!(map.recount()?, model.len() as u64);
            assert_eq!(map.capacity(), 8);
            Ok(Output::empty())
        })
        .leases(&[lease]),
    );
}

#[test]
fn a_map_keeps_out_what_does_not_fit() {
    let fabric = MockFabric::new();
    let lease = fabric.lease_memory(200);
    finishes(
        &fabric,
        MockTasklet::new(|_| -> Tried {
            let mem = FabricMem::hello()?;
            let mut map: FabricHashMap<String, String> = FabricHashMap::new(mem, 8, 8)?;
            let (short, long) = ("short".to_owned(), "much longer".to_owned());
            assert_eq!(map.insert(&long, &short), Err(ENCODE_FAILED));
            assert_eq!(map.insert(&short, &long), Err(ENCODE_FAILED));
            assert_eq!((map.get(&long)?, map.is_empty()?), (None, true));
            assert_eq!(FabricHashMap::<u8, u8>::new(mem, u64::MAX, 8).err(), Some(FabricError::CapacityExceeded));
            assert_eq!(FabricHashMap::<u8, u8>::new(mem, 180, 8).err(), Some(FabricError::CapacityExceeded));
            Ok(Output::empty())
        })
        .leases(&[lease]),
    );
}

/// What three tasklets count together: words of their own inputs, in one map, under one lock.
fn count_words(input: &[u8]) -> Result<Output, Failure> {
    let lease = MemBuilder::new().min_bytes(4096).acquire()?;
    let lock = FabricMutex::new(&lease, 0, ())?;
    let holder = u128::from(input[0]);
    for word in std::str::from_utf8(input)?.split_whitespace() {
        let guard = lock.lock(holder, 1_000_000)?;
        let table = lease.mem().window(64, 4032)?.persistent(64);
        let mut words: FabricHashMap<String, u64> = FabricHashMap::new(table, 12, 8)?;
        let seen = words.get(&word.to_owned())?.unwrap_or(0);
        words.insert(&word.to_owned(), &(seen + 1))?;
        match guard.unlock() {
            Err(FabricError::Disconnected) | Ok(()) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Output::empty())
}

#[test]
fn three_tasklets_build_one_word_count_on_links_that_fail() {
    const TEXTS: [&[u8]; 3] = [b"to be or not to be", b"be it so or so", b"not so but to be it"];
    for seed in 0..10 {
        let fabric = super::failing(seed);
        let lease = fabric.lease_memory(4096);
        let tasklets = TEXTS.iter().map(|text| MockTasklet::new(count_words).input(text).leases(&[lease]));
        for ran in fabric.run_together(seed, tasklets.collect()) {
            assert_eq!((ran.code, ran.text.as_str()), ("finished", ""), "seed {seed}");
        }
        fabric.set_faults(Default::default());
        finishes(
            &fabric,
            MockTasklet::new(|_| -> Tried {
                let table = FabricMem::hello()?.window(64, 4032)?;
                let words: FabricHashMap<String, u64> = FabricHashMap::new(table, 12, 8)?;
                let counted: Vec<_> = words.iter().collect::<Result<BTreeMap<_, _>, _>>()?.into_iter().collect();
                let wanted = [("be", 4), ("but", 1), ("it", 2), ("not", 2), ("or", 2), ("so", 3), ("to", 3)];
                assert_eq!(counted, wanted.map(|(word, count)| (word.to_owned(), count)), "seed {seed}");
                Ok(Output::empty())
            })
            .leases(&[lease]),
        );
    }
}

#[test]
fn a_lock_that_is_busy_says_so() {
    let fabric = MockFabric::new();
    let lease = fabric.lease_memory(64);
    finishes(
        &fabric,
        MockTasklet::new(|_| -> Tried {
            let lock = FabricMutex::new(FabricMem::hello()?, 0, 0_u8)?;
            let _held = lock.lock(1, 1)?;
            assert_eq!(lock.lock(2, 3).err(), Some(LockError::Busy { generation: 1 }));
            Ok(Output::empty())
        })
        .leases(&[lease]),
    );
}

#[test]
fn a_queue_is_a_ring_with_one_slot_that_stays_empty() {
    let fabric = MockFabric::new();
    let lease = fabric.lease_memory(32 + 4 * 8);
    finishes(
        &fabric,
        MockTasklet::new(|_| -> Tried {
            let mut queue: FabricQueue<u16> = FabricQueue::new(MemBuilder::new().acquire()?, 4, 8)?;
            for round in 0..5 {
                for number in 0..3 {
                    assert!(queue.push(&(round * 10 + number))?);
                }
                assert!(!queue.push(&99)?);
                assert_eq!((queue.len()?, queue.peek()?), (3, Some(round * 10)));
                for number in 0..3 {
                    assert_eq!(queue.pop()?, Some(round * 10 + number));
                }
                assert_eq!((queue.pop()?, queue.is_empty()?, queue.skip()?), (None, true, false));
            }
            Ok(Output::empty())
        })
        .leases(&[lease]),
    );
    finishes(
        &fabric,
        MockTasklet::new(|_| -> Tried {
            let mem = FabricMem::hello()?;
            assert_eq!(FabricQueue::<u16>::new(mem, 5, 8).err(), Some(FabricError::CapacityExceeded));
            assert_eq!(FabricQueue::<u16>::new(mem, u64::MAX, 8).err(), Some(FabricError::CapacityExceeded));
            assert_eq!(FabricQueue::<u16>::new(mem, 3, 8).err(), Some(DECODE_FAILED));
            mem.write_u64(8, 9)?; // a tail that no queue of this size has
            assert_eq!(FabricQueue::<u16>::new(mem, 4, 8)?.pop(), Err(DECODE_FAILED));
            Ok(Output::empty())
        })
        .leases(&[lease]),
    );
}

#[test]
fn a_queue_between_two_tasklets_loses_nothing_on_links_that_fail() {
    for seed in 0..10 {
        let fabric = super::failing(seed);
        let lease = fabric.lease_memory(256);
        let open = || FabricQueue::<u32>::new(FabricMem::hello()?.persistent(64), 4, 16);
        let push = move |_: &[u8]| -> Tried {
            let mut queue = open()?;
            for number in 0..40 {
                while !queue.push(&number)? {}
            }
            Ok(Output::empty())
        };
        let pop = move |_: &[u8]| -> Tried {
            let mut queue = open()?;
            for number in 0..40 {
                let mut found = queue.pop()?;
                while found.is_none() {
                    found = queue.pop()?;
                }
                assert_eq!(found, Some(number), "seed {seed}");
            }
            Ok(Output::empty())
        };
        let both = vec![MockTasklet::new(push).leases(&[lease]), MockTasklet::new(pop).leases(&[lease])];
        assert!(fabric.run_together(seed, both).iter().all(|ran| ran.code == "finished"), "seed {seed}");
    }
}
