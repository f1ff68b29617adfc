//! Builders, references, and leases that end.

use grafos_std::atomic::FabricAtomicU64;
use grafos_std::block::BlockBuilder;
use grafos_std::cpu::CpuBuilder;
use grafos_std::host::{self, mock_run, MockFabric, MockTasklet};
use grafos_std::mem::{FabricMem, MemBuilder, MemLease, MOVE_BYTES_MAX};
use grafos_std::wire::{from_bytes, to_bytes, DECODE_FAILED};
use grafos_std::{FabricError, Failure, Json, LeaseRef, LeaseStatus, Output};

const INVALID: FabricError = FabricError::IoError(-22);

/// What a tasklet with these leases answers.
fn in_run<T>(fabric: &MockFabric, leases: &[host::MockLease], ask: impl FnOnce() -> T + Send) -> T
where
    T: Send,
{
    let mut answer = None;
    let place = &mut answer;
    fabric.run(
        MockTasklet::new(move |_: &[u8]| {
            *place = Some(ask());
            Output::empty()
        })
        .leases(leases),
    );
    answer.expect("a tasklet runs to its end")
}

#[test]
fn each_acquire_gets_the_next_lease_that_is_large_enough() {
    let fabric = MockFabric::new();
    let leases = [fabric.lease_memory(64), fabric.lease_memory(256), fabric.lease_memory(64)];
    in_run(&fabric, &leases, || {
        let large = MemBuilder::new().min_bytes(100).lease_secs(60).acquire().unwrap();
        assert_eq!(large.mem().arena_size(), 256);
        let first = MemBuilder::new().acquire().unwrap();
        let second = MemBuilder::new().acquire().unwrap();
        first.mem().write(0, b"first").unwrap();
        assert_eq!(second.mem().read(0, 5).unwrap(), [0; 5]);
        assert_eq!(MemBuilder::new().acquire().err(), Some(FabricError::CapacityExceeded));
        drop(first);
        let again = MemBuilder::new().acquire().unwrap();
        assert_eq!(again.mem().read(0, 5).unwrap(), b"first");
    });
}

#[test]
fn a_lease_that_ended_is_told_when_no_other_fits() {
    let fabric = MockFabric::new();
    let (ended, small) = (fabric.lease_memory(64), fabric.lease_memory(8));
    fabric.renew(ended, 60);
    let acquire = || MemBuilder::new().min_bytes(16).acquire().err();
    assert_eq!(in_run(&fabric, &[ended, small], acquire), None);
    fabric.advance_s(60);
    assert_eq!(in_run(&fabric, &[ended, small], acquire), Some(FabricError::LeaseExpired));
    assert_eq!(in_run(&fabric, &[small], acquire), Some(FabricError::CapacityExceeded));
    assert_eq!(in_run(&fabric, &[], acquire), Some(FabricError::CapacityExceeded));
}

#[test]
fn a_lease_says_what_has_become_of_it_and_its_memory_never_answers_old_bytes() {
    let fabric = MockFabric::new();
    let lease = fabric.lease_memory(16);
    in_run(&fabric, &[lease], || {
        let held = MemBuilder::new().acquire().unwrap();
        held.mem().write(0, b"old").unwrap();
        assert_eq!(held.status(), Ok(LeaseStatus::Active));
        for (status, error, shown) in [
            (-2, FabricError::LeaseExpired, Ok(LeaseStatus::Expired)),
            (-3, FabricError::Fenced, Ok(LeaseStatus::Revoked)),
            (-6, FabricError::Revoked, Ok(LeaseStatus::Revoked)),
            (-1, FabricError::Disconnected, Err(FabricError::Disconnected)),
        ] {
            fabric.set_status(lease, status);
            assert_eq!(held.status(), shown);
            assert_eq!(held.mem().read(0, 3), Err(error));
            assert_eq!(held.mem().fetch_add(0, 1), Err(error));
        }
        let next = fabric.lease_again(lease);
        assert_eq!(held.mem().read(0, 3), Err(FabricError::LeaseExpired));
        assert_eq!(fabric.bytes_of(next), [0; 16]);
    });
}

#[test]
fn blocks_are_taken_alike() {
    let fabric = MockFabric::new();
    let leases = [fabric.lease_blocks(1), fabric.lease_memory(8), fabric.lease_blocks(4)];
    in_run(&fabric, &leases, || {
        let lease = BlockBuilder::new().min_blocks(2).lease_secs(60).acquire().unwrap();
        lease.block().write_block(3, &[7; 512]).unwrap();
        assert_eq!(lease.block().write_block(4, &[7; 512]), Err(FabricError::CapacityExceeded));
        assert_eq!(lease.block().read_block(u64::MAX), Err(FabricError::CapacityExceeded));
        assert_eq!(lease.status(), Ok(LeaseStatus::Active));
        assert_eq!(BlockBuilder::new().min_blocks(2).acquire().err(), Some(FabricError::CapacityExceeded));
        assert_eq!(BlockBuilder::new().acquire().unwrap().block().num_blocks(), 1);
    });
    assert_eq!(fabric.bytes_of(leases[2])[3 * 512..], [7; 512]);
}

#[test]
fn a_run_has_one_core_and_starts_what_was_provided() {
    fn fails(_: &[u8]) -> Result<Output, &'static str> {
        Err("no")
    }
    host::reset_mock();
    host::mock_provide(b"module", fails);
    assert_eq!(CpuBuilder::new().cores(2).acquire().err(), Some(FabricError::CapacityExceeded));
    let lease = CpuBuilder::new().acquire().unwrap();
    assert_eq!(CpuBuilder::new().acquire().err(), Some(FabricError::CapacityExceeded));
    let ended = lease.cpu().submit(b"module").fuel(100).launch().unwrap();
    assert_eq!((ended.code, ended.text.as_str()), ("program_error", "no"));
    assert_eq!(lease.cpu().submit(b"other").launch(), Err(FabricError::Unsupported));
    drop(lease);
    assert!(CpuBuilder::new().acquire().is_ok());
}

#[test]
fn a_region_is_handed_on_by_its_reference() {
    fn give(input: &[u8]) -> Result<Output, Failure> {
        let lease = attached(input)?;
        lease.mem().write(0, b"from one to another")?;
        Ok(Output::json(lease.reference()?))
    }
    fn take(input: &[u8]) -> Result<Output, Failure> {
        let (lease, again) = (attached(input)?, attached(input)?);
        assert_eq!(lease.reference()?, again.reference()?);
        Ok(Output::bytes(lease.mem().read(0, 19)?))
    }
    let fabric = MockFabric::new();
    let (own, shared) = (fabric.lease_memory(64), fabric.lease_memory(64));
    let run = |tasklet: fn(&[u8]) -> Result<Output, Failure>, input: &str| {
        fabric.run(MockTasklet::new(tasklet).leases(&[own]).input(input.as_bytes()))
    };
    let told = run(give, &fabric.reference(shared)).response.unwrap();
    assert_eq!(told, fabric.reference(shared));
    assert_eq!(run(take, &told).output, b"from one to another");
    assert_eq!(fabric.bytes_of(own), [0; 64]);
    let elsewhere = MockFabric::new();
    elsewhere.lease_memory(64);
    assert_eq!(elsewhere.run(MockTasklet::new(take).input(told.as_bytes())).text, "unsupported");
    fabric.lease_again(shared);
    assert_eq!(run(take, &told).text, "lease_expired");
}

fn attached(input: &[u8]) -> Result<MemLease, Failure> {
    Ok(MemBuilder::new().min_bytes(64).attach(&LeaseRef::from_json(&Json::parse(input)?)?)?)
}

#[test]
fn what_is_no_reference_is_none() {
    assert_eq!(LeaseRef::parse("no json"), Err(DECODE_FAILED));
    assert_eq!(LeaseRef::parse("[1]"), Err(DECODE_FAILED));
    assert_eq!(LeaseRef::parse(&format!("{{\"a\":\"{}\"}}", "x".repeat(600))), Err(DECODE_FAILED));
    let fabric = MockFabric::new();
    let (own, shared) = (fabric.lease_memory(8), fabric.lease_memory(64));
    let reference: LeaseRef = fabric.reference(shared).parse().unwrap();
    assert_eq!(reference.get("generation").and_then(Json::as_u64), Some(1));
    assert_eq!(from_bytes::<LeaseRef>(&to_bytes(&reference)), Ok(reference.clone()));
    in_run(&fabric, &[own], || {
        for forged in ["{}".to_owned(), reference.as_str().replace("lease-mock-1", "lease-mock-9")] {
            let forged: LeaseRef = forged.parse().unwrap();
            assert_eq!(MemBuilder::new().attach(&forged).err(), Some(INVALID), "{forged}");
        }
        assert_eq!(MemBuilder::new().min_bytes(65).attach(&reference).err(), Some(FabricError::CapacityExceeded));
        assert_eq!(FabricMem::hello().unwrap().reference(), Err(FabricError::Unsupported));
        assert_eq!(host::fbmu_ref(1, &mut [0; 20]), -4);
        assert_eq!(host::fbmu_ref(2, &mut [0; 512]), -5);
    });
}

#[test]
fn a_call_on_a_shared_region_moves_so_much_and_no_more() {
    let fabric = MockFabric::new();
    let (own, shared) = (fabric.lease_memory(1 << 17), fabric.lease_memory(1 << 17));
    let reference: LeaseRef = fabric.reference(shared).parse().unwrap();
    in_run(&fabric, &[own], || {
        let attached = MemBuilder::new().attach(&reference).unwrap();
        let data = vec![1; MOVE_BYTES_MAX + 1];
        assert_eq!(attached.mem().write(0, &data), Err(FabricError::CapacityExceeded));
        assert_eq!(attached.mem().read(0, data.len()), Err(FabricError::CapacityExceeded));
        assert_eq!(attached.mem().write(0, &data[1..]), Ok(()));
        assert_eq!(FabricMem::hello().unwrap().write(0, &data), Ok(()));
    });
}

#[test]
fn a_run_has_sixteen_slots() {
    let fabric = MockFabric::new();
    let names: Vec<LeaseRef> = (0..17).map(|_| fabric.reference(fabric.lease_memory(8)).parse().unwrap()).collect();
    in_run(&fabric, &[], || {
        for name in &names[..16] {
            MemBuilder::new().attach(name).unwrap();
        }
        assert_eq!(MemBuilder::new().attach(&names[16]).err(), Some(FabricError::CapacityExceeded));
        assert!(MemBuilder::new().attach(&names[3]).is_ok());
    });
}

#[test]
fn a_window_ends_where_it_ends() {
    let fabric = MockFabric::new();
    let lease = fabric.lease_memory(64);
    in_run(&fabric, &[lease], || {
        let window = FabricMem::hello().unwrap().window(8, 16).unwrap();
        window.write(0, &[1; 16]).unwrap();
        assert_eq!(window.arena_size(), 16);
        assert_eq!(window.write(1, &[1; 16]), Err(FabricError::CapacityExceeded));
        assert_eq!(window.read(u64::MAX, 2), Err(FabricError::CapacityExceeded));
        assert_eq!(window.fetch_add(16, 1), Err(FabricError::CapacityExceeded));
        assert_eq!(window.window(8, 9).err(), Some(FabricError::CapacityExceeded));
    });
    assert_eq!(fabric.bytes_of(lease)[8..25], [&[1; 16][..], &[0]].concat());
}

#[test]
fn a_word_is_changed_in_one_step() {
    let fabric = MockFabric::new();
    let lease = fabric.lease_memory(24);
    in_run(&fabric, &[lease], || {
        let word = FabricAtomicU64::new(FabricMem::hello().unwrap(), 8).unwrap();
        assert_eq!(word.fetch_add(u64::MAX), Ok(0));
        assert_eq!(word.fetch_add(2), Ok(u64::MAX));
        assert_eq!(word.compare_exchange(1, 7), Ok(Ok(1)));
        assert_eq!(word.compare_exchange(1, 8), Ok(Err(7)));
        assert_eq!(word.fetch_update(|seen| seen.checked_mul(3)), Ok(Ok(7)));
        assert_eq!(word.fetch_update(|_| None), Ok(Err(21)));
        assert_eq!(word.load(), Ok(21));
        let mem = FabricMem::hello().unwrap();
        assert_eq!(mem.read_u64(8), Ok(21));
        assert_eq!(mem.compare_exchange(4, 0, 1), Err(INVALID));
        assert_eq!(mem.compare_exchange(17, 0, 1), Err(FabricError::CapacityExceeded));
        assert_eq!(FabricAtomicU64::new(mem, 4).err(), Some(INVALID));
        assert_eq!(FabricAtomicU64::new(mem, 24).err(), Some(FabricError::CapacityExceeded));
    });
}

#[test]
fn tasklets_side_by_side_lose_no_step_of_an_atomic_and_some_of_a_plain_number() {
    let counted = |seed: u64, step: fn(&FabricMem) -> Result<(), FabricError>| {
        let fabric = MockFabric::new();
        let lease = fabric.lease_memory(8);
        let count = move |_: &[u8]| -> Result<Output, FabricError> {
            let mem = FabricMem::hello()?;
            (0..50).try_for_each(|_| step(&mem))?;
            Ok(Output::empty())
        };
        fabric.run_together(seed, (0..3).map(|_| MockTasklet::new(count).leases(&[lease])).collect());
        u64::from_le_bytes(fabric.bytes_of(lease).try_into().unwrap())
    };
    let plain = |mem: &FabricMem| mem.write_u64(0, mem.read_u64(0)? + 1);
    for seed in 0..5 {
        assert_eq!(counted(seed, |mem| mem.fetch_add(0, 1).map(|_| ())), 150);
        assert!(counted(seed, plain) < 150, "no race in seed {seed}");
        assert_eq!(counted(seed, plain), counted(seed, plain), "seed {seed} does not say all");
    }
}

#[test]
fn faults_follow_from_their_seed_and_a_lost_answer_has_an_effect() {
    let seen = |seed: u64| {
        let fabric = super::failing(seed);
        let lease = fabric.lease_memory(8);
        let answers = in_run(&fabric, &[lease], || {
            let mem = FabricMem::hello().unwrap();
            (0..200).map(|_| mem.fetch_add(0, 1).is_ok()).collect::<Vec<_>>()
        });
        let sum = u64::from_le_bytes(fabric.bytes_of(lease).try_into().unwrap());
        (answers, sum)
    };
    let (answers, sum) = seen(1);
    let good = answers.iter().filter(|good| **good).count() as u64;
    assert!(good < sum && sum < 200, "{good} {sum}");
    assert_eq!((answers, sum), seen(1));
    assert_ne!(seen(1), seen(2));
}

#[test]
fn a_run_that_failed_gives_its_leases_back() {
    let fabric = MockFabric::new();
    let lease = fabric.lease_memory(8);
    let fails = |_: &[u8]| -> Result<Output, FabricError> {
        let _lease = MemBuilder::new().acquire()?;
        Err(FabricError::Revoked)
    };
    for _ in 0..2 {
        assert_eq!(fabric.run(MockTasklet::new(fails).leases(&[lease])).text, "revoked");
    }
    assert_eq!(mock_run(|_| Output::empty(), b"").code, "finished");
}

#[test]
fn attaching_may_find_nobody_there_and_asks_again_if_it_is_told_to() {
    let (mut lost, fabric) = (0, MockFabric::new());
    let region = LeaseRef::parse(&fabric.reference(fabric.lease_memory(64))).unwrap();
    for seed in 0..50 {
        fabric.set_faults(host::MockFaults {
            seed,
            refused_of_1000: 200,
            answer_lost_of_1000: 200,
            cut_after_calls: None,
        });
        let attach = |builder: MemBuilder| in_run(&fabric, &[], || builder.attach(&region).map(|lease| lease.mem()));
        lost += u32::from(attach(MemBuilder::new()).err() == Some(FabricError::Disconnected));
        assert_eq!(attach(MemBuilder::new().persistent(64)).unwrap().arena_size(), 64);
    }
    assert!((5..50).contains(&lost), "{lost} of 50 had no answer");
    fabric.set_faults(host::MockFaults { cut_after_calls: Some(0), ..host::MockFaults::default() });
    let answer = in_run(&fabric, &[], || MemBuilder::new().persistent(64).attach(&region).err());
    assert_eq!(answer, Some(FabricError::Disconnected));
}

#[test]
fn that_a_region_has_ended_is_told_before_that_a_call_moves_too_much() {
    let fabric = MockFabric::new();
    let lease = fabric.lease_memory(2 * MOVE_BYTES_MAX as u64);
    let region = LeaseRef::parse(&fabric.reference(lease)).unwrap();
    in_run(&fabric, &[], || {
        let mem = MemBuilder::new().attach(&region).unwrap().mem();
        let much = vec![0; MOVE_BYTES_MAX + 1];
        assert_eq!(mem.write(0, &much), Err(FabricError::CapacityExceeded));
        fabric.set_status(lease, -6);
        assert_eq!(mem.write(0, &much), Err(FabricError::Revoked));
        assert_eq!(mem.read(0, much.len()), Err(FabricError::Revoked));
    });
}
