//! Locks and what else tasklets take turns by.

use grafos_std::host::{MockFabric, MockTasklet};
use grafos_std::mem::FabricMem;
use grafos_std::{FabricError, Failure, Output};
use grafos_sync::{holder_of_run, FabricBarrier, FabricCounter, FabricMutex, FabricOnce, FabricSemaphore, LockError};

type Tried = Result<Output, Failure>;

const PATIENCE: u32 = 1_000_000;

/// Runs what a test does with 64 bytes that it holds alone.
fn alone(test: impl FnOnce(FabricMem) -> Result<(), Failure> + Send) {
    let fabric = MockFabric::new();
    let lease = fabric.lease_memory(64);
    let ran = fabric.run(
        MockTasklet::new(|_: &[u8]| -> Tried {
            test(FabricMem::hello()?)?;
            Ok(Output::empty())
        })
        .leases(&[lease]),
    );
    assert_eq!((ran.code, ran.text.as_str()), ("finished", ""));
}

/// Runs the same side by side, each with its number, on links that fail; gives the memory as it is afterwards.
fn together(seed: u64, count: u8, tasklet: impl Fn(u8, FabricMem) -> Result<(), Failure> + Sync) -> Vec<u8> {
    let fabric = super::failing(seed);
    let lease = fabric.lease_memory(64);
    let begin = |number: u8| {
        let tasklet = &tasklet;
        MockTasklet::new(move |_: &[u8]| -> Tried {
            tasklet(number, FabricMem::hello()?)?;
            Ok(Output::empty())
        })
        .leases(&[lease])
    };
    for ran in fabric.run_together(seed, (0..count).map(begin).collect()) {
        assert_eq!((ran.code, ran.text.as_str()), ("finished", ""), "seed {seed}");
    }
    fabric.bytes_of(lease)
}

#[test]
fn a_lock_guards_a_value_and_counts_its_holders() {
    alone(|mem| {
        let lock = FabricMutex::new(mem, 0, (1_u32, true))?;
        let mut guard = lock.lock(holder_of_run(), 1)?;
        assert_eq!((guard.get()?, guard.generation()), ((1, true), 1));
        guard.set((u32::MAX, false))?;
        drop(guard);
        let again = FabricMutex::new(mem, 0, (1_u32, true))?;
        let guard = again.lock(7, 1)?;
        assert_eq!((guard.get()?, guard.generation(), lock.generation()?), ((u32::MAX, false), 2, 2));
        guard.unlock()?;
        assert_eq!(FabricMutex::new(mem, 4, 0_u8).err(), Some(FabricError::IoError(-22)));
        assert_eq!(FabricMutex::new(mem, 48, 0_u8).err(), Some(FabricError::CapacityExceeded));
        Ok(())
    });
}

#[test]
fn who_was_fenced_off_learns_it_at_each_call() {
    alone(|mem| {
        let (lock, counter) = (FabricMutex::new(mem, 0, 5_u64)?, FabricCounter::new(mem, 56)?);
        let mut stopped = lock.lock(1, 1)?;
        counter.add(stopped.generation(), 1)?;
        assert_eq!(lock.take_over(9, 2).err(), Some(LockError::Busy { generation: 1 }));
        let mut next = lock.take_over(stopped.generation(), 2)?;
        next.set(next.get()? + 1)?;
        counter.fence(next.generation())?;
        assert_eq!(stopped.get(), Err(FabricError::Fenced));
        assert_eq!(stopped.set(0), Err(FabricError::Fenced));
        assert_eq!(counter.add(stopped.generation(), 1), Err(FabricError::Fenced));
        assert_eq!(stopped.unlock(), Err(FabricError::Fenced));
        assert_eq!((next.get()?, counter.add(next.generation(), 1)?, counter.generation()?), (6, 2, 2));
        Ok(next.unlock()?)
    });
}

#[test]
fn nobody_is_lost_under_a_lock_on_links_that_fail() {
    for seed in 0..10 {
        let bytes = together(seed, 3, |number, mem| {
            let lock = FabricMutex::new(mem, 0, 0_u32)?;
            for _ in 0..10 {
                let mut guard = lock.lock(u128::from(number) + 1, PATIENCE)?;
                guard.set(guard.get()? + 1)?;
                match guard.unlock() {
                    Ok(()) | Err(FabricError::Disconnected) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(())
        });
        assert_eq!((bytes[4], bytes[8], bytes[12]), (30, 1, 30), "seed {seed}");
        // generation, length, value
    }
}

#[test]
fn what_is_done_once_is_done_once_on_links_that_fail() {
    for seed in 0..10 {
        let bytes = together(seed, 4, |number, mem| {
            let once = FabricOnce::new(mem, 0)?;
            let own = mem.persistent(64);
            let did = once.call_once(u128::from(number) + 1, PATIENCE, || -> Result<(), LockError> {
                let before = own.read(8, 1)?[0];
                Ok(own.write(8, &[before + 1])?)
            })?;
            assert!(once.is_done()?);
            Ok(own.write(16 + u64::from(number), &[u8::from(did)])?)
        });
        assert_eq!((bytes[8], bytes[16..20].iter().sum::<u8>()), (1, 1), "seed {seed}");
    }
}

#[test]
fn work_that_fails_is_left_to_the_next() {
    alone(|mem| {
        let once = FabricOnce::new(mem, 0)?;
        let failed = once.call_once(1, 1, || -> Result<(), LockError> { Err(FabricError::Revoked.into()) });
        assert_eq!(failed, Err(LockError::Fabric(FabricError::Revoked)));
        let inner = once.call_once(1, 1, || -> Result<(), LockError> {
            assert_eq!(once.call_once(2, 3, || Ok::<_, LockError>(())), Err(LockError::Busy { generation: 0 }));
            Ok(())
        });
        assert_eq!(inner, Ok(true));
        assert_eq!(once.call_once(2, 1, || Ok::<_, LockError>(())), Ok(false));
        Ok(())
    });
}

#[test]
fn a_counter_counts_both_ways_within_its_bounds() {
    alone(|mem| {
        let counter = FabricCounter::new(mem, 8)?;
        assert_eq!((counter.add(0, 5)?, counter.add(0, -5)?, counter.get()?), (5, 0, 0));
        assert_eq!(counter.add(0, -1), Err(FabricError::CapacityExceeded));
        assert_eq!((counter.add(3, i32::MAX)?, counter.add(3, i32::MAX)?), (i32::MAX as u32, u32::MAX - 1));
        assert_eq!(counter.add(3, 2), Err(FabricError::CapacityExceeded));
        assert_eq!(counter.add(2, 0), Err(FabricError::Fenced));
        Ok(())
    });
}

#[test]
fn no_more_than_the_permits_are_out() {
    alone(|mem| {
        let semaphore = FabricSemaphore::new(mem, 0, 3)?;
        let two = semaphore.acquire(2, 1)?;
        assert_eq!(semaphore.acquire(2, 3).err(), Some(LockError::Busy { generation: 0 }));
        assert_eq!(semaphore.acquire(4, 3).err(), Some(LockError::Fabric(FabricError::CapacityExceeded)));
        assert_eq!(semaphore.available()?, 1);
        semaphore.release(two)?;
        let lost = semaphore.acquire(3, 1)?; // by one that is stopped
        assert_eq!(semaphore.fence()?, 1);
        assert_eq!(semaphore.release(lost), Err(FabricError::Fenced));
        assert_eq!(semaphore.available()?, 3);
        Ok(())
    });
}

#[test]
fn at_a_barrier_all_wait_for_the_last_on_links_that_fail() {
    for seed in 0..10 {
        together(seed, 3, |number, mem| {
            let (barrier, own) = (FabricBarrier::new(mem, 0, 3)?, mem.persistent(64));
            for round in 1..=3 {
                own.write_u64(8 + u64::from(number) * 8, round)?;
                barrier.wait(number.into(), PATIENCE)?;
                for other in 0..3 {
                    assert!(own.read_u64(8 + other * 8)? >= round, "{number} went on before {other} had come");
                }
                barrier.wait(number.into(), PATIENCE)?;
            }
            Ok(())
        });
    }
}

#[test]
fn at_a_barrier_each_party_counts_once_however_often_it_comes() {
    alone(|mem| {
        for parties in [0, 33] {
            assert_eq!(FabricBarrier::new(mem, 0, parties).err(), Some(FabricError::IoError(-22)));
        }
        let barrier = FabricBarrier::new(mem, 0, 2)?;
        assert_eq!(barrier.arrive(2), Err(FabricError::IoError(-22)));
        assert_eq!((barrier.arrive(0)?, barrier.arrive(0)?, barrier.is_open(0)?), (0, 0, false));
        assert_eq!(barrier.wait(0, 3), Err(LockError::Busy { generation: 0 }));
        assert_eq!((barrier.arrive(1)?, barrier.is_open(0)?, barrier.arrive(1)?), (0, true, 1));
        assert_eq!(FabricBarrier::new(mem, 8, 32)?.arrive(31)?, 0);
        Ok(FabricBarrier::new(mem, 16, 1)?.wait(0, 1)?)
    });
}
